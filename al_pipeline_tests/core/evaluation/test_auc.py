"""The fast areas under the curve agree with counting pairs, and their intervals with drawing samples one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.evaluation.auc import BLOCK_ELEMENTS, delong, macro_auc


def count_pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    """Compare every positive with every negative."""
    wins = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    return float(np.mean(wins))


def draw(seed: int, n: int, k: int, *, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities with ties, and classes that all occur."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), truth] += strength
    odds = np.exp(logits.round(1))
    return odds / odds.sum(axis=1, keepdims=True), truth


@given(seed=st.integers(0, 10_000), n=st.integers(4, 40))
def test_two_classes_give_the_share_of_pairs_in_order_inside_of_the_interval(seed: int, n: int) -> None:
    p, truth = draw(seed, n, 2)
    value, low, high = delong(p[:, 1], truth == 1)
    assert value == pytest.approx(count_pairs(p[:, 1], truth == 1))
    assert 0 <= low <= value <= high <= 1


def test_the_variance_is_delongs_by_definition() -> None:
    p, truth = draw(1, 60, 2)
    scores, positive = p[:, 1], truth == 1
    pairs = np.array([[(s > t) + 0.5 * (s == t) for t in scores[~positive]] for s in scores[positive]])
    auc = pairs.mean()
    variance = np.var(pairs.mean(axis=1), ddof=1) / len(pairs) + np.var(pairs.mean(axis=0), ddof=1) / pairs.shape[1]
    half = 1.959964 * np.sqrt(variance) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    expected = [auc, 1 / (1 + np.exp(half - logit)), 1 / (1 + np.exp(-half - logit))]
    np.testing.assert_allclose(delong(scores, positive), expected, atol=1e-7)


def test_a_rank_keeping_change_of_the_scores_changes_nothing() -> None:
    p, truth = draw(2, 80, 2)
    assert delong(p[:, 1], truth == 1) == delong(np.exp(5 * p[:, 1]), truth == 1)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(6, 30), k=st.integers(2, 5))
def test_several_classes_give_the_mean_of_one_against_the_rest(seed: int, n: int, k: int) -> None:
    p, truth = draw(seed, n, k)
    value, low, high = macro_auc(p, truth, seed=0)
    assert value == pytest.approx(np.mean([count_pairs(p[:, i], truth == i) for i in range(k)]))
    assert 0 <= low <= value <= high <= 1


def test_the_bootstrap_is_that_of_samples_drawn_one_by_one() -> None:
    p, truth = draw(3, 45, 3)
    rng = np.random.default_rng(0)
    replicates = []
    for _ in range(1000):
        rows = np.concatenate([rng.choice(np.flatnonzero(truth == i), (truth == i).sum()) for i in range(3)])
        drawn = [(p[rows, i], truth[rows] == i) for i in range(3)]
        # Pairs counted at once: positives down, negatives across.
        pairs = [np.sign(s[t][:, None] - s[~t][None, :]).mean() / 2 + 0.5 for s, t in drawn]
        replicates.append(np.mean(pairs))
    _, low, high = macro_auc(p, truth, seed=0)
    np.testing.assert_allclose([low, high], np.quantile(replicates, [0.025, 0.975]), atol=0.012)


def test_the_seed_decides_the_interval_and_the_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    p, truth = draw(4, 90, 4)
    whole = macro_auc(p, truth, seed=1)
    assert whole == macro_auc(p, truth, seed=1) != macro_auc(p, truth, seed=2)
    assert BLOCK_ELEMENTS > 90 * 90
    monkeypatch.setattr("al_pipeline.core.evaluation.auc.BLOCK_ELEMENTS", 90 * 7)
    assert macro_auc(p, truth, seed=1) == pytest.approx(whole, abs=1e-9)
