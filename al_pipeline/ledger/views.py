"""What the ledger tells: plans, answers, labels, counts. Nothing here writes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa

from al_pipeline.core.labels.annotation import VOTES, Annotation
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.ledger import frames, queries
from al_pipeline.ledger.database import chunks, connect, migrate, shown, transaction
from al_pipeline.ledger.schema import (
    IMPORTED,
    annotation_events,
    annotations,
    class_sets,
    drawn_holdout,
    label_snapshots,
    planned_rounds,
    planned_tasks,
    projects,
    samples,
    snapshot_labels,
    watermarks,
)


@dataclass(frozen=True)
class Watermark:
    """How far a source of annotations has been pulled.

    Attributes
    ----------
    until : datetime
        Whatever changed up to this moment, by the source's clock, is in the ledger.
    pulled_at : datetime or None
        When that was, by our clock.
    answers_over, skips_over : int
        By how many the ledger had more than the source counted, after everything was read: those of deleted tasks.
    """

    until: datetime
    pulled_at: datetime | None = None
    answers_over: int = 0
    skips_over: int = 0


@dataclass(frozen=True)
class KnownProject:
    """A Label Studio project whose annotations the ledger keeps; `project_id` is 0 while it is about to be made."""

    identity: str
    project_id: int
    created_at: datetime
    title: str
    url: str


@dataclass(frozen=True)
class Answering:
    """The answers to a round's tasks: how many, the first and the last moment, the seconds in the editor together."""

    answers: int
    first: datetime
    last: datetime
    seconds: float | None


@dataclass(frozen=True)
class ClassChange:
    """One event in the history of the class set: when, which action with which arguments, and what it made."""

    made_at: datetime
    action: str
    arguments: dict[str, Any]
    made: ClassSet


