"""What people had said of a sample by any moment: votes are counted again from the events that were there."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from al_pipeline.core.labels.annotation import SLIPS, VOTES
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.ledger.queries import NO_ANSWERS
from al_pipeline.ledger.schema import IMPORTED, annotation_events, planned_tasks


class State(NamedTuple):
    """A state of an annotation, as `annotation_events` has it."""

    id: int
    source: str
    annotation_id: int
    created_at: datetime
    updated_at: datetime
    round: str | None
    annotator: str
    value: str | None
    kind: str
    deleted: bool
    pulled_at: datetime
    # Whether the task was one of ours: what answers another one is not counted.
    ours: bool


class Tally(NamedTuple):
    """The votes about a sample: per class (votes, number of votes, annotation ids, first round) as snapshots say it."""

    labels: dict[str, tuple[int, int, str, str]]
    votes: list[State]
    corrected: bool


@dataclass
class Story:
    """All that was said of a sample, in the order in which it was pulled."""

    states: list[State] = field(default_factory=list)
    pulled: list[datetime] = field(default_factory=list)
    _tallies: dict[tuple[int, int | None], Tally] = field(default_factory=dict)

    def steps(self, moment: datetime) -> int:
        """Return how many states were known at a moment."""
        return bisect_right(self.pulled, moment)

    def tally(self, steps: int, classes: ClassSet | None) -> Tally:
        """Count the votes among the first states; without a class set every value is a class."""
        key = steps, None if classes is None else classes.version
        if key not in self._tallies:
            self._tallies[key] = _tally(self.states[:steps], classes)
        return self._tallies[key]


def stories(connection: sa.Connection) -> dict[str, Story]:
    """Read what was said of every sample."""
    event, task = annotation_events.c, planned_tasks.c
    asked = (task.sample_id == event.sample_id) & (task.round == event.round)
    ours = (event.source == IMPORTED) | task.round.is_not(None)
    columns = [event[name] for name in State._fields if name != "ours"]
    query = sa.select(event.sample_id, *columns, ours).outerjoin_from(annotation_events, planned_tasks, asked)
    found: defaultdict[str, Story] = defaultdict(Story)
    query = query.where(event.sample_id.is_not(None)).order_by(event.pulled_at, event.id)
    for sample, *values in connection.execute(query):
        state, story = State._make(values), found[sample]
        story.states.append(state)
        story.pulled.append(state.pulled_at)
    return found


def latest(states: Collection[State]) -> list[State]:
    """Return the newest state of each annotation, the oldest first."""
    newest: dict[tuple[str, int, datetime], State] = {}
    if len(states) == 1:
        return list(states)
    for state in sorted(states, key=lambda state: (state.updated_at, state.id)):
        newest[state.source, state.annotation_id, state.created_at] = state
    return sorted(newest.values(), key=lambda state: (state.updated_at, state.annotation_id))


def means(state: State, classes: ClassSet | None) -> str | None:
    """Return the class that a state votes for; None if it votes for none."""
    if state.kind not in VOTES:
        return None
    if classes is None:
        return state.value
    value = classes.of(state.value)
    return value if value in classes.names else None


def _tally(states: list[State], classes: ClassSet | None) -> Tally:
    people: dict[str, State] = {}
    corrected = False
    for state in latest(states):
        if state.deleted or not state.ours or state.kind in NO_ANSWERS:
            continue
        if state.kind in SLIPS and state.annotator in people:
            continue
        # A correction to what is no class any more corrects nothing.
        if state.kind == "correction" and (classes is None or classes.of(state.value) is not None):
            people.clear()
            corrected = True
        people[state.annotator] = state
    votes = [state for state in people.values() if means(state, classes) is not None]
    by_class: defaultdict[str, list[State]] = defaultdict(list)
    for state in votes:
        by_class[str(means(state, classes))].append(state)
    labels = {
        name: (
            len(theirs),
            len(votes),
            ",".join(map(str, sorted(state.annotation_id for state in theirs))),
            min(str(state.round) for state in theirs),
        )
        for name, theirs in by_class.items()
    }
    return Tally(labels, votes, corrected and any(state.kind == "correction" for state in votes))
