"""All rounds at a glance: what was measured, what was saved, where the time went."""

import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from al_pipeline.core.evaluation.metrics import METRICS, Difference, Interval, stored_notes, stored_scores
from al_pipeline.core.rounds import round_number
from al_pipeline.loop.kept_predictions import stored_rounds
from al_pipeline.loop.refined import served

if TYPE_CHECKING:
    from al_pipeline.ledger.views import Answering
    from al_pipeline.loop.deployment import Deployment


@dataclass(frozen=True)
class Spent:
    """Seconds of a round: the machine learns and chooses, people answer, an answered batch waits for the next round."""

    machine: float
    people: float
    waiting: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.machine + self.people + self.waiting


@dataclass(frozen=True)
class RoundLine:
    """One round in the table: what was asked and answered, and what its model scores; what is not known is None.

    `looked` are the seconds that people had its tasks open; `notes` say what to mind about the figures.
    """

    key: str
    asked: int
    answered: int
    labels: int | None
    scores: dict[str, Interval | None]
    spent: Spent | None
    looked: float | None
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    trained: bool = False


@dataclass(frozen=True)
class Overview:
    """The first page; `serves` says which network answers outside of the loop, and why, None before there is one."""

    rounds: list[RoundLine]
    saved: str | None
    samples: int
    labels: int
    serves: str | None = None

    @property
    def spent(self) -> Spent | None:
        """The seconds of all rounds, None of none."""
        found = [line.spent for line in self.rounds if line.spent is not None]
        if not found:
            return None
        return Spent(*(sum(getattr(each, name) for each in found) for name in ("machine", "people", "waiting")))


def overview(deployment: "Deployment") -> Overview:
    """Return the first page of a home; of one where nothing ran yet it is empty."""
    ledger = deployment.ledger
    saved = None
    with suppress(FileNotFoundError):
        saved = deployment.artifacts.labels_saved.read_text().strip() or None
    lines, min_votes = round_lines(deployment), deployment.settings.policy.min_votes
    found = served(deployment.artifacts)
    serves = None if found is None else found.sentence
    return Overview(lines, saved, ledger.count_samples("pool"), ledger.count_labels(min_votes), serves)


def round_lines(deployment: "Deployment") -> list[RoundLine]:
    """Return a line for each round that was begun, the oldest first."""
    ledger = deployment.ledger
    documents = stored_rounds(deployment.artifacts.evaluations)
    asking, began = ledger.asking(), ledger.all_frozen_at()
    waiting: dict[str, int] = {}
    for key, _ in ledger.open_tasks():
        waiting[key] = waiting.get(key, 0) + 1
    answering = ledger.answering()
    keys = sorted(ledger.rounds() | documents.keys(), key=round_number)
    lines, following = [], dict(itertools.pairwise(keys))
    for key in keys:
        n, pushed = asking.get(key, (0, None))
        times = (began.get(key), pushed, answering.get(key), began.get(following.get(key, "")))
        looked = times[2] and times[2].seconds
        line = RoundLine(key, n, n - waiting.get(key, 0), None, {}, _spent(*times), looked)
        lines.append(_measured(line, documents[key]) if key in documents else line)
    return lines


def _measured(line: RoundLine, document: dict[str, Any]) -> RoundLine:
    found = document["evaluation"]
    # Rounds of earlier versions lack some.
    labels, scores = document.get("n_answers", document["n_labels"]), stored_scores(found)[1]
    given = (line.key, line.asked, line.answered, labels, scores, line.spent, line.looked, stored_notes(document))
    return RoundLine(*given, _changes(document.get("comparison")), bool(document.get("trained")))


def _changes(comparison: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Say what has changed since the round before, a sentence per metric."""
    if not comparison:
        return ()
    told = [comparison["note"]] if comparison.get("note") else []
    for metric in METRICS:
        if (stored := comparison.get(metric.name)) is not None:
            change = Difference(**stored)
            span = f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
            told.append(f"{metric.title} {span}: {change.verdict}")
    return tuple(told)


def _spent(
    began: datetime | None, pushed: datetime | None, answering: "Answering | None", following: datetime | None
) -> Spent | None:
    """Return where a round's time went; None before its batch is out.

    Moments are of two clocks, the machine's and Label Studio's: none of them is taken back for another.
    """
    if began is None or pushed is None:
        return None
    last = max(pushed, answering.last) if answering is not None else pushed
    if following is not None:
        last = min(last, max(following, pushed))
    waited = (following - last).total_seconds() if following is not None else 0.0
    return Spent((pushed - began).total_seconds(), (last - pushed).total_seconds(), max(0.0, waited))
