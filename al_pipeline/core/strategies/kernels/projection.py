"""Bounds on inner products and distances from a few directions: exact work is done only where they leave a doubt."""

import torch
from torch import Tensor

from al_pipeline.core.strategies.kernels.distances import squared_distances

# Directions, and rows that they are looked for in. More would be tighter bounds for more work.
DIRECTIONS, PROBE = 32, 1024


class Projection:
    """Rows split into their part y along the directions of most variance and the length ρ of the rest.

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
