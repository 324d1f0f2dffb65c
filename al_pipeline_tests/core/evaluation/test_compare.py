""" "Better" is said of a model only if it is: by hand, against the definition, and never from a lucky handful."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.auc import delong, macro_auc
from al_pipeline.core.evaluation.compare import FEWEST_COMPARED, compare, holdout_advice, labels_needed
from al_pipeline.core.evaluation.evaluate import NO_LABELS, evaluate
from al_pipeline.core.evaluation.metrics import BETTER, UNDECIDED, WORSE, Difference

TWO = ["muffin", "dark horse"]


def draw(seed: int, n: int, k: int, strengths: tuple[float, float] = (1.0, 1.6)) -> tuple[np.ndarray, ...]:
    """Return two models' probabilities, with ties, and class numbers that all occur twice."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.repeat(np.arange(k), 2), rng.integers(0, k, n - 2 * k)])
    shared = rng.normal(size=(n, k))
    models = []
    for strength in strengths:
        logits = shared + rng.normal(size=(n, k))
        logits[np.arange(n), truth] += strength
        odds = np.exp(logits.round(1))
        models.append(odds / odds.sum(axis=1, keepdims=True))
    return models[0], models[1], truth


def names_of(truth: np.ndarray, k: int) -> tuple[list[str], list[str]]:
    names = [f"Größe {i}" for i in range(k)]
    return [names[i] for i in truth], names


def hits(right: int, wrong: int) -> np.ndarray:
    """Return predictions of the class `muffin`, of which the first are right and the others wrong."""
    return np.array([[0.8, 0.2]] * right + [[0.2, 0.8]] * wrong)


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.01, 0.2, BETTER), (-0.2, -0.01, WORSE), (0, 0.1, UNDECIDED)])
def test_the_verdict_is_whether_the_interval_leaves_out_zero(low: float, high: float, verdict: str) -> None:
    assert Difference((low + high) / 2, low, high).verdict == verdict


def test_accuracy_by_hand() -> None:
    # Of 50 samples the current model wins 9 and loses 2.
    previous = np.concatenate([hits(30, 0), hits(0, 9), hits(2, 0), hits(0, 9)])
    current = np.concatenate([hits(30, 0), hits(9, 0), hits(0, 2), hits(0, 9)])
    found = compare(previous, current, ["muffin"] * 50, TWO).accuracy
    assert found is not None
    assert found.value == pytest.approx(7 / 50)
    middle, half = 7 / 52, 1.959964 * math.sqrt((9.5 + 2.5) - 7**2 / 52) / 52
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert found.verdict == BETTER


def test_what_is_better_one_way_is_worse_the_other() -> None:
    before, after, truth = draw(0, 400, 3)
    labels, names = names_of(truth, 3)
    forward, backward = compare(before, after, labels, names), compare(after, before, labels, names)
    for one, other in ((forward.accuracy, backward.accuracy), (forward.roc_auc, backward.roc_auc)):
        assert one is not None
        assert other is not None
        assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
        assert (one.verdict, other.verdict) == (BETTER, WORSE)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(12, 60), k=st.integers(2, 5))
def test_the_values_are_the_differences_of_the_evaluations(seed: int, n: int, k: int) -> None:
    before, after, truth = draw(seed, n, k)
    labels, names = names_of(truth, k)
    result = compare(before, after, labels, names)
    stored = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert stored["n"] == n
    assert stored["roc_auc"] == vars(result.roc_auc)
    old, new = evaluate(before, labels, names), evaluate(after, labels, names)
    for found, one, two in ((result.accuracy, old.accuracy, new.accuracy), (result.roc_auc, old.roc_auc, new.roc_auc)):
        assert found is not None
        assert one is not None
        assert two is not None
        assert found.value == pytest.approx(two.value - one.value)
        assert -1 <= found.low <= found.value <= found.high <= 1


def test_the_interval_of_two_classes_is_delongs_by_definition() -> None:
    before, after, truth = draw(1, 60, 2)
    found = compare(before, after, *names_of(truth, 2)).roc_auc
    assert found is not None
    pairs = [
        np.array([[(s > u) + 0.5 * (s == u) for u in p[truth == 0, 1]] for s in p[truth == 1, 1]])
        for p in (before, after)
    ]
    change = pairs[1] - pairs[0]
    parts = [np.var(change.mean(axis=axis), ddof=1) / change.shape[1 - axis] for axis in (0, 1)]
    freedom = sum(parts) ** 2 / sum(v**2 / (change.shape[1 - axis] - 1) for axis, v in enumerate(parts))
    half = t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert (found.low, found.high) == pytest.approx((change.mean() - half, change.mean() + half))


@pytest.mark.parametrize("k", [2, 4])
def test_the_interval_against_a_constant_model_is_that_of_the_area_alone(k: int) -> None:
    _, after, truth = draw(2, 600, k)
    found = compare(np.full_like(after, 1 / k), after, *names_of(truth, k)).roc_auc
    assert found is not None
    value, low, high = delong(after[:, 1], truth == 1) if k == 2 else macro_auc(after, truth, seed=0)
    assert found.value == pytest.approx(value - 0.5)
    assert found.high - found.low == pytest.approx(high - low, rel=0.06)


def test_the_same_samples_tell_more_than_two_separate_holdouts() -> None:
    before, after, truth = draw(3, 300, 2)
    labels, names = names_of(truth, 2)
    paired, one, two = compare(before, after, labels, names), evaluate(before, labels, names).roc_auc, None
    two = evaluate(after, labels, names).roc_auc
    assert paired.roc_auc is not None
    assert one is not None
    assert two is not None
    assert paired.roc_auc.high - paired.roc_auc.low < 0.9 * math.hypot(one.high - one.low, two.high - two.low)


