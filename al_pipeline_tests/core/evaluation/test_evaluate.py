"""Test numbers are right by hand, carry honest intervals, and survive JSON."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.evaluate import CURVE_POINTS, NO_LABELS, evaluate, overlooked
from al_pipeline.core.evaluation.metrics import stored_scores

TWO = ["muffin", "dark horse"]


def draw(seed: int, n: int, names: list[str], *, strength: float = 1.5) -> tuple[np.ndarray, list[str]]:
    """Return probabilities and true names; every class occurs."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(len(names)), rng.integers(0, len(names), n - len(names))])
    logits = rng.normal(size=(n, len(names)))
    logits[np.arange(n), truth] += strength
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), [names[i] for i in truth]


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The interval in Wilson's own form (1927)."""
    z, p = 1.959964, successes / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def test_a_small_example_by_hand() -> None:
    p = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.55, 0.45]]
    result = evaluate(p, ["muffin", "muffin", "muffin", "dark horse", "dark horse"], TWO)
    assert result.n == 5
    assert result.confusion == [[2, 1], [1, 1]]
    assert result.accuracy is not None
    assert result.accuracy.value == pytest.approx(3 / 5)
    assert result.accuracy[1:] == pytest.approx(wilson(3, 5), abs=1e-6)
    muffin, horse = result.per_class
    assert (muffin.support, muffin.precision, muffin.recall) == (3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (horse.support, horse.precision, horse.recall) == (2, 0.5, 0.5)
    assert result.roc_auc is not None
    assert result.roc_auc.value == pytest.approx(5 / 6)  # .7 beats three, .45 beats two of three
    # Each prediction has a bin to itself: the mean of |confidence − right or wrong|.
    assert result.ece == pytest.approx((0.1 + 0.2 + 0.6 + 0.3 + 0.55) / 5)
    assert [curve.name for curve in result.roc] == ["dark horse"]
    assert result.note is None


def test_confidences_of_one_bin_are_averaged_before_they_are_compared() -> None:
    result = evaluate([[0.95, 0.05], [0.97, 0.03]], TWO, TWO)
    assert len(result.calibration) == 1
    assert (result.calibration[0].count, result.calibration[0].accuracy) == (2, 0.5)
    assert result.ece == pytest.approx(0.96 - 0.5)


def test_no_samples_give_no_numbers_but_a_note() -> None:
    for nothing in ([], np.empty((0, 2))):
        result = evaluate(nothing, [], TWO)
        assert (result.n, result.accuracy, result.roc_auc, result.ece, result.note) == (0, None, None, None, NO_LABELS)
        json.dumps(result.to_json(), allow_nan=False)


def test_a_class_without_samples_is_left_out_of_the_mean_area_and_named() -> None:
    names = ["a", "b", "c"]
    result = evaluate([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], ["a", "b"], names)
    assert result.accuracy is not None
    assert result.roc_auc is not None
    assert result.roc_auc.value == 1
    assert result.note == "ROC-AUC is the mean over 2 of 3 classes: no holdout sample is of the class c"
    assert result.per_class[2].recall is None
    assert result.per_class[2].precision is None
    assert [curve.name for curve in result.roc] == ["a", "b", "mean over 2 of 3 classes"]


def test_one_class_alone_has_no_curve() -> None:
    result = evaluate([[0.8, 0.2], [0.6, 0.4]], ["muffin", "muffin"], TWO)
    assert result.roc == []
    assert result.roc_auc is None
    assert result.note == "no ROC-AUC: no holdout sample is of the class dark horse"


@pytest.mark.parametrize("k", [3, 5])
def test_the_mean_area_without_a_class_is_that_of_the_others_scores(k: int) -> None:
    rng = np.random.default_rng(k)
    p, truth = rng.dirichlet(np.ones(k), 90), rng.integers(0, k - 1, 90)
    names = [f"c{i}" for i in range(k)]
    result = evaluate(p, [names[i] for i in truth], names)
    expected = np.mean([roc_auc_score(truth == i, p[:, i]) for i in range(k - 1)])
    assert result.roc_auc is not None
    assert result.roc_auc.value == pytest.approx(expected)
    assert result.roc_auc.low < result.roc_auc.value < result.roc_auc.high
    assert result.roc[-1].auc == pytest.approx(expected)


@pytest.mark.parametrize("k", [2, 4])
def test_a_perfect_ranking_of_few_samples_is_not_called_certain(k: int) -> None:
    names = [f"c{i}" for i in range(k)]
    labels = names * 3
    p = np.where(np.array(labels)[:, None] == np.array(names), 0.7, 0.3 / (k - 1))
    result = evaluate(p, labels, names)
    assert result.roc_auc is not None
    assert result.roc_auc.value == result.roc_auc.high == 1
    assert 0.3 < result.roc_auc.low < 0.9
    more = evaluate(np.tile(p, (30, 1)), labels * 30, names).roc_auc
    assert more is not None
    assert more.low > result.roc_auc.low


def test_a_model_may_be_sure() -> None:
    found = evaluate([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [*TWO, TWO[1]], TWO)
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx(2 / 3)


def test_one_sample_per_class_has_a_wide_interval() -> None:
    auc = evaluate([[0.6, 0.4], [0.6, 0.4]], TWO, TWO).roc_auc
    assert auc is not None
    assert auc.value == 0.5
    assert auc.high - auc.low > 0.7


@settings(deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(5, 60), k=st.integers(2, 5))
def test_every_evaluation_survives_json_and_is_consistent(seed: int, n: int, k: int) -> None:
    names = [f"Größe {i}" for i in range(k)]
    p, labels = draw(seed, n, names)
    result = evaluate(p, labels, names)
    text = json.dumps(result.to_json(), allow_nan=False)
    stored = json.loads(text)
    assert stored_scores(stored) == (n, {"accuracy": result.accuracy, "roc_auc": result.roc_auc})
    assert (stored["ece"], stored["confusion"]) == (result.ece, result.confusion)
    assert sum(map(sum, result.confusion)) == n
    assert sum(b.count for b in result.calibration) == n
    assert result.accuracy is not None
    assert result.accuracy.low <= result.accuracy.value <= result.accuracy.high
    assert result.accuracy.value == pytest.approx(np.trace(result.confusion) / n)


def test_curves_are_short_monotone_and_keep_their_area() -> None:
    p, labels = draw(0, 5000, TWO)
    (curve,) = evaluate(p, labels, TWO).roc
    x, y = np.array(curve.false_positive_rate), np.array(curve.true_positive_rate)
    assert len(x) <= CURVE_POINTS
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    positive = np.array(labels) == TWO[1]
    scores = p[:, 1]
    area = (scores[positive][:, None] > scores[~positive][None, :]).mean()
    assert curve.auc == pytest.approx(area)
    assert np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 == pytest.approx(area, abs=2e-3)


def test_many_classes_keep_the_mean_curve_alone() -> None:
    names = [f"c{i}" for i in range(30)]
    p, labels = draw(0, 300, names)
    result = evaluate(p, labels, names)
    (mean,) = result.roc
    assert result.roc_auc is not None
    assert mean.auc == pytest.approx(result.roc_auc.value)
    assert mean.true_positive_rate[-1] == 1


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        ([[0.5, 0.5]], ["muffin", "muffin"], r"shape \(1, 2\), but there are 2 labels and 2 classes"),
        ([[0.2, 0.3, 0.5]], ["muffin"], r"shape \(1, 3\)"),
        ([[0.5, 0.5], [math.nan, 0.5]], ["muffin", "muffin"], "sample 1 .*nan"),
        ([[1.2, -0.2]], ["muffin"], "sample 0 .*at least 0"),
        ([[0.5, 0.4]], ["muffin"], "must sum to 1"),
        ([[0.5, 0.5]], ["cat"], "outside of the classes: 'cat'"),
    ],
)
def test_what_is_no_prediction_is_refused(p: Any, labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(p, labels, TWO)


def test_a_document_that_is_no_evaluation_is_refused() -> None:
    for document in ({"accuracy": None}, {"n": 1, "accuracy": 1}, {"n": 1, "accuracy": {"value": 1}}):
        with pytest.raises(InputError, match="no stored evaluation"):
            stored_scores(document)


def test_a_metric_that_an_earlier_version_did_not_store_is_unknown() -> None:
    stored = evaluate([[0.8, 0.2], [0.3, 0.7]], TWO, TWO).to_json()
    del stored["roc_auc"]
    n, scores = stored_scores(stored)
    assert (n, scores["roc_auc"]) == (2, None)
    assert scores["accuracy"] == pytest.approx((1, *wilson(2, 2)), abs=1e-6)


def test_thresholds_decide_what_is_said_and_leave_probabilities_alone() -> None:
    p, labels = draw(3, 200, TWO)
    plain, moved = evaluate(p, labels, TWO), evaluate(p, labels, TWO, thresholds=(0.8, 0.2))
    said = p[:, 1] > 0.2
    assert moved.per_class[1].recall == pytest.approx(said[np.array(labels) == TWO[1]].mean())
    assert moved.accuracy != plain.accuracy
    assert (moved.roc_auc, moved.ece, moved.calibration) == (plain.roc_auc, plain.ece, plain.calibration)


def test_a_class_that_is_found_far_less_often_than_its_ranking_allows_is_named() -> None:
    """Ten rare samples, all ranked above the others and none called by its name."""
    rare = np.r_[np.zeros(190), np.ones(10)]
    p = 0.01 + 0.2 * rare + np.linspace(0, 0.01, 200)
    labels = [TWO[int(i)] for i in rare]
    missed = overlooked(evaluate(np.c_[1 - p, p], labels, TWO))
    assert missed is not None
    assert (missed.name, missed.recall, missed.reachable) == (TWO[1], 0, 1)
    assert overlooked(evaluate(np.c_[1 - p, p], labels, TWO, thresholds=(0.9, 0.1))) is None
    # A ranking that is chance promises nothing, nor do four samples.
    assert overlooked(evaluate(np.c_[1 - p, p], labels[::-1], TWO)) is None
    assert overlooked(evaluate(np.c_[1 - p, p][:194], labels[:194], TWO)) is None
    assert overlooked(evaluate([], [], TWO)) is None
