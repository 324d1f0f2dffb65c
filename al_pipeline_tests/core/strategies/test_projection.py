"""Bounds from a few directions: never wrong, whatever the rows look like."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from al_pipeline.core.strategies import select
from al_pipeline.core.strategies.kernels import gradients
from al_pipeline.core.strategies.kernels.distances import squared_norms
from al_pipeline.core.strategies.kernels.shortcuts import Projection, cells
from al_pipeline_tests.core.strategies.pools import cloud, grids

QUICK = settings(max_examples=60, deadline=None)


def bounds_hold(rows: np.ndarray) -> None:
    x = torch.from_numpy(rows).double()
    norms = squared_norms(x)
    projection = Projection(x, norms)
    inner, squared = x @ x.T, torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    # ρ is a root: of what rounding leaves of 0 it is 1e-8 or so.
    slack = 1e-6 * (1 + float(norms.max()))
    for row in range(0, len(x), 7):
        middle, width = projection.inner(row)
        assert bool(((inner[row] - middle).abs() <= width + slack).all())
    assert bool((projection.least(slice(0, len(x)), slice(0, len(x))) <= squared + slack).all())
    groups = [slice(start, min(len(x), start + 5)) for start in range(0, len(x), 5)]
    apart = projection.apart(groups)
    for i, a in enumerate(groups):
        for j, b in enumerate(groups):
            assert float(apart[i, j]) <= float(squared[a, b].min().sqrt()) + slack


@given(rows=grids(most=40))
@QUICK
def test_bounds_hold_for_copies_constant_columns_and_zeros(rows: np.ndarray) -> None:
    bounds_hold(rows)


@pytest.mark.parametrize(("n", "d"), [(50, 3), (300, 64), (2500, 40), (1, 5), (20, 100)])
def test_bounds_hold_for_clouds(n: int, d: int) -> None:
    bounds_hold(cloud(n, d, seed=1)[:400])


def test_along_the_directions_of_most_variance_bounds_are_tight() -> None:
    flat = np.zeros((400, 200), np.float32)
    flat[:, :20] = cloud(400, 20, seed=2)
    x = torch.from_numpy(flat)
    projection = Projection(x, squared_norms(x))
    middle, width = projection.inner(3)
    np.testing.assert_allclose(middle, x @ x[3], rtol=1e-3, atol=1e-2)
    assert float(width.max()) < 0.1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_badge_chooses_the_same_whether_it_computes_all_distances_or_the_doubtful_ones(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, p = cloud(1500, 48, seed=3), np.random.default_rng(0).dirichlet(np.ones(4), 1500)

    def picks() -> list[int]:
        rng = np.random.default_rng(5)
        return select("badge", probabilities=p, embeddings=x, batch_size=60, rng=rng).indices.tolist()

    usual = picks()
    monkeypatch.setattr(gradients, "MANY", share)
    assert picks() == usual


@pytest.mark.parametrize("n", [1, 900, 5000])
def test_every_row_stands_in_one_group(n: int) -> None:
    order, groups = cells(torch.from_numpy(cloud(n, 6, seed=4)))
    assert sorted(order.tolist()) == list(range(n))
    assert [row for group in groups for row in range(group.start, group.stop)] == list(range(n))
    assert max(group.stop - group.start for group in groups) <= 1024
