"""BADGE, cluster-margin, TCM, uncertainty herding and the default against their definitions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from al_pipeline.core.errors import InputError
from al_pipeline.core.strategies import select
from al_pipeline_tests.core.strategies import references
from al_pipeline_tests.core.strategies.pools import cloud, grids


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def dirichlet(n: int, classes: int, seed: int = 0) -> np.ndarray:
    return rng(seed).dirichlet(np.ones(classes), n)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "classes", "d"), [(60, 2, 3), (300, 10, 16), (40, 3, 1)])
def test_badge_is_k_means_plus_plus_on_the_written_out_gradients(n: int, classes: int, d: int, seed: int) -> None:
    p, x = dirichlet(n, classes, seed), cloud(n, d, seed)
    expected = references.badge(p, x.astype(float), 40, rng(seed))
    found = select("badge", probabilities=p, embeddings=x, batch_size=40, rng=rng(seed))
    assert found.indices.tolist() == expected


@given(x=grids(), batch=st.integers(1, 30), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_badge_never_returns_a_row_twice_not_even_of_copies(x: np.ndarray, batch: int, seed: int) -> None:
    p = np.round(dirichlet(len(x), 3, seed) * 4) + 1
    p /= p.sum(axis=1, keepdims=True)
    found = select("badge", probabilities=p, embeddings=x, batch_size=batch, rng=rng(seed)).indices.tolist()
    assert len(found) == len(set(found)) == min(batch, len(x))


def test_badge_has_no_ghost_centre_at_the_origin() -> None:
    """A short gradient far from the first is the likeliest second; a centre at the origin would all but forbid it."""
    x = np.array([[3.0, 1.0], [-0.1, 0.0], [3.0, 0.0]], np.float32)
    p = np.full((3, 2), 0.5)
    drawn = [
        select("badge", probabilities=p, embeddings=x, batch_size=2, rng=rng(seed)).indices.tolist()
        for seed in range(200)
    ]
    # Squared distances to the first are 5.3 and 0.5; to the origin, 0.005 and 4.5.
    assert drawn.count([0, 1]) + drawn.count([0, 2]) == 200
    assert drawn.count([0, 1]) > 160


def test_badge_spreads_over_copies_before_it_repeats_one() -> None:
    x, p = np.repeat(cloud(6, 5, seed=2), 5, axis=0), np.repeat(dirichlet(6, 3), 5, axis=0)
    found = select("badge", probabilities=p, embeddings=x, batch_size=6, rng=rng()).indices
    assert sorted(found // 5) == list(range(6))


def test_cluster_margin_takes_the_least_certain_of_each_cluster_small_clusters_first() -> None:
    p, x = dirichlet(400, 3), cloud(400, 6, seed=1)
    ordered = np.sort(p, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    rows = np.argsort(margins, kind="stable")[:60]
    labels = AgglomerativeClustering(4, linkage="average").fit_predict(x[rows])
    queues = [rows[labels == c].tolist() for c in np.argsort(np.bincount(labels), kind="stable")]
    expected = []
    while len(expected) < 12:
        for queue in queues:
            if queue and len(expected) < 12:
                expected.append(queue.pop(0))
    found = select("cluster_margin", probabilities=p, embeddings=x, batch_size=12, rng=rng(), pool=5, clusters=4)
    assert found.indices.tolist() == expected
    np.testing.assert_allclose(found.scores, -margins[expected])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_cluster_margin_of_a_handful(n: int) -> None:
    found = select(
        "cluster_margin", probabilities=dirichlet(n, 2), embeddings=cloud(n, 2, seed=0), batch_size=5, rng=rng()
    )
    assert sorted(found.indices) == list(range(n))


def test_tcm_is_typiclust_until_there_are_ten_labels_per_class() -> None:
    p, x, labeled = dirichlet(90, 2), cloud(90, 4, seed=1), cloud(30, 4, seed=2)

    def batch(name: str, labels: int, **options: Any) -> list[int]:
        return select(
            name, probabilities=p, embeddings=x, labeled_embeddings=labeled[:labels], batch_size=6, rng=rng(), **options
        ).indices.tolist()

    assert batch("tcm", 19) == batch("typiclust", 19) != batch("margin", 19)
    assert batch("tcm", 20) == batch("margin", 20)
    assert batch("tcm", 3, switch=3) == batch("margin", 3)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_uncertainty_herding_is_coverage_weighted_by_tempered_margins(seed: int, temperature: float) -> None:
    p, x = dirichlet(250, 4, seed), cloud(250, 8, seed)
    labeled = cloud(20, 8, seed + 10)
    powers = p ** (1 / temperature)
    ordered = np.sort(powers / powers.sum(axis=1, keepdims=True), axis=1)
    weights = 1 - (ordered[:, -1] - ordered[:, -2])
    rows, gains = references.herding(x.astype(float), labeled.astype(float), weights, 3.0, 40)
    found = select(
        "uncertainty_herding",
        probabilities=p,
        embeddings=x,
        labeled_embeddings=labeled,
        batch_size=40,
        rng=rng(),
        radius=3.0,
        temperature=temperature,
    )
    assert found.indices.tolist() == rows
    np.testing.assert_allclose(found.scores, gains, rtol=1e-5)


def test_uncertainty_herding_without_a_model_is_max_herding() -> None:
    x = cloud(80, 4, seed=1)
    one, other = (
        select(name, embeddings=x, batch_size=9, rng=rng()).indices.tolist()
        for name in ("uncertainty_herding", "max_herding")
    )
    assert one == other


def test_a_model_that_is_sure_of_everything_still_gives_a_batch() -> None:
    p = np.eye(3)[np.arange(30) % 3]
    found = select("uncertainty_herding", probabilities=p, embeddings=cloud(30, 4, seed=1), batch_size=9, rng=rng())
    assert len(set(found.indices.tolist())) == 9


def test_the_default_goes_by_what_there_is() -> None:
    p, x = dirichlet(60, 3), cloud(60, 4, seed=1)

    def batch(name: str, **inputs: Any) -> list[int]:
        return select(name, batch_size=7, rng=rng(), **inputs).indices.tolist()

    assert batch("auto", probabilities=p, embeddings=x) == batch("uncertainty_herding", probabilities=p, embeddings=x)
    assert batch("auto", embeddings=x) == batch("max_herding", embeddings=x)
    assert batch("auto", probabilities=p) == batch("margin", probabilities=p)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("uncertainty_herding", {"temperature": 0.0}, "temperature must be a finite number above 0, not 0.0"),
        ("cluster_margin", {"pool": 0}, "pool must be a whole number of at least 1, not 0"),
        ("cluster_margin", {"clusters": 1.5}, "clusters must be a whole number of at least 1, not 1.5"),
        ("tcm", {"switch": -1}, "switch must be a whole number of at least 0, not -1"),
    ],
)
def test_options_that_cannot_be_used_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select(name, probabilities=dirichlet(9, 2), embeddings=cloud(9, 2, seed=0), batch_size=2, rng=rng(), **options)
