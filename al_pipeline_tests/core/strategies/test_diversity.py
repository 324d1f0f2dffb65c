"""k-center, ProbCover, MaxHerding and TypiClust against dense references, pick by pick, and on what trips others."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.strategies import Selection, diversity, select
from al_pipeline.core.strategies.kernels import centers, clusters, cover, herding, shortcuts
from al_pipeline.core.strategies.kernels.shortcuts import Projection
from al_pipeline_tests.core.strategies import references
from al_pipeline_tests.core.strategies.pools import cloud, grids

QUICK = settings(max_examples=60, deadline=None)
GREEDY: list[tuple[str, dict[str, Any]]] = [
    ("k_center", {}),
    ("max_herding", {}),
    ("prob_cover", {"radius": 2.0}),
    ("uncertainty_herding", {}),
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def chosen(name: str, x: np.ndarray, labeled: np.ndarray | None, batch: int, **options: Any) -> Selection:
    return select(name, embeddings=x, labeled_embeddings=labeled, batch_size=batch, rng=rng(7), **options)


def split(x: np.ndarray, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """The last rows are labeled; at least one is not."""
    m = min(labels, len(x) - 1)
    return x[: len(x) - m], x[len(x) - m :]


# ---------------------------------------------------------------- against the references


@given(x=grids(), labels=st.integers(0, 5), batch=st.integers(1, 30))
@QUICK
def test_k_center_is_farthest_first_ties_and_duplicates_included(x: np.ndarray, labels: int, batch: int) -> None:
    x, labeled = split(x, labels)
    expected = references.k_center(x.astype(float), labeled.astype(float), batch)
    assert chosen("k_center", x, labeled, batch).indices.tolist() == expected


@given(x=grids(), labels=st.integers(0, 5), batch=st.integers(1, 30), sigma=st.sampled_from([0.3, 1.0, 4.0]))
@QUICK
def test_max_herding_is_greedy_coverage_ties_and_duplicates_included(
    x: np.ndarray, labels: int, batch: int, sigma: float
) -> None:
    x, labeled = split(x, labels)
    rows, gains = references.herding(x.astype(float), labeled.astype(float), np.ones(len(x)), sigma, batch)
    found = chosen("max_herding", x, labeled, batch, radius=sigma)
    assert found.indices.tolist() == rows
    np.testing.assert_allclose(found.scores, gains, atol=1e-9)


@given(x=grids(), labels=st.integers(0, 5), batch=st.integers(1, 30), radius=st.sampled_from([0.5, 1.0, 2.5, 9.0]))
@QUICK
def test_prob_cover_is_greedy_cover_ties_and_duplicates_included(
    x: np.ndarray, labels: int, batch: int, radius: float
) -> None:
    x, labeled = split(x, labels)
    rows, counts = references.prob_cover(x.astype(float), labeled.astype(float), radius, batch)
    found = chosen("prob_cover", x, labeled, batch, radius=radius)
    assert found.indices.tolist() == rows
    assert found.scores.tolist() == counts


@pytest.mark.parametrize("labels", [0, 40])
@pytest.mark.parametrize(("d", "seed"), [(2, 0), (16, 1), (64, 2)])
@pytest.mark.parametrize("single", [False, True], ids=["double", "single"])
def test_greedy_picks_of_300_candidates(
    d: int, seed: int, labels: int, single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In single precision too, as in large pools, and with several groups and blocks, the last of them partial."""
    if single:
        for module in (herding, cover):
            monkeypatch.setattr(module, "SMALL", 0)
        monkeypatch.setattr(centers, "EAGER", 0)
        monkeypatch.setattr(shortcuts, "GROUP", 48)
        monkeypatch.setattr(shortcuts, "ROWS_PER_ANCHOR", 40)
    x, labeled = split(cloud(300 + labels, d, seed), labels)
    x64, labeled64 = x.astype(float), labeled.astype(float)
    assert chosen("k_center", x, labeled, 80).indices.tolist() == references.k_center(x64, labeled64, 80)
    sigma = float(np.sqrt(d))
    rows, gains = references.herding(x64, labeled64, np.ones(300), sigma, 80)
    found = chosen("max_herding", x, labeled, 80, radius=sigma)
    if single:
        # What differs by no more than rounding may come in another order.
        lost = references.regret(x64, labeled64, np.ones(300), sigma, found.indices.tolist())
        assert lost.max() < 1e-6
    else:
        assert found.indices.tolist() == rows
    np.testing.assert_allclose(found.scores, gains, rtol=1e-4, atol=1e-4)
    rows, counts = references.prob_cover(x64, labeled64, sigma, 80)
    found = chosen("prob_cover", x, labeled, 80, radius=sigma)
    assert (found.indices.tolist(), found.scores.tolist()) == (rows, counts)


