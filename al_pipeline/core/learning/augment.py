"""Augmentation of batches of images: torchvision's transforms, a few draws of their parameters per batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

# torchvision draws one crop for a whole batch. A batch is cut into so many groups with a draw each: the variety is that
# of single images over the epochs, at a fraction of their calls.
GROUPS = 8

Augment = Callable[[Tensor], Tensor]


def weak(name: str, size: int) -> Augment | None:
    """Return the augmentation that `TrainingOptions.augmentation` names, of images with a side of `size` pixels."""
    if name == "none":
        return None
    crop = v2.RandomResizedCrop(size, scale=(0.6, 1.0), ratio=(0.85, 1.18), antialias=True)
    return crop if name == "crop" else v2.Compose([crop, v2.RandomHorizontalFlip()])


def strong(size: int) -> Augment:
    """Return the strong augmentation of FixMatch: RandAugment, then a square cut out (Sohn et al. 2020, appendix D)."""
    return v2.Compose([v2.RandAugment(), v2.RandomErasing(p=1.0, scale=(0.05, 0.25), value=128)])


def augmented(images: Tensor, augment: Augment, rng: np.random.Generator, *, groups: int = GROUPS) -> Tensor:
    """Return the images augmented, in the same shape; torch's global generator is left as it was.

    Parameters
    ----------
    images : uint8 Tensor, shape (n, h, w, 3)
    augment : callable
    rng : numpy.random.Generator
        All draws follow from it.
    groups : int
        Parts of the batch that get a draw each.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63 - 1)))
        parts = [augment(part) for part in images.permute(0, 3, 1, 2).chunk(min(groups, len(images)))]
    return torch.cat(parts).permute(0, 2, 3, 1).contiguous()
