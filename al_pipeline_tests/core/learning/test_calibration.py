"""Calibration errors, and the temperature that is best on labeled samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.calibration import TEMPERATURES, best_temperature, calibration, fit_temperature, tempered


def outcomes(n: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that are exactly as sure as they should be, and what then happened."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), n)
    return p, (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)


def test_temperature_leaves_impossible_classes_impossible() -> None:
    p = np.array([[0.8, 0.2, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(tempered(p, 0.5), [[16 / 17, 1 / 17, 0], [1, 0, 0]])
    np.testing.assert_array_equal(tempered(p, 1.0), p)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_model_that_is_too_sure_or_not_sure_enough_is_put_right(temperature: float) -> None:
    p, labels = outcomes(20_000, seed=1)
    # The true probabilities, sharpened or softened; undoing it takes the inverse.
    found = best_temperature(tempered(p, temperature), labels)
    assert found == pytest.approx(1 / temperature, rel=0.12)


@given(seed=st.integers(0, 50), n=st.integers(1, 40), classes=st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_no_temperature_that_is_tried_is_better(seed: int, n: int, classes: int) -> None:
    p, labels = outcomes(n, seed, classes)
    right = p.argmax(axis=1) == labels

    def error(temperature: float) -> float:
        return calibration(tempered(p, temperature).max(axis=1), right)[0]

    found = best_temperature(p, labels)
    assert error(found) <= min(error(t) for t in TEMPERATURES[::7]) + 1e-12
    assert error(found) <= error(1.0) + 1e-9


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.empty((0, 2)), [], "needs probabilities of the shape"),
        ([[0.5, 0.5]], [0, 1], "n labels, not \\(1, 2\\) and \\(2,\\)"),
        ([[0.5, 0.5]], [2], "whole numbers from 0 to 1, not \\[2\\]"),
        ([[0.5, 0.5]], [0.5], "whole numbers from 0 to 1"),
    ],
)
def test_input_that_cannot_be_used_is_named(p: list, labels: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        best_temperature(p, labels)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_scaled_the_logits(factor: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (50_000, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (np.cumsum(probabilities, axis=1) < rng.random((50_000, 1))).sum(axis=1)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


def test_a_handful_of_right_predictions_does_not_freeze_the_temperature() -> None:
    """Without a prior the best temperature of predictions that are all right is 0."""
    logits = np.array([[3.0, 0.0], [0.0, 3.0]] * 4)
    assert 0.6 < fit_temperature(logits, [0, 1] * 4) < 1
