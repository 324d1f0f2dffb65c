"""Prediction: class probabilities and features of any number of images, decoded while the network works."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from al_pipeline.core.data.image_cache import CachedImages, image_blocks
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.calibration import softmax
from al_pipeline.core.learning.checkpoint import Checkpoint, averaged, device, normalize
from al_pipeline.core.learning.engines import backbone
from al_pipeline.core.learning.head import head_logits
from al_pipeline.core.learning.memory import halving

# Images per forward pass. Blocks are whole multiples of it, so that an image meets the same neighbours, and the
# arithmetic takes the same order, however large the blocks are. A GPU wants more at a time.
BATCH, GPU_BATCH = 64, 256
Images = Sequence[str | Path] | CachedImages


def predict(checkpoint: Checkpoint, images: Images, *, block: int = 256) -> npt.NDArray[np.float64]:
    """Return class probabilities: the softmax of the logits over the checkpoint's temperature.

    Parameters
    ----------
    checkpoint : Checkpoint
    images : sequence of paths, or CachedImages, of length n
        Read as the checkpoint says.
    block : int
        Images decoded ahead; bounds the memory and does not change a bit of the result. Rounded up to a multiple of
        `BATCH`.

    Returns
    -------
    float64 array, shape (n, K)
        In the order of `images`; rows sum to 1.

    Raises
    ------
    ImageError
        An image cannot be decoded.
    OutOfMemoryError
        Not even one image fits into memory.
    """
    return predict_features(checkpoint, embed(checkpoint, images, block=block))


def predict_features(checkpoint: Checkpoint, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return class probabilities, float64 (n, K), from features of the checkpoint's own backbone, without an image.

    Parameters
    ----------
    checkpoint : Checkpoint
    features : float32 array, shape (n, d)
        `embed` of a checkpoint with the same `backbone_hash`.

    Raises
    ------
    InputError
        The features have another width.
    """
    weight, bias = checkpoint.state["fc.weight"].numpy(), checkpoint.state["fc.bias"].numpy()
    if features.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise InputError(
            f"features of shape {features.shape} are not of this checkpoint's {checkpoint.info.architecture}, whose "
            f"classifier sees {weight.shape[1]}: embed the images with its backbone"
        )
    return softmax(head_logits(features, weight, bias), checkpoint.info.temperature)


def embed(checkpoint: Checkpoint, images: Images, *, block: int = 256) -> npt.NDArray[np.float32]:
    """Return the penultimate features, what the classifier sees: float32, shape (n, d), d = 512 for ResNet-18 and -34.

    Parameters are those of `predict`; class names play no part.
    """
    info, place = checkpoint.info, device()
    network = backbone(checkpoint, place)
    outputs = np.empty((len(images), checkpoint.state["fc.weight"].shape[1]), dtype=np.float32)
    size = BATCH if place.type == "cpu" else GPU_BATCH

    def forward(pixels: Tensor) -> Tensor:
        inputs = normalize(pixels.to(place, non_blocking=True), info.mean, info.std)
        return averaged(network, inputs, flip=info.test_time_flip)

    with torch.inference_mode():
        ahead = -(-max(1, block) // size) * size
        for start, decoded in image_blocks(images, info.image_size, framing=info.framing, how=info.how, block=ahead):
            pixels = torch.from_numpy(decoded)

            def run(step: int, pixels: Tensor = pixels) -> Tensor:
                return torch.cat([forward(part) for part in pixels.split(step)]).cpu()

            result, worked = halving(run, size, smallest=1, what="prediction")
            # What was too much for one block is too much for the next.
            size = min(size, worked)
            outputs[start : start + len(pixels)] = result.numpy()
    return outputs
