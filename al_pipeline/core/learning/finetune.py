"""Fine-tuning: gradient steps on the whole network."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.learning.arithmetic import multiplies_bfloat16
from al_pipeline.core.learning.augment import Augment, augmented, strong, weak
from al_pipeline.core.learning.calibration import fit_temperature, softmax
from al_pipeline.core.learning.checkpoint import HEAD, Checkpoint, averaged, normalize
from al_pipeline.core.learning.folds import validation_split
from al_pipeline.core.learning.kept_training import KeptTraining
from al_pipeline.core.learning.memory import halving
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.small_maps import use_small_maps
from al_pipeline.core.learning.thresholds import fit_thresholds

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
# Plain SGD crawls on a ResNet; this is the momentum it was published with (He et al. 2016, section 3.4).
SGD_MOMENTUM = 0.9
# FixMatch's unlabeled images per labeled one, and the weight of their loss (Sohn et al. 2020, section 4).
UNLABELED_RATIO, UNLABELED_WEIGHT = 7, 1.0
VALIDATION_BATCH = 64
# Images of the labeled pool stay on the GPU if they take no more than this share of what is free there.
DEVICE_SHARE = 0.25


class TrainingError(ALError):
    """Training that ran off: its loss is no longer a number."""


@dataclass
class Fit:
    """How fine-tuning went.

    Attributes
    ----------
    losses : list of float
        Mean training loss (nats) of every epoch.
    validation_losses : list of float
        Mean cross-entropy on the validation share after every epoch; empty without one.
    kept_epoch : int
        The epoch, from 1, whose weights were kept: the last one, or the best with a validation share.
    batch_size : int
        Images per step, fewer than asked for if the memory was too small.
    temperature : float
        Fitted on the validation share; 1 without.
    thresholds : tuple of float
        Of the classes (`thresholds.decided`), fitted on the validation share if classes are weighed; else empty.
    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    kept_epoch: int = 0
    batch_size: int = 0
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Examples:
    """What is learned from.

    Attributes
    ----------
    images : uint8 Tensor, shape (n, h, w, 3)
    targets : int64 Tensor, shape (n,)
    weights : float32 Tensor, shape (n,), optional
        Of each image's loss; all 1 by default.
    groups : int64 array, shape (n,), optional
        What each image belongs to, for the validation share; `rows` and `to` leave them behind.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor | None = None
    groups: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, rows: npt.NDArray[np.int64]) -> "Examples":
        """Return some of them."""
        chosen = torch.from_numpy(rows).to(self.targets.device)
        return Examples(
            self.images[chosen], self.targets[chosen], None if self.weights is None else self.weights[chosen]
        )

    def to(self, place: torch.device) -> "Examples":
        """Return them on a device."""
        weights = None if self.weights is None else self.weights.to(place, non_blocking=True)
        images = self.images.to(place, non_blocking=True)
        return Examples(images, self.targets.to(place, non_blocking=True), weights)


def finetune(
    model: nn.Module,
    labeled: Examples,
    options: TrainingOptions,
    rng: np.random.Generator,
    *,
    place: torch.device,
    unlabeled: Tensor | None = None,
    progress: Callable[[int, float], None] | None = None,
    give_way: Callable[[], None] | None = None,
    kept: KeptTraining | None = None,
    frozen_norms: bool = False,
) -> Fit:
    """Train a network in place.

    Parameters
    ----------
    model : nn.Module
    labeled : Examples
    options : TrainingOptions
    rng : numpy.random.Generator
        Of the validation share, the shuffles and the augmentation.
    place : torch.device
        Where it runs.
    unlabeled : uint8 Tensor, shape (m, h, w, 3), optional
        For FixMatch.
    progress : callable, optional
        Called after every epoch with its number (from 1) and its loss.
    give_way : callable, optional
        Called before every gradient step; it may take its time.
    kept : KeptTraining, optional
        Where training is kept after epochs. What is kept there goes on, and comes to the same weights.
    frozen_norms : bool
        Batch normalisation keeps the statistics that the network came with, in training as in prediction.

    Raises
    ------
    TrainingError
        The loss became infinite or NaN.
    OutOfMemoryError
        Two images at a time are too many.
    """
    start = {name: value.clone() for name, value in model.state_dict().items()}
    state = rng.bit_generator.state

    def run(batch_size: int) -> Fit:
        # From the same start with the same draws, in case this is a second try with a smaller batch.
        model.load_state_dict(start)
        rng.bit_generator.state = state
        task = _Run(model, options, batch_size, rng, place, give_way, kept, frozen_norms)
        return task.fit(labeled, unlabeled, progress)

    # Deterministic kernels: with cuDNN's own choice the same seed gives other weights.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        result, batch_size = halving(run, options.batch_size, smallest=2, what="training")
    result.batch_size = batch_size
    return result


def batches(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Cut an order into batches of `size`; a last single joins its neighbour, as batch normalisation cannot take it."""
    cuts = list(range(size, len(order), size))
    if cuts and len(order) - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts)


