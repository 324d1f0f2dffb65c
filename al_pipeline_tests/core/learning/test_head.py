"""The head is scikit-learn's logistic regression, written into the ResNet without a loss."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.folds import held_out
from al_pipeline.core.learning.head import (
    EVENED,
    NOISE,
    WITHOUT_VALIDATION,
    fit_head,
    head_logits,
    head_passes,
    softmax,
)
from al_pipeline.core.learning.logistic import fit_logistic


def clouds(
    n: int, classes: int, width: int = 32, *, apart: float = 2.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return n points around one centre per class."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    centers = np.random.default_rng(99).normal(0, apart, (classes, width))
    return (centers[targets] + rng.normal(0, 1, (n, width)) + 5).astype(np.float32), targets


def scaled(features: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """Return the components of features, or of others by those of the features, as the head is said to see them."""
    center = features.mean(axis=0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(features.astype(np.float64) - center, full_matrices=False)
    factors = (sizes**2 + NOISE * (sizes**2).mean()) ** (-EVENED / 2)
    own, found = (
        (each.astype(np.float64) - center) @ axes.T * factors
        for each in (features, features if others is None else others)
    )
    return found / np.sqrt((own**2).sum(axis=1).mean())


@pytest.mark.parametrize(("n", "classes"), [(24, 2), (60, 3), (200, 2), (200, 5)])
def test_its_probabilities_are_scikit_learns(n: int, classes: int) -> None:
    features, targets = clouds(n, classes, apart=0.4)
    head = fit_head(features, targets, classes, seed=1)
    reference = LogisticRegression(C=head.regularization, tol=1e-9, max_iter=5000).fit(scaled(features), targets)
    found = softmax(head_logits(features, head.weight, head.bias))
    np.testing.assert_allclose(found, reference.predict_proba(scaled(features)), atol=5e-5)


def test_samples_outside_of_the_span_of_the_labels_are_predicted_by_what_lies_in_it() -> None:
    features, targets = clouds(20, 2, width=300, apart=0.3)
    head = fit_head(features, targets, 2, seed=0)
    reference = LogisticRegression(C=head.regularization, tol=1e-8, max_iter=5000).fit(scaled(features), targets)
    others, _ = clouds(50, 2, width=300, apart=0.3, seed=4)
    expected = reference.predict_proba(scaled(features, others))
    np.testing.assert_allclose(softmax(head_logits(others, head.weight, head.bias)), expected, atol=1e-4)


def test_a_class_without_labels_is_never_predicted() -> None:
    features, targets = clouds(30, 2)
    head = fit_head(features, targets * 2, 4, seed=0)
    probabilities = softmax(head_logits(features, head.weight, head.bias), temperature=20.0)
    assert (probabilities[:, [1, 3]] == 0).all()
    assert np.isfinite(head.bias).all()


def test_regularisation_is_chosen_where_labels_allow() -> None:
    few = fit_head(*clouds(4, 2), 2, seed=0)
    assert (few.regularization, few.folds, few.temperature) == (WITHOUT_VALIDATION, 0, 1.0)
    noisy = fit_head(*clouds(400, 2, apart=0.05), 2, seed=0)
    clear = fit_head(*clouds(400, 2, apart=0.6), 2, seed=0)
    assert noisy.folds == clear.folds == 5
    assert noisy.regularization < clear.regularization


def test_one_label_of_a_new_class_changes_next_to_nothing_for_the_others() -> None:
    features, targets = clouds(200, 2, width=100, apart=0.05)
    new = np.append(targets, 2)
    more = np.vstack([features, features.mean(axis=0)]).astype(np.float32)
    without, with_it = fit_head(features, targets, 3, seed=0), fit_head(more, new, 3, seed=0)
    assert (with_it.folds, with_it.regularization) == (without.folds, without.regularization)
    assert with_it.temperature != 1
    others, _ = clouds(500, 2, width=100, apart=0.05, seed=7)
    said, before = (head.probabilities(others)[:, :2].argmax(axis=1) for head in (with_it, without))
    assert (said == before).mean() > 0.95


@pytest.mark.parametrize(
    ("counts", "folds", "tested"),
    [
        ([9, 9], 5, 18),
        ([9, 4], 4, 13),
        ([9, 9, 1], 5, 18),
        ([9, 0, 3, 2], 3, 12),
        ([9, 2], 0, 0),
        ([9], 0, 0),
        ([2, 1], 0, 0),
        ([], 0, 0),
    ],
)
def test_labels_are_held_out_where_their_class_has_enough(counts: list[int], folds: int, tested: int) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    found, rows = held_out(targets)
    assert (found, len(rows)) == (folds, tested)
    assert all(counts[targets[row]] >= 3 for row in rows)


def test_the_temperature_of_predictions_out_of_fold_is_kept() -> None:
    """Regularisation chosen by log loss leaves little to correct, but what it leaves is corrected."""
    features, targets = clouds(200, 2, width=100, apart=0.05)
    others, truth = clouds(4000, 2, width=100, apart=0.05, seed=7)
    head = fit_head(features, targets, 2, seed=0)
    logits = head_logits(others, head.weight, head.bias)
    plain, tempered = (
        -np.log(softmax(logits, t)[np.arange(len(truth)), truth]).mean() for t in (1.0, head.temperature)
    )
    assert head.temperature != 1
    assert tempered < plain + 0.005


def test_balanced_heads_favour_the_rare_class() -> None:
    rng = np.random.default_rng(0)
    targets = np.r_[np.zeros(90, int), np.ones(10, int)]
    features = (targets[:, None] * 0.5 + rng.normal(0, 1, (100, 8))).astype(np.float32)
    plain = fit_head(features, targets, 2, seed=0)
    balanced = fit_head(features, targets, 2, seed=0, balanced=True)
    rare = [softmax(head_logits(features, h.weight, h.bias))[:, 1].mean() for h in (plain, balanced)]
    assert rare[1] > rare[0] + 0.1


@given(st.integers(2, 4), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_same_samples_and_seed_give_the_same_head(classes: int, seed: int) -> None:
    features, targets = clouds(12 * classes, classes, seed=seed)
    first, second = (fit_head(features, targets, classes, seed=seed) for _ in range(2))
    assert first.weight.tobytes() == second.weight.tobytes()
    assert (first.temperature, first.regularization) == (second.temperature, second.regularization)


def test_members_of_an_ensemble_disagree_far_from_the_labels_and_agree_near_them() -> None:
    features, targets = clouds(20, 2, width=4, apart=2.0)
    near, _ = clouds(50, 2, width=4, apart=2.0, seed=3)
    between = np.tile(near.mean(axis=0), (50, 1)) + np.random.default_rng(0).normal(0, 3, (50, 4))
    passes = [
        head_passes(features, targets, 3, x.astype(np.float32), passes=8, rng=np.random.default_rng(5))
        for x in (near, between)
    ]
    assert passes[0].shape == (8, 50, 3)
    np.testing.assert_allclose(passes[0].sum(axis=2), 1)
    assert passes[1].std(axis=0).mean() > 2 * passes[0].std(axis=0).mean()


def test_what_cannot_be_learned_from_is_said() -> None:
    features, targets = clouds(10, 2)
    with pytest.raises(InputError, match="at least 2 classes, not of 1"):
        fit_head(features, np.zeros(10, int), 2, seed=0)
    features[3, 1] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinite.*training.weights"):
        fit_head(features, targets, 2, seed=0)
    with pytest.raises(InputError, match="at least 2 members, not 1"):
        head_passes(features, targets, 2, features, passes=1, rng=np.random.default_rng(0))


@pytest.mark.parametrize(("classes", "rows"), [(2, 300), (10, 1000)])
def test_regularisation_is_chosen_on_more_labels_where_there_are_more_classes(
    classes: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []

    def counted(inputs: np.ndarray, *rest: Any) -> np.ndarray:
        fitted.append(len(inputs))
        return fit_logistic(inputs, *rest)

    monkeypatch.setattr("al_pipeline.core.learning.head.fit_logistic", counted)
    fit_head(*clouds(1200, classes, width=8), classes, seed=0)
    # Classes are drawn in proportion, each rounded to whole rows.
    assert all(abs(n - rows) < classes for n in fitted[:-1])
    assert fitted[-1] == 1200


def test_columns_of_very_different_sizes_are_fitted_as_well() -> None:
    """Coordinates are scaled, so that the largest columns are not fitted first and the small ones never."""
    rng = np.random.default_rng(5)
    targets = np.arange(400) % 2
    features = rng.normal(0, 1, (400, 6)).astype(np.float32)
    features[:, 5] += 1.5 * targets
    features *= np.array([1, 1, 1, 1, 1, 0.02], dtype=np.float32)
    found = fit_logistic(scaled(features), targets, np.ones((400, 1)), 3000.0, 1e-6)[0]
    reference = LogisticRegression(C=3000.0, tol=1e-10, max_iter=20_000).fit(scaled(features), targets)
    np.testing.assert_allclose(found[1, :-1] - found[0, :-1], reference.coef_[0], rtol=1e-2, atol=1e-2)
