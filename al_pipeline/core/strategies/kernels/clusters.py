"""k-means for the strategies: seeded, and fitted on a sample of large pools; and what is typical of a cluster."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from al_pipeline.core.strategies.kernels.distances import SMALL, blocks, nearest, squared_distances, squared_norms
from al_pipeline.core.strategies.query import Proposals

# Of each cluster so many rows are clustered; all rows then improve the centers in a few steps.
ROWS_PER_CLUSTER, STEPS, LAST_STEPS = 250, 8, 2
# And among so many the first centers are looked for.
SEED_ROWS_PER_CLUSTER = 50


def kmeans(parts: Sequence[Tensor], clusters: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the cluster of every row of the parts, one part after the other, shape (n,).

    Lloyd's algorithm from greedy k-means++ (Arthur & Vassilvitskii 2007). Of large pools a random sample is clustered,
    and two steps on all rows follow.
    """
    n = sum(len(part) for part in parts)
    size = max(ROWS_PER_CLUSTER * clusters, 1000)
    if size >= n:
        return _lloyd(parts, _seeds(rows_of(parts, np.arange(n)), clusters, rng), STEPS)[1]
    sample = rows_of(parts, np.sort(rng.choice(n, size, replace=False)))
    centers, _ = _lloyd([sample], _seeds(sample, clusters, rng), STEPS)
    return _lloyd(parts, centers, LAST_STEPS)[1]


def _lloyd(parts: Sequence[Tensor], centers: Tensor, steps: int) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Move centers to the means of their rows, at most so many times; return them and the rows' clusters."""
    norms = [squared_norms(part) for part in parts]
    labels: list[Tensor] = []
    for step in range(steps + 1):
        before, labels = labels, []
        for part, lengths in zip(parts, norms, strict=True):
            labels.append(nearest(part, lengths, centers)[1])
        settled = bool(before) and all(torch.equal(one, other) for one, other in zip(before, labels, strict=True))
        if step == steps or settled:
            break
        sums, counts = torch.zeros_like(centers), centers.new_zeros(len(centers))
        for part, own in zip(parts, labels, strict=True):
            sums.index_add_(0, own, part)
            counts += torch.bincount(own, minlength=len(centers))
        # An empty cluster keeps its center.
        centers = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centers)
    return centers, torch.cat(labels).cpu().numpy()


def rows_of(parts: Sequence[Tensor], rows: npt.NDArray[np.int64]) -> Tensor:
    """Return rows, ascending, counted over all parts."""
    found, start = [], 0
    for part in parts:
        own = rows[(rows >= start) & (rows < start + len(part))] - start
        found.append(part[torch.from_numpy(own).to(part.device)])
        start += len(part)
    return torch.cat(found)


def _seeds(x: Tensor, clusters: int, rng: np.random.Generator) -> Tensor:
    """Return the centers that Lloyd's algorithm starts from, shape (clusters, d), found among a sample of the rows.

    Each is the best of a few rows drawn ∝ their squared distance to the nearest center before.
    """
    size = SEED_ROWS_PER_CLUSTER * clusters
    if size < len(x):
        x = x[torch.from_numpy(np.sort(rng.choice(len(x), size, replace=False))).to(x.device)]
    norms, trials = squared_norms(x), 2 + int(np.log(clusters))
    rows = [int(rng.integers(len(x)))]
    closest = squared_distances(x[rows], norms[rows], x, norms)[0]
    while len(rows) < clusters:
        until = np.cumsum(closest.cpu().numpy(), dtype=np.float64)
        # Once every row coincides with a center, the last row is as good as any.
        drawn = np.minimum(np.searchsorted(until, rng.random(trials) * until[-1], side="right"), len(x) - 1)
        tried = torch.minimum(squared_distances(x[drawn], norms[drawn], x, norms), closest)
        best = int(tried.sum(dim=1, dtype=torch.float64).argmin())
        rows.append(int(drawn[best]))
        closest = tried[best]
    return x[rows]


def typicality(x: Tensor, neighbours: int) -> npt.NDArray[np.float64]:
    """Return 1 / the mean distance of each row to its nearest neighbours among these rows, shape (n,)."""
    n = len(x)
    if n == 1:
        return np.array([np.inf])
    x = x.double() if n <= SMALL else x
    norms = squared_norms(x)
    count = max(1, min(neighbours, n // 2))
    found = np.empty(n)
    for part in blocks(n, SMALL):
        distance = squared_distances(x[part], norms[part], x, norms)
        if n <= SMALL:
            # Two rows are each other's neighbours at the same distance, to the last bit: a tie is a tie.
            distance = (distance + distance.T) / 2
        # A row is no neighbour of its own.
        distance[torch.arange(len(distance)), torch.arange(part.start, part.stop)] = torch.inf
        closest = torch.topk(distance, min(count, n - 1), largest=False).values.double().sqrt().mean(dim=1)
        found[part] = (1 / closest.clamp(min=1e-12)).cpu().numpy()
    return found


Ranked = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


def in_turns(count: int, rank: Callable[[int], Ranked]) -> Proposals:
    """Propose the best row of each of the clusters, then the second best of each, and so on.

    `rank` returns the rows of a cluster, best first, and their scores; it is asked when it is that cluster's turn.
    """
    ranked: list[Iterator[tuple[np.int64, np.float64]]] = []
    more = True
    while more:
        more = False
        for i in range(count):
            if i == len(ranked):
                ranked.append(zip(*rank(i), strict=True))
            for row, score in ranked[i]:
                more = True
                if (yield int(row), float(score)):
                    break
