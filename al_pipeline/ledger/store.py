"""The ledger: what was planned, what people answered and what each round trained on. It forgets nothing.

Every method is one transaction. Killed anywhere, a process leaves either all of what a method writes or nothing.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from al_pipeline.core.consensus import consensus, labels_hash
from al_pipeline.core.rounds import round_number
from al_pipeline.ledger import frames, queries
from al_pipeline.ledger.database import LedgerConflictError, LedgerError, connect, migrate, shown, transaction
from al_pipeline.ledger.frames import aware
from al_pipeline.ledger.guards import refuse_unknown, refuse_unplannable, refuse_unregistered
from al_pipeline.ledger.schema import (
    IMPORTED,
    annotation_events,
    label_snapshots,
    planned_rounds,
    planned_tasks,
    samples,
    snapshot_labels,
    watermarks,
)
from al_pipeline.ledger.types import AnnotationEvent, RoundCounts


class Ledger:
    """The ledger in a SQLite file or a PostgreSQL database; opening it brings its schema up to date.

    Parameters
    ----------
    url : str
        SQLAlchemy URL: ``sqlite:////path/ledger.sqlite3`` or ``postgresql://user:password@host/database``.

    Raises
    ------
    InputError
        The URL cannot be used.
    LedgerError
        The database cannot be reached, or belongs to a newer version. No message shows a password.
    """

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        migrate(self._engine)

    def __repr__(self) -> str:
        """Return the URL without its password."""
        return f"Ledger({shown(self._engine.url)!r})"

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._engine.dispose()

    def register(self, manifest: pd.DataFrame) -> None:
        """Store which samples there are; a known one keeps the day it was first seen and gets its new place.

        Parameters
        ----------
        manifest : DataFrame
            ``sample_id, uri, split, label``; rows of the split ``excluded`` are left out.
        """
        usable = manifest[manifest["split"] != "excluded"].sort_values("sample_id")
        types = {"sample_id": frames.TEXT, "uri": frames.TEXT, "split": frames.TEXT, "label": frames.TEXT}
        rows = frames.records(usable, types, optional=["label"])
        insert = self._insert(samples)
        new = {name: insert.excluded[name] for name in ("uri", "split", "label")}
        changed = sa.or_(*(samples.c[name].is_distinct_from(value) for name, value in new.items()))
        upsert = insert.on_conflict_do_update(index_elements=["sample_id"], set_=new, where=changed)
        if rows:
            now = datetime.now(UTC)
            with transaction(self._engine, write=True) as connection:
                connection.execute(upsert, [row | {"first_seen": now} for row in rows])

    def count_samples(self, split: str) -> int:
        """Return how many samples of a split, ``"pool"`` or ``"holdout"``, are registered."""
        query = sa.select(sa.func.count()).select_from(samples).where(samples.c.split == split)
        with transaction(self._engine, write=False) as connection:
            return connection.execute(query).scalar_one()

    def uris(self) -> dict[str, str]:
        """Return where each sample's image is."""
        with transaction(self._engine, write=False) as connection:
            return dict(connection.execute(sa.select(samples.c.sample_id, samples.c.uri)).tuples().all())

    def plan(self, round_key: str, rows: pd.DataFrame) -> pd.DataFrame:
        """Store the batch of a round, once: a round that is planned already keeps and returns what it has.

        Parameters
        ----------
        round_key : str
        rows : DataFrame
            ``sample_id, purpose, rank, strategy, seed`` and optionally ``score, propensity, certainty, predicted,
            predicted_probability, checkpoint``; may be empty.

        Returns
        -------
        DataFrame
            The stored rows, with these columns, the query batch first, by rank.

        Raises
        ------
        InputError
            The round key or the rows cannot be used.
        LedgerError
            A sample is not registered, or another round asks about it. Nothing is stored then.
        """
        round_number(round_key)
        now = datetime.now(UTC)
        try:
            with transaction(self._engine, write=True) as connection:
                if self._claim(connection, planned_rounds, {"round": round_key, "planned_at": now}):
                    records = frames.records(rows, frames.PLAN, frames.OPTIONAL)
                    refuse_unplannable(connection, round_key, [record["sample_id"] for record in records])
                    if records:
                        common = {"round": round_key, "planned_at": now}
                        connection.execute(sa.insert(planned_tasks), [record | common for record in records])
                return self._planned(connection, round_key)[list(frames.PLAN)]
        except LedgerConflictError as error:
            raise LedgerError(
                f"{round_key} cannot be planned: meanwhile another round has asked about one of its samples; "
                "draw the batch anew"
            ) from error

    def planned(self, round_key: str | None = None) -> pd.DataFrame:
        """Return the planned tasks of a round, or of all: `plan`'s columns and ``round`` (first), ``planned_at,
        task_id, pushed_at, withdrawn_at``.
        """
        with transaction(self._engine, write=False) as connection:
            return self._planned(connection, round_key)

    def is_planned(self, round_key: str) -> bool:
        """Say whether the round has a plan; it may be empty."""
        return self._exists(planned_rounds, round_key)

    def record_pushed(self, round_key: str, tasks: Mapping[str, int], at: datetime) -> None:
        """Store which task asks about which sample. A task that is back in Label Studio is not withdrawn any more.

        Parameters
        ----------
        round_key : str
        tasks : mapping
            sample_id → task id.
        at : datetime
            Aware; a sample whose task id is stored already keeps its time.

        Raises
        ------
        LedgerError
            A sample is not in the plan of this round, or another round asks about it meanwhile.
        """
        moment = aware(at)
        same = planned_tasks.c.task_id == sa.bindparam("task")
        update = (
            sa.update(planned_tasks)
            .where(planned_tasks.c.round == round_key, planned_tasks.c.sample_id == sa.bindparam("sample"))
            .values(
                task_id=sa.bindparam("task"),
                pushed_at=sa.case((same, sa.func.coalesce(planned_tasks.c.pushed_at, moment)), else_=moment),
                withdrawn_at=None,
            )
        )
        try:
            with transaction(self._engine, write=True) as connection:
                refuse_unknown(connection, round_key, tasks)
                if tasks:
                    rows = [{"sample": sample, "task": int(task)} for sample, task in sorted(tasks.items())]
                    connection.execute(update, rows)
        except LedgerConflictError as error:
            raise LedgerError(
                f"a withdrawn task of {round_key} is back, but another round asks about its sample by now: "
                "delete the older task in Label Studio"
            ) from error

    def withdraw(self, round_key: str, sample_ids: Iterable[str], at: datetime) -> None:
        """Store that tasks are gone from Label Studio: their samples may be asked about again, by another round.

        Raises
        ------
        LedgerError
            A sample is not in the plan of this round.
        """
        gone, moment = sorted(set(sample_ids)), aware(at)
        update = sa.update(planned_tasks).where(
            planned_tasks.c.round == round_key,
            planned_tasks.c.sample_id == sa.bindparam("sample"),
            planned_tasks.c.withdrawn_at.is_(None),
        )
        with transaction(self._engine, write=True) as connection:
            refuse_unknown(connection, round_key, gone)
            if gone:
                connection.execute(update.values(withdrawn_at=moment), [{"sample": sample} for sample in gone])

    def append(self, events: Iterable[AnnotationEvent], pulled_at: datetime, *, source: str = "label_studio") -> int:
        """Append what people did and return how many events are new; known ones change nothing.

        Parameters
        ----------
        events : iterable
            Anything with the attributes of `AnnotationEvent`.
        pulled_at : datetime
            Aware.
        source : str
            Where annotation ids come from: ids are unique within a Label Studio server only.
        """
        moment = aware(pulled_at)
        rows = [_event_row(event) | {"source": source, "pulled_at": moment} for event in events]
        # One order for all writers, so that two of them never wait for each other.
        rows.sort(key=lambda row: (row["annotation_id"], row["updated_at"]))
        insert = self._insert(annotation_events).on_conflict_do_nothing().returning(annotation_events.c.id)
        if not rows:
            return 0
        with transaction(self._engine, write=True) as connection:
            return len(connection.execute(insert, rows).all())

    def watermark(self, name: str) -> datetime | None:
        """Return a stored moment, None if there is none: for example up to when a project was pulled."""
        with transaction(self._engine, write=False) as connection:
            return connection.execute(sa.select(watermarks.c.value).where(watermarks.c.name == name)).scalar()

    def set_watermark(self, name: str, value: datetime) -> None:
        """Store a moment under a name. Set it after `append`, never before: a crash between loses nothing then."""
        insert = self._insert(watermarks)
        upsert = insert.on_conflict_do_update(index_elements=["name"], set_={"value": insert.excluded.value})
        with transaction(self._engine, write=True) as connection:
            connection.execute(upsert, {"name": name, "value": aware(value)})

    def answers(self, until: datetime | None = None, *, purpose: str | None = None) -> pd.DataFrame:
        """Return the latest state of every annotation, one row each; `core.consensus` makes labels of them.

        Parameters
        ----------
        until : datetime, optional
            Only what was pulled up to this moment.
        purpose : str, optional
            Only answers about samples of this purpose, for example ``"query"``.

        Returns
        -------
        DataFrame
            ``sample_id, purpose, round, annotation_id, task_id, annotator, value, cancelled, lead_time, created_at,
            updated_at, pulled_at, source``; ``purpose`` is None for a sample that was never planned.
        """
        query = queries.current_answers(until=None if until is None else aware(until), purpose=purpose)
        return self._frame(query, frames.ANSWERS)

    def has_snapshot(self, round_key: str) -> bool:
        """Say whether the labeled pool of the round is frozen; it may be empty."""
        return self._exists(label_snapshots, round_key)

    def snapshot(self, round_key: str, rows: pd.DataFrame) -> pd.DataFrame:
        """Freeze what a round trains on, once: a round that has a snapshot keeps and returns it.

        Parameters
        ----------
        round_key : str
        rows : DataFrame
            ``sample_id, label, votes, n_votes, weight, annotation_ids, first_round``; may be empty.

        Returns
        -------
        DataFrame
            The stored rows, by sample id.

        Raises
        ------
        InputError
            The round key or the rows cannot be used.
        LedgerError
            A sample is not registered.
        """
        round_number(round_key)
        with transaction(self._engine, write=True) as connection:
            header = {"round": round_key, "created_at": datetime.now(UTC), "labels_hash": labels_hash(rows)}
            if self._claim(connection, label_snapshots, header):
                records = frames.records(rows, frames.SNAPSHOT)
                refuse_unregistered(connection, [record["sample_id"] for record in records])
                if records:
                    connection.execute(sa.insert(snapshot_labels), [row | {"round": round_key} for row in records])
            query = (
                sa.select(*(snapshot_labels.c[name] for name in frames.SNAPSHOT))
                .where(snapshot_labels.c.round == round_key)
                .order_by(snapshot_labels.c.sample_id)
            )
            return frames.frame(connection.execute(query), frames.SNAPSHOT)

    def snapshots(self) -> pd.DataFrame:
        """Return one row per frozen labeled pool: ``round, created_at, labels_hash, labels`` (how many)."""
        header, label = label_snapshots, snapshot_labels
        query = (
            sa.select(header.c.round, header.c.created_at, header.c.labels_hash, sa.func.count(label.c.sample_id))
            .outerjoin(label, label.c.round == header.c.round)
            .group_by(header.c.round, header.c.created_at, header.c.labels_hash)
            .order_by(header.c.round)
        )
        return self._frame(query, frames.SNAPSHOTS)

    def in_flight(self) -> set[str]:
        """Return the samples with a task that nobody has answered or skipped yet."""
        return self._ids(queries.in_flight())

    def asked(self) -> set[str]:
        """Return the samples with a task, answered or not: they are not asked about again."""
        return self._ids(sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.withdrawn_at.is_(None)))

    def imported(self) -> set[str]:
        """Return the samples with a label that people brought along."""
        return self._ids(sa.select(annotation_events.c.sample_id).where(annotation_events.c.source == IMPORTED))

    def round_counts(self, round_key: str, min_votes: int = 1, class_names: Iterable[str] | None = None) -> RoundCounts:
        """Return how far a round is.

        Parameters
        ----------
        round_key : str
        min_votes : int
            Votes that a sample needs.
        class_names : iterable of str, optional
            Answers outside of it count as not given; None takes any.
        """
        planned, answers = self.planned(round_key), self.answers()
        live = planned[planned["withdrawn_at"].isna()]
        answers = answers[(answers["round"] == round_key) & answers["sample_id"].isin(live["sample_id"])]
        names = sorted(answers["value"].dropna().unique()) if class_names is None else list(class_names)
        state = consensus(answers, class_names=names, min_votes=min_votes)
        opened = planned["pushed_at"].max()
        return RoundCounts(
            planned=len(planned),
            labeled=len(state.labels) + len(state.disputed),
            skipped=len(state.skipped),
            withdrawn=len(planned) - len(live),
            opened_at=None if pd.isna(opened) else aware(opened),
        )

    def export(self) -> pd.DataFrame:
        """Return the labels that people gave, one row per person and sample, with all that is known about them.

        Returns
        -------
        DataFrame
            ``sample_id, uri, label, purpose, round``, who and when (``annotator, annotation_id, task_id, created_at,
            updated_at, pulled_at, lead_time, source``) and why it was asked (``rank, strategy, score, propensity,
            certainty, predicted, predicted_probability, seed, checkpoint``).
        """
        return self._frame(queries.export(), frames.EXPORT)

    def _insert(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        return sqlite.insert(table) if self._engine.dialect.name == "sqlite" else postgresql.insert(table)

    def _claim(self, connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """Insert the row unless its round is there; whoever comes second waits for the first and gets False."""
        insert = self._insert(table).on_conflict_do_nothing(index_elements=["round"]).returning(table.c.round)
        return connection.execute(insert, row).first() is not None

    def _planned(self, connection: sa.Connection, round_key: str | None) -> pd.DataFrame:
        task = planned_tasks.c
        query = sa.select(*(task[name] for name in frames.PLANNED))
        # "query" sorts after "holdout"; the rank orders each, the id whatever shares a rank.
        query = query.order_by(task.round, task.purpose.desc(), task.rank, task.sample_id)
        if round_key is not None:
            query = query.where(task.round == round_key)
        return frames.frame(connection.execute(query), frames.PLANNED)

    def _exists(self, table: sa.Table, round_key: str) -> bool:
        query = sa.select(table.c.round).where(table.c.round == round_key)
        with transaction(self._engine, write=False) as connection:
            return connection.execute(query).first() is not None

    def _ids(self, query: sa.Select[tuple[str]]) -> set[str]:
        with transaction(self._engine, write=False) as connection:
            return set(connection.execute(query).scalars())

    def _frame(self, query: sa.Select[Any], types: Mapping[str, str]) -> pd.DataFrame:
        with transaction(self._engine, write=False) as connection:
            return frames.frame(connection.execute(query), types)


def _event_row(event: AnnotationEvent) -> dict[str, Any]:
    return {
        "annotation_id": event.annotation_id,
        "task_id": event.task_id,
        "sample_id": event.sample_id,
        "round": event.round,
        "annotator": event.annotator,
        "value": event.value,
        "cancelled": event.cancelled,
        "lead_time": event.lead_time,
        "created_at": aware(event.created_at),
        "updated_at": aware(event.updated_at),
        "raw": dict(event.raw),
    }
