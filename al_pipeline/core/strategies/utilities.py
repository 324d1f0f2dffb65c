"""Utilities of single candidates: from blocks of class probabilities to one number each, higher is asked earlier."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Utility = Callable[[int, int], npt.NDArray[np.float64]]

# Cells of a block: small enough for its temporaries to stay in the processor's cache.
CELLS = 1 << 17
# Up to here it is faster to go through the columns than to let numpy go through short rows.
FEW_CLASSES = 32


def block_rows(classes: int) -> int:
    """Return how many rows of that many classes make a block."""
    return max(1, CELLS // classes)


def largest(p: Floats) -> npt.NDArray[np.float64]:
    """Return the largest probability of each row, p₁."""
    if p.shape[1] > FEW_CLASSES:
        return p.max(axis=1).astype(np.float64)
    first = p[:, 0].astype(np.float64)
    for column in range(1, p.shape[1]):
        np.maximum(first, p[:, column], out=first)
    return first


def certainty(p: Floats) -> npt.NDArray[np.float64]:
    """Return p₁ − 1/K: 0 for a uniform prediction; |0.5 − p| for two classes."""
    return largest(p) - 1 / p.shape[1]


def margin(p: Floats) -> npt.NDArray[np.float64]:
    """Return p₁ − p₂, the lead of the predicted class (Scheffer, Decomain & Wrobel 2001)."""
    if p.shape[1] > FEW_CLASSES:
        top = np.partition(p, p.shape[1] - 2, axis=1)[:, -2:].astype(np.float64)
        return top[:, 1] - top[:, 0]
    first, second = (part(p[:, 0], p[:, 1]).astype(np.float64) for part in (np.maximum, np.minimum))
    for column in range(2, p.shape[1]):
        np.maximum(second, np.minimum(first, p[:, column]), out=second)
        np.maximum(first, p[:, column], out=first)
    return first - second


def entropy(p: Floats) -> npt.NDArray[np.float64]:
    """Return −Σ p ln p in nats (Shannon 1948)."""
    from scipy.special import entr

    if p.shape[1] > FEW_CLASSES:
        return entr(p.astype(np.float64)).sum(axis=1)
    total = entr(p[:, 0].astype(np.float64))
    for column in range(1, p.shape[1]):
        total += entr(p[:, column].astype(np.float64))
    return total


def ranks(
    values: Utility, n: int, rows: int, lowest: int, highest: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return who of n values from [0, 1] has a rank from `lowest` to `highest`, ascending, and everybody's rank.

    The smallest has rank 0, and of equal ones the first has the lower rank. Values are read block by block, twice, and
    only those near the ranks asked for are held; some with ranks just outside are returned too.
    """
    bins = 1 << 16
    counts = np.zeros(bins, np.int64)
    for start in range(0, n, rows):
        counts += np.bincount(_bin(values(start, min(n, start + rows)), bins), minlength=bins)
    until = np.cumsum(counts)
    first, last = np.searchsorted(until, [lowest, highest], side="right")
    indices, held = [], []
    for start in range(0, n, rows):
        block = values(start, min(n, start + rows))
        where = _bin(block, bins)
        near = np.flatnonzero((where >= first) & (where <= last))
        indices.append(start + near)
        held.append(block[near])
    found = np.concatenate(indices)
    rank = np.empty(len(found), np.int64)
    rank[np.argsort(np.concatenate(held), kind="stable")] = until[first] - counts[first] + np.arange(len(found))
    return found, rank


def _bin(values: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    return np.clip((values * bins).astype(np.int64), 0, bins - 1)
