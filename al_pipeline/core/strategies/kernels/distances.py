"""Squared Euclidean distances in blocks, on the GPU if there is one: what the kernels share."""

import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Rows of a block; two blocks' distances are then 16 MiB.
BLOCK = 2048
# Pools up to this size are computed in double precision, which costs nothing there.
SMALL = 1024


def tensor(values: npt.NDArray[np.floating], *, double: bool = False) -> Tensor:
    """Return rows as a tensor where the work is done; on the CPU, float32 rows are not copied."""
    array = np.ascontiguousarray(values, dtype=np.float64 if double else np.float32)
    with warnings.catch_warnings():
        # Read-only arrays (memory maps) are welcome: nothing here writes to its input.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        found = torch.from_numpy(array)
    return found.to("cuda") if torch.cuda.is_available() else found


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield slices that cover n rows; the last one may be shorter."""
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def squared_norms(x: Tensor) -> Tensor:
    """Return |x|² of every row, shape (n,)."""
    norms = x.new_empty(len(x))
    for part in blocks(len(x)):
        norms[part] = (x[part] * x[part]).sum(dim=1)
    return norms


def squared_distances(a: Tensor, a_norms: Tensor, b: Tensor, b_norms: Tensor) -> Tensor:
    """Return |a − b|² for rows of a and of b with their squared norms, shape (len(a), len(b)), at least 0."""
    return torch.addmm(b_norms, a, b.T, alpha=-2).add_(a_norms[:, None]).clamp_(min=0)


def rounding(norms: Tensor) -> float:
    """Return how far off a squared distance may be by rounding, for rows with these squared norms."""
    return 16 * torch.finfo(norms.dtype).eps * float(norms.max()) if len(norms) else 0.0


def nearest(x: Tensor, norms: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distance of every row to its nearest center and which one that is, both of shape (n,)."""
    distance, which = x.new_empty(len(x)), torch.empty(len(x), dtype=torch.long, device=x.device)
    center_norms = squared_norms(centers)
    # Fewer rows at a time where there are many centers.
    for part in blocks(len(x), max(64, BLOCK * BLOCK // max(len(centers), BLOCK))):
        distance[part], which[part] = squared_distances(x[part], norms[part], centers, center_norms).min(dim=1)
    return distance, which
