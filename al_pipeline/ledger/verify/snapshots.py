"""Whether every label that a round was trained on is what people had said by then, each of them once."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
import sqlalchemy as sa

from al_pipeline.core.labels.annotation import VOTES
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import labels_hash
from al_pipeline.ledger.frames import SNAPSHOT
from al_pipeline.ledger.queries import drawn_or_asked_blind, frozen
from al_pipeline.ledger.schema import (
    annotation_events,
    class_sets,
    label_snapshots,
    planned_rounds,
    samples,
    task_members,
)
from al_pipeline.ledger.verify.findings import Remark
from al_pipeline.ledger.verify.replay import Story, Tally, latest, means, stories

# People answer between the count of the votes and their freezing; a run that failed there may be resumed days later.
LATEST = timedelta(days=7)
ROUNDING = 1e-6


@dataclass(frozen=True)
class Frozen:
    """A snapshot: its round, the moments between which its votes were counted, and its classes if they are known."""

    key: str
    earliest: datetime
    created_at: datetime
    classes: ClassSet | None


def snapshots(connection: sa.Connection) -> Iterator[str]:
    """Find labels that were changed, of the holdout, of no class, or not what people had said.

    A ledger of before schema 0004 may have trained on what is nobody's answer today. That is frozen, later rounds leave
    it out, and it is a remark.
    """
    told, holdout, shown = stories(connection), _holdout(connection), _shown_beside(connection)
    corrected = {sample for sample, story in told.items() if any(state.kind == "correction" for state in story.states)}
    before: Frozen | None = None
    for snapshot, digest in _snapshots(connection):
        key = snapshot.key
        if before is not None and snapshot.created_at < before.created_at:
            yield Remark(f"{key}: the labels were frozen before those of {before.key}, which was run late")
        before = snapshot
        rows = connection.execute(frozen(key)).all()
        if labels_hash(pd.DataFrame(rows, columns=list(SNAPSHOT))) != digest:
            yield f"{key}: the labels are not those that were frozen: their hash differs"
        old, by_sample = list[str](), {row.sample_id: row for row in rows}
        for row in rows:
            if row.sample_id in holdout:
                yield f"{key}: sample {row.sample_id} is of the holdout, and was trained on"
            story = told.get(row.sample_id) or Story()
            steps = story.steps(snapshot.created_at)
            if row.asked_with is not None:
                if problem := _not_theirs(row, story, snapshot, by_sample, shown):
                    yield f"{key}: {problem}"
                continue
            if _is_as_said(row, story.tally(steps, snapshot.classes)):
                continue
            if problem := _broken(row, story, steps, snapshot.classes):
                yield f"{key}: {problem}"
            elif problem := _miscounted(row, story, steps, snapshot):
                if snapshot.classes is None:
                    old.append(problem)
                else:
                    yield f"{key}: {problem}"
        if old:
            yield Remark(f"{key} was trained on {len(old)} labels that would be others today. The first: {old[0]}")
        if corrected and snapshot.classes is not None:
            yield from _left_out(snapshot, corrected - holdout - {row.sample_id for row in rows}, told)


def _snapshots(connection: sa.Connection) -> Iterator[tuple[Frozen, str]]:
    table, event, header = class_sets.c, annotation_events.c, label_snapshots.c
    of_version = {
        version: ClassSet(tuple(names), became, version)
        for version, names, became in connection.execute(sa.select(table.version, table.names, table.became))
    }
    last = sa.select(event.first_seen_round, sa.func.max(event.pulled_at)).group_by(event.first_seen_round)
    pulled = {key: moment for key, moment in connection.execute(last) if key is not None}
    rows = connection.execute(sa.select(label_snapshots).order_by(header.round)).all()
    for row in rows:
        before = [each.created_at for each in rows if each.round < row.round and each.created_at < row.created_at]
        earliest = max(row.created_at - LATEST, *before, pulled.get(row.round, row.created_at - LATEST))
        yield Frozen(row.round, earliest, row.created_at, of_version.get(row.class_set)), row.labels_hash


def _holdout(connection: sa.Connection) -> set[str]:
    of_holdout = sa.select(samples.c.sample_id).where(samples.c.split == "holdout")
    return set(connection.execute(drawn_or_asked_blind()).scalars()) | set(connection.execute(of_holdout).scalars())


def _shown_beside(connection: sa.Connection) -> dict[tuple[str, str], datetime]:
    """Return since when a sample is shown beside another: (sample, member) → the first such plan."""
    member = task_members.c
    first = sa.select(member.sample_id, member.member_id, sa.func.min(planned_rounds.c.planned_at))
    first = first.join_from(task_members, planned_rounds, planned_rounds.c.round == member.round)
    rows = connection.execute(first.group_by(member.sample_id, member.member_id)).tuples()
    return {(sample, other): moment for sample, other, moment in rows}


def _not_theirs(
    row: sa.Row, story: Story, snapshot: Frozen, rows: Mapping[str, sa.Row], shown: Mapping[tuple[str, str], datetime]
) -> str | None:
    """Return why a label is not that of the sample it was shown beside; None if it is. That one is looked at, too."""
    sample, other = row.sample_id, row.asked_with
    text = f"sample {sample} has the label of {other}"
    asked = rows.get(other)
    if asked is None or asked.asked_with is not None:
        return f"{text}, which {'has none' if asked is None else 'was not asked about'}"
    if tuple(row)[1:-1] != tuple(asked)[1:-1]:
        return f"{text}, but another label or other votes than that"
    if (since := shown.get((other, sample))) is None or since > snapshot.created_at:
        return f"{text}, beside which no task had shown it"
    steps = range(story.steps(snapshot.earliest), story.steps(snapshot.created_at) + 1)
    if all(story.tally(step, snapshot.classes).votes for step in steps):
        return f"{text}, though people had voted on it by itself"
    return None


def _is_as_said(row: sa.Row, tally: Tally) -> bool:
    """Say whether a label is the majority of what people had said."""
    _, label, votes, n_votes, weight, ids, first_round, _ = row
    by_heads = 2 * votes > n_votes and weight == votes / n_votes
    return by_heads and tally.labels.get(label) == (votes, n_votes, ids, first_round)


def _broken(row: sa.Row, story: Story, steps: int, classes: ClassSet | None) -> str | None:
    """Return what is wrong with a label whenever it was frozen; None if nothing is."""
    sample, label, votes, n_votes, weight, ids, *_ = row
    if classes is not None and label not in classes.names:
        return f"sample {sample} is {label!r}, which is no class of its set ({', '.join(classes.names)})"
    if not re.fullmatch(r"\d+(,\d+)*", ids):
        return f"sample {sample} has the annotations {ids!r}, which are no numbers"
    if not 0 <= weight <= 1 + ROUNDING:
        return f"sample {sample} has the weight {weight}, and should have one between 0 and 1"
    named = ids.split(",")
    # A weight of another kind says that annotators were weighted: then a minority may be right.
    fewest = n_votes // 2 + 1 if weight == votes / max(1, n_votes) else 1
    if len(named) != votes or not fewest <= votes <= n_votes:
        return f"sample {sample} has {votes} of {n_votes} votes, from {len(named)} annotations"
    said = {str(state.annotation_id) for state in story.states[:steps] if _says(state.value, classes) == label}
    missing = [annotation for annotation in named if annotation not in said]
    return f"no annotation {missing[0]} had said {label!r} of sample {sample} by then" if missing else None


def _miscounted(row: sa.Row, story: Story, steps: int, snapshot: Frozen) -> str | None:
    """Return why a label is not what people had said when their votes were counted; None if it is."""
    earliest = story.steps(snapshot.earliest)
    if any(_agrees(row, story, step, snapshot.classes) for step in range(earliest, steps + 1)):
        return None
    return _reason(row, story, steps, snapshot.classes)


def _says(value: str | None, classes: ClassSet | None) -> str | None:
    return value if classes is None else classes.of(value)


def _agrees(row: sa.Row, story: Story, step: int, classes: ClassSet | None) -> bool:
    found = story.tally(step, classes).labels.get(row.label)
    if found is None:
        return False
    votes, n_votes, ids, first = found
    # What was no class then may have been said by others, and not counted.
    n_fits = votes <= row.n_votes <= n_votes if classes is None else row.n_votes == n_votes
    return (votes, ids, first) == (row.votes, row.annotation_ids, row.first_round) and n_fits


def _reason(row: sa.Row, story: Story, steps: int, classes: ClassSet | None) -> str:
    """Return what has gone wrong with the first annotation that does not count, or else with all together."""
    sample, label = row.sample_id, row.label
    now, tally = latest(story.states[:steps]), story.tally(steps, classes)
    counted = {state.annotation_id for state in tally.votes if means(state, classes) == label}
    for annotation in map(int, row.annotation_ids.split(",")):
        if annotation in counted:
            continue
        state = [each for each in now if each.annotation_id == annotation][-1]
        corrections = [each for each in tally.votes if each.kind == "correction"]
        later = [each.annotation_id for each in tally.votes if each.annotator == state.annotator]
        if state.deleted:
            why = "which was taken back"
        elif state.kind not in VOTES:
            why = f"which is no answer, but {state.kind}"
        elif not state.ours:
            why = "which answers a task that nobody planned"
        elif means(state, classes) != label:
            why = f"which said {state.value!r} by then"
        elif corrections:
            why = f"which annotation {corrections[0].annotation_id} had corrected to {corrections[0].value!r}"
        elif later:
            why = f"but {state.annotator} has one vote, and it is annotation {later[0]}"
        else:
            why = "which was replaced by then"
        return f"sample {sample} is {label!r} by annotation {annotation}, {why}"
    first = tally.labels[label][3] if label in tally.labels else None
    if tally.labels.get(label) == (row.votes, row.n_votes, row.annotation_ids, first):
        return f"sample {sample} is {label!r} since {row.first_round}, but people had said so first in {first}"
    people = Counter(means(state, classes) for state in tally.votes)
    said = ", ".join(f"{value!r}: {n}" for value, n in people.most_common())
    return f"sample {sample} has {row.votes} of {row.n_votes} votes for {label!r}, but people had said {said}"


def _left_out(snapshot: Frozen, missing: set[str], told: Mapping[str, Story]) -> Iterator[str]:
    """Find corrections that a snapshot lacks: each is enough by itself, unless somebody has voted since."""
    for sample in sorted(missing):
        story = told[sample]
        steps = range(story.steps(snapshot.earliest), story.steps(snapshot.created_at) + 1)
        tallies = [story.tally(step, snapshot.classes) for step in steps]
        if all(tally.corrected and len(tally.votes) == 1 for tally in tallies):
            by = tallies[0].votes[0].annotation_id
            yield f"{snapshot.key}: sample {sample} has no label, though annotation {by} had corrected it"
