"""Regressions fitted together are those fitted alone, and scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from al_pipeline.core.learning.logistic import fit_logistic


def problem(n: int, classes: int, n_fits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, classes and weights, a fifth of which are 0."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    inputs = rng.normal(0, 0.3, (n, 12)) + np.eye(12)[codes] * 0.6
    weights = rng.uniform(0.5, 2, (n, n_fits)) * (rng.random((n, n_fits)) > 0.2)
    return inputs, codes, weights


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("regularization", [0.3, 30.0])
def test_each_of_them_is_scikit_learns(classes: int, regularization: float) -> None:
    inputs, codes, weights = problem(90, classes, 4)
    found = fit_logistic(inputs, codes, weights, regularization, 1e-8)
    assert found.shape == (4, classes, 13)
    for fit, own in zip(found, weights.T, strict=True):
        reference = LogisticRegression(C=regularization, tol=1e-9, max_iter=5000).fit(inputs, codes, own)
        rows = (fit[1] - fit[0])[None] if classes == 2 else fit
        np.testing.assert_allclose(rows[:, :-1], reference.coef_, atol=2e-4)
        np.testing.assert_allclose(rows[:, -1], reference.intercept_, atol=2e-4)


def test_rows_of_weight_0_are_not_there() -> None:
    inputs, codes, weights = problem(60, 2, 1)
    kept = weights[:, 0] > 0
    whole = fit_logistic(inputs, codes, weights, 10.0, 1e-9)
    part = fit_logistic(inputs[kept], codes[kept], weights[kept], 10.0, 1e-9)
    np.testing.assert_allclose(whole, part, atol=1e-5)


def test_where_it_begins_changes_the_time_and_not_the_result() -> None:
    inputs, codes, weights = problem(60, 3, 2)
    cold = fit_logistic(inputs, codes, weights, 30.0, 1e-9)
    warm = fit_logistic(inputs, codes, weights, 30.0, 1e-9, fit_logistic(inputs, codes, weights, 3.0, 1e-4))
    np.testing.assert_allclose(cold, warm, atol=1e-4)
    np.testing.assert_allclose(warm.mean(axis=1), 0, atol=1e-9)
