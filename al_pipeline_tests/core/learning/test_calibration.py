"""Calibration errors, and the temperature that is best on labeled samples."""

import numpy as np
import pytest

from al_pipeline.core.learning.calibration import fit_temperature, tempered


def test_temperature_leaves_impossible_classes_impossible() -> None:
    p = np.array([[0.8, 0.2, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(tempered(p, 0.5), [[16 / 17, 1 / 17, 0], [1, 0, 0]])
    np.testing.assert_array_equal(tempered(p, 1.0), p)


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
