"""What every strategy has in common: exploration, near-duplicates, cold start, determinism, inputs."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from al_pipeline.core.errors import InputError
from al_pipeline.core.strategies import Selection, available, cold_start, select
from al_pipeline.core.strategies.on_demand import OnDemand
from al_pipeline_tests.core.strategies.pools import cloud

EVERY = list(available())
N, K = 60, 3


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def predictions(n: int, seed: int = 0) -> np.ndarray:
    """Three passes, which strategies that need one average."""
    return rng(seed).dirichlet(np.ones(K), (3, n))


def chosen(name: str, x: np.ndarray, seed: int = 7, batch: int = 12, **arguments: Any) -> Selection:
    known = {"probabilities": predictions(len(x)), "labeled_embeddings": x[:5] + 0.1}
    return select(name, embeddings=x, **known | {"batch_size": batch, "rng": rng(seed)} | arguments)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_is_unique_complete_and_fixed_by_the_seed(name: str) -> None:
    x = cloud(N, 8, seed=1)
    # BatchBALD keeps a distribution per sample of the batch: the whole pool takes it seconds.
    for batch in (1, 12) if name == "batch_bald" else (1, 12, N, N + 5):
        one, again = chosen(name, x, batch=batch), chosen(name, x, batch=batch)
        assert one.indices.dtype == np.int64
        assert len(one) == len(set(one.indices.tolist())) == min(batch, N)
        assert 0 <= one.indices.min() <= one.indices.max() < N
        assert one.scores.shape == one.propensities.shape == one.explored.shape == one.indices.shape
        for field in ("indices", "scores", "propensities", "explored"):
            np.testing.assert_array_equal(getattr(one, field), getattr(again, field))
        assert one.strategy == name


@pytest.mark.parametrize("name", EVERY)
def test_the_number_of_threads_does_not_matter(name: str) -> None:
    x, before = cloud(1500, 48, seed=1), torch.get_num_threads()
    try:
        batches = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            batches.append(chosen(name, x, batch=5).indices.tolist())
    finally:
        torch.set_num_threads(before)
    assert batches[0] == batches[1]


@pytest.mark.parametrize("name", EVERY)
def test_one_candidate_and_none(name: str) -> None:
    x = cloud(1, 4, seed=0)
    assert chosen(name, x, batch=3, labeled_embeddings=None).indices.tolist() == [0]
    empty = select(name, probabilities=np.empty((2, 0, 2)), embeddings=x[:0], batch_size=3, rng=rng())
    assert len(empty) == 0


@pytest.mark.parametrize("name", EVERY)
def test_every_strategy_says_whether_it_can_balance(name: str) -> None:
    x = cloud(N, 4, seed=2)
    if available()[name].balanced:
        of = predictions(N).mean(axis=0).argmax(axis=1)
        found = Counter(of[chosen(name, x, balanced=True).indices].tolist())
        assert set(found.values()) == {4}
    else:
        with pytest.raises(InputError, match=f"'{name}' has no balanced form: leave balanced=True out"):
            chosen(name, x, balanced=True)


@pytest.mark.parametrize("name", EVERY)
def test_inputs_are_left_as_they_are(name: str) -> None:
    x, labeled, p = cloud(N, 4, seed=3), cloud(6, 4, seed=4), predictions(N)
    copies = x.copy(), labeled.copy(), p.copy()
    for array in (x, labeled, p):
        array.flags.writeable = False
    chosen(name, x, labeled_embeddings=labeled, probabilities=p, explore=0.3, dedup=0.9)
    for array, copy in zip((x, labeled, p), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# ---------------------------------------------------------------- cold start


@pytest.mark.parametrize("name", EVERY)
def test_before_there_is_a_model_or_a_label_every_strategy_still_gives_a_batch(name: str) -> None:
    x = cloud(N, 6, seed=5)
    for labeled in (None, x[:0]):
        found = select(name, embeddings=x, labeled_embeddings=labeled, batch_size=10, rng=rng(3))
        assert len(set(found.indices.tolist())) == 10
        assert found.strategy == cold_start(name)
    if "probabilities" in available()[name].needs:
        expected = select("random", embeddings=x, batch_size=10, rng=rng(3))
        assert found.strategy == "random"
        assert found.indices.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(found.propensities, 10 / N)
    else:
        assert found.strategy == name


def test_labels_without_a_prediction_are_a_mistake_and_no_cold_start() -> None:
    x = cloud(N, 6, seed=5)
    with pytest.raises(InputError, match="'badge' needs probabilities"):
        select("badge", embeddings=x, labeled_embeddings=x[:3], batch_size=10, rng=rng())


def test_options_of_the_strategy_that_is_stood_in_for_are_still_checked_by_name() -> None:
    with pytest.raises(InputError, match="unknown option 'powr' for the query strategy 'power_margin'"):
        select("power_margin", embeddings=cloud(9, 2, seed=0), batch_size=2, rng=rng(), powr=1)


# ---------------------------------------------------------------- explore


@pytest.mark.parametrize("name", EVERY)
def test_a_share_of_every_batch_is_drawn_at_random(name: str) -> None:
    x = cloud(N, 6, seed=6)
    for seed in range(4):
        found = chosen(name, x, seed, explore=0.25)
        assert len(set(found.indices.tolist())) == 12
        assert found.explored.sum() == 3
        np.testing.assert_allclose(found.propensities[found.explored], 3 / N)
        assert np.isnan(found.scores[found.explored]).all()


@pytest.mark.parametrize("name", ["margin", "k_center", "uncertainty_herding"])
def test_the_rest_of_the_batch_is_the_strategys_own_given_what_was_drawn(name: str) -> None:
    x, labeled = cloud(N, 6, seed=6), cloud(4, 6, seed=7)
    found = chosen(name, x, explore=0.25, labeled_embeddings=labeled)
    drawn = np.sort(found.indices[found.explored])
    left = np.setdiff1d(np.arange(N), drawn)
    options: dict[str, Any] = {"radius": 3.0} if name == "uncertainty_herding" else {}
    found = chosen(name, x, explore=0.25, labeled_embeddings=labeled, **options)
    alone = chosen(
        name,
        x[left],
        batch=9,
        probabilities=predictions(N)[:, left],
        labeled_embeddings=np.concatenate([labeled, x[drawn]]),
        **options,
    )
    if name != "uncertainty_herding":
        assert found.indices[~found.explored].tolist() == left[alone.indices].tolist()
    else:
        # What was drawn is covered already: it has no part in the objective.
        np.testing.assert_allclose(found.scores[~found.explored], alone.scores, rtol=1e-5)


def test_a_share_that_is_no_whole_number_is_met_on_average() -> None:
    p, generator = predictions(N), rng(1)
    counts = [
        int(select("margin", probabilities=p, batch_size=10, rng=generator, explore=0.14).explored.sum())
        for _ in range(800)
    ]
    assert set(counts) == {1, 2}
    # 1.4 on average, standard error 0.017.
    assert abs(np.mean(counts) - 1.4) < 0.07


def test_every_candidate_is_explored_equally_often() -> None:
    p, generator, repeats = predictions(20), rng(2), 1500
    counts = Counter[int]()
    for _ in range(repeats):
        found = select("margin", probabilities=p, batch_size=8, rng=generator, explore=0.3)
        counts.update(found.indices[found.explored].tolist())
    stated = 0.3 * 8 / 20
    # 180 each, standard deviation 12.6.
    assert all(abs(counts[row] - repeats * stated) < 5 * 12.6 for row in range(20)), counts


def test_the_random_share_gives_an_unbiased_mean_of_the_pool_where_the_batch_is_biased() -> None:
    """The mean margin of the pool, from the explored (Horvitz & Thompson 1952) and from the whole batch."""
    p, generator = predictions(50), rng(3)
    ordered = np.sort(p.mean(axis=0), axis=1)
    values = ordered[:, -1] - ordered[:, -2]
    weighted, naive = [], []
    for _ in range(1500):
        found = select("margin", probabilities=p, batch_size=10, rng=generator, explore=0.4)
        rows, chances = found.indices[found.explored], found.propensities[found.explored]
        weighted.append((values[rows] / chances).sum() / 50)
        naive.append(values[found.indices].mean())
    error = 4 * np.std(weighted) / np.sqrt(1500)
    assert abs(np.mean(weighted) - values.mean()) < error
    assert abs(np.mean(naive) - values.mean()) > 3 * error


@pytest.mark.parametrize("name", ["margin", "auto"])
def test_exploring_everything_is_random_and_nothing_is_the_strategy(name: str) -> None:
    x = cloud(N, 4, seed=8)
    everything = chosen(name, x, explore=1.0)
    assert everything.explored.all()
    np.testing.assert_allclose(everything.propensities, 12 / N)
    assert chosen(name, x, explore=0.0).indices.tolist() == chosen(name, x).indices.tolist()


def test_the_explored_are_spread_over_the_query_order() -> None:
    found = chosen("margin", cloud(N, 4, seed=8), batch=12, explore=0.25)
    assert np.flatnonzero(found.explored).tolist() == [1, 5, 9] or np.diff(np.flatnonzero(found.explored)).min() >= 3


def test_propensities_of_a_lottery_count_both_ways_into_the_batch() -> None:
    found = chosen("random", cloud(N, 4, seed=8), batch=12, explore=0.5)
    # 6 of 60 explored; 6 of the 54 left drawn.
    np.testing.assert_allclose(found.propensities[~found.explored], 0.1 + 0.9 * 6 / 54)


# ---------------------------------------------------------------- dedup


def cosines(x: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0)
    return unit @ unit.T


@pytest.mark.parametrize("explore", [0.0, 0.4])
@pytest.mark.parametrize("name", EVERY)
def test_no_two_samples_of_a_batch_are_closer_than_allowed(name: str, explore: float) -> None:
    # 15 directions, four near-copies of each.
    x = np.repeat(cloud(15, 8, seed=9), 4, axis=0) + 0.01 * rng(1).standard_normal((N, 8)).astype(np.float32)
    found = chosen(name, x, batch=10, explore=explore, dedup=0.99).indices
    among = cosines(x[found].astype(float))
    assert len(set(found.tolist())) == 10
    assert among[np.triu_indices(10, 1)].max() <= 0.99
    # Without it the batch may hold near-copies, and these strategies' batches do.
    if name in {"margin", "random", "low_certainty"}:
        plain = cosines(x[chosen(name, x, batch=30, explore=explore).indices].astype(float))
        assert plain[np.triu_indices(30, 1)].max() > 0.99


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_is_smaller_when_too_few_are_different(name: str) -> None:
    x = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    for explore in (0.0, 0.5):
        found = chosen(name, x, batch=12, explore=explore, dedup=0.5, labeled_embeddings=None)
        assert sorted(found.indices // 10) == [0, 1, 2, 3]


def test_the_next_best_takes_the_place_of_a_near_copy() -> None:
    x = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 1, 3]]
    p = np.array([[0.5, 0.5], [0.51, 0.49], [0.52, 0.48], [0.6, 0.4], [0.7, 0.3], [0.9, 0.1]])
    found = select("margin", probabilities=p, embeddings=x, batch_size=3, rng=rng(), dedup=0.9)
    assert found.indices.tolist() == [0, 2, 3]


def test_zero_vectors_are_copies_of_each_other_and_of_nothing_else() -> None:
    x = np.array([[0, 0], [0, 0], [1, 0], [0, 1]], np.float32)
    found = select("margin", probabilities=np.full((4, 2), 0.5), embeddings=x, batch_size=4, rng=rng(), dedup=0.5)
    assert found.indices.tolist() == [0, 2, 3]


def test_copies_far_down_the_list_are_passed_over_as_well() -> None:
    """The list of the best is made longer as often as it takes."""
    x = np.ones((5000, 2), np.float32)
    x[-2:] = [[1, -1], [-1, 1]]
    p = np.linspace(0.5, 0.9, 5000)
    found = select(
        "margin", probabilities=np.stack([p, 1 - p], axis=1), embeddings=x, batch_size=3, rng=rng(), dedup=0.9
    )
    assert found.indices.tolist() == [0, 4998, 4999]


@pytest.mark.parametrize("name", ["auto", "prob_cover", "k_center", "cluster_margin", "margin"])
def test_features_that_are_read_on_demand_are_chosen_by_alike(name: str) -> None:
    x, read = cloud(300, 8, seed=4), list[int]()

    def some(rows: np.ndarray) -> np.ndarray:
        read.extend(rows.tolist())
        return x[rows]

    options: dict[str, Any] = {"candidates": 50} if name == "prob_cover" else {}
    given: dict[str, Any] = {"labeled_embeddings": x[:5], "explore": 0.3, "dedup": 0.9999, **options}
    p = predictions(300)[0]
    one = select(name, probabilities=p, embeddings=x, batch_size=10, rng=rng(), **given)
    other = select(name, probabilities=p, embeddings=OnDemand(300, some), batch_size=10, rng=rng(), **given)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.scores, other.scores)
    if name in {"prob_cover", "margin"}:
        # Of the others only what the batch is held against.
        assert len(set(read)) < 100


def test_balance_and_difference_together() -> None:
    x = np.repeat(cloud(20, 6, seed=3), 3, axis=0)
    p = predictions(20)[0].repeat(3, axis=0)
    found = select("margin", probabilities=p, embeddings=x, batch_size=9, rng=rng(), balanced=True, dedup=0.999).indices
    assert len(set((found // 3).tolist())) == 9
    assert set(Counter(p.argmax(axis=1)[found].tolist()).values()) == {3}
