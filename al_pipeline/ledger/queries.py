"""The ledger's views: what people's answers are now, with what was planned about the sample."""

from datetime import datetime

import sqlalchemy as sa

from al_pipeline.ledger.frames import ANSWERS, EXPORT
from al_pipeline.ledger.schema import IMPORTED, annotation_events, planned_tasks, samples


def current_answers(*, until: datetime | None = None, purpose: str | None = None) -> sa.Select[tuple]:
    """Select the latest state of every annotation, pulled until that moment, with the purpose of its sample.

    The columns are those of `frames.ANSWERS`. A sample is holdout if the images say so; else its purpose is that of
    the task that asks about it now, or else of the (withdrawn) task that was answered. Labels that people brought along
    are answers to a query.
    """
    columns = _with_purpose(until)
    query = sa.select(*(columns.c[name] for name in ANSWERS)).order_by(columns.c.sample_id, columns.c.annotation_id)
    return query if purpose is None else query.where(columns.c.purpose == purpose)


def export() -> sa.Select[tuple]:
    """Select the labels that people gave, the latest per person and sample, with all that is known about them.

    The columns are those of `frames.EXPORT`. Skips, and answers that were changed later, are not labels.
    """
    answers = _with_purpose(None)
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


def in_flight() -> sa.Select[tuple[str]]:
    """Select the samples with a task that nobody has answered yet; an empty answer is none."""
    answered = (
        sa.select(annotation_events.c.id)
        .where(annotation_events.c.sample_id == planned_tasks.c.sample_id)
        .where(annotation_events.c.cancelled | annotation_events.c.value.is_not(None))
    )
    return sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.withdrawn_at.is_(None), ~answered.exists())


def _with_purpose(until: datetime | None) -> sa.Subquery:
    event = annotation_events
    newest = sa.func.row_number().over(
        partition_by=[event.c.source, event.c.annotation_id], order_by=[event.c.updated_at.desc(), event.c.id.desc()]
    )
    known = sa.select(event, newest.label("newest")).where(event.c.sample_id.is_not(None))
    if until is not None:
        known = known.where(event.c.pulled_at <= until)
    latest = known.subquery()
    live, asked = planned_tasks.alias("live"), planned_tasks.alias("asked")
    brought = sa.case((latest.c.source == IMPORTED, "query"))
    purpose = sa.case(
        (samples.c.split == "holdout", "holdout"), else_=sa.func.coalesce(live.c.purpose, asked.c.purpose, brought)
    ).label("purpose")
    return (
        sa.select(*(latest.c[name] for name in ANSWERS if name != "purpose"), purpose)
        .select_from(latest)
        .outerjoin(samples, samples.c.sample_id == latest.c.sample_id)
        .outerjoin(live, (live.c.sample_id == latest.c.sample_id) & live.c.withdrawn_at.is_(None))
        .outerjoin(asked, (asked.c.sample_id == latest.c.sample_id) & (asked.c.round == latest.c.round))
        .where(latest.c.newest == 1)
        .subquery()
    )
