"""What a network's authors did to an image before it saw it: part of the network, as its weights are."""

from dataclasses import dataclass
from functools import lru_cache

from al_pipeline.core.data.framing import AS_EVER, Framing, Resized
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.architectures import TIMM, config

# Per channel, of ImageNet: what torchvision's weights were trained with, and as good a scale as any for untrained ones.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Of timm's ways to make a square those that are none of its centre.
FRAMED: dict[str, Framing] = {"squash": "squeeze", "border": "pad"}


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
    """Return how images are prepared for a network; of timm's as it says.

    Raises
    ------
    InputError
        timm is missing, has no network of this name, or one whose images are resized in a way that is not known here.
    """
    if not architecture.startswith(TIMM):
        return Preparation()
    found = config(architecture)
    if found.interpolation not in ("bilinear", "bicubic"):
        raise InputError(
            f"{architecture} wants its images resized by {found.interpolation!r}, which this version does not do: "
            "choose another training.architecture"
        )
    return Preparation(
        mean=tuple(found.mean),
        std=tuple(found.std),
        resized=Resized(found.interpolation, min(1000, round(1000 * found.crop_pct))),
        framing=FRAMED.get(found.crop_mode),
        size=found.input_size[1],
        fixed=found.fixed_input_size,
    )
