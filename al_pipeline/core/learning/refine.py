"""Refining: the whole network is trained while people label, and serves where the labels show it better than a head.

Labels are few, so each of them tests what others taught. They are cut into parts; for every part a network is trained
on the rest of the labels, from the given weights, with the head of these labels as its classifier (Kumar et al. 2022:
a classifier drawn at random would first bend the features). What is made of them is the mean of their weights (Wortsman
et al. 2022), which all of them start near. So one and the same training gives the network and predictions for labels
that were held out, of networks that have learned from fewer labels than the mean: the evidence is on the careful side.

A network never starts from one that was refined before: that one has seen the labels of every part, and none could test
it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t
from torch import Tensor

from al_pipeline.core.data.image_cache import how_of
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.calibration import fit_temperature, softmax
from al_pipeline.core.learning.checkpoint import Checkpoint, backbone_hash, device, state_hash
from al_pipeline.core.learning.finetune import finetune
from al_pipeline.core.learning.folds import held_out, numbered, parts
from al_pipeline.core.learning.head import Head, head_logits
from al_pipeline.core.learning.head_training import canonical, train_head
from al_pipeline.core.learning.kept_training import KeptTraining, key_of
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.learning.thresholds import decided, fit_thresholds
from al_pipeline.core.learning.train import Images, chosen, decoded, untrained, weighed
from al_pipeline.core.rng import generator, torch_seed

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Parts that labels are cut into, and so networks. Each learns from two thirds of the labels.
NETWORKS = 3
# Seconds of training that a kill may cost.
KEPT_EVERY = 10.0
# Passes over the labels, at most.
EPOCHS = 10
# Fewer labels held out than this tell nothing of a network, however well they are predicted.
FEWEST = 20
# The network's log loss is to be lower than the head's, and the mean of both their predictions better than the head's
# with this probability. Why the mean: the networks that are tested have seen two thirds of the labels and are not yet
# averaged, so that each is noisier than what serves. With 100 labels of the photos the network was far better than the
# head on the rest of the pool in both runs looked at, and by itself sure of it in one.
SURE = 0.84
# Probabilities of the true class are no less, so that no single label decides.
FLOOR = 1e-3


@dataclass(frozen=True)
class Scores:
    """How labels that were held out are predicted: the mean log loss in nats, and the share that is right."""

    log_loss: float
    accuracy: float


@dataclass(frozen=True)
class Evidence:
    """Whether a refined network is better than the head on the features that it started from.

    Attributes
    ----------
    n : int
        Labels that were held out in turns, from both alike.
    head, network : Scores
        NaN where no label could be held out.
    better : bool
        Whether the network's log loss is lower, for sure enough to go by it (`SURE`).
    sentence : str
        What was compared, and what came out.
    """

    n: int
    head: Scores
    network: Scores
    better: bool
    sentence: str


@dataclass(frozen=True)
class Refined:
    """A network that was trained on all labels, with its own classifier, and what speaks for it."""

    checkpoint: Checkpoint
    evidence: Evidence


def refine(
    images: Images,
    targets: Integers,
    class_names: Sequence[str],
    options: TrainingOptions,
    *,
    features: npt.NDArray[np.float32],
    groups: npt.ArrayLike | None = None,
    seed: int,
    number: int,
    labels_hash: str = "",
    state: Path | None = None,
    give_way: Callable[[], None] = lambda: None,
) -> Refined:
    """Train the whole network on the labels of a round, and test it against the head.

    The same images, targets, options, seed and number give the same weights, as with `train.train`.

    Parameters
    ----------
    images : sequence of paths, or CachedImages, length n
    targets : int64 array, shape (n,)
        Class numbers, of at least two classes.
    class_names : sequence of str, length K
    options : TrainingOptions
        With given weights. Of its epochs `EPOCHS` are run at most.
    features : float32 array, shape (n, d)
        Of the given weights.
    groups : array_like, shape (n,), optional
        What each image belongs to: what belongs together is held out together.
    seed, number : int
        The seed, and the round's number.
    labels_hash : str
        Kept in the checkpoint.
    state : Path, optional
        Folder where training is kept, so that a run that was killed goes on there and comes to the same weights.
    give_way : callable, optional
        Called before every gradient step; it may take its time.

    Raises
    ------
    InputError
        No given weights, labels of one class alone, or features that do not fit.
    ImageError, TrainingError, OutOfMemoryError
        As `train.train`.
    """
    options = _recipe(options)
    if len(features) != len(targets) or len(images) != len(targets):
        raise InputError(
            f"there are {len(targets)} labels, {len(images)} images and {len(features)} features: refining takes one "
            "of each"
        )
    pixels = decoded(images, options)
    order = canonical([image.data for image in pixels], targets)
    members = None if groups is None else numbered(np.asarray(groups)[order])
    task = _Task(
        chosen(images, order),
        torch.from_numpy(pixels[order]),
        targets[order],
        features[order],
        members,
        untrained(class_names, options, seed=seed, round_number=number, how=how_of(images)).checkpoint,
        options,
        seed,
        number,
        state,
        give_way,
    )
    with computing_on(options.threads):
        return task.refined(labels_hash)


def _recipe(options: TrainingOptions) -> TrainingOptions:
    if options.settled_weights == "none":
        raise InputError("refining starts from given weights, and weights are none: set training.weights")
    return options.but(
        mode="finetune",
        weights=options.settled_weights,
        image_size=options.settled_image_size,
        epochs=min(options.epochs, EPOCHS),
        validation=0.0,
        patience=0,
        warm_start=False,
        semi_supervised="none",
        # Which is for features of given weights alone.
        inference_precision="auto" if options.inference_precision == "int8" else options.inference_precision,
    )


@dataclass(frozen=True)
class _Task:
    """Labels in an order that follows from their content, and the network that all the others start from."""

    images: Images
    pixels: Tensor
    targets: Integers
    features: npt.NDArray[np.float32]
    groups: Integers | None
    start: Checkpoint
    options: TrainingOptions
    seed: int
    number: int
    state: Path | None
    give_way: Callable[[], None]

    def refined(self, labels_hash: str) -> Refined:
        targets, classes = self.targets, len(self.start.info.class_names)
        networks, heads = np.full((2, len(targets), classes), np.nan)
        sums: dict[str, Tensor] = {}
        turns = self._turns()
        # Where nothing can be held out there is one network, of all labels, and nothing that speaks for it.
        for turn, held in enumerate(turns or [np.empty(0, np.int64)]):
            learned = np.setdiff1d(np.arange(len(targets)), held)
            head, state = self._learned(learned, turn)
            sums = {name: value.double() + sums.get(name, 0.0) for name, value in state.items()}
            if len(held):
                one = Checkpoint(replace(self.start.info, backbone_hash=backbone_hash(state)), state)
                seen = embed(one, chosen(self.images, held))
                networks[held] = head_logits(seen, state["fc.weight"].numpy(), state["fc.bias"].numpy())
                heads[held] = head.probabilities(self.features[held])
        mean = {name: (sums[name] / max(1, len(turns))).to(value.dtype) for name, value in self.start.state.items()}
        tested = np.concatenate(turns) if turns else np.empty(0, dtype=np.int64)
        temperature = fit_temperature(networks[tested], targets[tested]) if turns else 1.0
        thresholds = ()
        if turns and self.options.weighs(np.bincount(targets)):
            thresholds = fit_thresholds(softmax(networks[tested], temperature), targets[tested])
        info = replace(
            self.start.info,
            weights_hash=state_hash(mean),
            backbone_hash=backbone_hash(mean),
            labels_hash=labels_hash,
            trained=True,
            n_labels=len(targets),
            mode="finetune",
            temperature=temperature,
            thresholds=thresholds,
        )
        return Refined(Checkpoint(info, mean), self._evidence(networks, heads, turns))

    def _turns(self) -> list[Integers]:
        """Return the rows that are held out in each turn, if any can be."""
        folds, tested = held_out(self.targets, self.groups)
        if not folds:
            return []
        members = None if self.groups is None else self.groups[tested]
        drawn = int(generator(self.seed, self.number, "refine").integers(2**31))
        return [tested[held] for held in parts(self.targets[tested], min(NETWORKS, folds), members, drawn)]

    def _learned(self, rows: Integers, turn: int) -> tuple[Head, dict[str, Tensor]]:
        """Return the head of some labels, and the weights of the network that was trained from it."""
        names = self.start.info.class_names
        groups = None if self.groups is None else self.groups[rows]
        head = train_head(
            self.features[rows],
            self.targets[rows],
            len(names),
            self.options,
            seed=self.seed,
            round_number=self.number,
            groups=groups,
        )
        digest = self.pixels[torch.from_numpy(rows)].numpy().tobytes()
        key = key_of(digest, self.targets[rows].tobytes(), self.start.hash, self.options, self.seed, self.number)
        done, running = (
            None if self.state is None else KeptTraining(self.state / name, key, KEPT_EVERY)
            for name in (f"network-{turn}.pt", "running.pt")
        )
        if done is not None and (found := done.read()) is not None:
            return head, found["model"]
        classifier = {
            "fc.weight": torch.from_numpy(head.weight / head.temperature),
            "fc.bias": torch.from_numpy(head.bias / head.temperature),
        }
        model = Checkpoint(self.start.info, self.start.state | classifier).model()
        examples = weighed(self.pixels[torch.from_numpy(rows)], self.targets[rows], self.options)
        rng = np.random.default_rng(torch_seed(self.seed, self.number, f"refine {turn}"))
        train = partial(finetune, model, examples, self.options, rng, place=device())
        train(give_way=self.give_way, kept=running, frozen_norms=True)
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        if done is not None:
            done.write({"model": state})
        return head, state

    def _evidence(self, networks: Floats, heads: Floats, turns: list[Integers]) -> Evidence:
        """Compare predictions for the labels that were held out: each by the temperature of the other parts'."""
        nothing = Scores(np.nan, np.nan)
        if len(turns) < 2:
            sentence = "labels are too few to hold any out, so nothing speaks for the refined network"
            return Evidence(0, nothing, nothing, False, sentence)
        tested, probabilities = np.concatenate(turns), np.full(heads.shape, np.nan)
        for held in turns:
            others = np.setdiff1d(tested, held)
            probabilities[held] = softmax(networks[held], fit_temperature(networks[others], self.targets[others]))
        truth = self.targets[tested]
        found = heads[tested], probabilities[tested], (heads[tested] + probabilities[tested]) / 2
        (lost, head), (_, network), (both, _) = (_scored(each, truth) for each in found)
        low = _lower(lost - both, None if self.groups is None else self.groups[tested])
        better = len(tested) >= FEWEST and network.log_loss < head.log_loss and low > 0
        return Evidence(len(tested), head, network, better, _sentence(len(tested), head, network, better))


