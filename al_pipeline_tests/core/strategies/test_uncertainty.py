"""Margin, entropy, least confidence, BALD, BatchBALD and power sampling against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.strategies import Selection, select, utilities
from al_pipeline.core.strategies.kernels.inclusion import inclusion_probabilities
from al_pipeline_tests.core.strategies import references


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def dirichlet(n: int, classes: int, seed: int = 0) -> np.ndarray:
    return rng(seed).dirichlet(np.ones(classes), n)


def utility(name: str, p: np.ndarray) -> list[float]:
    ordered = np.sort(p, axis=1)
    return {
        "margin": [float(row[-2] - row[-1]) for row in ordered],
        "entropy": [references.entropy(row) for row in p],
        "least_confidence": [float(1 - row[-1]) for row in ordered],
    }[name]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("classes", [2, 3, 10, 40])
@pytest.mark.parametrize("name", ["margin", "entropy", "least_confidence"])
def test_the_batch_is_the_top_of_the_sorted_pool(name: str, classes: int, dtype: type) -> None:
    p = dirichlet(200, classes).astype(dtype)
    values = utility(name, p.astype(np.float64))
    found = select(name, probabilities=p, batch_size=30, rng=rng())
    assert found.indices.tolist() == sorted(range(200), key=lambda row: -values[row])[:30]
    np.testing.assert_allclose(found.scores, np.array(values)[found.indices], atol=1e-6)
    assert np.isnan(found.propensities).all()


@given(p=st.integers(2, 60).map(lambda n: dirichlet(n, 2, seed=n)), batch=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_for_two_classes_all_of_them_are_the_same_strategy(p: np.ndarray, batch: int) -> None:
    one, *others = (
        select(name, probabilities=p, batch_size=batch, rng=rng()).indices.tolist()
        for name in ("low_certainty", "margin", "entropy", "least_confidence")
    )
    assert others == [one] * 3


def test_certain_and_impossible_classes_have_no_entropy() -> None:
    np.testing.assert_array_equal(utilities.entropy(np.array([[1.0, 0.0], [0.5, 0.5]])), [0, np.log(2)])


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
@pytest.mark.parametrize("rows", [3, 64, 5000])
def test_ranks_of_blocks_are_those_of_the_sorted_values(n: int, rows: int) -> None:
    for values in (rng(n).random(n), np.full(n, 0.25), np.round(rng(n).random(n), 1), np.ones(n)):
        expected = np.argsort(np.argsort(values, kind="stable"))
        for lowest, highest in ((0, n - 1), (n // 2, n // 2), (n // 3, n // 2)):
            found, rank = utilities.ranks(lambda start, stop, v=values: v[start:stop], n, rows, lowest, highest)
            np.testing.assert_array_equal(rank, expected[found])
            assert set(range(lowest, highest + 1)) <= set(rank.tolist())
            assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("name", ["margin", "low_certainty", "high_certainty", "mid_certainty", "low_high_certainty"])
def test_pools_of_many_blocks_are_ranked_as_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    p = np.round(dirichlet(999, 3), 2)
    p[:, 2] = 1 - p[:, 0] - p[:, 1]
    p = np.clip(p, 0, 1)
    whole = select(name, probabilities=p, batch_size=25, rng=rng()).indices.tolist()
    monkeypatch.setattr(utilities, "CELLS", 3 * 17)
    assert select(name, probabilities=p, batch_size=25, rng=rng()).indices.tolist() == whole


# ---------------------------------------------------------------- several passes


def passes(n: int, classes: int, times: int = 4, seed: int = 0) -> np.ndarray:
    return rng(seed).dirichlet(np.ones(classes), (times, n))


@pytest.mark.parametrize("classes", [2, 3])
def test_bald_is_the_mutual_information_of_label_and_pass(classes: int) -> None:
    samples = passes(60, classes)
    values = [
        references.entropy(samples[:, i].mean(axis=0)) - np.mean([references.entropy(p) for p in samples[:, i]])
        for i in range(60)
    ]
    found = select("bald", probabilities=samples, batch_size=60, rng=rng())
    assert found.indices.tolist() == sorted(range(60), key=lambda row: -values[row])
    np.testing.assert_allclose(found.scores, np.array(values)[found.indices])


@pytest.mark.parametrize(("classes", "batch"), [(2, 5), (3, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_batch_bald_is_the_joint_information_over_all_labels(classes: int, batch: int, seed: int) -> None:
    samples = passes(9, classes, seed=seed)
    rows, gains = references.batch_bald(samples, batch)
    found = select("batch_bald", probabilities=samples, batch_size=batch, rng=rng())
    assert found.indices.tolist() == rows
    np.testing.assert_allclose(found.scores, gains, atol=1e-9)


def test_batch_bald_does_not_ask_about_the_same_thing_twice() -> None:
    samples = np.repeat(passes(4, 2, times=6, seed=5), 5, axis=1)
    single = select("bald", probabilities=samples, batch_size=4, rng=rng()).indices // 5
    joint = select("batch_bald", probabilities=samples, batch_size=4, rng=rng()).indices // 5
    assert len(set(single.tolist())) == 1
    assert len(set(joint[:2].tolist())) == 2


def test_batch_bald_of_a_large_batch_draws_configurations() -> None:
    samples = passes(12, 3, times=5, seed=2)
    exact = select("batch_bald", probabilities=samples, batch_size=6, rng=rng())

    def drawn(seed: int) -> Selection:
        return select("batch_bald", probabilities=samples, batch_size=6, rng=rng(seed), configurations=100)

    assert drawn(1).indices.tolist() == drawn(1).indices.tolist()
    # 81 configurations are still all looked at; from then on the information is an estimate.
    found = [drawn(seed) for seed in range(20)]
    for one in found:
        assert one.indices[:5].tolist() == exact.indices[:5].tolist()
        np.testing.assert_allclose(one.scores[:5], exact.scores[:5])
    assert np.std([one.scores.sum() for one in found]) > 0
    np.testing.assert_allclose(np.mean([one.scores.sum() for one in found]), exact.scores.sum(), atol=0.1)


@pytest.mark.parametrize("name", ["bald", "batch_bald"])
def test_one_pass_cannot_disagree_with_itself(name: str) -> None:
    for p in (dirichlet(5, 2), dirichlet(5, 2)[None]):
        with pytest.raises(InputError, match=f"'{name}' needs probabilities of the shape"):
            select(name, probabilities=p, batch_size=2, rng=rng())


def test_other_strategies_take_the_mean_of_the_passes() -> None:
    samples = passes(50, 3)
    assert (
        select("margin", probabilities=samples, batch_size=9, rng=rng()).indices.tolist()
        == select("margin", probabilities=samples.mean(axis=0), batch_size=9, rng=rng()).indices.tolist()
    )


# ---------------------------------------------------------------- power sampling


@pytest.mark.parametrize("power", [0.0, 1.0, 4.0])
def test_power_margin_is_drawn_as_often_as_it_says(power: float) -> None:
    p = dirichlet(12, 3, seed=3)
    generator, repeats = rng(1), 1000
    counts, stated = np.zeros(12), np.zeros(12)
    for _ in range(repeats):
        found = select("power_margin", probabilities=p, batch_size=4, rng=generator, power=power)
        counts[found.indices] += 1
        stated[found.indices] = found.propensities
    np.testing.assert_allclose(counts / repeats, stated, atol=5 * 0.5 / np.sqrt(repeats))
    assert counts.sum() == 4 * repeats


def test_power_margin_prefers_small_margins_and_a_large_power_is_margin() -> None:
    p = dirichlet(40, 2, seed=1)
    smallest = select("margin", probabilities=p, batch_size=5, rng=rng()).indices
    found = select("power_margin", probabilities=p, batch_size=5, rng=rng(), power=1e6)
    assert found.indices.tolist() == smallest.tolist()
    np.testing.assert_allclose(found.propensities, 1, atol=1e-3)
    assert len(select("power_margin", probabilities=np.eye(3), batch_size=2, rng=rng())) == 2


@pytest.mark.parametrize("batch", [1, 3, 9, 10])
def test_inclusion_probabilities_add_up_to_the_batch(batch: int) -> None:
    logarithms = 2 * rng(4).standard_normal(10)
    chances = inclusion_probabilities(logarithms, batch, np.arange(10))
    assert chances.sum() == pytest.approx(batch, rel=1e-3)
    if batch == 1:
        np.testing.assert_allclose(chances, np.exp(logarithms) / np.exp(logarithms).sum(), rtol=2e-3)


@pytest.mark.parametrize("batch", [2, 25])
def test_inclusion_probabilities_of_large_pools_agree_with_the_exact_ones(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logarithms, rows = 1.5 * rng(5).standard_normal(800), np.arange(0, 800, 40)
    exact = inclusion_probabilities(logarithms, batch, rows)
    monkeypatch.setattr("al_pipeline.core.strategies.kernels.inclusion.EXACT", 100)
    np.testing.assert_allclose(inclusion_probabilities(logarithms, batch, rows), exact, rtol=0.02)


@pytest.mark.parametrize("power", [-1, float("inf"), "a"])
def test_a_power_that_cannot_be_used_is_named(power: float) -> None:
    with pytest.raises(InputError, match="power must be a finite number of at least 0"):
        select("power_margin", probabilities=dirichlet(5, 2), batch_size=2, rng=rng(), power=power)