@pytest.mark.parametrize("labels", [0, 30])
@pytest.mark.parametrize("batch", [5, 60, 270])
def test_typiclust_serves_the_clusters_as_the_paper_does(labels: int, batch: int) -> None:
    x, labeled = split(cloud(270 + labels, 8, seed=4), labels)
    both = np.concatenate([x, labeled])
    count = min(500, labels + batch, len(both))
    assigned = clusters.kmeans([torch.from_numpy(x), torch.from_numpy(labeled)], count, rng(7))
    expected = references.typiclust(both.astype(float), assigned, len(x), batch, 20, small=5)
    assert chosen("typiclust", x, labeled, batch).indices.tolist() == expected


def test_typiclust_goes_to_the_clusters_without_a_label_first() -> None:
    rng_ = rng(3)
    centers = 20 * np.eye(4, dtype=np.float32)
    sizes = (30, 40, 50, 60)
    x = np.concatenate(
        [c + rng_.standard_normal((n, 4)).astype(np.float32) for c, n in zip(centers, sizes, strict=True)]
    )
    which = np.repeat(np.arange(4), sizes)
    # Two clusters are labeled; k = 4 clusters are looked for with a batch of 2.
    found = chosen("typiclust", x, centers[[1, 3]], 2).indices
    assert which[found].tolist() == [2, 0]


# ---------------------------------------------------------------- radii


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
def test_the_pure_radius_is_the_largest_one_of_that_purity(wanted: float) -> None:
    x = cloud(200, 3, seed=8).astype(float)
    assigned = clusters.kmeans([torch.from_numpy(x)], 5, rng(2))
    norms = torch.from_numpy((x**2).sum(axis=1))
    projection = Projection(torch.from_numpy(x), norms)
    radius = cover.pure_radius(torch.from_numpy(x), norms, projection, wanted, 5, rng(2))
    assert references.purity(x, assigned, radius) >= wanted
    assert references.purity(x, assigned, radius * 1.00001) < wanted


def test_a_pool_of_one_cluster_is_pure_at_any_radius() -> None:
    x = cloud(30, 3, seed=1)
    assert chosen("prob_cover", x, None, 3, clusters=1).scores.tolist() == [30.0, 0.0, 0.0]


def test_the_kernel_is_as_narrow_as_the_closest_two_labels_are_apart() -> None:
    x, labeled = split(cloud(120, 6, seed=5), 20)
    apart = references.distances(labeled.astype(float), labeled.astype(float))
    sigma = apart[np.triu_indices(20, 1)].min()
    twice = np.concatenate([labeled, labeled[:3]])  # the same image labeled twice says nothing about distances
    expected = references.herding(x.astype(float), twice.astype(float), np.ones(100), float(sigma), 30)[0]
    assert chosen("max_herding", x, twice, 30).indices.tolist() == expected


def test_without_labels_the_kernel_is_half_the_typical_distance_wide() -> None:
    x = cloud(100, 6, seed=6)
    apart = references.distances(x.astype(float), x.astype(float))[np.triu_indices(100, 1)]
    expected = references.herding(x.astype(float), x[:0].astype(float), np.ones(100), float(np.median(apart)) / 2, 20)[
        0
    ]
    assert chosen("max_herding", x, None, 20).indices.tolist() == expected
    assert chosen("max_herding", x, x[:1], 1).indices.size == 1


# ---------------------------------------------------------------- what trips others


@pytest.mark.parametrize(("name", "options"), [*GREEDY, ("typiclust", {})])
@pytest.mark.parametrize("labels", [0, 4])
def test_a_pool_of_copies_gives_every_row_once(name: str, options: dict[str, Any], labels: int) -> None:
    x = np.repeat(cloud(6, 5, seed=2), 5, axis=0)
    found = chosen(name, x, x[:labels], 30, **options).indices
    assert sorted(found.tolist()) == list(range(30))


@pytest.mark.parametrize(("name", "options"), [*GREEDY, ("typiclust", {})])
def test_features_that_are_all_the_same_are_no_error(name: str, options: dict[str, Any]) -> None:
    for x in (np.zeros((9, 3), np.float32), np.ones((9, 3), np.float32)):
        assert len(set(chosen(name, x, x[:2], 4, **options).indices.tolist())) == 4


