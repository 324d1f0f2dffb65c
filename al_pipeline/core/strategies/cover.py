"""ProbCover: the batch whose balls of one radius hold the most candidates, chosen greedily."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from al_pipeline.core.strategies.clusters import kmeans
from al_pipeline.core.strategies.distances import SMALL, blocks, nearest, squared_distances, squared_norms, tensor
from al_pipeline.core.strategies.query import Picks, Query

# Purity is a share; that of so many candidates is known to a third of a percentage point.
PURITY_SAMPLE = 5000
# Neighbourhoods are unpacked from bits so many at a time.
UNPACK = 256


def cover(query: Query, rows: npt.NDArray[np.int64], radius: float | None, purity: float, clusters: int) -> Picks:
    """Choose `query.batch_size` of `rows`: each covers the most candidates that nothing labeled or chosen covers yet.

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

    Returns
    -------
    Picks
        Scores are the numbers of newly covered candidates, 0 once everything is covered.
    """
    x = tensor(query.embeddings if len(rows) == query.n else query.embeddings[rows], double=len(rows) <= SMALL)
    norms = squared_norms(x)
    if radius is None:
        radius = pure_radius(x, norms, purity, clusters, query.rng)
    uncovered = np.ones(len(rows), dtype=bool)
    labeled = query.labeled_embeddings
    if labeled is not None and len(labeled):
        distance, _ = nearest(x, norms, tensor(labeled, double=len(rows) <= SMALL))
        uncovered = (distance > radius**2).cpu().numpy()
    bits = _neighbours(x, norms, radius)
    degrees = np.zeros(len(rows), dtype=np.int64)
    _count(bits, np.flatnonzero(uncovered), degrees, 1)
    degrees[np.isin(rows, query.taken)] = -1

    chosen: list[int] = []
    scores: list[float] = []
    while len(chosen) < query.batch_size:
        place = int(degrees.argmax())
        degree = int(degrees[place])
        if degree < 0:
            break
        # Everything below −1 stays there whatever is taken off.
        degrees[place] = -len(rows) - 1
        if not query.admit(int(rows[place])):
            continue
        chosen.append(int(rows[place]))
        scores.append(float(degree))
        inside = np.unpackbits(bits[place], count=len(rows)).astype(bool)
        newly = np.flatnonzero(inside & uncovered)
        uncovered[newly] = False
        open_ = degrees >= 0
        _count(bits, newly, degrees, -1)
        degrees[~open_] = -len(rows) - 1
    return Picks(np.array(chosen, dtype=np.int64), np.array(scores))


def pure_radius(x: Tensor, norms: Tensor, purity: float, clusters: int, rng: np.random.Generator) -> float:
    """Return the largest radius at which a share `purity` of the balls holds candidates of one k-means cluster only.

    A ball is pure up to the distance of its center to the nearest candidate of another cluster, so that the radius is a
    quantile of these distances; no grid of radii is tried. Of large pools a seeded sample of centers is looked at.
    """
    labels = torch.from_numpy(kmeans(x, min(clusters, len(x)), rng)[1]).to(x.device)
    centers = torch.arange(len(x), device=x.device)
    if len(x) > PURITY_SAMPLE:
        drawn = np.sort(rng.choice(len(x), PURITY_SAMPLE, replace=False))
        centers = torch.from_numpy(drawn).to(x.device)
    others = []
    for part in blocks(len(centers), 256):
        some = centers[part]
        distance = squared_distances(x[some], norms[some], x, norms)
        distance[labels[some][:, None] == labels[None, :]] = torch.inf
        others.append(distance.min(dim=1).values)
    sorted_ = torch.cat(others).sqrt().sort().values.double().cpu().numpy()
    impure = min(len(sorted_) - 1, int(np.floor((1 - purity) * len(sorted_) + 1e-9)))
    if np.isinf(sorted_[impure]):
        # One cluster: every ball is pure.
        return float(2 * norms.max().sqrt())
    return float(np.nextafter(sorted_[impure], 0) * (1 - 1e-6))


def _neighbours(x: Tensor, norms: Tensor, radius: float) -> npt.NDArray[np.uint8]:
    """Return who is within the radius of whom, a bit for each pair, shape (r, ⌈r/8⌉)."""
    n = len(x)
    bits = np.zeros((n, (n + 7) // 8), dtype=np.uint8)
    for a in blocks(n):
        for b in blocks(n):
            if b.start < a.start:
                continue
            near = (squared_distances(x[a], norms[a], x[b], norms[b]) <= radius**2).cpu().numpy()
            # Blocks start at multiples of 8, so that each has bytes of its own.
            bits[a, b.start // 8 : (b.stop + 7) // 8] = np.packbits(near, axis=1)
            if b.start > a.start:
                bits[b, a.start // 8 : (a.stop + 7) // 8] = np.packbits(np.ascontiguousarray(near.T), axis=1)
    every = np.arange(n)
    # A candidate covers itself, whatever rounding says about a radius of almost 0.
    bits[every, every // 8] |= (128 >> (every % 8)).astype(np.uint8)
    return bits


def _count(bits: npt.NDArray[np.uint8], of: npt.NDArray[np.int64], degrees: npt.NDArray[np.int64], sign: int) -> None:
    """Add to (or take off) each degree how many of the rows `of` are near."""
    for start in range(0, len(of), UNPACK):
        near = np.unpackbits(bits[of[start : start + UNPACK]], axis=1, count=len(degrees))
        degrees += sign * near.sum(axis=0, dtype=np.int64)
