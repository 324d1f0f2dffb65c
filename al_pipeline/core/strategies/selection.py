"""`select`: the one way to choose a query batch, with every input checked before a strategy sees it."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError, between, share, whole
from al_pipeline.core.strategies import utilities
from al_pipeline.core.strategies.on_demand import OnDemand
from al_pipeline.core.strategies.query import Floats, Indices, Picks, Query
from al_pipeline.core.strategies.registry import Strategy, cold_start, find

# Softmax in half precision sums to one within about 1e-3.
SUM_TOLERANCE = 1e-3
PASSES = (
    "probabilities of the shape (passes ≥ 2, candidates, classes): predict several times with dropout on, or with "
    "several heads"
)


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
    explored : bool array, shape (b,)
        Which were drawn at random by `explore`: a simple random sample of all candidates.
    strategy : str
        The strategy that chose the others: the one asked for, or the one that stands in for it (see `select`).
    """

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    propensities: npt.NDArray[np.float64]
    explored: npt.NDArray[np.bool_]
    strategy: str

    def __len__(self) -> int:
        """Return b."""
        return len(self.indices)


def select(
    name: str,
    *,
    probabilities: npt.ArrayLike | None = None,
    embeddings: "npt.ArrayLike | OnDemand | None" = None,
    labeled_embeddings: npt.ArrayLike | None = None,
    batch_size: int,
    rng: np.random.Generator,
    balanced: bool = False,
    explore: float = 0.0,
    dedup: float | None = None,
    **options: Any,
) -> Selection:
    """Choose the candidates to ask people about.

    The same inputs and generator state always give the same batch. Deterministic strategies give the same batch in
    whatever order the candidates stand; of equal utilities the first candidate wins.

    Before there is a model (no `probabilities`) and a label (no `labeled_embeddings`), a strategy that cannot do
    without probabilities draws at random: see `cold_start`.

    Parameters
    ----------
    name : str
        A key of `available()`.
    probabilities : array_like of float, shape (n, K) or (T, n, K), optional
        Class probabilities of the n candidates; rows sum to 1. With T passes of a stochastic model, or T heads, `bald`
        and `batch_bald` use them all and other strategies their mean.
    embeddings : array_like of float, shape (n, d), or OnDemand, optional
        Features of the candidates, for strategies that need them and for `dedup`; float32 is not copied.
    labeled_embeddings : array_like of float, shape (m, d), optional
        Features of what is labeled already.
    batch_size : int
        B, at least 1; more than n returns all n.
    rng : numpy.random.Generator
        The only source of randomness.
    balanced : bool
        Equal quotas per predicted class (half the batch each for two classes). What B / K leaves over goes to
        classes by lot; seats that a class cannot fill go to the others in the strategy's order. Classes take turns
        in the query order. Needs `probabilities`, and a strategy whose `available()` entry says that it can.
    explore : float
        ε, the share of the batch that is drawn at random from all candidates, whatever the strategy would say, and
        spread evenly over the query order. ε·B is rounded up or down by lot, so that each candidate's propensity is
        ε·B/n.
    dedup : float, optional
        The largest cosine similarity that two samples of the batch may have; whoever is more similar to one before is
        passed over, random draws too, and the batch is smaller when too few are left. Needs `embeddings`.
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
    seats = whole("batch_size", batch_size, 1)
    explore = share("explore", explore)
    if not isinstance(rng, np.random.Generator):
        raise InputError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}: np.random.default_rng(seed)")
    samples, p = _predictions(probabilities)
    e = embeddings if embeddings is None or isinstance(embeddings, OnDemand) else _features("embeddings", embeddings)
    labeled = None if labeled_embeddings is None else _features("labeled_embeddings", labeled_embeddings)
    dedup = None if dedup is None else between("dedup", dedup, -1, 1, "a cosine similarity from -1 to 1")
    if p is None and e is not None and (labeled is None or not len(labeled)) and cold_start(name) != name:
        name, options = cold_start(name), {}
        entry = find(name, options)
    _check_needs(name, entry, p, samples, e, labeled, balanced, dedup)

    n = len(p) if p is not None else len(e) if e is not None else 0
    seats = min(seats, n)
    if n == 0:
        return Selection(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, np.bool_), name)

    query = partial(Query, n=n, rng=rng, probabilities=p, samples=samples, embeddings=e, balanced=balanced, dedup=dedup)
    arm = min(seats, int(np.floor(explore * seats + rng.random()))) if explore > 0 else 0
    if not arm:
        return _selection(entry.pick(query(batch_size=seats, labeled_embeddings=labeled), **options), 0.0, name)
    drawn = find("random", {}).pick(Query(n=n, batch_size=arm, rng=rng, embeddings=e, dedup=dedup)).indices
    chance = explore * seats / n
    if arm == seats:
        return _explored(drawn, Picks(np.empty(0, np.int64), np.empty(0)), chance, name)
    if len(drawn) and e is not None:
        # What is in the batch already will be labeled as well.
        labeled = e[drawn] if labeled is None else np.concatenate([labeled, e[drawn]])
    rest = query(batch_size=seats - len(drawn), labeled_embeddings=labeled, excluded=drawn)
    return _explored(drawn, entry.pick(rest, **options), chance, name)


def _selection(picks: Picks, already: float, name: str) -> Selection:
    propensities = np.full(len(picks.indices), np.nan)
    if picks.propensities is not None:
        # In the batch by the random arm, or else by the strategy.
        propensities = already + (1 - already) * picks.propensities
    return Selection(picks.indices, picks.scores, propensities, np.zeros(len(picks.indices), dtype=np.bool_), name)


def _explored(drawn: Indices, picks: Picks, chance: float, name: str) -> Selection:
    """Spread what was drawn at random evenly over the query order of the rest."""
    rest = _selection(picks, chance, name)
    places = [(np.arange(count) + 0.5) / max(1, count) for count in (len(drawn), len(rest))]
    order = np.argsort(np.concatenate(places), kind="stable")
    return Selection(
        np.concatenate([drawn, rest.indices])[order],
        np.concatenate([np.full(len(drawn), np.nan), rest.scores])[order],
        np.concatenate([np.full(len(drawn), chance), rest.propensities])[order],
        np.concatenate([np.ones(len(drawn), dtype=np.bool_), rest.explored])[order],
        name,
    )


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
    return utilities.certainty(_rows_of_probabilities(_numbers("probabilities", probabilities)))


def _check_needs(
    name: str,
    entry: Strategy,
    p: Floats | None,
    samples: Floats | None,
    e: Floats | OnDemand | None,
    labeled: Floats | None,
    balanced: bool,
    dedup: float | None,
) -> None:
    several = samples is not None and len(samples) > 1
    given = {"probabilities": p is not None, "passes": several, "embeddings": e is not None}
    if balanced and not entry.info.balanced:
        raise InputError(f"the query strategy {name!r} has no balanced form: leave balanced=True out")
    wanted = dict.fromkeys(entry.info.needs, "")
    wanted |= {"probabilities": " with balanced=True"} if balanced else {}
    wanted |= {"embeddings": " with dedup"} if dedup is not None else {}
    for need, why in sorted(wanted.items()):
        if not given[need]:
            what = PASSES if need == "passes" else need
            raise InputError(f"the query strategy {name!r}{why} needs {what}")
    if p is None and e is None:
        raise InputError("select needs probabilities or embeddings: without either there are no candidates to choose")
    if p is not None and e is not None and len(p) != len(e):
        raise InputError(f"probabilities have {len(p)} rows but embeddings have {len(e)}: both need one per candidate")
    if e is not None and labeled is not None and e.shape[1] != labeled.shape[1]:
        raise InputError(f"embeddings have {e.shape[1]} columns but labeled_embeddings have {labeled.shape[1]}")


def _predictions(values: npt.ArrayLike | None) -> tuple[Floats | None, Floats | None]:
    """Return the (T, n, K) probabilities, if there are several passes, and the (n, K) ones."""
    if values is None:
        return None, None
    p = _numbers("probabilities", values)
    if p.ndim != 3:
        return None, _rows_of_probabilities(p)
    if not len(p):
        raise InputError("probabilities of shape (passes, candidates, classes) must have at least one pass")
    return p, np.mean([_rows_of_probabilities(one) for one in p], axis=0)


def _rows_of_probabilities(p: Floats) -> Floats:
    if p.ndim != 2 or p.shape[1] < 2:
        raise InputError(
            "probabilities must have the shape (candidates, classes ≥ 2), or (passes, candidates, classes) of several "
            f"passes, not {p.shape}"
        )
    rows = utilities.block_rows(p.shape[1])
    for start in range(0, len(p), rows):
        block = p[start : start + rows]
        wrong = np.abs(_sums(block) - 1)
        # Written so that NaN, for which every comparison is false, fails too.
        if not (block.min() >= 0 and wrong.max() <= SUM_TOLERANCE):
            row = int(np.flatnonzero(~((block.min(axis=1) >= 0) & (wrong <= SUM_TOLERANCE)))[0])
            shown = np.array2string(block[row], precision=4, threshold=8)
            raise InputError(
                f"probabilities of candidate {start + row} are {shown} (sum {block[row].sum():.4g}): "
                "each must be at least 0, none NaN, and every row must sum to 1"
            )
    return p


def _sums(block: Floats) -> npt.NDArray[np.float64]:
    if block.shape[1] > utilities.FEW_CLASSES:
        return block.sum(axis=1, dtype=np.float64)
    total = block[:, 0].astype(np.float64)
    for column in range(1, block.shape[1]):
        total += block[:, column]
    return total


def _features(what: str, values: npt.ArrayLike) -> Floats:
    features = _numbers(what, values)
    if features.ndim != 2:
        raise InputError(f"{what} must have the shape (samples, features), not {features.shape}")
    rows = utilities.block_rows(max(1, features.shape[1]))
    for start in range(0, len(features), rows):
        # A sum that is finite has finite terms, and is found without another array.
        if np.isfinite(np.einsum("ij->", features[start : start + rows])):
            continue
        finite = np.isfinite(features[start : start + rows]).all(axis=1)
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
