"""The ledger: what was planned, what people answered and what each round trained on. It forgets nothing.

Every method is one transaction. Killed anywhere, a process leaves either all of what a method writes or nothing.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import labels_hash
from al_pipeline.core.rounds import round_number
from al_pipeline.ledger import frames, queries
from al_pipeline.ledger.database import LedgerConflictError, LedgerError, chunks, transaction
from al_pipeline.ledger.draws import Draws, record_draw
from al_pipeline.ledger.frames import aware
from al_pipeline.ledger.members import member_records
from al_pipeline.ledger.schema import (
    REVIEW,
    annotation_events,
    annotations,
    class_sets,
    label_snapshots,
    planned_rounds,
    planned_tasks,
    projects,
    samples,
    snapshot_labels,
    task_members,
    watermarks,
)
from al_pipeline.ledger.views import Watermark


class Ledger(Draws):
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

    def plan(
        self,
        round_key: str,
        rows: pd.DataFrame,
        members: pd.DataFrame | None = None,
        drawn: Mapping[str, float] | None = None,
    ) -> pd.DataFrame:
        """Store the batch of a round, once: a round that is planned already keeps and returns what it has.

        Parameters
        ----------
        round_key : str
        rows : DataFrame
            ``sample_id, purpose, rank, strategy, seed`` and optionally ``score, propensity, certainty, predicted,
            predicted_probability, checkpoint``; may be empty.
        members : DataFrame, optional
            ``sample_id, member_id, place``: what is shown beside the sample of a query, whose answer is theirs, too.
        drawn : mapping of str to float, optional
            Samples that the round draws for the holdout, in the order of asking, and with which probability each: this
            round or later ones ask about them.

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
        common: dict[str, Any] = {"round": round_key, "planned_at": datetime.now(UTC)}
        try:
            with transaction(self._engine, write=True) as connection:
                if self._claim(connection, planned_rounds, common):
                    records = frames.records(rows, frames.PLAN, frames.OPTIONAL)
                    shown = member_records(round_key, records, members)
                    _refuse_unplannable(connection, round_key, records, [row["member_id"] for row in shown])
                    record_draw(connection, drawn or {}, common["planned_at"])
                    if records:
                        connection.execute(sa.insert(planned_tasks), [record | common for record in records])
                    if shown:
                        connection.execute(sa.insert(task_members), shown)
                return frames.frame(connection.execute(queries.planned(round_key, frames.PLAN)), frames.PLAN)
        except LedgerConflictError as error:
            raise LedgerError(
                f"{round_key} cannot be planned: meanwhile another round has asked about one of its samples; "
                "draw the batch anew"
            ) from error

    def record_pushed(
        self, round_key: str, tasks: Mapping[str, int], at: datetime, cells: Mapping[str, int] | None = None
    ) -> None:
        """Store which task asks about which sample. A task that is back in Label Studio is not withdrawn any more.

        Parameters
        ----------
        round_key : str
        tasks : mapping
            sample_id → task id.
        at : datetime
            Aware; a sample whose task id is stored already keeps its time.
        cells : mapping, optional
            sample_id → the place of its image in the task, of those that share one with others.

        Raises
        ------
        LedgerError
            A sample is not in the plan of this round, or another round asks about it meanwhile.
        """
        moment = aware(at)
        same = planned_tasks.c.task_id == sa.bindparam("task")
        since = sa.case((same, sa.func.coalesce(planned_tasks.c.pushed_at, moment)), else_=moment)
        update = _update_task(round_key).values(
            task_id=sa.bindparam("task"), cell=sa.bindparam("place"), pushed_at=since, withdrawn_at=None
        )
        try:
            with transaction(self._engine, write=True) as connection:
                _refuse_unknown(connection, round_key, tasks)
                if tasks:
                    places = cells or {}
                    rows = [
                        {"sample": sample, "task": int(task), "place": places.get(sample)}
                        for sample, task in sorted(tasks.items())
                    ]
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
        update = _update_task(round_key).where(planned_tasks.c.withdrawn_at.is_(None))
        with transaction(self._engine, write=True) as connection:
            _refuse_unknown(connection, round_key, gone)
            if gone:
                connection.execute(update.values(withdrawn_at=moment), [{"sample": sample} for sample in gone])

    def append(
        self,
        events: Iterable[Annotation],
        pulled_at: datetime,
        *,
        source: str = "label_studio",
        round_key: str | None = None,
    ) -> int:
        """Append what people did and return how many events are new; known ones change nothing.

        Parameters
        ----------
        events : iterable of Annotation
        pulled_at : datetime
            Aware.
        source : str
            Where annotation ids come from: ids are unique within a Label Studio server only.
        round_key : str, optional
            The round that sees them first.
        """
        common = {"source": source, "pulled_at": aware(pulled_at), "first_seen_round": round_key}
        rows = [
            vars(event) | {"created_at": aware(event.created_at), "updated_at": aware(event.updated_at)} | common
            for event in events
        ]
        # One order for all writers, so that two of them never wait for each other.
        rows.sort(key=lambda row: (row["annotation_id"], row["updated_at"]))
        insert = self._insert(annotation_events).on_conflict_do_nothing().returning(annotation_events.c.id)
        if not rows:
            return 0
        with transaction(self._engine, write=True) as connection:
            new = sorted(connection.execute(insert, rows).scalars())
            for part in chunks(new):
                connection.execute(self._newer_states(annotation_events.c.id.in_(part)))
        return len(new)

    def reserve_project(self, title: str, url: str) -> str:
        """Return the identity of a project that is about to be made; the same until it is there, by `adopt`.

        It is stored before the project is: killed in between, a home still knows its own.
        """
        table, now = projects.c, datetime.now(UTC)
        reserved = sa.select(table.identity).where(table.project_id == 0, table.title == title)
        row = {"project_id": 0, "created_at": now, "title": title, "url": url, "seen_at": now}
        with transaction(self._engine, write=True) as connection:
            _alone(connection, projects)
            if (known := connection.execute(reserved).scalar()) is not None:
                return known
            connection.execute(sa.insert(projects), {"identity": (made := str(uuid4()))} | row)
        return made

    def adopt(self, project_id: int, created_at: datetime, *, title: str, url: str, identity: str | None = None) -> str:
        """Store that a project is ours, and return its identity: one it has, or else a new one.

        Annotations of it that the ledger has under an address, as versions before this one named them, come under the
        identity: those of every name that ends with the project's id, and has none that is older than the project. The
        same state of an annotation is kept once, as it was pulled first. What was taken back under any name is taken
        back. All is read anew by the next pull.
        """
        table, event = projects.c, annotation_events.c
        same = sa.select(table.identity).where(table.project_id == project_id, table.created_at == aware(created_at))
        # An annotation that was imported keeps the time of its making elsewhere.
        first = sa.func.min(event.created_at).filter(event.import_id.is_(None))
        old = event.source.endswith(f" project {project_id}", autoescape=True)
        named = sa.select(event.source).where(old).group_by(event.source).having(first >= aware(created_at))
        place = sa.func.row_number().over(partition_by=[event.annotation_id, event.updated_at], order_by=event.id)
        with transaction(self._engine, write=True) as connection:
            _alone(connection, projects)
            ours: str = identity or connection.execute(same).scalar() or str(uuid4())
            values = {"project_id": project_id, "created_at": aware(created_at), "title": title, "url": url}
            values |= {"seen_at": datetime.now(UTC)}
            insert = self._insert(projects).values(identity=ours, **values)
            connection.execute(insert.on_conflict_do_update(index_elements=["identity"], set_=values))
            if names := connection.execute(named).scalars().all():
                ranked = sa.select(event.id, place.label("place")).where(event.source.in_(names)).subquery()
                again = sa.select(ranked.c.id).where(ranked.c.place > 1)
                connection.execute(sa.delete(annotations).where(annotations.c.source.in_(names)))
                connection.execute(sa.delete(annotation_events).where(event.id.in_(again)))
                source = f"project {ours}"
                connection.execute(sa.update(annotation_events).where(event.source.in_(names)).values(source=source))
                connection.execute(self._newer_states(event.source == source))
                connection.execute(sa.delete(watermarks).where(watermarks.c.name.in_(names)))
        return ours

    def set_watermark(self, name: str, mark: Watermark) -> None:
        """Store how far a source was pulled. Do so after `append`, never before: a crash between loses nothing then."""
        moments = {"value": aware(mark.until), "pulled_at": mark.pulled_at and aware(mark.pulled_at)}
        values = moments | {"answers_over": mark.answers_over, "skips_over": mark.skips_over}
        insert = self._insert(watermarks)
        new = {column: insert.excluded[column] for column in values}
        upsert = insert.on_conflict_do_update(index_elements=["name"], set_=new)
        with transaction(self._engine, write=True) as connection:
            connection.execute(upsert, {"name": name} | values)

    def snapshot(self, round_key: str, rows: pd.DataFrame, *, class_set: int | None = None) -> pd.DataFrame:
        """Freeze what a round trains on, once: a round that has a snapshot keeps and returns it.

        Parameters
        ----------
        round_key : str
        rows : DataFrame
            ``sample_id, label, votes, n_votes, weight, annotation_ids, first_round``; may be empty.
        class_set : int, optional
            The version of the class set that the labels are of; by default the newest.

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
            if class_set is None:
                class_set = connection.execute(sa.select(sa.func.max(class_sets.c.version))).scalar()
            moment = {"created_at": datetime.now(UTC), "class_set": class_set}
            header = {"round": round_key, "labels_hash": labels_hash(rows)} | moment
            if self._claim(connection, label_snapshots, header):
                records = frames.records(rows, frames.SNAPSHOT, optional=["asked_with"])
                _refuse_unregistered(connection, [record["sample_id"] for record in records])
                if records:
                    connection.execute(sa.insert(snapshot_labels), [row | {"round": round_key} for row in records])
            return frames.frame(connection.execute(queries.frozen(round_key)), frames.SNAPSHOT)

    def change_classes(self, action: str, arguments: Mapping[str, Any], made: ClassSet) -> None:
        """Store what an action made of the class set.

        Raises
        ------
        LedgerError
            Somebody else has changed the classes meanwhile; nothing is stored.
        """
        row = {
            "version": made.version,
            "made_at": datetime.now(UTC),
            "action": action,
            "arguments": dict(arguments),
            "names": list(made.names),
            "became": dict(made.became),
        }
        try:
            with transaction(self._engine, write=True) as connection:
                connection.execute(sa.insert(class_sets), row)
        except LedgerConflictError as error:
            raise LedgerError(
                f"the classes were changed by somebody else meanwhile, and `{action}` was not done: look at them "
                "(`al classes list`) and do it again"
            ) from error

    def _newer_states(self, condition: sa.ColumnElement[bool]) -> "sqlite.Insert | postgresql.Insert":
        """Bring `annotations` up to the events that meet a condition, in one order for all writers."""
        latest = queries.latest_events(condition)
        columns = latest.selected_columns
        insert = self._insert(annotations).from_select(
            columns.keys(), latest.order_by(columns["source"], columns["annotation_id"], columns["created_at"])
        )
        key = [column.name for column in annotations.primary_key]
        return insert.on_conflict_do_update(
            index_elements=key,
            set_={name: insert.excluded[name] for name in columns.keys() if name not in key},  # noqa: SIM118
            where=insert.excluded.updated_at > annotations.c.updated_at,
        )

    def _claim(self, connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """Insert the row unless its round is there; whoever comes second waits for the first and gets False."""
        insert = self._insert(table).on_conflict_do_nothing(index_elements=["round"]).returning(table.c.round)
        return connection.execute(insert, row).first() is not None


def _alone(connection: sa.Connection, table: sa.Table) -> None:
    """Let nobody else write to a table until the transaction ends; on SQLite nobody can."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"LOCK TABLE {table.name} IN EXCLUSIVE MODE"))


