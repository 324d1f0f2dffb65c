"""k-means for the strategies: seeded, and fitted on a sample of large pools; and what is typical of a cluster."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from al_pipeline.core.strategies.distances import SMALL, blocks, nearest, squared_distances, squared_norms
from al_pipeline.core.strategies.query import Picks, Query

# Centers are found on so many rows of each cluster; all rows then improve them in a few steps.
ROWS_PER_CLUSTER, STEPS = 25, 3
FIT_STEPS = 10


def kmeans(parts: Sequence[Tensor], clusters: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the cluster of every row of the parts, one part after the other, shape (n,).

    Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii 2007). Of large pools both are run on a random sample, and
    three steps on all rows follow.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    n = sum(len(part) for part in parts)
    size = max(ROWS_PER_CLUSTER * clusters, 1000)
    chosen = np.arange(n) if size >= n else np.sort(rng.choice(n, size, replace=False))
    sample = rows_of(parts, chosen)
    seeds = sample[_seeds(sample, clusters, rng)]
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters: some stay empty, and that is fine.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(clusters, n_init=1, max_iter=FIT_STEPS, init=seeds.cpu().numpy()).fit(sample.cpu().numpy())
    if size >= n:
        return fit.labels_.astype(np.int64)
    centers = torch.from_numpy(fit.cluster_centers_).to(sample)
    norms = [squared_norms(part) for part in parts]
    for _ in range(STEPS):
        sums, counts = torch.zeros_like(centers), centers.new_zeros(clusters)
        for part, lengths in zip(parts, norms, strict=True):
            labels = nearest(part, lengths, centers)[1]
            sums.index_add_(0, labels, part)
            counts += torch.bincount(labels, minlength=clusters)
        # An empty cluster keeps its center.
        centers = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centers)
    labels = [nearest(part, lengths, centers)[1] for part, lengths in zip(parts, norms, strict=True)]
    return torch.cat(labels).cpu().numpy()


def rows_of(parts: Sequence[Tensor], rows: npt.NDArray[np.int64]) -> Tensor:
    """Return rows, ascending, counted over all parts."""
    found, start = [], 0
    for part in parts:
        own = rows[(rows >= start) & (rows < start + len(part))] - start
        found.append(part[torch.from_numpy(own).to(part.device)])
        start += len(part)
    return torch.cat(found)


def _seeds(x: Tensor, clusters: int, rng: np.random.Generator) -> list[int]:
    """Return the rows that k-means starts from: each drawn ∝ its squared distance to the nearest one before."""
    norms = squared_norms(x)
    rows = [int(rng.integers(len(x)))]
    closest = torch.full_like(norms, torch.inf)
    while len(rows) < clusters:
        last = slice(rows[-1], rows[-1] + 1)
        closest = torch.minimum(closest, squared_distances(x[last], norms[last], x, norms)[0])
        until = np.cumsum(closest.cpu().numpy(), dtype=np.float64)
        # Once every row coincides with a seed, the last row is as good as any.
        rows.append(min(int(np.searchsorted(until, rng.random() * until[-1], side="right")), len(x) - 1))
    return rows


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


def in_turns(query: Query, count: int, rank: Callable[[int], Ranked]) -> Picks:
    """Take the best row of each cluster, then the second best of each, and so on, until the batch is full.

    Parameters
    ----------
    query : Query
    count : int
        How many clusters there are.
    rank : callable
        Returns the rows of a cluster, best first, and their scores; asked when it is that cluster's turn.
    """
    rows: list[int] = []
    scores: list[float] = []
    ranked: list[Ranked] = []
    position = [0] * count
    more = True
    while len(rows) < query.batch_size and more:
        more = False
        for i in range(count):
            if i == len(ranked):
                ranked.append(rank(i))
            candidates, values = ranked[i]
            while position[i] < len(candidates) and len(rows) < query.batch_size:
                more = True
                position[i] += 1
                if query.admit(int(candidates[position[i] - 1])):
                    rows.append(int(candidates[position[i] - 1]))
                    scores.append(float(values[position[i] - 1]))
                    break
            if len(rows) == query.batch_size:
                break
    return Picks(np.array(rows, dtype=np.int64), np.array(scores))
