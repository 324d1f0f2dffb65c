"""Herding: the batch that covers the candidates best under an RBF kernel, each counted by a weight, chosen greedily.

Coverage of candidate j is its largest similarity to anything labeled or chosen; the objective is their weighted sum,
which is monotone and submodular. Gains can only shrink as the batch grows, so a gain from before is an upper bound
("lazy" greedy, Minoux 1978), and candidates are grouped by place: a choice changes the coverage of few groups, and only
those groups' share of a gain is computed anew. Who is farther from all of a group than a labeled sample is from each
adds exactly nothing to its coverage; where bounds say so, nothing is computed.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.strategies.kernels.distances import nearest, rounding, squared_distances, squared_norms, tensor
from al_pipeline.core.strategies.kernels.shortcuts import GROUP, Projection, cells
from al_pipeline.core.strategies.query import Floats, Proposals, Query

# Pools up to this size are computed in double precision: gains that nearly tie are told apart.
SMALL = 2048
# How many candidates are brought up to date together, at first; then twice as many each time.
FEW = 32
# Gains that differ by less than rounding are equal: the first candidate in input order wins.
EQUAL = {torch.float64: 1e-9, torch.float32: 2e-6}
# A gain of which less than this share is an upper bound from before is as good as computed anew.
SETTLED = {torch.float64: 1e-10, torch.float32: 2e-7}
# Changes of coverage that cannot change any gain by more than this share of the best one are left for later.
NOTHING = {torch.float64: 0.0, torch.float32: 1e-8}
# By how much less than bounds squared distances may come out: directions are orthonormal up to rounding.
SLACK = 1e-4
# A row's product with one other comes out in the same bits in whatever part of the rows it is, if that begins and ends
# at a multiple of this.
ALIGNED = 64


def herd(query: Query, rows: npt.NDArray[np.int64], weights: Floats, radius: float) -> Proposals:
    """Propose some of `rows`, covering `rows`; scores are the gains in weighted coverage.

    Parameters
    ----------
    query : Query
        Its labeled embeddings cover before anything is chosen.
    rows : int64 array, shape (r,)
        Candidates, ascending, that are both to be covered and to choose from.
    weights : float array, shape (r,)
        What covering each is worth, at least 0.
    radius : float
        σ of the kernel exp(−d²/σ²).
    """
    # Thousands of products are of few rows: several threads for each of them wait for each other most of the time, on a
    # busy machine ten times as long as one takes alone. So each thread has products of its own.
    threads = torch.get_num_threads()
    with computing_on(1), ThreadPoolExecutor(threads) as pool:
        yield from _Herd(query, rows, weights, radius, pool, threads).proposals()


class _Herd:
    def __init__(
        self,
        query: Query,
        rows: npt.NDArray[np.int64],
        weights: Floats,
        radius: float,
        pool: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        self.gamma, self.pool, self.threads = -1.0 / radius**2, pool, threads
        double = len(rows) <= SMALL
        x = tensor(query.features(rows), double=double)
        order, self.groups = cells(x)
        self.x, self.rows = x[order], rows[order.cpu().numpy()]
        self.norms = squared_norms(self.x)
        self.weights = tensor(weights, double=double)[order]
        self.covered = torch.zeros_like(self.norms)
        self.near = torch.ones((len(self.x), len(self.groups)), dtype=torch.bool, device=self.x.device)
        labeled = query.labeled_embeddings
        if labeled is not None and len(labeled):
            distance, _ = nearest(self.x, self.norms, tensor(labeled, double=double))
            if len(self.groups) > 1:
                self.near = self._may_add(distance)
            self.covered = torch.exp(distance.mul_(self.gamma))
        self.gains = self.x.new_zeros((len(self.x), len(self.groups)))
        self.total = torch.full_like(self.norms, -torch.inf)
        # When a group's coverage changed last, and when a candidate's gain from it was computed: after so many picks.
        self.changed = torch.zeros(len(self.groups), dtype=torch.int32, device=self.x.device)
        self.seen = torch.zeros((len(self.x), len(self.groups)), dtype=torch.int32, device=self.x.device)
        self.open = torch.from_numpy(~np.isin(self.rows, query.taken)).to(self.x.device)

    def _may_add(self, covered: Tensor) -> Tensor:
        """Return who may be nearer to one of a group than what covers that, bool, shape (n, groups).

        Parameters
        ----------
        covered : Tensor, shape (n,)
            Squared distances to the nearest labeled sample.
        """
        projection = Projection(self.x, self.norms)
        along, rest, found = projection.along, projection.rest, torch.empty_like(self.near)
        # Bounds and what they are compared with are both off by rounding.
        slack = 4 * rounding(self.norms)
        for j, group in enumerate(self.groups):
            center = along[group].mean(dim=0)
            radius = (along[group] - center).norm(dim=1).max()
            apart = ((along - center).norm(dim=1) - radius).clamp_(min=0)
            lowest, highest = rest[group].aminmax()
            beyond = torch.maximum(rest - highest, lowest - rest).clamp_(min=0)
            found[:, j] = (apart.square_() + beyond.square_()) * (1 - SLACK) <= covered[group].max() + slack
        return found

    def _similarity(self, a: slice | Tensor, b: slice) -> Tensor:
        distance = squared_distances(self.x[a], self.norms[a], self.x[b], self.norms[b])
        return distance.mul_(self.gamma).exp_()

    def _worth(self, similarity: Tensor, group: slice) -> Tensor:
        """Return what each row of `similarity` would add to the coverage of a group."""
        return torch.sub(similarity, self.covered[group]).clamp_(min=0) @ self.weights[group]

    def _first_gains(self, i: int) -> None:
        """Compute the gains of a group and of those after it from each other."""
        a = self.groups[i]
        for j in range(i, len(self.groups)):
            b = self.groups[j]
            if not (self.near[a, j].any() or self.near[b, i].any()):
                continue
            similarity = self._similarity(a, b)
            self.gains[a, j] = self._worth(similarity, b)
            if j > i:
                # Similarity is symmetric: half of the products suffice.
                self.gains[b, i] = self._worth(similarity.T, a)

    def proposals(self) -> Proposals:
        """Propose rows."""
        # Asked for results, so that errors come through.
        list(self.pool.map(self._first_gains, range(len(self.groups))))
        self.total = torch.where(self.open, self.gains.sum(dim=1), -torch.inf)

        chosen = 0
        while (place := self._best(chosen)) is not None:
            score = float(self.total[place])
            self.total[place] = -torch.inf
            if (yield int(self.rows[place]), score):
                chosen += 1
                self._cover(place, chosen, score)

    def _best(self, now: int) -> int | None:
        """Return the place of the largest gain, None when nothing is left."""
        size = FEW
        while True:
            top = float(self.total.max())
            if top == -np.inf:
                return None
            close = torch.nonzero(self.total >= top - EQUAL[self.x.dtype] * top).flatten()
            stale = close[self._outdated(close).sum(dim=1) > SETTLED[self.x.dtype] * top]
            if not len(stale):
                break
            best = torch.topk(self.total, min(size, len(self.total))).indices
            best = best[torch.isfinite(self.total[best])]
            self._update(torch.unique(torch.cat([best, stale[:size]])), now, top)
            size *= 2
        # The first in input order, wherever the grouping has put it.
        return int(close[int(np.argmin(self.rows[close.cpu().numpy()]))])

    def _outdated(self, places: Tensor) -> Tensor:
        """Return the gains from groups whose coverage has changed since they were computed, shape (places, groups)."""
        return torch.where(self.changed[None, :] > self.seen[places], self.gains[places], 0)

    def _update(self, places: Tensor, now: int, top: float) -> None:
        """Compute anew what matters of the gains from groups whose coverage has changed."""
        for part in places.split(GROUP):
            matters = self._outdated(part) > SETTLED[self.x.dtype] * top / len(self.groups)
            changed = torch.nonzero(matters.any(dim=0)).flatten().tolist()

            def update(groups: list[int], part: Tensor = part, matters: Tensor = matters) -> None:
                for j in groups:
                    some, group = part[matters[:, j]], self.groups[j]
                    self.gains[some, j] = self._worth(self._similarity(some, group), group)

            list(self.pool.map(update, (changed[i :: self.threads] for i in range(self.threads))))
            self.seen[part] = torch.where(matters, now, self.seen[part])
            self.total[part] = self.gains[part].sum(dim=1)

    def _cover(self, place: int, now: int, best: float) -> None:
        """Add a choice to the coverage, and note which groups' coverage it changes."""
        one = torch.tensor([place], device=self.x.device)
        for j in torch.nonzero(self.near[place]).flatten().tolist():
            group, first = self.groups[j], self.groups[j].start // ALIGNED * ALIGNED
            stop = min(len(self.x), -(-group.stop // ALIGNED) * ALIGNED)
            similarity = self._similarity(one, slice(first, stop))[0, group.start - first : group.stop - first]
            gain = torch.sub(similarity, self.covered[group]).clamp_(min=0) * self.weights[group]
            if float(gain.sum()) > NOTHING[self.x.dtype] * best:
                self.covered[group] = torch.maximum(self.covered[group], similarity)
                self.changed[j] = now
