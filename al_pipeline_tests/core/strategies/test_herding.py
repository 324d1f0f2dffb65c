"""What herding leaves out adds nothing: with it or without it, picks and scores are the same to the bit."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from al_pipeline.core.strategies.kernels.herding import _Herd
from al_pipeline.core.strategies.query import Picks, Query
from al_pipeline_tests.core.strategies import references

CLUSTERS, DIMENSIONS, BATCH, RADIUS = 6, 40, 30, 0.6


def clustered(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return candidates in clusters, what is labeled of each, and weights."""
    rng = np.random.default_rng(n)
    centers = rng.normal(size=(CLUSTERS, DIMENSIONS))
    which = np.concatenate([np.arange(2 * CLUSTERS) % CLUSTERS, rng.integers(CLUSTERS, size=n)])
    x = (centers[which] + rng.normal(scale=0.1, size=(len(which), DIMENSIONS))).astype(np.float32)
    return x[2 * CLUSTERS :], x[: 2 * CLUSTERS], rng.random(n).astype(np.float32)


def picks(n: int, *, everything: bool) -> Picks:
    x, labeled, weights = clustered(n)
    rng = np.random.default_rng(0)
    query = Query(n=n, batch_size=BATCH, rng=rng, embeddings=x, labeled_embeddings=labeled)
    with ThreadPoolExecutor(2) as pool:
        herd = _Herd(query, np.arange(n), weights, RADIUS, pool, 2)
        if everything:
            herd.near[:] = True
        else:
            assert herd.near.float().mean() < 0.6
        return query.take_proposed(herd.proposals())


# In double precision, and in single.
@pytest.mark.parametrize("n", [1500, 4000])
def test_who_is_too_far_to_add_anything_is_left_out(n: int) -> None:
    some, every = picks(n, everything=False), picks(n, everything=True)
    assert some.indices.tolist() == every.indices.tolist()
    assert some.scores.tobytes() == every.scores.tobytes()


def test_the_batch_is_that_of_the_definition_also_where_most_is_left_out() -> None:
    x, labeled, weights = clustered(1500)
    rows, gains = references.herding(x.astype(float), labeled.astype(float), weights.astype(float), RADIUS, BATCH)
    found = picks(1500, everything=False)
    assert found.indices.tolist() == rows
    np.testing.assert_allclose(found.scores, gains, rtol=1e-5)