class Views:
    """The reading half of `Ledger`, which tells what `url` is; every method is one transaction."""

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        migrate(self._engine)

    def __repr__(self) -> str:
        """Return the URL without its password."""
        return f"{type(self).__name__}({shown(self._engine.url)!r})"

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._engine.dispose()

    def count_samples(self, split: str) -> int:
        """Return how many samples of a split, ``"pool"`` or ``"holdout"``, are registered and not gone."""
        there = [samples.c.split == split, samples.c.gone_since.is_(None)]
        query = sa.select(sa.func.count()).select_from(samples).where(*there)
        return self._rows(query)[0][0]

    def uris(self) -> dict[str, str]:
        """Return where each sample's image is."""
        return dict(self._rows(sa.select(samples.c.sample_id, samples.c.uri)))

    def places(self, sample_ids: Iterable[str]) -> dict[str, str]:
        """Return where the images of some samples are, of those that the ledger knows."""
        query, asked = sa.select(samples.c.sample_id, samples.c.uri), chunks(sorted(set(sample_ids)))
        return dict(self._rows(*(query.where(samples.c.sample_id.in_(part)) for part in asked)))

    def planned(
        self,
        round_key: str | None = None,
        *,
        purpose: str | None = None,
        columns: Sequence[str] = tuple(frames.PLANNED),
    ) -> pd.DataFrame:
        """Return the planned tasks of a round, or of all, of one purpose, or of any: `plan`'s columns and ``round``
        (first), ``planned_at, task_id, pushed_at, withdrawn_at``; or some of these.
        """
        query = queries.planned(round_key, columns, purpose)
        return self._frame(query, {name: frames.PLANNED[name] for name in columns})

    def count_planned(self, round_key: str, *, purpose: str | None = None) -> int:
        """Return how many tasks a round has planned, of one purpose or any."""
        query = sa.select(sa.func.count()).select_from(planned_tasks).where(planned_tasks.c.round == round_key)
        return self._rows(query if purpose is None else query.where(planned_tasks.c.purpose == purpose))[0][0]

    def pushed_at(self, round_key: str) -> datetime | None:
        """Return when the last of a round's tasks was recorded as pushed, None if none is."""
        query = sa.select(sa.func.max(planned_tasks.c.pushed_at)).where(planned_tasks.c.round == round_key)
        return self._rows(query)[0][0]

    def is_planned(self, round_key: str) -> bool:
        """Say whether the round has a plan; it may be empty."""
        return bool(self._rows(sa.select(planned_rounds.c.round).where(planned_rounds.c.round == round_key)))

    def newest_pushed(self, since: datetime | None = None) -> str | None:
        """Return the newest round of which a batch is in Label Studio, or was pushed at this moment or later."""
        task = planned_tasks.c
        pushed = task.pushed_at.is_not(None) if since is None else task.pushed_at >= since
        return self._rows(sa.select(sa.func.max(task.round)).where(pushed))[0][0]

    def projects(self) -> list[KnownProject]:
        """Return the Label Studio projects that belong to this ledger."""
        names = [projects.c[field.name] for field in fields(KnownProject)]
        return [KnownProject(*row) for row in self._rows(sa.select(*names).order_by(projects.c.seen_at))]

    def watermark(self, name: str) -> Watermark | None:
        """Return how far a source was pulled, None if it never was."""
        mark = watermarks.c
        query = sa.select(mark.value, mark.pulled_at, mark.answers_over, mark.skips_over).where(mark.name == name)
        return next((Watermark(*row) for row in self._rows(query)), None)

    def answers(
        self,
        *,
        purpose: str | None = None,
        round_key: str | None = None,
        nobodys: bool = False,
        class_set: ClassSet | None = None,
    ) -> pd.DataFrame:
        """Return the latest state of every annotation, one row each; `core.consensus` makes labels of them.

        Parameters
        ----------
        purpose : str, optional
            Only answers about samples of this purpose, for example ``"query"``.
        round_key : str, optional
            Only answers about the samples that this round's tasks ask about.
        nobodys : bool
            Also what nobody has answered: guesses, and copies.
        class_set : ClassSet, optional
            Whose classes the values become; by default today's.

        Returns
        -------
        DataFrame
            ``sample_id, purpose, round, annotation_id, task_id, annotator, value, cancelled, lead_time, created_at,
            updated_at, pulled_at, source, kind``; ``purpose`` is None for what answers no task of ours. Values are
            classes of the set; ``kind`` is as of `Annotation`, or ``retired`` for a class that is none any more.
            Answers that people took back are left out.
        """
        classes = class_set or self.class_set()
        query = queries.current_answers(classes, purpose=purpose, round_key=round_key, nobodys=nobodys)
        return self._frame(query, frames.ANSWERS)

    def known_annotations(self, source: str, task_ids: Sequence[int]) -> list[Annotation]:
        """Return the latest known state of every annotation of some tasks, those that were taken back too."""
        answer, event = annotations.c, annotation_events.c
        states = sa.select(*(event[field.name] for field in fields(Annotation)))
        query = states.join_from(annotations, annotation_events, event.id == answer.event_id)
        theirs = (query.where(answer.source == source, answer.task_id.in_(part)) for part in chunks(task_ids))
        return [Annotation(*row) for row in self._rows(*theirs)]

    def answering(self) -> dict[str, Answering]:
        """Return when people answered the tasks of each round, and how long they looked, as far as that stands."""
        answer, n = annotations.c, sa.func.count()
        columns = (n, sa.func.min(answer.created_at), sa.func.max(answer.updated_at), sa.func.sum(answer.lead_time))
        given = [~answer.deleted, answer.round.is_not(None), answer.kind.not_in(queries.NO_ANSWERS)]
        rows = self._rows(sa.select(answer.round, *columns).where(*given).group_by(answer.round))
        return {key: Answering(*found) for key, *found in rows}

    def asking(self) -> dict[str, tuple[int, datetime | None]]:
        """Return how many tasks of each round stand, and when the last of all was recorded as pushed."""
        task = planned_tasks.c
        standing = sa.func.count().filter(task.withdrawn_at.is_(None))
        rows = self._rows(sa.select(task.round, standing, sa.func.max(task.pushed_at)).group_by(task.round))
        return {key: (n, pushed) for key, n, pushed in rows}

    def history(self, annotation_ids: Sequence[int]) -> list[tuple[str, int, str, datetime, str | None]]:
        """Return all that annotations of these numbers ever said, in the order of time.

        Each is source, annotation_id, sample_id, updated_at and value, as it was given.
        """
        event = annotation_events.c
        columns = (event.source, event.annotation_id, event.sample_id, event.updated_at, event.value)
        query = sa.select(*columns).where(event.sample_id.is_not(None)).order_by(event.updated_at, event.id)
        return self._rows(*(query.where(event.annotation_id.in_(part)) for part in chunks(annotation_ids)))

    def count_annotations(self, source: str) -> tuple[int, int]:
        """Return how many answers and how many skips of a source stand, as Label Studio would count them."""
        answer, n = annotations.c, sa.func.count()
        kinds = sa.select(n.filter(~answer.cancelled), n.filter(answer.cancelled))
        # A grid is answered by one annotation, which is here once for each image.
        once = sa.or_(answer.cell.is_(None), answer.cell == 1)
        return self._rows(kinds.where(answer.source == source, ~answer.deleted, once))[0]

    def count_labels(self, min_votes: int = 1) -> int:
        """Return how many samples have enough votes for classes, without the holdout."""
        classes = self.class_set()
        return self._rows(queries.labels(min_votes, classes, classes and classes.names))[0][0]

    def newest_event(self) -> int:
        """Return the number of the newest annotation event, 0 before any: where it stays, nobody did anything."""
        return self._rows(sa.select(sa.func.coalesce(sa.func.max(annotation_events.c.id), 0)))[0][0]

    def newest_answers(self, states: int) -> list[tuple[Any, ...]]:
        """Return what the newest states of annotations tell of people's pace: see `queries.newest_answers`."""
        return self._rows(queries.newest_answers(states))

    def states(self, sample_ids: Iterable[str]) -> list[tuple[Annotation, str]]:
        """Return every state that every annotation of these samples ever had, oldest first, with its source."""
        event, about = annotation_events.c, annotations.c
        columns = [event[field.name] for field in fields(Annotation)]
        # The events have no index by sample.
        same = [event.source == about.source, event.annotation_id == about.annotation_id]
        query = sa.select(*columns, event.source).join_from(annotations, annotation_events, sa.and_(*same))
        query = query.where(event.created_at == about.created_at).order_by(event.id)
        asked = chunks(sorted(set(sample_ids)))
        rows = self._rows(*(query.where(about.sample_id.in_(part)) for part in asked))
        return [(Annotation(*row[:-1]), row[-1]) for row in rows]

    def current_labels(self, min_votes: int = 1, *, class_names: Sequence[str] | None = None) -> pd.DataFrame:
        """Return what people agree on now, by sample id, as `core.consensus` would say of the answers to queries.

        Parameters
        ----------
        min_votes : int
            Votes a sample needs, at least 1. A label also needs more than half of them.
        class_names : sequence of str, optional
            Only these values are votes; by default today's classes, or before there are any all that were given.

        Returns
        -------
        DataFrame
            ``sample_id, label, votes, n_votes``.
        """
        classes = self.class_set()
        names = class_names if class_names is not None or classes is None else classes.names
        return self._frame(queries.agreed(min_votes, classes, names), frames.LABELS)

    def frozen_labels(self, round_key: str) -> pd.DataFrame:
        """Return what a round trained on, by sample id; empty if it has no snapshot."""
        return self._frame(queries.frozen(round_key), frames.SNAPSHOT)

    def rounds(self) -> set[str]:
        """Return the rounds that were begun: their labels are frozen or their batch is planned."""
        return {key for (key,) in self._rows(sa.select(label_snapshots.c.round), sa.select(planned_rounds.c.round))}

    def frozen_at(self, round_key: str) -> datetime | None:
        """Return when a round's labels were frozen, None if they are not."""
        query = sa.select(label_snapshots.c.created_at).where(label_snapshots.c.round == round_key)
        return next((moment for (moment,) in self._rows(query)), None)

    def all_frozen_at(self) -> dict[str, datetime]:
        """Return when the labels of each round that has some were frozen."""
        return dict(self._rows(sa.select(label_snapshots.c.round, label_snapshots.c.created_at)))

    def has_snapshot(self, round_key: str) -> bool:
        """Say whether the labeled pool of the round is frozen; it may be empty."""
        return bool(self._rows(sa.select(label_snapshots.c.round).where(label_snapshots.c.round == round_key)))

    def open_tasks(self) -> set[tuple[str, str]]:
        """Return (round, sample_id) of the tasks with which nobody has dealt; an empty answer or a guess is none.

        Whoever answered before does not answer a review.
        """
        return set(self._rows(queries.open_tasks()))

    def count_asked(self) -> int:
        """Return how many samples that are there are not asked about, or not again, to learn from.

        They have a task, answered or not, are shown by one, were drawn for the holdout, or are held back because they
        belong to a group of it.
        """
        task, one = planned_tasks.c, samples.c
        tasks = sa.select(task.sample_id).where(task.withdrawn_at.is_(None))
        shown = sa.select(queries.live_members().subquery().c.member_id)
        drawn = sa.select(drawn_holdout.c.sample_id)
        settled = one.sample_id.in_(sa.union(tasks, shown, drawn, queries.held_back()))
        return self._rows(sa.select(sa.func.count()).where(one.gone_since.is_(None), settled))[0][0]

    def held_back(self) -> set[str]:
        """Return the pool's samples that share a group with one that was drawn for the holdout, without these.

        They are neither asked about nor trained on: who has seen one picture of a scene knows the others.
        """
        return {i for (i,) in self._rows(queries.held_back())}

    def holdout(self) -> set[str]:
        """Return the samples that are never trained on: of the images' own test split, or drawn to be asked as such."""
        task = planned_tasks.c
        asked = sa.select(task.sample_id).where(task.purpose == "holdout", task.withdrawn_at.is_(None))
        own = sa.select(samples.c.sample_id).where(samples.c.split == "holdout")
        return {sample for (sample,) in self._rows(own, asked, sa.select(drawn_holdout.c.sample_id))}

    def imported(self) -> set[str]:
        """Return the samples with a label that people brought along, unless it names what is no class any more."""
        classes, answer = self.class_set(), annotations.c
        gone = [] if classes is None else classes.retired
        brought = sa.select(answer.sample_id).where(answer.source == IMPORTED, answer.value.not_in(gone))
        return {i for (i,) in self._rows(brought)}

    def guessable(self, sample_ids: Iterable[str]) -> set[str]:
        """Return those of the samples that only ever were asked about as a query, and belong to the pool.

        People may be shown a guess about them. The holdout's labels must be blind: a sample that any round planned for
        it, or that the images' own test split has, is left out, and so is one that the ledger does not know.
        """
        task = planned_tasks.c
        otherwise = sa.func.count().filter(task.purpose != "query")
        of_pool = sa.select(task.sample_id).join(samples, samples.c.sample_id == task.sample_id)
        query = of_pool.where(samples.c.split == "pool").group_by(task.sample_id).having(otherwise == 0)
        asked = chunks(sorted(set(sample_ids)))
        return {i for (i,) in self._rows(*(query.where(task.sample_id.in_(part)) for part in asked))}

    def export(self) -> pd.DataFrame:
        """Return the labels that people gave, one row per person and sample, with all that is known about them.

        Returns
        -------
        DataFrame
            ``sample_id, uri, label, purpose, round``, who and when (``annotator, annotation_id, task_id, created_at,
            updated_at, pulled_at, lead_time, source, kind, origin, parent_prediction``) and why it was asked (``rank,
            strategy, score, propensity, certainty, predicted, predicted_probability, seed, checkpoint``).
        """
        return self._frame(queries.export(self.class_set()), frames.EXPORT)

    def class_set(self) -> ClassSet | None:
        """Return today's classes; None before any were stored."""
        table = class_sets.c
        query = sa.select(table.names, table.became, table.version).order_by(table.version.desc()).limit(1)
        return next((ClassSet(tuple(names), *rest) for names, *rest in self._rows(query)), None)

    def class_changes(self) -> list[ClassChange]:
        """Return the history of the class set, oldest first."""
        table = class_sets.c
        query = sa.select(table.made_at, table.action, table.arguments, table.names, table.became, table.version)
        rows = self._rows(query.order_by(table.version))
        return [
            ClassChange(made_at, action, arguments, ClassSet(tuple(names), became, version))
            for made_at, action, arguments, names, became, version in rows
        ]

    def frozen_classes(self, round_key: str) -> int | None:
        """Return the version of the class set that the labels of a round are of; None if it has none."""
        query = sa.select(label_snapshots.c.class_set).where(label_snapshots.c.round == round_key)
        return next((version for (version,) in self._rows(query)), None)

    def said(self) -> set[str]:
        """Return the classes that people have named, as they did then; also who does no longer stand by it."""
        event = annotation_events.c
        query = sa.select(event.value.distinct()).where(event.value.is_not(None), event.kind.in_(VOTES))
        return {value for (value,) in self._rows(query)}

    def trained_on(self) -> set[str]:
        """Return the classes that rounds have trained on, as they were called then."""
        return {name for (name,) in self._rows(sa.select(snapshot_labels.c.label.distinct()))}

    def _rows(self, *selects: sa.Select[Any]) -> list[tuple[Any, ...]]:
        with transaction(self._engine, write=False) as connection:
            return [tuple(row) for query in selects for row in connection.execute(query)]

    def _frame(self, query: sa.Select[Any], types: Mapping[str, str]) -> pd.DataFrame:
        with transaction(self._engine, write=False) as connection:
            return frames.frame(connection.execute(query), types)
