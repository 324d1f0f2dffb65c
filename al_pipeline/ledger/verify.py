"""A check of the whole ledger: whether everything in it can be, and every label can be traced to who gave it when."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import sqlalchemy as sa

from al_pipeline.core.labels.consensus import labels_hash
from al_pipeline.ledger.database import connect, migrate, transaction
from al_pipeline.ledger.frames import SNAPSHOT
from al_pipeline.ledger.queries import frozen, latest_events
from al_pipeline.ledger.schema import (
    IMPORTED,
    REVIEW,
    annotation_events,
    annotations,
    label_snapshots,
    planned_rounds,
    planned_tasks,
    samples,
    snapshot_labels,
)

# An annotation: whose sample, what answers it had, and when each was pulled.
Known = dict[int, list[tuple[str | None, str | None, datetime]]]


@dataclass(frozen=True)
class Report:
    """What was looked at, in rows per kind, what is wrong, and what is odd but harmless, a sentence each."""

    counts: dict[str, int]
    problems: list[str]
    remarks: list[str]


def verify(url: str) -> Report:
    """Check the invariants of a ledger; nothing but its schema is brought up to date.

    Whatever the database's own constraints promise is checked too: a file may have been edited, or copied while it was
    written to.

    Parameters
    ----------
    url : str
        As of `Ledger`.

    Raises
    ------
    InputError, LedgerError
        It cannot be opened.
    """
    engine = connect(url)
    try:
        migrate(engine)
        with transaction(engine, write=False) as connection:
            checks = (_storage, _tasks, _events, _annotations, _snapshots)
            problems = [problem for check in checks for problem in check(connection)]
            remarks = list(_made_by_hand(connection))
            tables = {
                "samples": samples,
                "rounds": planned_rounds,
                "tasks": planned_tasks,
                "annotation events": annotation_events,
                "snapshots": label_snapshots,
                "labels in snapshots": snapshot_labels,
            }
            count = sa.select(sa.func.count())
            counts = {name: connection.execute(count.select_from(table)).scalar_one() for name, table in tables.items()}
    finally:
        engine.dispose()
    return Report(counts, problems, remarks)


def _storage(connection: sa.Connection) -> Iterator[str]:
    if connection.dialect.name != "sqlite":
        return
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check(20)"):
        if line != "ok":
            yield f"the database file is damaged: {line}"
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(20):
        yield f"row {row} of {table} speaks of something that is not in {parent}"


def _tasks(connection: sa.Connection) -> Iterator[str]:
    task = planned_tasks.c
    live = sa.select(task.sample_id, sa.func.count()).where(task.withdrawn_at.is_(None), task.purpose != REVIEW)
    for sample, count in connection.execute(live.group_by(task.sample_id).having(sa.func.count() > 1)):
        yield f"sample {sample} has {count} tasks at once"
    half = sa.select(task.round, task.sample_id).where(task.task_id.is_(None) != task.pushed_at.is_(None))
    for key, sample in connection.execute(half):
        yield f"{key}: the task of sample {sample} has a task id or a time of its push, but not both"


def _events(connection: sa.Connection) -> Iterator[str]:
    event = annotation_events.c
    unknown = (
        sa.select(event.annotation_id, event.sample_id, event.source)
        .outerjoin(samples, samples.c.sample_id == event.sample_id)
        .where(event.sample_id.is_not(None), samples.c.sample_id.is_(None), (event.source == IMPORTED) | _by_us())
    )
    for annotation, sample, source in connection.execute(unknown):
        yield f"annotation {annotation} of {source} is about sample {sample}, which is not in the ledger"
    moved = (
        sa.select(event.source, event.annotation_id)
        .group_by(event.source, event.annotation_id, event.created_at)
        .having(sa.func.count(event.sample_id.distinct()) > 1)
    )
    for source, annotation in connection.execute(moved):
        yield f"annotation {annotation} of {source} is about more than one sample"


def _by_us() -> sa.ColumnElement[bool]:
    """Return whether an event is about a task that we have made: one of a sample or of a task id that was planned."""
    event, task = annotation_events.c, planned_tasks.c
    planned = sa.exists().where(task.round == event.round, task.sample_id == event.sample_id)
    pushed = sa.exists().where(task.round == event.round, task.task_id == event.task_id)
    return planned.correlate(annotation_events) | pushed.correlate(annotation_events)


def _made_by_hand(connection: sa.Connection) -> Iterator[str]:
    event, n = annotation_events.c, sa.func.count(annotation_events.c.annotation_id.distinct())
    foreign = sa.select(event.source, n, sa.func.min(event.annotation_id), sa.func.min(event.task_id))
    foreign = foreign.where(event.source != IMPORTED, ~_by_us()).group_by(event.source).order_by(event.source)
    for source, count, annotation, task in connection.execute(foreign):
        yield (
            f"{count} annotations of {source} answer tasks that were made by hand (the first is annotation "
            f"{annotation}, the first task {task}): nobody planned them, and they are left out"
        )


def _annotations(connection: sa.Connection) -> Iterator[str]:
    kept, latest = annotations, latest_events().subquery()
    same = sa.and_(*(kept.c[column.name] == latest.c[column.name] for column in kept.primary_key))
    lost = sa.select(latest.c.source, latest.c.annotation_id).outerjoin_from(latest, kept, same)
    for source, annotation in connection.execute(lost.where(kept.c.source.is_(None))):
        yield f"annotation {annotation} of {source} has events, but is missing from the current answers"
    made_up = sa.select(kept.c.source, kept.c.annotation_id).outerjoin_from(kept, latest, same)
    for source, annotation in connection.execute(made_up.where(latest.c.source.is_(None))):
        yield f"annotation {annotation} of {source} is among the current answers, but no event tells of it"
    differs = sa.or_(*(column.is_distinct_from(latest.c[column.name]) for column in kept.c))
    both = sa.select(kept.c.source, kept.c.annotation_id).join_from(kept, latest, same).where(differs)
    for source, annotation in connection.execute(both):
        yield f"annotation {annotation} of {source}: its current answer is not what its latest event says"


def _snapshots(connection: sa.Connection) -> Iterator[str]:
    known: Known = defaultdict(list)
    event = annotation_events.c
    states = sa.select(event.annotation_id, event.sample_id, event.value, event.pulled_at)
    for annotation, *state in connection.execute(states):
        known[annotation].append(tuple(state))
    asked_blind = sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.purpose == "holdout")
    of_holdout = sa.select(samples.c.sample_id).where(samples.c.split == "holdout")
    holdout = set(connection.execute(asked_blind).scalars()) | set(connection.execute(of_holdout).scalars())
    header = label_snapshots.c
    for key, created, digest in connection.execute(
        sa.select(header.round, header.created_at, header.labels_hash)
    ).all():
        rows = connection.execute(frozen(key)).all()
        if labels_hash(pd.DataFrame(rows, columns=list(SNAPSHOT))) != digest:
            yield f"{key}: the labels are not those that were frozen: their hash differs"
        for sample, value, votes, n_votes, weight, ids, _ in rows:
            if sample in holdout:
                yield f"{key}: sample {sample} is of the holdout, and was trained on"
            named = [int(part) for part in ids.split(",")]
            # A weight of another kind says that annotators were weighted: then a minority may be right.
            fewest = n_votes // 2 + 1 if weight == votes / max(1, n_votes) else 1
            if len(named) != votes or not fewest <= votes <= n_votes:
                yield f"{key}: sample {sample} has {votes} of {n_votes} votes, from {len(named)} annotations"
            for annotation in named:
                if not any(state[:2] == (sample, value) and state[2] <= created for state in known.get(annotation, [])):
                    yield f"{key}: no annotation {annotation} had said {value!r} of sample {sample} by then"
