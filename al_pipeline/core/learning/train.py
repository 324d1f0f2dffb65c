"""Training: from labeled images to a checkpoint, the same one every time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import Tensor, nn

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.image_cache import CachedImages, how_of, image_blocks
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.arithmetic import chosen_arithmetic
from al_pipeline.core.learning.checkpoint import (
    MEAN,
    STD,
    Checkpoint,
    CheckpointInfo,
    backbone_hash,
    build,
    device,
    state_hash,
)
from al_pipeline.core.learning.finetune import Examples, Fit, finetune, take_over
from al_pipeline.core.learning.folds import joined
from al_pipeline.core.learning.head import Integers, Vectors
from al_pipeline.core.learning.head_training import (
    Others,
    canonical,
    check_unlabeled,
    some,
    train_head,
    with_classifier_of,
)
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict
from al_pipeline.core.learning.semi_supervised import MOST_IMAGES, Guesses, confident, propagated
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.rng import generator, torch_seed

Images = Sequence[str | Path] | CachedImages


@dataclass(frozen=True)
class Unlabeled:
    """Samples for the semi-supervised arms.

    Attributes
    ----------
    images : sequence of paths, or CachedImages
    features : float32 array, shape (n, d), optional
        Of the starting weights; computed where they are needed and not given.
    groups : int64 array, shape (n,), optional
        What they belong to, in the numbers of the labels' groups.
    """

    images: Images
    features: Vectors | None = None
    groups: Integers | None = None


@dataclass(frozen=True)
class TrainingResult:
    """A checkpoint and how it was come by.

    Attributes
    ----------
    checkpoint : Checkpoint
    losses : list of float
        Mean cross-entropy (nats) of every epoch of fine-tuning; empty otherwise.
    seconds : float
        Wall-clock time, decoding included.
    n_parameters : int
    fit : Fit, optional
        The rest of what there is to say about fine-tuning.
    regularization : float, optional
        C of a head, see `head.Head`; `folds` of cross-validation chose it, or none did.
    folds : int
    n_guessed : int
        Unlabeled samples that were learned from with guessed labels.
    unseen : tuple of str
        Classes without a label: they are never predicted by a head, and hardly by a fine-tuned network.
    """

    checkpoint: Checkpoint
    losses: list[float]
    seconds: float
    n_parameters: int
    fit: Fit | None = None
    regularization: float | None = None
    folds: int = 0
    n_guessed: int = 0
    unseen: tuple[str, ...] = ()


def train(
    images: Images,
    labels: Sequence[str],
    class_names: Sequence[str],
    options: TrainingOptions,
    *,
    seed: int,
    round_number: int,
    labels_hash: str = "",
    features: Vectors | None = None,
    unlabeled: Unlabeled | None = None,
    previous: Checkpoint | None = None,
    progress: Callable[[int, float], None] | None = None,
    groups: Integers | None = None,
    refined: Checkpoint | None = None,
) -> TrainingResult:
    """Train on labeled images with cross-entropy, from the configured weights anew.

    The same images, labels, options, seed and round give the same weights, bit for bit, on the same kind of processor,
    however many cores it has and whatever torch's number of threads is: fine-tuning computes on `options.threads`, a
    head on one. Neither the order of the rows nor where the files lie matters.

    Parameters
    ----------
    images : sequence of paths, or CachedImages, length n
    labels : sequence of length n
        The labeled pool; at least two classes.
    class_names : sequence of str, length K
        Names of the outputs; labels must be among them.
    options : TrainingOptions
    seed, round_number : int
        Initial weights and shuffles are drawn from generators of these two.
    labels_hash : str
        Kept in the checkpoint's provenance.
    features : float32 array, shape (n, d), optional
        Of the starting weights (`embed` of `untrained`); a head then needs no image.
    unlabeled : Unlabeled, optional
        What the semi-supervised arms learn from, too; they need it.
    previous : Checkpoint, optional
        Where a warm start starts; without one it starts from the configured weights.
    progress : callable, optional
        Called after every epoch with its number (from 1) and its loss.
    groups : int64 array, shape (n,), optional
        What each image belongs to: what belongs together is held out together, for the temperature and the choice of
        C and of the epoch.
    refined : Checkpoint, optional
        The refined network whose features were given: its own classifier has a say in a head on them.

    Raises
    ------
    InputError
        Labels outside of the classes, fewer than two classes among them, or lengths that differ.
    ImageError
        An image cannot be decoded.
    TrainingError
        The loss became infinite or NaN.
    OutOfMemoryError
        Not even two images fit into memory.
    """
    targets = _targets(len(images), labels, class_names)
    task = _Task(
        class_names,
        options,
        seed,
        round_number,
        images,
        targets,
        features,
        unlabeled,
        progress,
        groups,
        how_of(images),
        refined,
    )
    check_unlabeled(options, 0 if unlabeled is None else len(unlabeled.images))
    mode = options.resolve_mode(np.bincount(targets), device().type)
    if mode == "head":
        result = task.head()
    else:
        with computing_on(options.threads):
            result = task.finetune(previous)
    info = replace(
        result.checkpoint.info,
        mode=mode,
        labels_hash=labels_hash,
        trained=True,
        n_labels=len(labels),
        semi_supervised=options.semi_supervised,
    )
    unseen = tuple(name for name in class_names if name not in set(labels))
    return replace(result, checkpoint=Checkpoint(info, result.checkpoint.state), unseen=unseen)


def untrained(
    class_names: Sequence[str], options: TrainingOptions, *, seed: int, round_number: int, how: HowRead = AS_EVER
) -> TrainingResult:
    """Return the checkpoint that `train` would start from, marked as untrained; `how` says how it has files read."""
    return _Task(class_names, options, seed, round_number, how=how).result()


@dataclass
class _Task:
    """What is to be learned, by either mode, and the network that learns it."""

    class_names: Sequence[str]
    options: TrainingOptions
    seed: int
    round_number: int
    images: Images = ()
    targets: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    given: Vectors | None = None
    unlabeled: Unlabeled | None = None
    progress: Callable[[int, float], None] | None = None
    groups: Integers | None = None
    how: HowRead = AS_EVER
    refined: Checkpoint | None = None

    def __post_init__(self) -> None:
        self.began = time.perf_counter()
        self.model = self.start()

    def start(self) -> nn.Module:
        first = torch_seed(self.seed, self.round_number, "init")
        return build(self.options.architecture, len(self.class_names), weights=self.options.settled_weights, seed=first)

    def head(self) -> TrainingResult:
        """Fit the classifier on features of the starting weights."""
        features = self.features(self.images, self.given)
        if len(features) != len(self.targets):
            raise InputError(f"there are {len(self.targets)} labels but {len(features)} features: give one per label")
        head = train_head(
            features,
            self.targets,
            len(self.class_names),
            self.options,
            seed=self.seed,
            round_number=self.round_number,
            unlabeled=None
            if self.unlabeled is None
            else Others(len(self.unlabeled.images), self.others, self.unlabeled.groups),
            groups=self.groups,
        )
        head = with_classifier_of(self.refined, head, self.class_names)
        with torch.no_grad():
            self.model.fc.weight.copy_(torch.from_numpy(head.weight))  # type: ignore[union-attr, operator]
            self.model.fc.bias.copy_(torch.from_numpy(head.bias))  # type: ignore[union-attr, operator]
        result = self.result(head.temperature, head.thresholds)
        return replace(result, regularization=head.regularization, folds=head.folds, n_guessed=head.n_guessed)

    def finetune(self, previous: Checkpoint | None) -> TrainingResult:
        """Train the whole network."""
        pixels = decoded(self.images, self.options)
        order = canonical([image.data for image in pixels], self.targets)
        groups = None if self.groups is None else self.groups[order]
        examples = replace(weighed(torch.from_numpy(pixels[order]), self.targets[order], self.options), groups=groups)
        arm, extra, n_guessed = self.options.semi_supervised, None, 0
        if arm != "none" and self.unlabeled is not None:
            rows = some(len(self.unlabeled.images), MOST_IMAGES, self.seed, self.round_number)
            images = chosen(self.unlabeled.images, rows)
            if arm == "fixmatch":
                extra = torch.from_numpy(decoded(images, self.options))
            else:
                if arm == "label_propagation":
                    features, targets = self.features(self.images, self.given)[order], self.targets[order]
                    classes = len(self.class_names)
                    guesses = propagated(features, targets, self.others(rows), classes, self.options.confidence)
                else:
                    first = self.result(self.fit(examples, None).temperature).checkpoint
                    self.model = self.start()
                    guesses = confident(predict(first, images), self.options.confidence)
                n_guessed = len(guesses)
                theirs = None if self.unlabeled.groups is None else self.unlabeled.groups[rows[guesses.rows]]
                examples = self.with_guesses(examples, chosen(images, guesses.rows), guesses, theirs)
        if previous is not None and self.options.warm_start and previous.info.trained:
            take_over(self.model, previous, self.class_names, self.options.architecture)
        fit = self.fit(examples, extra)
        return replace(self.result(fit.temperature, fit.thresholds), losses=fit.losses, fit=fit, n_guessed=n_guessed)

    def fit(self, examples: Examples, unlabeled: Tensor | None) -> Fit:
        rng = generator(self.seed, self.round_number, "train")
        where, said = device(), self.progress
        return finetune(self.model, examples, self.options, rng, place=where, unlabeled=unlabeled, progress=said)

    def others(self, rows: Integers) -> Vectors:
        """Return features of unlabeled samples, which are computed where they are not given."""
        assert self.unlabeled is not None
        given = None if self.unlabeled.features is None else self.unlabeled.features[rows]
        return self.features(chosen(self.unlabeled.images, rows), given)

    def with_guesses(self, examples: Examples, images: Images, guesses: Guesses, groups: Integers | None) -> Examples:
        if not len(guesses):
            return examples
        added = torch.from_numpy(decoded(images, self.options))
        known = examples.weights if examples.weights is not None else torch.ones(len(examples))
        return Examples(
            torch.cat([examples.images, added]),
            torch.cat([examples.targets, torch.from_numpy(guesses.targets)]),
            torch.cat([known, torch.from_numpy(guesses.weights.astype(np.float32))]),
            joined(examples.groups, groups),
        )

    def features(self, images: Images, given: Vectors | None) -> Vectors:
        return given if given is not None else embed(self.result().checkpoint, images)

    def result(self, temperature: float = 1.0, thresholds: tuple[float, ...] = ()) -> TrainingResult:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        info = CheckpointInfo(
            architecture=self.options.architecture,
            class_names=tuple(self.class_names),
            image_size=self.options.settled_image_size,
            framing=self.options.settled_framing,
            how=self.how,
            mean=MEAN,
            std=STD,
            weights=self.options.settled_weights,
            weights_hash=state_hash(state),
            labels_hash="",
            seed=self.seed,
            round=self.round_number,
            trained=False,
            n_labels=0,
            temperature=temperature,
            thresholds=thresholds,
            backbone_hash=backbone_hash(state),
            test_time_flip=self.options.test_time_flip,
            arithmetic=chosen_arithmetic(self.options, device()).key,
            versions={"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)},
        )
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return TrainingResult(Checkpoint(info, state), [], time.perf_counter() - self.began, n_parameters)


def class_numbers(labels: Sequence[str], class_names: Sequence[str]) -> Integers:
    """Return the class number of each label, int64, shape (n,).

    Raises
    ------
    InputError
        A label is none of the classes.
    """
    number = {name: i for i, name in enumerate(class_names)}
    if outside := sorted({str(label) for label in labels if label not in number}):
        raise InputError(
            f"labels outside of the classes: {', '.join(map(repr, outside[:5]))}; the classes are "
            f"{', '.join(class_names[:20])}{' …' if len(class_names) > 20 else ''}"
        )
    return np.array([number[label] for label in labels], dtype=np.int64)


def weighed(images: Tensor, targets: Integers, options: TrainingOptions) -> Examples:
    """Return images, uint8 (n, h, w, 3), and class numbers as what is learned from, weighed if classes are."""
    counts = np.bincount(targets)
    if not options.weighs(counts):
        return Examples(images, torch.from_numpy(targets))
    weights = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return Examples(images, torch.from_numpy(targets), torch.from_numpy(weights[targets].astype(np.float32)))


def decoded(images: Images, options: TrainingOptions) -> npt.NDArray[np.uint8]:
    """Return all images as one array, shape (n, size, size, 3)."""
    size = options.settled_image_size
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for start, block in image_blocks(images, size, framing=options.settled_framing):
        pixels[start : start + len(block)] = block
    return pixels


def chosen(images: Images, rows: Integers) -> Images:
    """Return the images of some rows."""
    if isinstance(images, CachedImages):
        return replace(images, sample_ids=[images.sample_ids[i] for i in rows], paths=[images.paths[i] for i in rows])
    return [images[i] for i in rows]


def _targets(n_images: int, labels: Sequence[str], class_names: Sequence[str]) -> Integers:
    if n_images != len(labels):
        raise InputError(f"there are {n_images} images but {len(labels)} labels: training needs one label per image")
    targets = class_numbers(labels, class_names)
    present = sorted(set(labels))
    if len(present) < 2:
        raise InputError(
            f"training needs labels of at least 2 classes; {len(labels)} labels name {', '.join(present) or 'none'}: "
            "label more"
        )
    return targets
