"""Greedy k-center: always the candidate that is farthest from everything labeled or chosen, without looking at all."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from al_pipeline.core.strategies.kernels.distances import nearest, rounding, squared_distances, squared_norms, tensor
from al_pipeline.core.strategies.query import Proposals, Query

# How many of the most promising candidates are brought up to date together, at first; then twice as many each time.
FEW = 64
# In pools up to this size it takes less time to update all than to find out whom.
EAGER = 2048
# So many near-ties are settled in double precision.
TIES = 256


def farthest_first(query: Query) -> Proposals:
    """Propose rows, each the farthest from all labeled and chosen ones before it; scores are these distances.

    A new center can only bring a candidate's nearest one closer. So a distance from before is an upper bound, and only
    the candidates at the top are compared with the centers that came since ("lazy" greedy): the picks are those of the
    algorithm that updates everything each time, for a fraction of its work.

    Without labels the first row is the one closest to the candidates' mean, its score NaN.
    """
    return _Centers(query).proposals()


class _Centers:
    def __init__(self, query: Query) -> None:
        self.x = tensor(query.embeddings)
        self.norms = squared_norms(self.x)
        labeled = query.labeled_embeddings
        count = 0 if labeled is None else len(labeled)
        self.centers = self.x.new_empty((count + query.batch_size, self.x.shape[1]))
        self.center_norms = self.x.new_empty(len(self.centers))
        self.k = 0
        self.bound = torch.full_like(self.norms, torch.inf)
        self.seen = torch.zeros(len(self.x), dtype=torch.long, device=self.x.device)
        if labeled is not None and count:
            rows = tensor(labeled)
            self._add(rows, squared_norms(rows))
            self.bound, _ = nearest(self.x, self.norms, self.centers[: self.k])
            self.seen[:] = self.k
        self.tolerance = rounding(torch.cat([self.norms, self.center_norms[: self.k]]))
        self.bound[torch.from_numpy(query.taken).to(self.x.device)] = -1

    def proposals(self) -> Proposals:
        while found := self._farthest() if self.k else (self._central(), float("nan")):
            row, _ = found
            self.bound[row] = -1
            if (yield found):
                self._add(self.x[row], self.norms[row])
                if len(self.x) <= EAGER:
                    self._update_all()

    def _add(self, rows: Tensor, norms: Tensor) -> None:
        part = slice(self.k, self.k + norms.numel())
        self.centers[part], self.center_norms[part] = rows, norms
        self.k = part.stop

    def _central(self) -> int:
        """Return the row closest to the mean of all."""
        mean = self.x.mean(dim=0, keepdim=True, dtype=torch.float64)
        distance, _ = nearest(self.x, self.norms, mean.to(self.x.dtype))
        close = torch.nonzero(distance <= distance.min() + self.tolerance).flatten()[:TIES]
        return int(close[_first(-_exact(self.x[close], mean))])

    def _farthest(self) -> tuple[int, float] | None:
        """Return the row farthest from all centers and its distance; None when no row is left."""
        size = FEW
        while True:
            top = int(self.bound.argmax())
            if self.bound[top] < 0:
                return None
            if self.seen[top] == self.k:
                break
            rows = torch.topk(self.bound, min(size, len(self.bound))).indices
            self._update(rows[self.seen[rows] < self.k])
            size *= 2
        close = torch.nonzero(self.bound >= self.bound[top] - self.tolerance).flatten()
        if len(close) > TIES:
            close = close[torch.topk(self.bound[close], TIES).indices].sort().values
        distances = np.array([self._distance(row) for row in close.tolist()])
        position = _first(distances)
        return int(close[position]), float(np.sqrt(distances[position]))

    def _update(self, rows: Tensor) -> None:
        """Compare rows with the centers they have not seen."""
        since = int(self.seen[rows].min())
        fresh, fresh_norms = self.centers[since : self.k], self.center_norms[since : self.k]
        for part in rows.split(8192):
            closest = squared_distances(self.x[part], self.norms[part], fresh, fresh_norms).min(dim=1).values
            self.bound[part] = torch.minimum(self.bound[part], closest)
        self.seen[rows] = self.k

    def _update_all(self) -> None:
        """Compare all rows with the latest center."""
        last = self.k - 1
        distance = torch.mv(self.x, self.centers[last]).mul_(-2).add_(self.norms).add_(self.center_norms[last])
        self.bound = torch.minimum(self.bound, distance.clamp_(min=0))
        self.seen.fill_(self.k)

    def _distance(self, row: int) -> float:
        """Return the squared distance to the nearest center, in double precision."""
        x, norm = self.x[row : row + 1], self.norms[row : row + 1]
        rough = squared_distances(x, norm, self.centers[: self.k], self.center_norms[: self.k])[0]
        close = self.centers[: self.k][rough <= rough.min() + self.tolerance]
        return float(_exact(close, x).min())


def _exact(rows: Tensor, other: Tensor) -> npt.NDArray[np.float64]:
    return ((rows.double() - other.double()) ** 2).sum(dim=1).cpu().numpy()


def _first(values: npt.NDArray[np.float64]) -> int:
    """Return the first position of the largest value; what differs by rounding is equal."""
    largest = values.max()
    return int(np.flatnonzero(values >= largest - 1e-12 * abs(largest))[0])
