"""ProbCover: the batch whose balls of one radius hold the most candidates, chosen greedily."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from al_pipeline.core.strategies.kernels.clusters import kmeans
from al_pipeline.core.strategies.kernels.distances import (
    SMALL,
    nearest,
    rounding,
    squared_distances,
    squared_norms,
    tensor,
)
from al_pipeline.core.strategies.kernels.shortcuts import Projection, cells
from al_pipeline.core.strategies.query import Proposals, Query

# Purity is a share; that of so many candidates is known to a third of a percentage point.
PURITY_SAMPLE = 5000
# Neighbourhoods are unpacked from bits so many at a time.
UNPACK = 256
# Centers whose distances to all candidates are held together.
CENTERS = 128


def cover(query: Query, rows: npt.NDArray[np.int64], radius: float | None, purity: float, clusters: int) -> Proposals:
    """Propose some of `rows`: each covers the most candidates that nothing labeled or chosen covers yet.

    Scores are the numbers of newly covered candidates, 0 once everything is covered.

    Parameters
    ----------
    query : Query
    rows : int64 array, shape (r,)
        Candidates, ascending; who is near whom is held in r²/8 bytes.
    radius : float, optional
        δ; by default the largest one of sufficient purity.
    purity : float
        The share of balls that must lie within one cluster.
    clusters : int
        How many clusters purity is judged by: a guess of the number of classes.
    """
    double = len(rows) <= SMALL
    x = tensor(query.features(rows), double=double)
    order, groups = cells(x)
    x, rows = x[order], rows[order.cpu().numpy()]
    norms = squared_norms(x)
    projection = Projection(x, norms)
    if radius is None:
        radius = pure_radius(x, norms, projection, purity, clusters, query.rng)
    balls = _Balls(x, norms, projection, groups, radius)
    uncovered = np.zeros(balls.width, dtype=bool)
    uncovered[balls.slots] = True
    labeled = query.labeled_embeddings
    if labeled is not None and len(labeled):
        distance, _ = nearest(x, norms, tensor(labeled, double=double))
        uncovered[balls.slots] = (distance > radius**2).cpu().numpy()
    row_of = np.full(balls.width, -1)
    row_of[balls.slots] = rows
    open_ = (row_of >= 0) & ~np.isin(row_of, query.taken)
    degrees = balls.count(np.flatnonzero(uncovered))
    while open_.any():
        degree = int(degrees[open_].max())
        best = np.flatnonzero(open_ & (degrees == degree))
        slot = best[np.argmin(row_of[best])]
        open_[slot] = False
        if (yield int(row_of[slot]), float(degree)):
            newly = np.flatnonzero(balls.inside(slot) & uncovered)
            uncovered[newly] = False
            degrees -= balls.count(newly)


def pure_radius(
    x: Tensor, norms: Tensor, projection: Projection, purity: float, clusters: int, rng: np.random.Generator
) -> float:
    """Return the largest radius at which a share `purity` of the balls holds candidates of one k-means cluster only.

    A ball is pure up to the distance of its center to the nearest candidate of another cluster, so that the radius is a
    quantile of these distances; no grid of radii is tried, and centers that bounds show to be beyond the quantile are
    not looked at closely. Of large pools a seeded sample of centers is looked at.
    """
    labels = torch.from_numpy(kmeans([x], min(clusters, len(x)), rng)).to(x.device)
    drawn = np.arange(len(x)) if len(x) <= PURITY_SAMPLE else np.sort(rng.choice(len(x), PURITY_SAMPLE, replace=False))
    centers = torch.from_numpy(drawn).to(x.device)
    every = slice(0, len(x))
    impure = min(len(drawn) - 1, int(np.floor((1 - purity) * len(drawn) + 1e-9)))

    def to_others(some: Tensor, distance: Tensor) -> Tensor:
        return distance.masked_fill_(labels[some][:, None] == labels[None, :], torch.inf).min(dim=1).values

    least = torch.cat([to_others(some, projection.least(some, every)) for some in centers.split(CENTERS)])
    least, by_least = least.sort()
    found = x.new_empty(0)
    for bounds, some in zip(least.split(CENTERS), centers[by_least].split(CENTERS), strict=True):
        if len(found) > impure and float(bounds[0]) - rounding(norms) > float(found[impure]):
            break
        distance = to_others(some, squared_distances(x[some], norms[some], x, norms))
        found = torch.cat([found, distance]).sort().values
    if torch.isinf(found[impure]):
        # One cluster: every ball is pure.
        return float(2 * norms.max().sqrt())
    return float(np.nextafter(float(found[impure].double().sqrt()), 0) * (1 - 1e-6))


class _Balls:
    """Who is within the radius of whom, a bit for each pair.

    Each group of rows begins at a multiple of 8, so that its bits have bytes of their own: row i stands in slot
    `slots[i]` of `width`, and slots of no row are near nobody.
    """

    def __init__(self, x: Tensor, norms: Tensor, projection: Projection, groups: list[slice], radius: float) -> None:
        starts = np.cumsum([0, *(-(-(group.stop - group.start) // 8) * 8 for group in groups)])
        self.width = int(starts[-1])
        self.slots = np.concatenate(
            [np.arange(group.stop - group.start) + start for group, start in zip(groups, starts[:-1], strict=True)]
        )
        self._bits = np.zeros((self.width, self.width // 8), dtype=np.uint8)
        places = [slice(s, s + group.stop - group.start) for s, group in zip(starts[:-1], groups, strict=True)]
        apart = projection.apart(groups).clamp(min=0).tolist()
        limit = radius**2 + rounding(norms)
        for i, a in enumerate(groups):
            for j in range(i, len(groups)):
                b = groups[j]
                if apart[i][j] ** 2 > limit or float(projection.least(a, b).min()) > limit:
                    continue
                near = (squared_distances(x[a], norms[a], x[b], norms[b]) <= radius**2).cpu().numpy()
                self._put(places[i], places[j], near)
                if j > i:
                    self._put(places[j], places[i], np.ascontiguousarray(near.T))
        # A candidate covers itself, whatever rounding says about a radius of almost 0.
        self._bits[self.slots, self.slots // 8] |= (128 >> (self.slots % 8)).astype(np.uint8)

    def _put(self, rows: slice, columns: slice, near: npt.NDArray[np.bool_]) -> None:
        self._bits[rows, columns.start // 8 : (columns.stop + 7) // 8] = np.packbits(near, axis=1)

    def inside(self, slot: int) -> npt.NDArray[np.bool_]:
        """Return who is in the ball around one, shape (width,)."""
        return np.unpackbits(self._bits[slot]).astype(bool)

    def count(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many of some are in the ball around each, shape (width,)."""
        total = np.zeros(self.width, dtype=np.int64)
        for start in range(0, len(slots), UNPACK):
            near = np.unpackbits(self._bits[slots[start : start + UNPACK]], axis=1)
            total += near.sum(axis=0, dtype=np.uint16)
        return total