@pytest.mark.parametrize(("name", "options"), [*GREEDY, ("typiclust", {})])
def test_new_features_are_looked_at_not_those_of_the_call_before(name: str, options: dict[str, Any]) -> None:
    one, other = cloud(80, 4, seed=1), cloud(80, 4, seed=2)
    first = chosen(name, one, None, 8, **options).indices.tolist()
    assert chosen(name, other, None, 8, **options).indices.tolist() != first
    one[:] = other
    assert chosen(name, one, None, 8, **options).indices.tolist() == (
        chosen(name, other, None, 8, **options).indices.tolist()
    )


@pytest.mark.parametrize("name", ["k_center", "max_herding", "uncertainty_herding"])
def test_the_order_of_the_candidates_does_not_matter(name: str) -> None:
    """But for true ties: of two candidates that would cover only each other, the first one is taken."""
    x, labeled = split(cloud(230, 8, seed=3), 30)
    p = rng(1).dirichlet(np.ones(3), 200)
    options: dict[str, Any] = {} if name == "k_center" else {"radius": 6.0}
    order = rng(5).permutation(200)
    straight = select(
        name, probabilities=p, embeddings=x, labeled_embeddings=labeled, batch_size=20, rng=rng(), **options
    )
    mixed = select(
        name,
        probabilities=p[order],
        embeddings=x[order],
        labeled_embeddings=labeled,
        batch_size=20,
        rng=rng(),
        **options,
    )
    assert order[mixed.indices].tolist() == straight.indices.tolist()


@pytest.mark.parametrize(("name", "options"), [*GREEDY, ("typiclust", {})])
def test_one_thread_and_two_choose_the_same(name: str, options: dict[str, Any]) -> None:
    x, labeled = split(cloud(2600, 32, seed=9), 100)
    before = torch.get_num_threads()
    try:
        batches = []
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            batches.append(chosen(name, x, labeled, 20, **options).indices.tolist())
    finally:
        torch.set_num_threads(before)
    assert batches[0] == batches[1] == batches[2]


def test_the_last_rows_of_a_large_pool_can_be_chosen() -> None:
    """Another library's graph loop drops the last n mod 500 rows."""
    x = np.zeros((4999, 2), np.float32)
    x[-3:] = [[50, 0], [0, 50], [50, 50]]
    for name, options in GREEDY:
        radius = {"radius": 1.0} if "herding" in name else {}
        found = chosen(name, x, np.zeros((2, 2), np.float32), 3, **options, **radius)
        assert set(found.indices.tolist()) == {4996, 4997, 4998}, name


def test_of_a_larger_pool_a_sample_is_covered_and_chosen_from() -> None:
    x = cloud(500, 4, seed=1)
    for name in ("max_herding", "prob_cover", "uncertainty_herding"):
        found = chosen(name, x, None, 20, candidates=60)
        assert len(set(found.indices.tolist())) == 20
        assert found.scores[0] <= 60
        assert found.indices.tolist() == chosen(name, x, None, 20, candidates=60).indices.tolist()
        # The batch is never larger than the sample.
        assert len(chosen(name, x, None, 90, candidates=60)) == 90


def test_half_precision_and_read_only_features_are_taken() -> None:
    x = cloud(50, 4, seed=1).astype(np.float16)
    frozen = x.astype(np.float32)
    frozen.flags.writeable = False
    for name, options in GREEDY:
        expected = chosen(name, frozen.copy(), None, 5, **options).indices.tolist()
        assert chosen(name, x, None, 5, **options).indices.tolist() == expected
        assert chosen(name, frozen, None, 5, **options).indices.tolist() == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("max_herding", {"radius": 0}, "radius must be a finite number above 0, not 0"),
        ("max_herding", {"radius": float("nan")}, "radius must be .* not nan"),
        ("max_herding", {"candidates": 0}, "candidates must be a whole number of at least 1, not 0"),
        ("prob_cover", {"purity": 1.5}, "purity must be a number from 0 to 1, not 1.5"),
        ("prob_cover", {"clusters": 2.5}, "clusters must be a whole number of at least 1, not 2.5"),
        ("prob_cover", {"radius": "wide"}, "radius must be .* not 'wide'"),
        ("typiclust", {"neighbours": True}, "neighbours must be a whole number of at least 1, not True"),
        ("k_center", {"radius": 1}, "unknown option 'radius' for the query strategy 'k_center'; it takes no options"),
    ],
)
def test_options_that_cannot_be_used_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        chosen(name, cloud(10, 2, seed=0), None, 3, **options)


def test_the_probe_of_a_large_pool_reaches_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "PROBE", 50)
    assert len(chosen("max_herding", cloud(777, 3, seed=4), None, 5)) == 5
