"""Estimates from query batches are unbiased: exactly on tiny pools, draw by draw, and in simulation on large ones."""

import math
from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.evaluate import evaluate
from al_pipeline.core.evaluation.prequential import prequential_accuracy
from al_pipeline.core.strategies.kernels.inclusion import inclusion_probabilities
from al_pipeline.core.strategies.selection import select

WEIGHTS = np.array([0.2, 0.5, 1.0, 1.3, 2.0, 3.0])


def ordered_draws(size: int) -> Iterator[tuple[list[int], np.ndarray, float]]:
    """Yield every ordered draw without replacement ∝ WEIGHTS, its proposals and its probability."""
    for rows in permutations(range(len(WEIGHTS)), size):
        left = WEIGHTS.sum() - np.append(0, np.cumsum(WEIGHTS[list(rows)]))[:-1]
        proposals = WEIGHTS[list(rows)] / left
        yield list(rows), proposals, float(proposals.prod())


def batches(size: int) -> dict[tuple[int, ...], float]:
    """Return the probability of every batch, whatever its order."""
    found = dict.fromkeys(combinations(range(len(WEIGHTS)), size), 0.0)
    for rows, _, chance in ordered_draws(size):
        found[tuple(sorted(rows))] += chance
    return found


def test_the_expected_prequential_accuracy_is_that_of_all_candidates() -> None:
    # Misses of likely candidates: no batch then has an estimate above 1, which would be clipped.
    hits, size = np.array([True, True, True, False, True, False]), 3
    exact = np.array([sum(p for rows, p in batches(size).items() if i in rows) for i in range(6)])
    logged = inclusion_probabilities(np.log(WEIGHTS), size, np.arange(6))
    for chances, tolerance in ((exact, 1e-12), (logged, 1e-3)):
        mean = 0.0
        for batch, probability in batches(size).items():
            rows = list(batch)
            estimate = prequential_accuracy(hits[rows], chances[rows], 6)
            assert estimate is not None
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            mean += probability * estimate.value
        assert mean == pytest.approx(hits.mean(), abs=tolerance)