def test_identical_predictions_differ_by_nothing() -> None:
    before, _, truth = draw(4, 40, 3)
    result = compare(before, before, *names_of(truth, 3))
    assert result.accuracy == result.roc_auc == Difference(0, 0, 0)
    assert Difference(0, 0, 0).verdict == UNDECIDED


@pytest.mark.parametrize("k", [2, 4])
def test_two_perfect_models_are_not_called_equal_for_certain(k: int) -> None:
    labels, names = names_of(np.tile(np.arange(k), 5), k)
    right = np.array(labels)[:, None] == np.array(names)
    before, after = (np.where(right, p, (1 - p) / (k - 1)) for p in (0.6, 0.7))
    result = compare(before, after, labels, names)
    for found in (result.accuracy, result.roc_auc):
        assert found is not None
        assert found.value == 0
        assert found.low < -0.05
        assert found.high > 0.05


def test_one_sample_per_class_decides_nothing() -> None:
    result = compare([[0.4, 0.6], [0.6, 0.4]], [[0.6, 0.4], [0.4, 0.6]], TWO, TWO)
    assert result.roc_auc is not None
    assert (result.roc_auc.value, result.roc_auc.verdict) == (1, UNDECIDED)


def test_no_samples_give_no_numbers_but_a_note() -> None:
    result = compare([], np.empty((0, 2)), [], TWO)
    assert (result.n, result.accuracy, result.roc_auc, result.note) == (0, None, None, NO_LABELS)
    assert result.to_json() == {"n": 0, "accuracy": None, "roc_auc": None, "note": NO_LABELS}


@pytest.mark.parametrize("current", [hits(3, 1), hits(4, 0)])
def test_a_class_without_samples_leaves_accuracy_and_explains_the_missing_area(current: np.ndarray) -> None:
    result = compare(hits(3, 1), current, ["muffin"] * 4, TWO)
    assert result.accuracy is not None
    assert result.roc_auc is None
    assert result.note == "no ROC-AUC: no holdout sample is of the class dark horse"


def test_a_class_without_samples_is_left_out_of_the_difference_of_areas() -> None:
    before, after, truth = draw(3, 200, 4)
    kept = truth < 3
    names = [f"c{i}" for i in range(4)]
    labels = [names[i] for i in truth[kept]]
    result = compare(before[kept], after[kept], labels, names)
    was, now = (evaluate(p[kept], labels, names).roc_auc for p in (before, after))
    assert result.roc_auc is not None
    assert was is not None
    assert now is not None
    assert result.roc_auc.value == pytest.approx(now.value - was.value)
    assert result.note == "ROC-AUC is the mean over 3 of 4 classes: no holdout sample is of the class c3"


def test_a_large_holdout_is_compared_at_once() -> None:
    before, after, truth = draw(5, 20_000, 20)
    result = compare(before, after, *names_of(truth, 20))
    assert result.roc_auc is not None
    assert result.roc_auc.verdict == BETTER


@pytest.mark.parametrize(
    ("previous", "current", "message"),
    [
        (hits(2, 0), hits(1, 0), r"shape \(1, 2\), but there are 2 labels"),
        ([[0.5, 0.5], [math.nan, 0.5]], hits(2, 0), "sample 1 .*nan"),
    ],
)
def test_what_is_no_prediction_is_refused(previous: Any, current: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(previous, current, ["muffin", "muffin"], TWO)


def half_width(n: int, p: float) -> float:
    """Return Wilson's (1927) half-width."""
    z = 1.9599639845
    return z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)


@given(accuracy=st.floats(0, 1), width=st.floats(0.005, 0.6))
def test_the_labels_needed_are_the_fewest_that_suffice(accuracy: float, width: float) -> None:
    n = labels_needed(accuracy, half_width=width)
    assert half_width(n, accuracy) <= width + 1e-9
    assert n == 1 or half_width(n - 1, accuracy) > width - 1e-9


def test_labels_needed_in_familiar_cases() -> None:
    assert labels_needed(0.5) == 2398  # z² / 4h² − z² = 2,397.07
    assert labels_needed(0.95) < labels_needed(0.9) < labels_needed(0.5)


def test_the_advice_says_what_there_is_and_what_it_would_take() -> None:
    text = "±4.2 points with 200 holdout labels; ±2 points would take about 870"
    assert holdout_advice(200, 0.9) == text
    enough = labels_needed(0.9)
    assert holdout_advice(enough - 1, 0.9) is not None
    assert holdout_advice(enough, 0.9) is None
    assert "with 1 holdout label;" in (holdout_advice(1, 1.0) or "")
    assert "with 1,000 holdout labels; ±2 points would take about 2,400" in (holdout_advice(1000, 0.5) or "")


@pytest.mark.parametrize(
    ("n", "accuracy", "message"), [(0, 0.9, "0 holdout labels"), (10, 1.5, r"not 1\.5"), (10, math.nan, "not nan")]
)
def test_impossible_holdouts_are_refused(n: int, accuracy: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        holdout_advice(n, accuracy)


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="half_width must be above 0, not 0"):
        labels_needed(0.9, half_width=0)


def test_of_a_few_samples_no_comparison_is_told() -> None:
    for n in (0, 1, FEWEST_COMPARED - 1, FEWEST_COMPARED):
        labels = ["muffin"] * n
        found = compare(hits(0, n), hits(n, 0), labels, TWO)
        told = found.if_enough()
        assert told.n == n
        if n >= FEWEST_COMPARED:
            assert told == found
            assert told.accuracy is not None
            assert told.accuracy.verdict == BETTER
        else:
            assert (told.accuracy, told.roc_auc) == (None, None)
            assert told.note == (
                f"too few test labels to compare with the last round: {n}, it takes 10" if n else NO_LABELS
            )
