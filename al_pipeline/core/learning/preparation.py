"""What a network's authors did to an image before it saw it: part of the network, as its weights are."""

from dataclasses import dataclass
from functools import lru_cache

from al_pipeline.core.data.framing import AS_EVER, Framing, Resized
from al_pipeline.core.learning.options import TIMM

# Per channel, of ImageNet: what torchvision's weights were trained with, and as good a scale as any for untrained ones.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preparation:
    """How a network's images are prepared.

    Attributes
    ----------
    mean, std : tuple of float
        Per channel, of pixels scaled to 0..1.
    resized : Resized
        With which filter, and how much of the middle square a crop shows.
    framing : str, optional
        How images become squares, where the network was trained on others than crops.
    size : int, optional
        Side in pixels of the square that it was trained on; None: see `TrainingOptions.settled_image_size`.
    fixed : bool
        Whether the network is built for one size.
    """

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    resized: Resized = AS_EVER
    framing: Framing | None = None
    size: int | None = None
    fixed: bool = False


@lru_cache
def preparation_of(architecture: str) -> Preparation:
    """Return how images are prepared for a network.

    Raises
    ------
    InputError
        timm is missing, or has no network of this name.
    """
    if not architecture.startswith(TIMM):
        return Preparation()
    from al_pipeline.core.learning.backbones import own_preparation

    return own_preparation(architecture)
