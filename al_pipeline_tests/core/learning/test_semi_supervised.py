"""Guessed labels are right where the clusters are clear, and none are made where nothing is."""

import numpy as np
import pytest

from al_pipeline.core.learning.semi_supervised import confident, propagated, self_trained


def clusters(per_class: int, classes: int = 3, seed: int = 0, apart: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(5).normal(0, apart, (classes, 16))
    targets = np.repeat(np.arange(classes), per_class)
    return (centers[targets] + rng.normal(0, 1, (len(targets), 16))).astype(np.float32), targets


def test_only_clear_predictions_become_labels() -> None:
    found = confident(np.array([[0.96, 0.04], [0.5, 0.5], [0.05, 0.95]]), 0.95)
    assert (found.rows.tolist(), found.targets.tolist()) == ([0, 2], [0, 1])
    np.testing.assert_allclose(found.weights, [0.96, 0.95])


@pytest.mark.parametrize("arm", ["self", "propagated"])
def test_a_few_labels_reach_the_whole_cluster(arm: str) -> None:
    features, targets = clusters(60)
    labeled = np.array([0, 1, 60, 61, 120, 121])
    others = np.setdiff1d(np.arange(180), labeled)
    arguments = (features[labeled], targets[labeled], features[others], 3, 0.9)
    found = self_trained(*arguments, seed=0) if arm == "self" else propagated(*arguments)
    assert len(found) > 150
    assert (found.targets == targets[others][found.rows]).mean() > 0.99
    assert len(np.unique(found.rows)) == len(found)
    assert (found.weights >= 0.9).all()


def test_labels_do_not_spread_to_samples_that_nothing_links_to_them() -> None:
    """Far-away samples are each other's neighbours only."""
    near, targets = clusters(10, classes=2)
    far = (1000 * np.eye(16)[5] + np.random.default_rng(0).normal(0, 1e-3, (40, 16))).astype(np.float32)
    found = propagated(near, targets, far, 2, 0.9)
    assert len(found) == 0


def test_no_unlabeled_sample_is_no_guess() -> None:
    features, targets = clusters(5)
    assert len(propagated(features, targets, features[:0], 3, 0.9)) == 0
    assert len(self_trained(features, targets, features[:0], 3, 0.9, seed=0)) == 0
