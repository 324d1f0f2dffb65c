"""Training: from labeled images to a checkpoint, the same one every time."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.images import iter_blocks
from al_pipeline.core.model import (
    MEAN,
    STD,
    Checkpoint,
    CheckpointInfo,
    build,
    check_architecture,
    device,
    normalize,
    state_hash,
    versions,
)
from al_pipeline.core.rng import generator, torch_seed
from al_pipeline.core.small_maps import use_small_maps

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
# Plain SGD crawls on a ResNet; this is the momentum it was published with (He et al. 2016, section 3.4).
SGD_MOMENTUM = 0.9


class TrainingError(ALError):
    """Training that ran off: its loss is no longer a number."""


@dataclass(frozen=True)
class TrainingOptions:
    """How a checkpoint is trained; the defaults are the paper's where it speaks (ResNet-18, untrained, Adam, 1e-4).

    Attributes
    ----------
    architecture : str
        One of `model.ARCHITECTURES`.
    weights : str
        What training starts from: ``none``, ``imagenet`` or a path (see `model.build`).
    image_size : int
        Side in pixels of the square the network sees, 16 to 1024.
    epochs : int
        Passes over the labeled pool.
    learning_rate : float
    optimizer : str
        One of `OPTIMIZERS`.
    batch_size : int
        Images per gradient step, at least 2: batch normalisation needs company.

    Raises
    ------
    InputError
        A value cannot be used.
    """

    architecture: str = "resnet18"
    weights: str = "none"
    image_size: int = 64
    epochs: int = 30
    learning_rate: float = 1e-4
    optimizer: str = "adam"
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_architecture(self.architecture)
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"unknown optimizer {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}")
        for name, low, high in (("image_size", 16, 1024), ("epochs", 1, 10_000), ("batch_size", 2, 10_000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise InputError(f"learning_rate must be above 0 and finite, not {self.learning_rate!r}")


@dataclass(frozen=True)
class TrainingResult:
    """A checkpoint and how it was come by.

    Attributes
    ----------
    checkpoint : Checkpoint
    losses : list of float
        Mean cross-entropy (nats) of every epoch; empty if untrained.
    seconds : float
        Wall-clock time, decoding included.
    n_parameters : int
    """

    checkpoint: Checkpoint
    losses: list[float]
    seconds: float
    n_parameters: int


def train(
    paths: Sequence[str | Path],
    labels: Sequence[str],
    class_names: Sequence[str],
    options: TrainingOptions,
    *,
    seed: int,
    round_number: int,
    labels_hash: str = "",
    progress: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train on labeled images with cross-entropy, from the configured weights anew.

    The same images, labels, options, seed and round give the same weights, bit for bit, on the same machine with the
    same number of threads: neither the order of the rows nor where the files lie matters.

    Parameters
    ----------
    paths, labels : sequences of length n
        The labeled pool; at least two classes.
    class_names : sequence of str, length K
        Names of the outputs; labels must be among them.
    options : TrainingOptions
    seed, round_number : int
        Initial weights and shuffles are drawn from generators of these two.
    labels_hash : str
        Kept in the checkpoint's provenance.
    progress : callable, optional
        Called after every epoch with its number (from 1) and its loss.

    Raises
    ------
    InputError
        Labels outside of the classes, fewer than two classes among them, or lengths that differ.
    ImageError
        An image cannot be decoded.
    TrainingError
        The loss became infinite or NaN.
    """
    began = time.perf_counter()
    targets = _targets(paths, labels, class_names)
    pixels = _decode(paths, options.image_size)
    order = _canonical(pixels, targets)
    images, classes = torch.from_numpy(pixels[order]), torch.from_numpy(targets[order])
    model = _start(class_names, options, seed, round_number)
    rng = generator(seed, round_number, "train")
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        losses = _fit(model, images.to(device()), classes.to(device()), options, rng, progress)
    return _result(
        model,
        class_names,
        options,
        seed,
        round_number,
        labels_hash=labels_hash,
        losses=losses,
        n=len(order),
        began=began,
    )


def untrained(class_names: Sequence[str], options: TrainingOptions, *, seed: int, round_number: int) -> TrainingResult:
    """Return the checkpoint that `train` would start from, marked as untrained."""
    began = time.perf_counter()
    model = _start(class_names, options, seed, round_number)
    return _result(model, class_names, options, seed, round_number, labels_hash="", losses=[], n=0, began=began)


