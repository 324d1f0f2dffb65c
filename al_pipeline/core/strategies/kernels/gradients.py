"""BADGE: k-means++ over gradient embeddings, which are never built."""

import numpy as np
import torch
from torch import Tensor

from al_pipeline.core.strategies.kernels.distances import rounding, squared_norms, tensor
from al_pipeline.core.strategies.kernels.shortcuts import Projection
from al_pipeline.core.strategies.query import Proposals, Query

# Where bounds leave more than this share in doubt, it is faster to compute all distances than to gather some.
MANY = 0.25


def badge_picks(query: Query) -> Proposals:
    """Propose by k-means++ on the gradients of the last layer, g = (p − onehot(ŷ)) ⊗ x.

    |g − g'|² = |f|²|x|² + |f'|²|x'|² − 2 (f·f')(x·x') with f = p − onehot(ŷ): a pick costs at most n·(K + d) operations
    and n numbers instead of n·K·d of both. And x·x' is computed only where its bounds do not rule out that the new
    pick is nearer than all before it.

    The first is the longest gradient, each other one is drawn ∝ its squared distance to the nearest one before; scores
    are these. When all that is left has distance 0, the rest is drawn uniformly.
    """
    gradients = _Gradients(query)
    open_ = np.ones(query.n, dtype=bool)
    open_[query.taken] = False
    lengths = gradients.norms.cpu().numpy().astype(np.float64)
    closest: Tensor | None = None
    while open_.any():
        weight = np.where(open_, lengths if closest is None else closest.cpu().numpy(), 0.0)
        if closest is None:
            row = int(np.flatnonzero(open_ & (weight >= weight.max() * (1 - 1e-6)))[0])
        else:
            until = np.cumsum(weight if weight.any() else open_, dtype=np.float64)
            row = int(np.searchsorted(until, query.rng.random() * until[-1], side="right"))
        open_[row] = False
        if (yield row, float(weight[row])):
            closest = gradients.nearer(closest, row)


class _Gradients:
    def __init__(self, query: Query) -> None:
        self.x = tensor(query.embeddings)
        self.f = tensor(query.probabilities).clone()
        self.f[torch.arange(len(self.f)), self.f.argmax(dim=1)] -= 1
        lengths = squared_norms(self.x)
        self.norms = squared_norms(self.f) * lengths
        # Distances below what rounding can produce are those of equal gradients.
        self.zero = rounding(self.norms)
        self.projection = Projection(self.x, lengths)

    def nearer(self, closest: Tensor | None, row: int) -> Tensor:
        """Return the squared distances to the nearest pick, of which `row` is the latest, shape (n,)."""
        factor = torch.mv(self.f, self.f[row])
        if closest is None:
            return self._distances(slice(None), row, factor)
        middle, width = self.projection.inner(row)
        # The largest that (f·f')(x·x') can be.
        most = middle.mul_(factor).add_(width.mul_(factor.abs()))
        least = most.mul_(-2).add_(self.norms).add_(self.norms[row] - self.zero)
        doubtful = torch.nonzero(least < closest).flatten()
        if len(doubtful) > MANY * len(closest):
            return torch.minimum(closest, self._distances(slice(None), row, factor))
        closest[doubtful] = torch.minimum(closest[doubtful], self._distances(doubtful, row, factor[doubtful]))
        return closest

    def _distances(self, rows: slice | Tensor, row: int, factor: Tensor) -> Tensor:
        distance = torch.mv(self.x[rows], self.x[row]).mul_(factor).mul_(-2).add_(self.norms[rows])
        distance.add_(self.norms[row])
        distance[distance <= self.zero] = 0
        return distance