def pool(uniform: float, *, n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return which candidates a calibrated model misses, and proposals ∝ uncertainty mixed with uniform ones."""
    rng = np.random.default_rng(seed)
    confidence = 1 / (1 + np.exp(-np.abs(rng.normal(0, 3, n))))
    uncertainty = 1 - confidence
    return rng.random(n) > confidence, (1 - uniform) * uncertainty / uncertainty.sum() + uniform / n


@pytest.mark.parametrize("uniform", [0.1, 0.5])
def test_estimates_on_a_large_pool_are_unbiased_and_cover_where_the_plain_share_does_not(uniform: float) -> None:
    misses, weights = pool(uniform)
    n, size, runs = len(misses), 200, 800
    keys = np.log(weights) + np.random.default_rng(1).gumbel(size=(runs, n))
    picks = np.argsort(-keys, axis=1)[:, :size]
    naive = misses[picks].mean() - misses.mean()
    assert naive > 0.05
    # Inclusion probabilities rise smoothly with the weight: a few are computed, the others lie between.
    known = np.argsort(weights)[np.linspace(0, n - 1, 80).astype(int)]
    chances = np.interp(weights, weights[known], inclusion_probabilities(np.log(weights), size, known))
    assert chances.sum() == pytest.approx(size, rel=0.005)
    found = [prequential_accuracy(~misses[rows], chances[rows], n) for rows in picks]
    estimates = np.array([interval for interval in found if interval is not None])
    truth = 1 - misses.mean()
    assert abs(estimates[:, 0].mean() - truth) < 0.002
    assert ((estimates[:, 1] <= truth) & (truth <= estimates[:, 2])).mean() >= 0.93
    # What the weights are for: fewer labels than as many simple draws would take.
    assert estimates[:, 0].std() < 0.9 * math.sqrt(truth * (1 - truth) / size)


def test_what_is_explored_beside_a_deterministic_strategy_is_a_simple_random_sample() -> None:
    rng = np.random.default_rng(2)
    confidence = 0.5 + 0.5 * rng.random(400)
    hits = rng.random(400) < confidence
    p = np.column_stack([confidence, 1 - confidence])
    estimates = []
    for seed in range(300):
        batch = select("margin", probabilities=p, batch_size=60, explore=0.5, rng=np.random.default_rng(seed))
        rows = batch.indices[batch.explored]
        estimate = prequential_accuracy(hits[rows], batch.propensities[batch.explored], 400)
        assert estimate is not None
        assert estimate.value == pytest.approx(hits[rows].mean())
        estimates.append(estimate)
    assert np.mean([e.value for e in estimates]) == pytest.approx(hits.mean(), abs=0.015)
    assert 0.92 <= np.mean([e.low <= hits.mean() <= e.high for e in estimates]) <= 0.99


def test_a_strategy_that_draws_logs_what_the_estimate_needs() -> None:
    n = 100
    rng = np.random.default_rng(3)
    confidence = 0.5 + 0.45 * rng.random(n)
    hits = rng.random(n) < confidence
    p = np.column_stack([confidence, 1 - confidence])
    values, naive = [], []
    for seed in range(150):
        batch = select("power_margin", probabilities=p, batch_size=20, rng=np.random.default_rng(seed), power=1.5)
        estimate = prequential_accuracy(hits[batch.indices], batch.propensities, n)
        assert estimate is not None
        values.append(estimate.value)
        naive.append(hits[batch.indices].mean())
    assert np.mean(values) == pytest.approx(hits.mean(), abs=0.02)
    assert abs(np.mean(naive) - hits.mean()) > 0.04


def test_equal_propensities_in_an_endless_pool_give_wilsons_interval() -> None:
    hits = np.arange(50) < 40
    found = prequential_accuracy(hits, np.full(50, 50 / 10**9), 10**9)
    p = np.where(hits[:, None], [0.9, 0.1], [0.1, 0.9])
    assert found == pytest.approx(evaluate(p, ["cat"] * 50, ["cat", "dog"]).accuracy)


def test_a_pool_that_is_known_whole_leaves_no_doubt() -> None:
    assert prequential_accuracy([True, False, True, True], np.ones(4), 4) == pytest.approx((0.75, 0.75, 0.75))


def test_a_batch_without_misses_is_no_proof_of_perfection() -> None:
    found = prequential_accuracy(np.ones(20), np.linspace(0.01, 0.1, 20), 1000)
    assert found is not None
    assert found.value == found.high == 1
    assert 0.8 < found.low < 0.87


def test_an_estimate_below_zero_is_clipped() -> None:
    found = prequential_accuracy([False, False, True], [0.01, 0.02, 0.5], 10)
    assert found is not None
    assert found.value == found.low == 0
    assert found.high > 0.4


@pytest.mark.parametrize("size", [0, 1])
def test_fewer_than_two_rows_tell_nothing(size: int) -> None:
    assert prequential_accuracy([True] * size, [0.1] * size, 100) is None


@pytest.mark.parametrize(
    ("hits", "propensities", "n", "message"),
    [
        ([True, True], [0.1, math.nan], 10, r"propensities\[1\] is nan.*left out"),
        ([True, True], [0.0, 0.1], 10, r"propensities\[0\] is 0\.0"),
        ([True, True], [0.1, 1.1], 10, r"propensities\[1\] is 1\.1"),
        ([True], [0.1, 0.1], 10, r"shape \(1,\) but propensities \(2,\)"),
        ([True] * 3, [0.5] * 3, 2, "drawn from 2 candidates"),
    ],
)
def test_what_is_no_random_batch_is_refused(hits: Any, propensities: Any, n: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prequential_accuracy(hits, propensities, n)
