"""Guessed labels: what the labeled samples say about the unlabeled ones, where they say it clearly."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from al_pipeline.core.learning.folds import joined
from al_pipeline.core.learning.head import Integers, Vectors, fit_head

# Unlabeled samples that are looked at, at random: neighbours of neighbours of 20,000 take a few seconds.
MOST_FEATURES = 20_000
# Images take a pass through the network, or several, in every epoch.
MOST_IMAGES = 2_000
# Of Zhou et al. (2004): how far a labeled sample may be talked out of its label, and of how many neighbours.
CLAMP, NEIGHBORS = 0.2, 10
# Self-training ends when nothing new is clear, after a few turns as a rule.
TURNS = 10


@dataclass(frozen=True)
class Guesses:
    """Guessed labels.

    Attributes
    ----------
    rows : int64 array, shape (g,)
        Rows of the unlabeled samples.
    targets : int64 array, shape (g,)
    weights : float64 array, shape (g,)
        How sure: the probability of the guessed class.
    """

    rows: Integers
    targets: Integers
    weights: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


def confident(probabilities: npt.NDArray[np.float64], threshold: float) -> Guesses:
    """Return the guesses whose probability, of shape (n, K), reaches the threshold (Lee 2013)."""
    best = probabilities.argmax(axis=1)
    sure = probabilities[np.arange(len(best)), best]
    rows = np.flatnonzero(sure >= threshold)
    return Guesses(rows, best[rows], sure[rows])


def self_trained(
    features: Vectors,
    targets: Integers,
    unlabeled: Vectors,
    n_classes: int,
    threshold: float,
    *,
    seed: int,
    groups: tuple[Integers | None, Integers | None] = (None, None),
) -> Guesses:
    """Return pseudo-labels of a head that learns from its own clear predictions until nothing new is clear.

    Parameters are those of `fit_head`; unlabeled features have the shape (m, d). `groups` are those of the labels and
    of the unlabeled, (m,).
    """
    own, theirs = groups
    guesses = Guesses(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
    for _ in range(TURNS):
        head = fit_head(
            np.concatenate([features, unlabeled[guesses.rows]]),
            np.concatenate([targets, guesses.targets]),
            n_classes,
            seed=seed,
            sample_weight=np.concatenate([np.ones(len(targets)), guesses.weights]),
            groups=joined(own, None if theirs is None else theirs[guesses.rows]),
        )
        found = confident(head.probabilities(unlabeled), threshold)
        # What was clear once stays: taking guesses back would let the turns go round in circles.
        new = ~np.isin(found.rows, guesses.rows)
        if not new.any():
            break
        guesses = Guesses(
            np.concatenate([guesses.rows, found.rows[new]]),
            np.concatenate([guesses.targets, found.targets[new]]),
            np.concatenate([guesses.weights, found.weights[new]]),
        )
    return guesses


def propagated(features: Vectors, targets: Integers, unlabeled: Vectors, n_classes: int, threshold: float) -> Guesses:
    """Return labels that spread along the neighbourhoods of the features (Zhou et al. 2004, by scikit-learn).

    Parameters are those of `fit_head`. Features are compared by direction (cosine).
    """
    from sklearn.semi_supervised import LabelSpreading

    together = np.concatenate([features, unlabeled]).astype(np.float64)
    together /= np.maximum(np.linalg.norm(together, axis=1, keepdims=True), 1e-12)
    known = np.concatenate([targets, np.full(len(unlabeled), -1)])
    neighbors = min(NEIGHBORS, len(together) - 1)
    model = LabelSpreading(kernel="knn", n_neighbors=neighbors, alpha=CLAMP, max_iter=100, tol=1e-4)
    with np.errstate(invalid="ignore", divide="ignore"):
        model.fit(together, known)
    probabilities = np.zeros((len(unlabeled), n_classes))
    # A sample that no label reaches has a row of NaN.
    probabilities[:, model.classes_] = np.nan_to_num(model.label_distributions_[len(features) :])
    return confident(probabilities, threshold)
