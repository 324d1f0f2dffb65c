"""BADGE: k-means++ over gradient embeddings, which are never built."""

import numpy as np
import torch

from al_pipeline.core.strategies.distances import rounding, squared_norms, tensor
from al_pipeline.core.strategies.query import Picks, Query


def badge_picks(query: Query) -> Picks:
    """Choose by k-means++ on the gradients of the last layer, g = (p − onehot(ŷ)) ⊗ x.

    |g − g'|² = |f|²|x|² + |f'|²|x'|² − 2 (f·f')(x·x') with f = p − onehot(ŷ): a pick costs n·(K + d) operations and
    n numbers instead of n·K·d of both.

    Returns
    -------
    Picks
        The first is the longest gradient, each other one is drawn ∝ its squared distance to the nearest one before;
        scores are these. When all that is left has distance 0, the rest is drawn uniformly.
    """
    x = tensor(query.embeddings)
    f = tensor(query.probabilities).clone()
    f[torch.arange(len(f)), f.argmax(dim=1)] -= 1
    norms = squared_norms(f) * squared_norms(x)
    # Distances below what rounding can produce are those of equal gradients.
    zero = rounding(norms)
    open_ = torch.ones(len(x), dtype=torch.bool, device=x.device)
    open_[torch.from_numpy(query.taken).to(x.device)] = False
    closest: torch.Tensor | None = None
    rows: list[int] = []
    scores: list[float] = []
    while len(rows) < query.batch_size and bool(open_.any()):
        weight = norms if closest is None else closest
        weight = torch.where(open_, weight, 0.0).cpu().numpy().astype(np.float64)
        if closest is None:
            row = int(np.flatnonzero(open_.cpu().numpy() & (weight >= weight.max() * (1 - 1e-6)))[0])
        else:
            until = np.cumsum(weight if weight.any() else open_.cpu().numpy().astype(np.float64))
            row = int(np.searchsorted(until, query.rng.random() * until[-1], side="right"))
        open_[row] = False
        if not query.admit(row):
            continue
        rows.append(row)
        scores.append(float(weight[row]))
        distance = torch.mv(x, x[row]).mul_(torch.mv(f, f[row])).mul_(-2).add_(norms).add_(norms[row])
        distance[distance <= zero] = 0
        closest = distance if closest is None else torch.minimum(closest, distance)
    return Picks(np.array(rows, dtype=np.int64), np.array(scores))
