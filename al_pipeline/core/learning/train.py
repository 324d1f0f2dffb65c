"""Training: from labeled images to a checkpoint, the same one every time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import Tensor, nn

from al_pipeline.core.data.framing import named
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.image_cache import CachedImages, how_of, image_blocks
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.architectures import TIMM
from al_pipeline.core.learning.arithmetic import chosen_arithmetic
from al_pipeline.core.learning.checkpoint import Checkpoint, CheckpointInfo, backbone_hash, build, device, state_hash
from al_pipeline.core.learning.finetune import Examples, Fit, finetune, take_over
from al_pipeline.core.learning.folds import joined
from al_pipeline.core.learning.given_weights import HEAD
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
from al_pipeline.core.learning.predict import Images, embed, predict
from al_pipeline.core.learning.semi_supervised import MOST_IMAGES, Guesses, confident, propagated
from al_pipeline.core.learning.targets import targets_of
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.rng import generator, torch_seed


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
    start: TrainingResult | None = None,
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
    start : TrainingResult, optional
        What `untrained` gave for the same given weights, of any classes, round and seed: a head takes its network from
        there, and none is built. The result is the same, bit for bit.

    Raises
    ------
    InputError
        Labels outside of the classes, fewer than two classes among them, lengths that differ, or a start from other
        weights.
    ImageError
        An image cannot be decoded.
    TrainingError
        The loss became infinite or NaN.
    OutOfMemoryError
        Not even two images fit into memory.
    """
    targets = targets_of(len(images), labels, class_names)
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
        start,
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
    known: TrainingResult | None = None

    def __post_init__(self) -> None:
        self.began = time.perf_counter()
        if self.known is not None:
            _check_start(self.known.checkpoint.info, self.options)

    @cached_property
    def model(self) -> nn.Module:
        """The network to be trained, as it starts."""
        first = torch_seed(self.seed, self.round_number, "init")
        wanted = self.options
        size, weights = wanted.settled_image_size, wanted.settled_weights
        return build(wanted.architecture, len(self.class_names), weights=weights, seed=first, image_size=size)

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
        own = self.state() if self.known is None else self.known.checkpoint.state
        layer = (torch.tensor(part, dtype=torch.float32) for part in (head.weight, head.bias))
        state = own | dict(zip(HEAD, layer, strict=True))
        result = self.result(head.temperature, head.thresholds, state)
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
                    del self.model
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
        # Networks that drop some of their units by chance draw from torch's own generator.
        with torch.random.fork_rng(devices=[] if where.type == "cpu" else [where]):
            torch.manual_seed(torch_seed(self.seed, self.round_number, "dropped"))
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
        return given if given is not None else embed((self.known or self.result()).checkpoint, images)

    def state(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}

    def result(
        self, temperature: float = 1.0, thresholds: tuple[float, ...] = (), of_head: dict[str, Tensor] | None = None
    ) -> TrainingResult:
        """Return the network as it is now, or with this state: that of a head, which has left all else as it was."""
        state = self.state() if of_head is None else of_head
        # Each hash goes over all of the weights.
        start = None if of_head is None else self.known
        prepared, size = self.options.network, self.options.settled_image_size
        versions = {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}
        network = ""
        if self.options.architecture.startswith(TIMM):
            # Others have tensors of the same names, and other activations.
            network = f"{self.options.architecture} {size} {prepared.mean} {prepared.std}"
            versions["timm"] = version("timm")
        info = CheckpointInfo(
            architecture=self.options.architecture,
            class_names=tuple(self.class_names),
            image_size=size,
            framing=named(self.options.settled_framing, prepared.resized),
            how=self.how,
            mean=prepared.mean,
            std=prepared.std,
            weights=self.options.settled_weights,
            weights_hash=state_hash(state),
            labels_hash="",
            seed=self.seed,
            round=self.round_number,
            trained=False,
            n_labels=0,
            temperature=temperature,
            thresholds=thresholds,
            backbone_hash=backbone_hash(state, network) if start is None else start.checkpoint.info.backbone_hash,
            test_time_flip=self.options.test_time_flip,
            arithmetic=chosen_arithmetic(self.options, device()).key,
            versions=versions,
        )
        if start is None:
            n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        else:
            before = start.checkpoint.state
            n_parameters = start.n_parameters + sum(state[name].numel() - before[name].numel() for name in HEAD)
        return TrainingResult(Checkpoint(info, state), [], time.perf_counter() - self.began, n_parameters)


def weighed(images: Tensor, targets: Integers, options: TrainingOptions) -> Examples:
    """Return images, uint8 (n, h, w, 3), and class numbers as what is learned from, weighed if classes are."""
    counts = np.bincount(targets)
    if not options.weighs(counts):
        return Examples(images, torch.from_numpy(targets))
    weights = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return Examples(images, torch.from_numpy(targets), torch.from_numpy(weights[targets].astype(np.float32)))


def decoded(images: Images, options: TrainingOptions) -> npt.NDArray[np.uint8]:
    """Return all images as one array, shape (n, size, size, 3)."""
    size, framing = options.settled_image_size, named(options.settled_framing, options.network.resized)
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for start, block in image_blocks(images, size, framing=framing):
        pixels[start : start + len(block)] = block
    return pixels


def chosen(images: Images, rows: Integers) -> Images:
    """Return the images of some rows."""
    if isinstance(images, CachedImages):
        return replace(images, sample_ids=[images.sample_ids[i] for i in rows], paths=[images.paths[i] for i in rows])
    return [images[i] for i in rows]


def _check_start(info: CheckpointInfo, options: TrainingOptions) -> None:
    found = info.architecture, info.weights, info.image_size
    wanted = options.architecture, options.settled_weights, options.settled_image_size
    if found != wanted or info.weights == "none":
        raise InputError(
            "a head takes its network from a start of {} with the weights {} at {} px, and the options say {}, {} and "
            "{} px: give what `untrained` returns for the same options".format(*found, *wanted)
        )
