"""How kernels leave out work, on which no result depends: rows grouped by place, bounds from a few directions."""

import torch
from torch import Tensor

from al_pipeline.core.strategies.kernels.distances import blocks, nearest, squared_distances, squared_norms

# Rows of a group: its distances to another group fit into the processor's cache.
GROUP = 1024
# Anchors of the groups: enough to tell clusters apart, looked for among so many rows.
MOST_ANCHORS, ROWS_PER_ANCHOR, ANCHOR_PROBE = 128, 400, 4000
# Directions, and rows that they are looked for in. More would be tighter bounds for more work.
DIRECTIONS, PROBE = 32, 1024


def cells(x: Tensor) -> tuple[Tensor, list[slice]]:
    """Return an order of the rows in which neighbours stand together, and slices of it of at most `GROUP` rows.

    Cells belong to anchors that are far from each other, so that a cluster, however many rows it has, is not split
    between cells that also hold others.
    """
    if len(x) <= GROUP:
        return torch.arange(len(x), device=x.device), list(blocks(len(x), GROUP))
    probe = x[:: max(1, len(x) // ANCHOR_PROBE)]
    norms = squared_norms(probe)
    anchors = [0]
    closest = torch.full_like(norms, torch.inf)
    while len(anchors) < min(MOST_ANCHORS, len(x) // ROWS_PER_ANCHOR):
        last = slice(anchors[-1], anchors[-1] + 1)
        closest = torch.minimum(closest, squared_distances(probe[last], norms[last], probe, norms)[0])
        anchors.append(int(closest.argmax()))
    _, which = nearest(x, squared_norms(x), probe[anchors])
    ends = torch.bincount(which, minlength=len(anchors)).cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    groups = [
        slice(start + part.start, start + part.stop)
        for start, end in zip(starts, ends, strict=True)
        for part in blocks(end - start, GROUP)
    ]
    return torch.argsort(which, stable=True), groups


class Projection:
    """Rows split into their part y along the directions of most variance and the length ρ of the rest.

    Inner products and distances are bounded by these; exact work is done only where the bounds leave a doubt.

    x·x' lies within ρρ' of y·y' (Cauchy & Schwarz), and |x − x'|² is at least |y − y'|² + (ρ − ρ')².

    Parameters
    ----------
    x : Tensor, shape (n, d)
    norms : Tensor, shape (n,)
        |x|².
    """

    def __init__(self, x: Tensor, norms: Tensor) -> None:
        probe = x[:: max(1, len(x) // PROBE)]
        # Two steps of block power iteration, started from rows: no random number decides about anything.
        basis = probe[:DIRECTIONS].T
        for _ in range(2):
            basis = torch.linalg.qr(probe.T @ (probe @ basis)).Q
        self.along = x @ basis
        self.along_norms = (self.along * self.along).sum(dim=1)
        self.rest = (norms - self.along_norms).clamp_(min=0).sqrt_()

    def inner(self, row: int) -> tuple[Tensor, Tensor]:
        """Return the middle and the half-width of bounds on the inner products with a row, both of shape (n,)."""
        return torch.mv(self.along, self.along[row]), self.rest * self.rest[row]

    def least(self, a: slice | Tensor, b: slice) -> Tensor:
        """Return lower bounds on the squared distances of rows a to rows b, shape (a, b)."""
        bound = squared_distances(self.along[a], self.along_norms[a], self.along[b], self.along_norms[b])
        return bound.add_((self.rest[a][:, None] - self.rest[b][None, :]).square_())

    def apart(self, groups: list[slice]) -> Tensor:
        """Return lower bounds on the distances between rows of any two groups, shape (groups, groups)."""
        centers = torch.stack([self.along[group].mean(dim=0) for group in groups])
        radii = torch.stack(
            [(self.along[group] - center).norm(dim=1).max() for group, center in zip(groups, centers, strict=True)]
        )
        return torch.cdist(centers, centers, compute_mode="donot_use_mm_for_euclid_dist") - radii[:, None] - radii
