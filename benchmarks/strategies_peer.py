"""One measurement of another library, in its own environment: `python -m benchmarks.strategies_peer '{"peer": …}'`.

Each is called as its documentation says, on the same arrays as ours. What is not the choice (imports, the
classifier's prediction) is left out of the time: classifiers hand out given probabilities.
"""

# The peers are not in this project's own environment.
# pyright: reportMissingImports=false

import json
import sys
import warnings
from typing import Any

import numpy as np
from skactiveml.base import SkactivemlClassifier
from skactiveml.pool import Badge, CoreSet, MaxHerding, ProbCover, TypiClust, UncertaintySampling, _badge, _prob_cover
from sklearn.base import BaseEstimator

from benchmarks.pools import BATCH, SEED, SIGMA, answer, measure, pool, probabilities

Array = np.ndarray


class Given(SkactivemlClassifier):
    """A classifier whose predictions are known."""

    def __init__(self, p: Array) -> None:
        super().__init__()
        self.p = p

    def fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> "Given":  # noqa: N803
        """There is nothing to fit."""
        return self

    def predict_proba(self, X: Array) -> Array:  # noqa: N803
        """Return the given probabilities."""
        return self.p[: len(X)]


class GivenToModal(BaseEstimator):
    """The same for modAL."""

    def __init__(self, p: Array) -> None:
        self.p = p

    def predict_proba(self, X: Array) -> Array:  # noqa: N803
        """Return the given probabilities."""
        return self.p[: len(X)]


def choose(name: str, x: Array, labeled: Array, p: Array, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the picks of scikit-activeml's strategy of that name, and what it says about its options."""
    every = np.concatenate([x, labeled])
    y = np.concatenate([np.full(len(x), np.nan), np.arange(len(labeled)) % 2])
    batch: dict[str, Any] = {"batch_size": BATCH}
    if name == "k_center":
        return CoreSet(random_state=SEED).query(every, y, **batch), {}
    if name == "max_herding":
        herding = MaxHerding(metric_dict={"gamma": 1 / SIGMA**2}, random_state=SEED)
        return herding.query(every, y, **batch), {}
    if name == "prob_cover":
        if options:
            # The first of equals, as ours takes it, instead of any.
            _prob_cover.rand_argmax = lambda values, random_state: np.array([np.nanargmax(values)])
        cover = ProbCover(n_classes=20, random_state=SEED, **options)
        picks = cover.query(every, y, **batch)
        return picks, {"radius": float(cover.delta_max_)}
    if name == "typiclust":
        return TypiClust(random_state=options.get("seed", SEED)).query(every, y, **batch), {}
    if name == "badge":
        return Badge(random_state=SEED).query(every, y, Given(p), fit_clf=False, **batch), {}
    strategy = UncertaintySampling(method="margin_sampling", random_state=SEED)
    return strategy.query(every, y, Given(p), fit_clf=False, **batch), {}


def without_ghost() -> None:
    """Take out of Badge the centre at the origin, against which its second and later distances are measured too."""
    original = _badge._d_2

    def distances(g: Array, chosen: list[Any], latest: Array | None = None) -> Array:
        # The latest distances before the second pick are those to the origin: there is no centre yet.
        first = latest is not None and not getattr(distances, "seen", False)
        distances.seen = latest is not None  # type: ignore[attr-defined]
        return original(g, chosen, np.full(len(g), np.inf) if first else latest)

    _badge._d_2 = distances


def main() -> None:
    """Measure one call."""
    task = json.loads(sys.argv[1])
    peer, name, n, classes = task["peer"], task["name"], task["n"], task.get("classes", 2)
    warnings.simplefilter("ignore")
    if task.get("no_ghost"):
        without_ghost()
    more: dict[str, Any] = {}

    def call(x: Array, labeled: Array, p: Array) -> Any:
        if peer == "modAL":
            from modAL.uncertainty import margin_sampling

            return margin_sampling(GivenToModal(p), x, n_instances=BATCH)[0]
        if peer == "small-text":
            from small_text.query_strategies.coresets import greedy_coreset

            every = np.concatenate([x, labeled])
            rows = np.arange(len(every))
            return greedy_coreset(
                every, rows[: len(x)], rows[len(x) :], BATCH, distance_metric="euclidean", normalized=True
            )
        picks, said = choose(name, x, labeled, p, {"seed": task["seed"]} if "seed" in task else task.get("options", {}))
        more.update(said)
        return picks

    # A small call first: imports and one-time work are nobody's speed.
    call(*pool(150), probabilities(150, classes))
    if task.get("no_ghost"):
        without_ghost()
    x, labeled = pool(n)
    p = probabilities(n, classes)
    answer(measure(lambda: call(x, labeled, p)), **more)


if __name__ == "__main__":
    main()
