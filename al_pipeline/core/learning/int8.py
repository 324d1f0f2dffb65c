"""Features in whole numbers of 8 bits: the largest numbers that convolutions are given, on images of the pool."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from al_pipeline.core.data.image_cache import image_blocks
from al_pipeline.core.learning.arithmetic import Arithmetic, multiplies_bfloat16
from al_pipeline.core.learning.checkpoint import Checkpoint, averaged, normalize
from al_pipeline.core.learning.engines import convolutions, folded
from al_pipeline.core.learning.predict import BATCH, Images
from al_pipeline.core.rng import generator

# More hardly move the largest numbers; these take some seconds at 224 pixels.
MOST = 256


def drawn(n: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the rows of n images of the pool to calibrate on, int64, in the order of the draw."""
    return generator(seed, 0, "int8").permutation(n)[:MOST]


def wants_images(checkpoint: Checkpoint) -> bool:
    """Say whether its features are computed in int8, and it was not calibrated yet."""
    return Arithmetic.of(checkpoint.info.arithmetic).precision == "int8" and not checkpoint.info.int8_ranges


def with_ranges(checkpoint: Checkpoint, ranges: Sequence[float]) -> Checkpoint:
    """Return a checkpoint whose features are computed in int8 with these ranges; any other one as it is."""
    if not wants_images(checkpoint):
        return checkpoint
    return replace(checkpoint, info=replace(checkpoint.info, int8_ranges=tuple(ranges)))


def calibrated(checkpoint: Checkpoint, images: Images) -> Checkpoint:
    """Return a checkpoint whose features are computed in int8 with the ranges of these images; any other one as it is.

    Raises
    ------
    ImageError
        An image cannot be decoded.
    """
    return with_ranges(checkpoint, largest_inputs(checkpoint, images)) if wants_images(checkpoint) else checkpoint


def largest_inputs(checkpoint: Checkpoint, images: Images) -> tuple[float, ...]:
    """Return the largest number, whatever its sign, that each convolution is given, in their order."""
    info, model = checkpoint.info, folded(checkpoint)
    # On the CPU, as what is calibrated; its digits are no matter where steps are 256.
    kind = torch.bfloat16 if multiplies_bfloat16(torch.device("cpu")) else torch.float32
    model.to(dtype=kind, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = dict.fromkeys(convolutions(model).values(), 0.0)

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        found[layer] = max(found[layer], float(inputs[0].abs().max()))

    for layer in found:
        layer.register_forward_pre_hook(note)
    with torch.inference_mode():
        for _, decoded in image_blocks(images, info.image_size, framing=info.framing, how=info.how, block=BATCH):
            pixels = normalize(torch.from_numpy(decoded), info.mean, info.std).to(kind)
            averaged(model, pixels, flip=info.test_time_flip)
    return tuple(found.values())
