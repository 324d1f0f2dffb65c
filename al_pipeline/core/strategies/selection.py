"""`select`: the one way to choose a query batch, with every input checked before a strategy sees it."""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError
from al_pipeline.core.strategies.query import Floats, Query
from al_pipeline.core.strategies.registry import find

# Softmax in half precision sums to one within about 1e-3.
SUM_TOLERANCE = 1e-3
# Rows are checked in blocks, so that checking ten million of them needs no second array of that length.
BLOCK = 1 << 18


@dataclass(frozen=True)
class Selection:
    """A chosen batch, in query order.

    Attributes
    ----------
    indices : int64 array, shape (b,)
        Rows of the candidates, unique; the first is the one most worth asking about.
    scores : float64 array, shape (b,)
        The utility each was chosen for, higher is better; NaN for `random`.
    propensities : float64 array, shape (b,)
        The probability of being drawn; NaN where the strategy is deterministic.
    """

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    propensities: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """Return b."""
        return len(self.indices)


def select(
    name: str,
    *,
    probabilities: npt.ArrayLike | None = None,
    embeddings: npt.ArrayLike | None = None,
    labeled_embeddings: npt.ArrayLike | None = None,
    batch_size: int,
    rng: np.random.Generator,
    balanced: bool = False,
    **options: Any,
) -> Selection:
    """Choose the candidates to ask people about.

    Equal utilities are decided by lot from `rng`, never by the order of the rows: the same generator state and the
    same inputs always give the same batch.

    Parameters
    ----------
    name : str
        A key of `available()`.
    probabilities : array_like of float, shape (n, K), optional
        Class probabilities of the n candidates; rows sum to 1.
    embeddings : array_like of float, shape (n, d), optional
        Features of the candidates, for strategies that need them.
    labeled_embeddings : array_like of float, shape (m, d), optional
        Features of what is labeled already.
    batch_size : int
        B, at least 1; more than n returns all n.
    rng : numpy.random.Generator
        The only source of randomness.
    balanced : bool
        Equal quotas per predicted class (half the batch each for two classes). What B / K leaves over goes to
        classes by lot; seats that a class cannot fill go to the others in the strategy's order. Classes take turns
        in the query order. Needs `probabilities`.
    **options
        Options of the strategy.

    Returns
    -------
    Selection
        min(batch_size, n) candidates; empty for n = 0.

    Raises
    ------
    InputError
        (a ValueError) for an unknown strategy or option, NaN, infinite or negative probabilities, rows that do not sum
        to 1, shapes that do not fit together, a batch size below 1 or an input that the strategy needs and did not get.
    """
    entry = find(name, options)
    batch_size = _batch_size(batch_size)
    if not isinstance(rng, np.random.Generator):
        raise InputError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}: np.random.default_rng(seed)")
    p = None if probabilities is None else _probabilities(probabilities)
    e = None if embeddings is None else _features("embeddings", embeddings)
    labeled = None if labeled_embeddings is None else _features("labeled_embeddings", labeled_embeddings)
    given = {"probabilities": p, "embeddings": e}
    for need in sorted(entry.info.needs | ({"probabilities"} if balanced else set())):
        if given[need] is None:
            raise InputError(f"the query strategy {name!r}{' with balanced=True' if balanced else ''} needs {need}")
    if p is None and e is None:
        raise InputError("select needs probabilities or embeddings: without either there are no candidates to choose")
    if p is not None and e is not None and len(p) != len(e):
        raise InputError(f"probabilities have {len(p)} rows but embeddings have {len(e)}: both need one per candidate")
    if e is not None and labeled is not None and e.shape[1] != labeled.shape[1]:
        raise InputError(f"embeddings have {e.shape[1]} columns but labeled_embeddings have {labeled.shape[1]}")

    n = len(p) if p is not None else len(e) if e is not None else 0
    if n == 0:
        return Selection(np.empty(0, np.int64), np.empty(0), np.empty(0))
    query = Query(
        n=n,
        batch_size=min(batch_size, n),
        rng=rng,
        probabilities=p,
        embeddings=e,
        labeled_embeddings=labeled,
        balanced=balanced,
    )
    picks = entry.pick(query, **options)
    unknown = np.full(len(picks.indices), np.nan)
    return Selection(picks.indices, picks.scores, unknown if picks.propensities is None else picks.propensities)


def certainty(probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return max σ − 1/K per row: 0 for a uniform prediction, 1 − 1/K for a sure one; |0.5 − p| for two classes.

    Parameters
    ----------
    probabilities : array_like of float, shape (n, K)

    Returns
    -------
    float64 array, shape (n,)

    Raises
    ------
    InputError
        The rows are not probabilities.
    """
    p = _probabilities(probabilities)
    return p.max(axis=1).astype(np.float64) - 1 / p.shape[1]


def _batch_size(value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise InputError(f"batch_size must be a whole number of at least 1, not {value!r}")
    return number


def _probabilities(values: npt.ArrayLike) -> Floats:
    p = _numbers("probabilities", values)
    if p.ndim != 2 or p.shape[1] < 2:
        raise InputError(f"probabilities must have the shape (candidates, classes ≥ 2), not {p.shape}")
    for start in range(0, len(p), BLOCK):
        block = p[start : start + BLOCK]
        wrong = np.abs(block.sum(axis=1, dtype=np.float64) - 1)
        # Written so that NaN, for which every comparison is false, fails too.
        if not (block.min() >= 0 and wrong.max() <= SUM_TOLERANCE):
            row = int(np.flatnonzero(~((block.min(axis=1) >= 0) & (wrong <= SUM_TOLERANCE)))[0])
            shown = np.array2string(block[row], precision=4, threshold=8)
            raise InputError(
                f"probabilities of candidate {start + row} are {shown} (sum {block[row].sum():.4g}): "
                "each must be at least 0, none NaN, and every row must sum to 1"
            )
    return p


def _features(what: str, values: npt.ArrayLike) -> Floats:
    features = _numbers(what, values)
    if features.ndim != 2:
        raise InputError(f"{what} must have the shape (samples, features), not {features.shape}")
    for start in range(0, len(features), BLOCK):
        finite = np.isfinite(features[start : start + BLOCK]).all(axis=1)
        if not finite.all():
            raise InputError(f"{what} of row {start + int(np.flatnonzero(~finite)[0])} hold NaN or infinite values")
    return features


def _numbers(what: str, values: npt.ArrayLike) -> Floats:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{what} cannot be read as an array: {error}") from None
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype.kind != "f":
        raise InputError(f"{what} must be numbers, not {array.dtype}")
    return array