def _update_task(round_key: str) -> sa.Update:
    task = planned_tasks.c
    return sa.update(planned_tasks).where(task.round == round_key, task.sample_id == sa.bindparam("sample"))


def _refuse_unplannable(
    connection: sa.Connection, round_key: str, rows: list[dict[str, Any]], members: list[str]
) -> None:
    """Raise LedgerError if a sample is not registered, or some task asks about it now and this is no review."""
    _refuse_unregistered(connection, [row["sample_id"] for row in rows] + members)
    task = planned_tasks.c
    query = sa.select(task.sample_id, task.round).where(task.withdrawn_at.is_(None), task.purpose != REVIEW)
    new = [row["sample_id"] for row in rows if row["purpose"] != REVIEW] + members
    if members:
        # No index of the database forbids that two tasks show the same sample.
        _alone(connection, task_members)
    member, live = task_members.c, dict[str, str]()
    beside = queries.live_members().with_only_columns(member.member_id, member.round)
    for part in chunks(new):
        live.update(connection.execute(query.where(task.sample_id.in_(part))).tuples().all())
        live.update(connection.execute(beside.where(member.member_id.in_(part))).tuples().all())
    if asked := [sample for sample in new if sample in live]:
        raise LedgerError(
            f"{round_key} cannot be planned: {len(asked)} of its samples have a task already, "
            f"the first is {asked[0]} in {live[asked[0]]}; draw the batch from samples that no task asks about"
        )


def _refuse_unregistered(connection: sa.Connection, sample_ids: list[str]) -> None:
    query, known = sa.select(samples.c.sample_id), set[str]()
    for part in chunks(sample_ids):
        known.update(connection.execute(query.where(samples.c.sample_id.in_(part))).scalars())
    if unknown := [sample for sample in sample_ids if sample not in known]:
        raise LedgerError(
            f"{len(unknown)} samples are not in the ledger, the first is {unknown[0]}: register the images first "
            "(materialize image_pool)"
        )


def _refuse_unknown(connection: sa.Connection, round_key: str, sample_ids: Iterable[str]) -> None:
    query = sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.round == round_key)
    if unknown := sorted(set(sample_ids) - set(connection.execute(query).scalars())):
        raise LedgerError(
            f"{len(unknown)} samples are not in the plan of {round_key}, the first is {unknown[0]}: "
            "a batch is planned before it is pushed"
        )
