"""Training in mode `head`: from features and labels to a classifier; rounds and studies both go this way."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.folds import joined
from al_pipeline.core.learning.given_weights import HEAD
from al_pipeline.core.learning.head import NEVER, Head, Integers, Vectors, averaged_with, fit_head
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.semi_supervised import MOST_FEATURES, propagated, self_trained
from al_pipeline.core.rng import generator, torch_seed


@dataclass(frozen=True)
class Others:
    """Unlabeled samples: n of them, and what returns the features (m, d) of rows (m,) if an arm learns from them.

    `groups`, int64 of the shape (n,), are what they belong to, in the numbers of the labels' groups.
    """

    n: int
    features: Callable[[Integers], Vectors]
    groups: Integers | None = None


def train_head(
    features: Vectors,
    targets: Integers,
    n_classes: int,
    options: TrainingOptions,
    *,
    seed: int,
    round_number: int,
    unlabeled: Others | None = None,
    groups: Integers | None = None,
) -> Head:
    """Fit the classifier of a round: neither the order of the rows nor anything but their content matters.

    Parameters
    ----------
    features, targets, n_classes
        As for `fit_head`; features are those of the starting weights.
    options : TrainingOptions
    seed, round_number : int
        The folds, and the choice among many unlabeled samples, are drawn from generators of these two.
    unlabeled : Others, optional
        What the semi-supervised arms learn from, too.
    groups : int64 array, shape (n,), optional
        As for `fit_head`.

    Raises
    ------
    InputError
        One class alone, or features that are not finite.
    """
    order = canonical([row.tobytes() for row in features], targets)
    features, targets, groups = features[order], targets[order], None if groups is None else groups[order]
    weights, balanced = np.ones(len(targets)), options.weighs(np.bincount(targets))
    n_labels, folds = len(targets), torch_seed(seed, round_number, "head")
    if unlabeled is not None and options.semi_supervised != "none":
        rows = some(unlabeled.n, MOST_FEATURES, seed, round_number)
        others, theirs = unlabeled.features(rows), None if unlabeled.groups is None else unlabeled.groups[rows]
        if options.semi_supervised == "label_propagation":
            found = propagated(features, targets, others, n_classes, options.confidence)
        else:
            both = groups, theirs
            found = self_trained(features, targets, others, n_classes, options.confidence, seed=folds, groups=both)
        features = np.concatenate([features, others[found.rows]])
        targets = np.concatenate([targets, found.targets])
        weights = np.concatenate([weights, found.weights])
        groups = joined(groups, None if theirs is None else theirs[found.rows])
    head = fit_head(features, targets, n_classes, seed=folds, sample_weight=weights, balanced=balanced, groups=groups)
    return replace(head, n_guessed=len(targets) - n_labels)


def with_classifier_of(refined: Checkpoint | None, head: Head, class_names: Sequence[str]) -> Head:
    """Return a head on a refined network's features with a say of the network's own classifier (`averaged_with`).

    Classes that the network had no label of are left to the head.
    """
    if refined is None:
        return head
    known = {name: row for row, name in enumerate(refined.info.class_names)}
    weight, bias = (refined.state[name].numpy() / refined.info.temperature for name in HEAD)
    pairs = [(row, known[name]) for row, name in enumerate(class_names) if name in known]
    pairs = [(row, own) for row, own in pairs if bias[own] > NEVER / refined.info.temperature / 2]
    rows, own = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return averaged_with(head, rows, weight[own], bias[own])


def check_unlabeled(options: TrainingOptions, n: int) -> None:
    """Raise InputError if an arm is to learn from unlabeled samples and there are none."""
    if options.semi_supervised != "none" and not n:
        raise InputError(
            f"semi_supervised {options.semi_supervised} learns from unlabeled samples too, and none were given: "
            "set training.semi_supervised to none"
        )


def canonical(contents: Sequence[bytes | memoryview], targets: Integers) -> Integers:
    """Return an order of the samples that follows from their content alone."""
    digests = [hashlib.sha256(content).digest() for content in contents]
    return np.array(sorted(range(len(digests)), key=lambda i: (digests[i], targets[i])), dtype=np.int64)


def some(n: int, most: int, seed: int, round_number: int) -> Integers:
    """Return the rows of at most so many of n unlabeled samples, at random, ascending."""
    if n <= most:
        return np.arange(n)
    return np.sort(generator(seed, round_number, "unlabeled").choice(n, size=most, replace=False))
