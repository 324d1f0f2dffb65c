"""Labels to look at again: those that people dispute, and those that a model that was not shown them doubts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from al_pipeline.core.rounds import round_number
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.answers import agreed_labels
from al_pipeline.loop.requests import Requests
from al_pipeline.loop.samples import stored_features

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment


@dataclass(frozen=True)
class Doubt:
    """A label that looks wrong: what it is, and what a model says that has learned from all others."""

    sample: str
    label: str
    said: str
    probability: float


@dataclass(frozen=True)
class Dispute:
    """A sample of which people say different things, in words."""

    sample: str
    answers: str


@dataclass(frozen=True)
class Requested:
    """What was asked for: samples that the next batch has, and those that people are asked about again right now."""

    waiting: frozenset[str]
    open: frozenset[str]

    def state(self, sample: str) -> str:
        """Return ``waiting``, ``open`` or nothing."""
        return "waiting" if sample in self.waiting else "open" if sample in self.open else ""


def requested(deployment: "Deployment") -> Requested:
    """Return what people will be asked about again, and what they are."""
    rows = deployment.ledger.planned(purpose=REVIEW, columns=("round", "sample_id"))
    reviews = set(zip(rows["round"], rows["sample_id"], strict=True))
    asked = {sample for key, sample in deployment.ledger.open_tasks() if (key, sample) in reviews}
    return Requested(frozenset(Requests(deployment).open()), frozenset(asked))


def learned_from(deployment: "Deployment") -> str | None:
    """Return the newest round whose labels are frozen; None before there is one."""
    ledger = deployment.ledger
    keys = sorted(ledger.rounds(), key=round_number, reverse=True)
    return next((key for key in keys if ledger.has_snapshot(key)), None)


def disputes(deployment: "Deployment") -> list[Dispute]:
    """Return the samples on which people disagree today."""
    classes = deployment.ledger.class_set()
    if classes is None:
        return []
    votes = deployment.settings.policy.min_votes
    found = agreed_labels(deployment.ledger, classes, votes, purpose="query").disputed
    return [Dispute(sample, answers) for sample, answers in zip(found["sample_id"], found["answers"], strict=True)]


def doubts(deployment: "Deployment", key: str) -> list[Doubt]:
    """Return the labels of a round that are probably wrong, the least believable first; it takes seconds.

    By the features that are stored: labels of images that have none are not judged.
    """
    # What learns is not imported before it is needed: servers start sooner.
    from al_pipeline.core.labels.label_quality import out_of_sample, suspected_errors

    ledger, classes = deployment.ledger, deployment.ledger.class_set()
    # A network that has learned from a label believes it.
    store = stored_features(deployment, refined=False)
    labels = ledger.frozen_labels(key)
    if classes is None or store is None:
        return []
    labels = labels[labels["label"].isin(classes.names)]
    vectors, found = store.read(labels["sample_id"].tolist())
    ids: list[str] = labels["sample_id"].to_numpy()[found].tolist()
    names: list[str] = labels["label"].to_numpy()[found].tolist()
    if not ids:
        return []
    targets = np.array([classes.names.index(name) for name in names], dtype=np.int64)
    groups = ledger.groups()
    seed, members = deployment.settings.round.seed, [groups.get(each, each) for each in ids]
    probabilities = out_of_sample(vectors[found], targets, len(classes.names), seed=seed, groups=members)
    if probabilities is None:
        return []
    return _doubts(suspected_errors(ids, targets, probabilities), ids, names, classes.names, probabilities)


def _doubts(
    suspects: Sequence[str], ids: Sequence[str], labels: Sequence[str], names: Sequence[str], probabilities: np.ndarray
) -> list[Doubt]:
    rows = {sample: row for row, sample in enumerate(ids)}
    said = probabilities.argmax(axis=1, keepdims=True)
    best = np.take_along_axis(probabilities, said, axis=1)[:, 0]
    return [
        Doubt(each, labels[rows[each]], names[int(said[rows[each], 0])], float(best[rows[each]])) for each in suspects
    ]


def is_a_label(deployment: "Deployment", sample: str) -> bool:
    """Say whether people have labeled a sample that is no test image, or dispute it, and none is asked right now."""
    ledger, classes = deployment.ledger, deployment.ledger.class_set()
    if classes is None or sample in ledger.holdout() or any(sample == asked for _, asked in ledger.open_tasks()):
        return False
    agreed = agreed_labels(ledger, classes, deployment.settings.policy.min_votes, purpose="query")
    return sample in set(agreed.labels["sample_id"]) | set(agreed.disputed["sample_id"])
