"""Train while people label: the whole network, on the labels of a round, for the rounds after it."""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from al_pipeline.core.data.holdout import groups_of
from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import InputError
from al_pipeline.core.files import delete_folder
from al_pipeline.core.labels.consensus import labels_hash
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import round_number
from al_pipeline.loop.answers import holdout_labels, trainable
from al_pipeline.loop.beside import GiveWay
from al_pipeline.loop.classes import classes_of_round
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.refined import REFINED, Network, begun, newest_network, refined_network, started_from
from al_pipeline.loop.samples import StoredSamples

if TYPE_CHECKING:
    from al_pipeline.core.evaluation.compare import Comparison
    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.core.learning.refine import Refined

# Of a smaller number of labels none could be spared for a validation that tells anything.
FEWEST_LABELS = 20
# Rounds whose refined features stay: that which people are at, the one ready behind it, and the next one.
ROUNDS_WITH_FEATURES = 3


@dataclass(frozen=True)
class Refinement:
    """What has come of it.

    Attributes
    ----------
    network : Network
    figures : dict
        Of JSON's own types: validation, holdout, labels, seconds.
    reused : bool
        Whether it was whole already.
    """

    network: Network
    figures: dict[str, Any]
    reused: bool = False


@dataclass
class Refining:
    """The work on one round; killed anywhere, it goes on where it was when it is begun again.

    Parameters
    ----------
    deployment : Deployment
    manifest, labeled_pool : DataFrame
        The assets image_pool and labeled_pool of the round.
    training : TrainingOptions
    seed : int
    min_votes : int
        As many as a test label needs.
    key : str
        Of the round.
    log : logging.Logger
    give_way : GiveWay
        Called at least once a second; it returns when the work may go on.
    """

    deployment: Deployment
    manifest: pd.DataFrame
    labeled_pool: pd.DataFrame
    training: TrainingOptions
    seed: int
    min_votes: int
    key: str
    log: logging.Logger
    give_way: GiveWay

    def run(self) -> Refinement:
        """Train, compare, compute the features of all samples if it is better, and say that it is whole.

        Raises
        ------
        InputError
            The round is set to train in a way that leaves nothing to refine, or has too few labels.
        """
        if (done := refined_network(self.deployment.artifacts, self.key)) is not None and done.path.exists():
            self.log.info("%s is refined already: it stays as it is", self.key)
            return Refinement(done, {}, reused=True)
        self._check()
        began = self._worked()
        refined = self._trained()
        checkpoint, evidence = refined.checkpoint, refined.evidence
        path = self.deployment.artifacts.refined / f"{self.key}.safetensors"
        checkpoint.save(path)
        network = Network(self.key, path, checkpoint.hash, evidence.better, evidence.sentence)
        seconds = {"training": round(self._worked() - began, 1)}
        began = self._worked()
        figures: dict[str, Any] = {"evidence": _finite(asdict(evidence)), "labels": checkpoint.info.n_labels}
        if evidence.better:
            samples = self._samples(network=network)
            network = replace(network, features=samples.store.folder.name)
            figures["computed"] = self._complete(samples)
        seconds["features"] = round(self._worked() - began, 1)
        compared = self._on_holdout(checkpoint, network)
        figures |= {"holdout": None if compared is None else compared.to_json(), "seconds": seconds}
        network.write(figures)
        self._clear()
        return Refinement(network, figures)

    def _worked(self) -> float:
        """Return seconds of a clock that stands still while the work gives way."""
        return time.monotonic() - self.give_way.waited

    @cached_property
    def given(self) -> StoredSamples:
        """The samples with the features of the given weights."""
        return self._samples()

    def _samples(self, *, key: str | None = None, network: Network | None = None) -> StoredSamples:
        made_of = (self.manifest, self.deployment, self.training, self.seed, self.log)
        return StoredSamples(*made_of, key=key, network=network)

    def _check(self) -> None:
        from al_pipeline.core.learning.checkpoint import device

        if not self.given.training.refines(device().type):
            raise InputError(
                "There is nothing to refine: networks are refined where training.mode is auto and comes to a head "
                "(given weights, a CPU), and training.refine is auto. Set them so, or let it be"
            )

    @cached_property
    def _labels(self) -> "pd.Series[str]":
        return trainable(self.deployment.ledger, self.labeled_pool)

    def _trained(self) -> "Refined":
        found, present = self.given.using(self._labels.index.tolist(), self._learned, by_features=False)
        if present.absent:
            self.log.warning(present.sentence("labels are not trained on,"))
        return found

    def _learned(self, ids: Sequence[str]) -> "Refined":
        from al_pipeline.core.learning.refine import refine
        from al_pipeline.core.learning.targets import class_numbers

        labels = self._labels[ids]
        if len(labels) < FEWEST_LABELS or labels.nunique() < 2:
            raise InputError(
                f"{self.key} has {len(labels)} labels of {labels.nunique()} classes with an image: a network is "
                f"refined on {FEWEST_LABELS} labels of two classes and more. Label more"
            )
        names = classes_of_round(self.deployment, self.manifest, self.key).names
        given, number = self.given, round_number(self.key)
        known = labels_hash(self.labeled_pool[self.labeled_pool["sample_id"].isin(ids)])
        return refine(
            given.images(ids),
            class_numbers(labels.tolist(), names),
            names,
            given.training,
            features=given.features(ids),
            groups=given.groups(ids),
            seed=self.seed,
            number=number,
            labels_hash=known,
            state=self._state(),
            give_way=self.give_way,
        )

    def _state(self) -> Path:
        """Return the folder in which this training is kept; those of other rounds are cleared away."""
        folder = self.deployment.artifacts.refining / self.key
        for other in folder.parent.iterdir() if folder.parent.is_dir() else ():
            if other != folder:
                delete_folder(other)
        return folder

    def _complete(self, samples: StoredSamples) -> int:
        """Compute the features of all samples whose image is there; return how many were missing."""

        def features(there: Sequence[str]) -> int:
            return samples.complete(there, self.give_way)

        computed, found = samples.using(list(samples.uris), features)
        if found.absent:
            self.log.warning(found.sentence("samples have no features,"))
        return computed

    def _on_holdout(self, checkpoint: "Checkpoint", network: Network) -> "Comparison | None":
        """Compare with the round's own checkpoint on the holdout, which is told and plays no part in any choice."""
        from al_pipeline.core.evaluation.compare import compare

        # A network that is made again for a later round may be all that is left of its own.
        gone = self.deployment.artifacts.deleted(self.key) is not None
        own = None if gone else self.deployment.artifacts.stored_checkpoint(round_number(self.key))
        names = list(checkpoint.info.class_names)
        if own is None or list(own.info.class_names) != names:
            return None
        classes = replace(classes_of_round(self.deployment, self.manifest, self.key), names=tuple(names))
        holdout = holdout_labels(self.manifest, self.deployment.ledger, classes, self.min_votes)
        answers = []
        for samples, each in (
            (self._samples(key=self.key), own),
            (self._samples(network=network) if network.features else self.given, checkpoint),
        ):
            self.give_way()
            probabilities, found = samples.predict(samples.model(each), holdout["sample_id"].tolist())
            answers.append(dict(zip(found.there, probabilities, strict=True)))
        holdout = holdout[holdout["sample_id"].isin(answers[0].keys() & answers[1].keys())]
        ids = holdout["sample_id"].tolist()
        groups = holdout["sample_id"].map(groups_of(self.manifest)).fillna(holdout["sample_id"]).tolist()
        before, after = ([each[sample] for sample in ids] for each in answers)
        if not ids:
            return None
        return compare(before, after, holdout["label"].tolist(), names, groups=groups).if_enough()

    def _clear(self) -> None:
        """Remove the state of the training, and features that no round to come needs: they can be computed again."""
        delete_folder(self.deployment.artifacts.refining)
        following, artifacts = round_number(self.key) + 1, self.deployment.artifacts
        recent = range(following - ROUNDS_WITH_FEATURES + 1, following + 1)
        starts = [newest_network(artifacts, self.given.training, number) for number in recent]
        # Where a network of old was made again, the newest rounds are others, and its own features are wanted.
        starts += [started_from(artifacts, key) for key in begun(artifacts)[-ROUNDS_WITH_FEATURES:]]
        kept = {network.features for network in [*starts, refined_network(artifacts, self.key)] if network is not None}
        place = self.given.store.folder.parent
        if isinstance(place, Place):
            for key in (entry.key for entry in place.entries()):
                if (name := key.partition("/")[0]).endswith(REFINED) and name not in kept:
                    with suppress(OSError):
                        place.delete(key)
            return
        for folder in [each for each in place.iterdir() if each.name.endswith(REFINED) and each.name not in kept]:
            with suppress(OSError):
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()


def _finite(found: Any) -> Any:
    """Return figures without NaN, which JSON does not know: None is in its place."""
    if isinstance(found, dict):
        return {name: _finite(value) for name, value in found.items()}
    return None if isinstance(found, float) and not math.isfinite(found) else found