def batches(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Cut an order into batches of `size`; a last single joins its neighbour, as batch normalisation cannot take it."""
    cuts = list(range(size, len(order), size))
    if cuts and len(order) - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts)


def _start(class_names: Sequence[str], options: TrainingOptions, seed: int, round_number: int) -> nn.Module:
    start = torch_seed(seed, round_number, "init")
    return build(options.architecture, len(class_names), weights=options.weights, seed=start)


def _targets(paths: Sequence[str | Path], labels: Sequence[str], class_names: Sequence[str]) -> npt.NDArray[np.int64]:
    if len(paths) != len(labels):
        raise InputError(f"there are {len(paths)} images but {len(labels)} labels: training needs one label per image")
    number = {name: i for i, name in enumerate(class_names)}
    outside = sorted({str(label) for label in labels if label not in number})
    if outside:
        raise InputError(
            f"labels outside of the classes: {', '.join(map(repr, outside[:5]))}; the classes are "
            f"{', '.join(class_names[:20])}{' …' if len(class_names) > 20 else ''}"
        )
    present = sorted(set(labels))
    if len(present) < 2:
        raise InputError(
            f"training needs labels of at least 2 classes; {len(labels)} labels name {', '.join(present) or 'none'}: "
            "label more"
        )
    return np.array([number[label] for label in labels], dtype=np.int64)


def _decode(paths: Sequence[str | Path], size: int) -> npt.NDArray[np.uint8]:
    pixels = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    for start, block in iter_blocks(paths, size):
        pixels[start : start + len(block)] = block
    return pixels


def _canonical(pixels: npt.NDArray[np.uint8], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return an order of the samples that follows from their content alone."""
    digests = [hashlib.sha256(image.data).digest() for image in pixels]
    return np.array(sorted(range(len(pixels)), key=lambda i: (digests[i], targets[i])), dtype=np.int64)


def _fit(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    options: TrainingOptions,
    rng: np.random.Generator,
    progress: Callable[[int, float], None] | None,
) -> list[float]:
    """Run the epochs and return their mean losses; the model is trained in place."""
    model.to(images.device).train()
    if images.device.type == "cpu":
        use_small_maps(model)
    extra = {"momentum": SGD_MOMENTUM} if options.optimizer == "sgd" else {}
    # Fused: one pass over the parameters. At a few dozen images per step the update would else be half of the time.
    optimizer = OPTIMIZERS[options.optimizer](model.parameters(), lr=options.learning_rate, fused=True, **extra)
    losses: list[float] = []
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        for batch in batches(rng.permutation(len(targets)), options.batch_size):
            rows = torch.from_numpy(batch).to(images.device)
            optimizer.zero_grad(set_to_none=True)
            # Training is faster with channels first, unlike prediction (measured with AVX2).
            inputs = normalize(images[rows], MEAN, STD).contiguous()
            loss = nn.functional.cross_entropy(model(inputs), targets[rows])
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        losses.append(total / len(targets))
        if not math.isfinite(losses[-1]):
            raise TrainingError(
                f"The loss became {losses[-1]} in epoch {epoch} of {options.epochs} with {options.optimizer} at "
                f"learning_rate {options.learning_rate}: lower training.learning_rate"
            )
        if progress is not None:
            progress(epoch, losses[-1])
    return losses


def _result(
    model: nn.Module,
    class_names: Sequence[str],
    options: TrainingOptions,
    seed: int,
    round_number: int,
    *,
    labels_hash: str,
    losses: list[float],
    n: int,
    began: float,
) -> TrainingResult:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    info = CheckpointInfo(
        architecture=options.architecture,
        class_names=tuple(class_names),
        image_size=options.image_size,
        mean=MEAN,
        std=STD,
        weights=options.weights,
        weights_hash=state_hash(state),
        labels_hash=labels_hash,
        seed=seed,
        round=round_number,
        trained=n > 0,
        n_labels=n,
        versions=versions(),
    )
    return TrainingResult(
        checkpoint=Checkpoint(info, state),
        losses=losses,
        seconds=time.perf_counter() - began,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
