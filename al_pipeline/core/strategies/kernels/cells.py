"""Candidates grouped by place: kernels leave out work between groups that are far apart; no result depends on it."""

import torch
from torch import Tensor

from al_pipeline.core.strategies.kernels.distances import blocks, nearest, squared_distances, squared_norms

# Rows of a group: its distances to another group fit into the processor's cache.
GROUP = 1024
# Anchors of the groups: enough to tell clusters apart, looked for among so many rows.
MOST_ANCHORS, ROWS_PER_ANCHOR, PROBE = 128, 400, 4000


def cells(x: Tensor) -> tuple[Tensor, list[slice]]:
    """Return an order of the rows in which neighbours stand together, and slices of it of at most `GROUP` rows.

    Cells belong to anchors that are far from each other, so that a cluster, however many rows it has, is not split
    between cells that also hold others.
    """
    if len(x) <= GROUP:
        return torch.arange(len(x), device=x.device), list(blocks(len(x), GROUP))
    probe = x[:: max(1, len(x) // PROBE)]
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
