"""With rare classes a threshold each decides; brute force on two classes judges how they are found."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from al_pipeline.core.learning.head import fit_head
from al_pipeline.core.learning.head_training import train_head
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.thresholds import decided, fit_thresholds


def predictions(seed: int, n: int, k: int, *, rare: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that favour the last class, of which most samples are, and the true classes."""
    rng = np.random.default_rng(seed)
    truth = np.r_[np.arange(k), rng.choice(k, n - k, p=[*[rare] * (k - 1), 1 - rare * (k - 1)])]
    logits = rng.normal(size=(n, k)).round(2)
    logits[np.arange(n), truth] += 1.5
    logits[:, -1] += 2
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True), truth


def mean_f1(truth: np.ndarray, said: np.ndarray) -> float:
    classes = np.unique(truth)[:, None]
    right = ((said == classes) & (truth == classes)).sum(axis=1)
    return float((2 * right / ((said == classes).sum(axis=1) + (truth == classes).sum(axis=1))).mean())


@given(st.integers(0, 10_000), st.integers(4, 60))
# Where all that the model says at first is one class, and any other threshold is worse.
@example(4767, 21)
@settings(max_examples=20, deadline=None)
def test_of_two_classes_no_threshold_is_better(seed: int, n: int) -> None:
    p, truth = predictions(seed, n, 2)
    # Halfway between two samples that rounding alone does not tell apart, or as it was: one that calls all alike is not
    # looked for.
    edges = np.unique(p[:, 1].round(12))
    best = max(mean_f1(truth, (p[:, 1] > t).astype(int)) for t in [*(edges[1:] + edges[:-1]) / 2, 0.5])
    assert mean_f1(truth, decided(p, fit_thresholds(p, truth))) == pytest.approx(best)


@pytest.mark.parametrize("k", [3, 6])
def test_of_more_classes_they_raise_f1_and_sum_to_one(k: int) -> None:
    p, truth = predictions(k, 300, k, rare=0.05)
    thresholds = fit_thresholds(p, truth)
    assert sum(thresholds) == pytest.approx(1)
    assert mean_f1(truth, decided(p, thresholds)) > mean_f1(truth, p.argmax(axis=1)) + 0.05
    assert np.mean((decided(p, thresholds) == truth)[truth == 0]) > np.mean((p.argmax(axis=1) == truth)[truth == 0])


def test_the_most_probable_class_is_said_where_nothing_is_better() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.3, 0.7, 0.0]])
    assert fit_thresholds(p, np.array([0, 0, 1])) == ()
    assert decided(p).tolist() == [0, 0, 1]
    # A class that can never be said is no reason to give up another one.
    assert decided(p, fit_thresholds(p, np.array([0, 0, 2]))).tolist()[:2] == [0, 0]


def rare(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of which k in n are of a class that lies apart, in one direction of many."""
    rng = np.random.default_rng(seed)
    targets = np.r_[np.zeros(n - k, np.int64), np.ones(k, np.int64)]
    features = rng.normal(size=(n, 32)).astype(np.float32)
    features[targets == 1, 0] += 5
    return features, targets


def test_a_class_of_one_in_a_hundred_is_found_by_default() -> None:
    """Without weights and thresholds half of it is missed, at a ROC-AUC of nearly 1."""
    (features, targets), (others, truth) = rare(1000, 4, seed=0), rare(4000, 200, seed=1)
    found = {}
    for word in ("auto", "false"):
        options = TrainingOptions(mode="head", weights="x.pt", class_weights=word)
        head = train_head(features, targets, 2, options, seed=0, round_number=0)
        said = decided(head.probabilities(others), head.thresholds)
        found[word] = (said[truth == 1] == 1).mean(), (said[truth == 0] == 0).mean()
    assert found["auto"][0] > 0.8 > 0.6 > found["false"][0]
    assert found["auto"][1] > 0.99


def test_without_a_rare_class_nothing_is_weighed_and_there_are_no_thresholds() -> None:
    features, targets = rare(60, 20, seed=0)
    options = TrainingOptions(mode="head", weights="x.pt")
    heads = [
        train_head(features, targets, 2, options.but(class_weights=word), seed=0, round_number=0)
        for word in ("auto", False)
    ]
    assert heads[0].weight.tobytes() == heads[1].weight.tobytes()
    assert heads[0].thresholds == heads[1].thresholds == ()
    assert fit_head(features, targets, 2, seed=0, balanced=True).weight.tobytes() != heads[0].weight.tobytes()


@pytest.mark.parametrize(
    ("value", "counts", "weighs"),
    [
        ("auto", [1000, 99], True),
        ("auto", [990, 99], False),
        ("auto", [1000, 200, 1, 0], False),
        ("auto", [1000, 200, 3], True),
        ("auto", [1000], False),
        (True, [5, 5], True),
        ("True", [5, 5], True),
        (False, [1000, 3], False),
        ("false", [1000, 3], False),
    ],
)
def test_classes_are_weighed_where_they_are_far_apart(value: Any, counts: list[int], weighs: bool) -> None:
    assert TrainingOptions(class_weights=value).weighs(counts) is weighs