def _scored(probabilities: Floats, truth: Integers) -> tuple[Floats, Scores]:
    """Return the log loss of each label, shape (n,), and what they come to."""
    losses = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], FLOOR))
    return losses, Scores(float(losses.mean()), float((decided(probabilities) == truth).mean()))


def _lower(gains: Floats, groups: Integers | None) -> float:
    """Return what the mean gain is above with the probability `SURE`."""
    mean, n = float(gains.mean()), len(gains)
    codes = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    # Frames of a burst are predicted alike: what counts are groups.
    sums = np.bincount(codes, gains - mean)
    if len(sums) < 2:
        return -np.inf
    error = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / n
    return float(mean - t.ppf(SURE, len(sums) - 1) * error)


def _sentence(n: int, head: Scores, network: Scores, better: bool) -> str:
    compared = (
        f"on {n} labels held out in turns the refined network's log loss is {network.log_loss:.3f} and the head's "
        f"{head.log_loss:.3f} (accuracy {100 * network.accuracy:.1f} and {100 * head.accuracy:.1f} %)"
    )
    if better:
        return f"{compared}: the network is better, and serves"
    lower = network.log_loss < head.log_loss
    why = "the network is better, but chance may have made it so" if lower else "the network is not better"
    return f"{compared}: {why}, so the head serves"
