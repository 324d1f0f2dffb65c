"""Answers changed on a page that shows no image: on “No More Tasks Left in Queue” the last task's keys stay live."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from al_pipeline.core.labels.annotation import Annotation

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger

# The editor's times and the server's differ by how long two requests take.
SLACK = timedelta(seconds=0.5)


def changed_unseen(ledger: "Ledger", events: list[Annotation], known: Sequence[Annotation]) -> list[Annotation]:
    """Return the events, of the kind ``hasty`` where somebody typed on after the queue had ended.

    The editor adds up how long a task is open. Where a change has taken all the time since the answer, the task was not
    opened again; and where another task was waiting, that one was shown instead. Whoever goes back to a task to change
    its answer has been away from it in between, and counts.

    Parameters
    ----------
    ledger : Ledger
    events : list of Annotation
        As Label Studio shows them.
    known : sequence of Annotation
        The latest states that the ledger knows of these tasks' annotations.
    """
    before = {(state.annotation_id, state.created_at): state for state in known}
    return [_judged(ledger, event, before.get((event.annotation_id, event.created_at)), events) for event in events]


def _judged(ledger: "Ledger", event: Annotation, before: Annotation | None, events: list[Annotation]) -> Annotation:
    if event.kind != "answer":
        return event
    if before is not None and before.updated_at == event.updated_at:
        # What was judged once is read again.
        return replace(event, kind="hasty") if before.kind == "hasty" else event
    since = event.created_at if before is None else before.updated_at
    unseen = _stayed(event, before, since) and not _another_waited(ledger, since, event.task_id, events)
    return replace(event, kind="hasty") if unseen else event


def _stayed(event: Annotation, before: Annotation | None, since: datetime) -> bool:
    """Say whether a change has taken all the time since the answer; of one that was not seen before, whether it may."""
    if event.lead_time is None or (before is not None and before.value == event.value):
        return False
    # Of a grid each image has a part of the time.
    cells = event.raw.get("cells", 1)
    taken = timedelta(seconds=cells * (event.lead_time - ((before and before.lead_time) or 0)))
    return event.updated_at - since > SLACK and taken > event.updated_at - since - SLACK


def _another_waited(ledger: "Ledger", since: datetime, task_id: int, events: list[Annotation]) -> bool:
    answered = {event.sample_id for event in events if event.created_at <= since or event.task_id == task_id}
    waiting = {key for key, sample in ledger.open_tasks() if sample not in answered}
    return any((at := ledger.pushed_at(key)) is not None and at <= since for key in waiting)
