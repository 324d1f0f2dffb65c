"""Prediction: class probabilities and features of any number of images, decoded while the network works."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from al_pipeline.core.images import iter_blocks
from al_pipeline.core.model import Checkpoint, device, normalize

# Images per forward pass. Blocks are whole multiples of it, so that an image meets the same neighbours, and the
# arithmetic takes the same order, however large the blocks are.
BATCH = 64


def predict(checkpoint: Checkpoint, paths: Sequence[str | Path], *, block: int = 256) -> npt.NDArray[np.float64]:
    """Return class probabilities: the softmax of the logits over the checkpoint's temperature.

    Parameters
    ----------
    checkpoint : Checkpoint
    paths : sequence of length n
    block : int
        Images decoded ahead; bounds the memory and does not change a bit of the result. Rounded up to a multiple of
        `BATCH`.

    Returns
    -------
    float64 array, shape (n, K)
        In the order of `paths`; rows sum to 1.

    Raises
    ------
    ImageError
        An image cannot be decoded.
    """
    logits = _forward(checkpoint.model(), checkpoint, paths, block, width=len(checkpoint.info.class_names))
    return torch.softmax(logits.double() / checkpoint.info.temperature, dim=1).numpy()


def embed(checkpoint: Checkpoint, paths: Sequence[str | Path], *, block: int = 256) -> npt.NDArray[np.float32]:
    """Return the penultimate features, what the classifier sees: float32, shape (n, d), d = 512 for ResNet-18 and -34.

    Parameters are those of `predict`; class names play no part.
    """
    model = checkpoint.model()
    width = checkpoint.state["fc.weight"].shape[1]
    model.fc = nn.Identity()
    return _forward(model, checkpoint, paths, block, width=width).numpy()


def _forward(
    model: nn.Module, checkpoint: Checkpoint, paths: Sequence[str | Path], block: int, *, width: int
) -> Tensor:
    info, place = checkpoint.info, device()
    model.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    outputs = torch.empty((len(paths), width), dtype=torch.float32)
    with torch.inference_mode():
        for start, pixels in _batches(paths, info.image_size, block):
            inputs = normalize(pixels.to(place), info.mean, info.std)
            outputs[start : start + len(pixels)] = model(inputs).cpu()
    return outputs


def _batches(paths: Sequence[str | Path], size: int, block: int) -> Iterator[tuple[int, Tensor]]:
    """Yield start and pixels of batches of `BATCH` images, the last one smaller."""
    whole = -(-max(1, block) // BATCH) * BATCH
    for start, pixels in iter_blocks(paths, size, block=whole):
        for offset in range(0, len(pixels), BATCH):
            yield start + offset, torch.from_numpy(pixels[offset : offset + BATCH])
