"""k-means for the strategies: seeded, and fitted on a sample of large pools; and what is typical of a cluster."""

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from al_pipeline.core.strategies.distances import SMALL, blocks, nearest, squared_distances, squared_norms
from al_pipeline.core.strategies.query import Query

# Centers are found on so many rows of each cluster; all rows then improve them in a few steps.
ROWS_PER_CLUSTER, STEPS = 25, 3
FIT_STEPS = 10


def kmeans(x: Tensor, clusters: int, rng: np.random.Generator) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Return the centers, shape (clusters, d), and the cluster of every row, shape (n,).

    Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii 2007). Of large pools both are run on a random sample, and
    three steps on all rows follow.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    seed = int(rng.integers(2**31))
    size = max(ROWS_PER_CLUSTER * clusters, 1000)
    sample = x
    if size < len(x):
        sample = x[torch.from_numpy(np.sort(rng.choice(len(x), size, replace=False))).to(x.device)]
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters: some stay empty, and that is fine.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(clusters, n_init=1, max_iter=FIT_STEPS, random_state=seed).fit(sample.cpu().numpy())
    centers = torch.from_numpy(fit.cluster_centers_).to(x)
    if size >= len(x):
        return centers, fit.labels_.astype(np.int64)
    norms = squared_norms(x)
    labels = nearest(x, norms, centers)[1]
    for _ in range(STEPS):
        counts = torch.bincount(labels, minlength=clusters)
        sums = torch.zeros_like(centers).index_add_(0, labels, x)
        # An empty cluster keeps its center.
        centers = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centers)
        labels = nearest(x, norms, centers)[1]
    return centers, labels.cpu().numpy()


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


def in_turns(
    query: Query, ranked: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]
) -> tuple[list[int], list[float]]:
    """Take the best row of each list, then the second best of each, and so on, until the batch is full.

    Parameters
    ----------
    query : Query
    ranked : list of (rows, scores)
        Best first, the lists in the order they are served.
    """
    rows: list[int] = []
    scores: list[float] = []
    position = [0] * len(ranked)
    while len(rows) < query.batch_size:
        before = sum(position)
        for i, (candidates, values) in enumerate(ranked):
            while position[i] < len(candidates) and len(rows) < query.batch_size:
                position[i] += 1
                if query.admit(int(candidates[position[i] - 1])):
                    rows.append(int(candidates[position[i] - 1]))
                    scores.append(float(values[position[i] - 1]))
                    break
        if sum(position) == before:
            break
    return rows, scores
