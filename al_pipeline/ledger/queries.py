"""The ledger's views: what people's answers are now, with what was planned about the sample."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa

from al_pipeline.ledger.frames import ANSWERS, EXPORT
from al_pipeline.ledger.schema import IMPORTED, REVIEW, annotation_events, planned_tasks, samples
from al_pipeline.ledger.types import KnownAnnotation


def current_answers(
    *, until: datetime | None = None, purpose: str | None = None, round_key: str | None = None
) -> sa.Select[tuple]:
    """Select the latest state of every annotation that stands, pulled until that moment, with its sample's purpose.

    The columns are those of `frames.ANSWERS`. A sample is holdout if the images say so; else its purpose is that of
    the task that asks about it now, or else of the (withdrawn) task that was answered. Labels that people brought along
    are answers to a query.
    """
    columns = _with_purpose(until, round_key)
    query = sa.select(*(columns.c[name] for name in ANSWERS)).order_by(columns.c.sample_id, columns.c.annotation_id)
    return query if purpose is None else query.where(columns.c.purpose == purpose)


def export() -> sa.Select[tuple]:
    """Select the labels that people gave, the latest per person and sample, with all that is known about them.

    The columns are those of `frames.EXPORT`. Skips, and answers that were changed later, are not labels.
    """
    answers = _with_purpose(None, None)
    newest = sa.func.row_number().over(
        partition_by=[answers.c.sample_id, answers.c.annotator],
        order_by=[answers.c.updated_at.desc(), answers.c.annotation_id.desc()],
    )
    ranked = sa.select(answers, newest.label("newest")).subquery()
    task = planned_tasks.alias("asked")
    found = {
        **{name: ranked.c[name] for name in ANSWERS},
        **{column.name: column for column in task.c if column.name in EXPORT and column.name not in ANSWERS},
        "uri": samples.c.uri,
        "label": ranked.c.value,
    }
    return (
        sa.select(*(found[name].label(name) for name in EXPORT))
        .select_from(ranked)
        .outerjoin(samples, samples.c.sample_id == ranked.c.sample_id)
        .outerjoin(task, (task.c.sample_id == ranked.c.sample_id) & (task.c.round == ranked.c.round))
        .where(ranked.c.newest == 1, ~ranked.c.cancelled, ranked.c.value.is_not(None))
        .order_by(ranked.c.sample_id, ranked.c.annotator)
    )


def open_tasks() -> sa.Select[tuple[str, str]]:
    """Select round and sample of the tasks that nobody has answered yet; an empty answer is none.

    Whoever answered before does not answer a review.
    """
    task = planned_tasks.c
    asked = task.withdrawn_at.is_(None)
    event = _latest(annotation_events.c.sample_id.in_(sa.select(task.sample_id).where(asked)))
    standing = [event.c.newest == 1, ~event.c.deleted, event.c.cancelled | event.c.value.is_not(None)]
    answered = sa.select(event.c.sample_id).where(*standing)
    reviewed = sa.select(event.c.round, event.c.sample_id).where(*standing, event.c.round.is_not(None))
    return sa.select(task.round, task.sample_id).where(
        asked,
        sa.case(
            (task.purpose == REVIEW, sa.tuple_(task.round, task.sample_id).not_in(reviewed)),
            else_=task.sample_id.not_in(answered),
        ),
    )


def latest_states(source: str, task_ids: Sequence[int]) -> sa.Select[tuple]:
    """Select the latest state of every annotation of some tasks, those that were taken back too."""
    event = _latest(annotation_events.c.source == source, annotation_events.c.task_id.in_(task_ids))
    return sa.select(*(event.c[field.name] for field in fields(KnownAnnotation))).where(event.c.newest == 1)


def standing(source: str) -> sa.Select[tuple[int, int]]:
    """Select how many answers and how many skips of a source stand."""
    event = _latest(annotation_events.c.source == source)
    return sa.select(
        sa.func.sum(sa.case((event.c.cancelled, 0), else_=1)), sa.func.sum(sa.case((event.c.cancelled, 1), else_=0))
    ).where(event.c.newest == 1, ~event.c.deleted)


def labels(min_votes: int, *, but: str | None = None) -> sa.Select[tuple[int]]:
    """Select how many samples have votes of that many people, without the holdout and the samples of a round."""
    answers = _with_purpose(None, None)
    votes = (
        sa.select(answers.c.sample_id)
        .where(answers.c.purpose == "query", ~answers.c.cancelled, answers.c.value.is_not(None))
        .group_by(answers.c.sample_id)
        .having(sa.func.count(answers.c.annotator.distinct()) >= min_votes)
    )
    if but is not None:
        theirs = sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.round == but)
        votes = votes.where(answers.c.sample_id.not_in(theirs))
    return sa.select(sa.func.count()).select_from(votes.subquery())


def _latest(*conditions: sa.ColumnElement[bool]) -> sa.Subquery:
    """Select events with ``newest``: 1 for the latest state of each annotation.

    A server that was set back to an older state gives the same ids out again: the moment of its making tells one
    annotation from another with its id.
    """
    event = annotation_events
    newest = sa.func.row_number().over(
        partition_by=[event.c.source, event.c.annotation_id, event.c.created_at],
        order_by=[event.c.updated_at.desc(), event.c.id.desc()],
    )
    return sa.select(event, newest.label("newest")).where(*conditions).subquery()


def _with_purpose(until: datetime | None, round_key: str | None) -> sa.Subquery:
    event = annotation_events
    conditions: list[sa.ColumnElement[bool]] = [event.c.sample_id.is_not(None)]
    if until is not None:
        conditions.append(event.c.pulled_at <= until)
    if round_key is not None:
        theirs = sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.round == round_key)
        conditions.append(event.c.sample_id.in_(theirs))
    latest = _latest(*conditions)
    live, asked = planned_tasks.alias("live"), planned_tasks.alias("asked")
    # Labels that people brought along, and reviews of them.
    brought = sa.case((latest.c.source == IMPORTED, "query"), (asked.c.purpose == REVIEW, "query"))
    purpose = sa.case(
        (samples.c.split == "holdout", "holdout"), else_=sa.func.coalesce(live.c.purpose, brought, asked.c.purpose)
    ).label("purpose")
    return (
        sa.select(*(latest.c[name] for name in ANSWERS if name != "purpose"), purpose)
        .select_from(latest)
        .outerjoin(samples, samples.c.sample_id == latest.c.sample_id)
        .outerjoin(
            live,
            (live.c.sample_id == latest.c.sample_id) & live.c.withdrawn_at.is_(None) & (live.c.purpose != REVIEW),
        )
        .outerjoin(asked, (asked.c.sample_id == latest.c.sample_id) & (asked.c.round == latest.c.round))
        .where(latest.c.newest == 1, ~latest.c.deleted)
        .subquery()
    )