def compute_precision(name: str, place: torch.device) -> torch.dtype:
    """Return the type that forward passes compute in; see `TrainingOptions.precision`."""
    if name == "auto":
        name = "bfloat16" if multiplies_bfloat16(place) else "float32"
    return getattr(torch, name)


class _Run:
    """One run over the epochs with one batch size."""

    def __init__(
        self,
        model: nn.Module,
        options: TrainingOptions,
        batch_size: int,
        rng: np.random.Generator,
        place: torch.device,
        give_way: Callable[[], None] | None = None,
        kept: KeptTraining | None = None,
        frozen_norms: bool = False,
    ) -> None:
        self.options, self.batch_size, self.rng, self.place = options, batch_size, rng, place
        self.give_way, self.kept_at, self.frozen_norms = give_way, kept, frozen_norms
        self.best: tuple[float, dict[str, Tensor] | None] = math.inf, None
        # GPUs want them, and CPUs take no longer at any size: with AVX2, AVX-512 and its bfloat16, as was measured.
        self.model = model.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if place.type == "cpu":
            use_small_maps(model)
        extra: dict[str, Any] = {"momentum": SGD_MOMENTUM} if options.optimizer == "sgd" else {}
        # Fused: one pass over the parameters. At a few dozen images per step the update would else be half of the time.
        self.optimizer = OPTIMIZERS[options.optimizer](
            model.parameters(), lr=options.learning_rate, fused=True, **extra
        )
        self.precision = compute_precision(options.precision, place)
        self.scaler = torch.amp.GradScaler(place.type, enabled=self.precision == torch.float16)
        self.weak = weak(options.augmentation, options.settled_image_size)

    def fit(self, labeled: Examples, unlabeled: Tensor | None, progress: Callable[[int, float], None] | None) -> Fit:
        """Run the epochs; the model keeps the weights of the last one, or of the best on the validation share."""
        options, fit = self.options, Fit()
        learned, held = validation_split(labeled.targets.numpy(), options.validation, self.rng, labeled.groups)
        validation = labeled.rows(held).to(self.place) if len(held) else None
        examples = self._placed(labeled.rows(learned) if len(held) else labeled)
        steps = options.epochs * len(batches(learned, self.batch_size))
        schedule = None
        if options.schedule == "one_cycle":
            schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, options.learning_rate, total_steps=steps)
        fit, done = self._found(fit, schedule)
        for epoch in range(done + 1, options.epochs + 1):
            if options.patience and epoch - 1 - fit.kept_epoch >= options.patience:
                break
            fit.losses.append(self._epoch(examples, unlabeled, schedule))
            if not math.isfinite(fit.losses[-1]):
                raise TrainingError(
                    f"The loss became {fit.losses[-1]} in epoch {epoch} of {options.epochs} with {options.optimizer} "
                    f"at learning_rate {options.learning_rate}: lower training.learning_rate"
                )
            fit.kept_epoch = fit.kept_epoch if validation is not None else epoch
            if validation is not None:
                loss = float(nn.functional.cross_entropy(self._logits(validation), validation.targets))
                fit.validation_losses.append(loss)
                if loss < self.best[0]:
                    fit.kept_epoch = epoch
                    self.best = (
                        loss,
                        {name: value.detach().clone() for name, value in self.model.state_dict().items()},
                    )
            if self.kept_at is not None and self.kept_at.due:
                self.kept_at.write(self._moving(schedule) | {"epoch": epoch, "fit": asdict(fit), "best": self.best})
            if progress is not None:
                progress(epoch, fit.losses[-1])
        if self.best[1] is not None and validation is not None:
            self.model.load_state_dict(self.best[1])
            logits, truth = self._logits(validation).cpu().numpy(), validation.targets.cpu().numpy()
            fit.temperature = fit_temperature(logits, truth)
            if options.weighs(np.bincount(labeled.targets.numpy())):
                fit.thresholds = fit_thresholds(softmax(logits, fit.temperature), truth)
        return fit

    def _moving(self, schedule: Any) -> dict[str, Any]:
        """Return everything that a step changes."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler, "schedule": schedule}
        found = {name: part.state_dict() for name, part in parts.items() if part is not None}
        return found | {"rng": json.dumps(self.rng.bit_generator.state), "batch_size": self.batch_size}

    def _found(self, fit: Fit, schedule: Any) -> tuple[Fit, int]:
        """Go on from what is kept, if it was trained with as many images per step; return the fit and its epochs."""
        found = None if self.kept_at is None else self.kept_at.read()
        if found is None or found["batch_size"] != self.batch_size:
            return fit, 0
        self.model.load_state_dict(found["model"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.scaler.load_state_dict(found["scaler"])
        if schedule is not None:
            schedule.load_state_dict(found["schedule"])
        self.rng.bit_generator.state = json.loads(found["rng"])
        self.best = tuple(found["best"])  # type: ignore[assignment]
        return Fit(**found["fit"] | {"thresholds": tuple(found["fit"]["thresholds"])}), found["epoch"]

    def _placed(self, examples: Examples) -> Examples:
        """Move the examples to the GPU once if they fit, else leave them where they are."""
        if self.place.type != "cuda":
            return examples
        fits = examples.images.nbytes <= DEVICE_SHARE * torch.cuda.mem_get_info(self.place)[0]
        return examples.to(self.place) if fits else examples

    def _epoch(self, examples: Examples, unlabeled: Tensor | None, schedule: Any) -> float:
        self.model.train()
        for module in self.model.modules() if self.frozen_norms else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        total = torch.zeros((), device=self.place)
        for rows in batches(self.rng.permutation(len(examples)), self.batch_size):
            if self.give_way is not None:
                self.give_way()
            self.optimizer.zero_grad(set_to_none=True)
            batch = examples.rows(rows).to(self.place)
            images = batch.images if self.weak is None else augmented(batch.images, self.weak, self.rng)
            if unlabeled is None:
                loss = _mean(self._forward(images), batch)
            else:
                loss = self._fixmatch(images, batch, unlabeled)
            self.scaler.scale(loss).backward()
            if self.options.clip_norm is not None:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if schedule is not None:
                schedule.step()
            # Read once per epoch: a GPU would wait at every step.
            total += loss.detach() * len(batch)
        return float(total) / len(examples)

    def _forward(self, images: Tensor) -> Tensor:
        prepared = self.options.network
        inputs = normalize(images, prepared.mean, prepared.std).contiguous(memory_format=torch.channels_last)
        mixed = self.precision != torch.float32
        with torch.autocast(self.place.type, self.precision) if mixed else nullcontext():
            return self.model(inputs)

    def _fixmatch(self, images: Tensor, batch: Examples, unlabeled: Tensor) -> Tensor:
        """Return the loss of FixMatch: labels, and guesses that a strongly augmented copy must agree with."""
        drawn = self.rng.integers(len(unlabeled), size=UNLABELED_RATIO * len(batch))
        plain = unlabeled[torch.from_numpy(drawn).to(unlabeled.device)].to(self.place)
        gentle: Augment = self.weak or weak("crop", self.options.settled_image_size)  # type: ignore[assignment]
        seen = augmented(plain, gentle, self.rng)
        hidden = augmented(plain, strong(self.options.settled_image_size), self.rng, groups=len(plain))
        # All in one pass: batch normalisation sees one mixture instead of three.
        logits = self._forward(torch.cat([images, seen, hidden]))
        known, guessing, guessed = logits.split([len(images), len(seen), len(hidden)])
        sure, guesses = torch.softmax(guessing.detach().float(), dim=1).max(dim=1)
        agreement = nn.functional.cross_entropy(guessed.float(), guesses, reduction="none")
        return _mean(known, batch) + UNLABELED_WEIGHT * (agreement * (sure >= self.options.confidence)).mean()

    def _logits(self, examples: Examples) -> Tensor:
        self.model.eval()
        with torch.inference_mode():
            parts = [
                averaged(self._forward, images, flip=self.options.test_time_flip, width=2).float()
                for images in examples.images.split(VALIDATION_BATCH)
            ]
        return torch.cat(parts)


def _mean(logits: Tensor, batch: Examples) -> Tensor:
    """Return the mean cross-entropy, weighted if the examples are."""
    if batch.weights is None:
        return nn.functional.cross_entropy(logits.float(), batch.targets)
    losses = nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    return (losses * batch.weights).sum() / batch.weights.sum()


def take_over(model: nn.Module, previous: Checkpoint, class_names: Sequence[str], architecture: str) -> None:
    """Load the weights of the last round; of the classifier the rows of the classes that it knew.

    Parameters
    ----------
    model : nn.Module
        A new network, changed in place.
    previous : Checkpoint
    class_names : sequence of str, length K
        Of the new network.
    architecture : str

    Raises
    ------
    InputError
        The last round had another architecture, or one that is built for another size of image.
    """
    info = previous.info
    if info.architecture != architecture:
        raise InputError(
            f"a warm start of {architecture} cannot take the weights of round {info.round}, a {info.architecture}: set "
            "training.warm_start to false or training.architecture back"
        )
    state = dict(model.state_dict())
    before = {name: value for name, value in previous.state.items() if name not in HEAD}
    if any(name in state and state[name].shape != value.shape for name, value in before.items()):
        raise InputError(
            f"a warm start of {architecture} cannot take the weights of round {info.round}, which saw "
            f"{info.image_size} px: set training.warm_start to false or training.image_size back"
        )
    state |= before
    known = {name: row for row, name in enumerate(info.class_names)}
    rows = [(i, known[name]) for i, name in enumerate(class_names) if name in known]
    for name in HEAD:
        state[name] = state[name].clone()
        state[name][[new for new, _ in rows]] = previous.state[name][[old for _, old in rows]]
    model.load_state_dict(state)
