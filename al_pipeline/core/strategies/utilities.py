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


def median(values: Utility, n: int, rows: int) -> float:
    """Return the exact median of n values from [0, 1], read block by block, without ever holding all of them."""
    bins = 1 << 16
    counts = np.zeros(bins, np.int64)
    for start in range(0, n, rows):
        counts += np.bincount(_bin(values(start, min(n, start + rows)), bins), minlength=bins)
    until = np.cumsum(counts)
    lower, upper = (n - 1) // 2, n // 2
    first, last = (int(np.searchsorted(until, rank, side="right")) for rank in (lower, upper))
    kept = []
    for start in range(0, n, rows):
        block = values(start, min(n, start + rows))
        where = _bin(block, bins)
        kept.append(block[(where >= first) & (where <= last)])
    middle = np.sort(np.concatenate(kept))
    below = until[first] - counts[first]
    return float((middle[lower - below] + middle[upper - below]) / 2)


def _bin(values: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    return np.clip((values * bins).astype(np.int64), 0, bins - 1)
