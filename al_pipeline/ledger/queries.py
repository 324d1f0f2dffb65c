"""The ledger's views: what people's answers are now, with what was planned about the sample."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.sql.selectable import NamedFromClause

from al_pipeline.ledger.frames import ANSWERS, EXPORT, SNAPSHOT
from al_pipeline.ledger.schema import (
    IMPORTED,
    REVIEW,
    annotation_events,
    annotations,
    planned_tasks,
    samples,
    snapshot_labels,
)


def current_answers(*, purpose: str | None = None, round_key: str | None = None) -> sa.Select[tuple]:
    """Select the latest state of every annotation that stands, with its sample's purpose.

    The columns are those of `frames.ANSWERS`. A sample is holdout if the images say so; else its purpose is that of
    the task that asks about it now, or else of the (withdrawn) task that was answered. Labels that people brought along
    are answers to a query.
    """
    columns = _with_purpose(round_key)
    query = sa.select(*(columns.c[name] for name in ANSWERS)).order_by(columns.c.sample_id, columns.c.annotation_id)
    return query if purpose is None else query.where(columns.c.purpose == purpose)


def export() -> sa.Select[tuple]:
    """Select the labels that people gave, the latest per person and sample, with all that is known about them.

    The columns are those of `frames.EXPORT`. Skips, and answers that were changed later, are not labels.
    """
    answers = _with_purpose()
    newest = sa.func.row_number().over(
        partition_by=[answers.c.sample_id, answers.c.annotator],
        order_by=[answers.c.updated_at.desc(), answers.c.annotation_id.desc()],
    )
    ranked = sa.select(answers, newest.label("newest")).subquery()
    task = planned_tasks.alias("asked")
    given = {"uri": samples.c.uri, "label": ranked.c.value}
    found = dict(task.c.items()) | dict(ranked.c.items()) | given
    return (
        sa.select(*(found[name].label(name) for name in EXPORT))
        .select_from(ranked)
        .outerjoin(samples, samples.c.sample_id == ranked.c.sample_id)
        .outerjoin(task, (task.c.sample_id == ranked.c.sample_id) & (task.c.round == ranked.c.round))
        .where(ranked.c.newest == 1, ~ranked.c.cancelled, ranked.c.value.is_not(None))
        .order_by(ranked.c.sample_id, ranked.c.annotator)
    )


def planned(round_key: str | None, columns: Iterable[str]) -> sa.Select[tuple]:
    """Select these columns of the planned tasks of a round, or of all."""
    task = planned_tasks.c
    # "query" sorts after "holdout"; the rank orders each, the id whatever shares a rank.
    order = [task.round, task.purpose.desc(), task.rank, task.sample_id]
    query = sa.select(*(task[name] for name in columns)).order_by(*order)
    return query if round_key is None else query.where(task.round == round_key)


def frozen(round_key: str) -> sa.Select[tuple]:
    """Select what a round trains on, by sample id; the columns are those of `frames.SNAPSHOT`."""
    label = snapshot_labels.c
    return sa.select(*(label[name] for name in SNAPSHOT)).where(label.round == round_key).order_by(label.sample_id)


def labels(min_votes: int, *, but: str | None = None) -> sa.Select[tuple[int]]:
    """Select how many samples have votes of that many people, without the holdout and the samples of a round."""
    answers = _with_purpose()
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


def agreed(min_votes: int, class_names: Sequence[str] | None = None) -> sa.Select[tuple]:
    """Select sample, label, votes and number of votes where most people's latest answers to a query agree.

    One walk along `ix_annotations_votes`; only samples that were answered differently are counted value by value.
    """
    vote = annotations.alias("vote")
    n = sa.func.count().label("n")
    lowest, highest = sa.func.min(vote.c.value).label("lowest"), sa.func.max(vote.c.value).label("highest")
    counted = (
        sa.select(vote.c.sample_id, lowest, highest, n)
        .where(*_is_vote(vote, class_names))
        .group_by(vote.c.sample_id)
        .having(n >= min_votes)
        .subquery()
    )
    one = annotations.alias("one")
    theirs = [one.c.sample_id == counted.c.sample_id, *_is_vote(one, class_names)]
    values = sa.select(one.c.value).where(*theirs).group_by(one.c.value)
    most = values.having(2 * sa.func.count() > counted.c.n).scalar_subquery()
    same = counted.c.lowest == counted.c.highest
    label = sa.case((same, counted.c.lowest), else_=most)
    found = sa.select(counted, label.label("label")).subquery()
    again = annotations.alias("again")
    for_it = [again.c.sample_id == found.c.sample_id, again.c.value == found.c.label, *_is_vote(again, class_names)]
    agreeing = sa.select(sa.func.count()).where(*for_it).scalar_subquery()
    votes = sa.case((found.c.lowest == found.c.highest, found.c.n), else_=agreeing)
    return (
        sa.select(found.c.sample_id, found.c.label, votes.label("votes"), found.c.n)
        .where(found.c.label.is_not(None))
        .order_by(found.c.sample_id)
    )


def _is_vote(answer: NamedFromClause, class_names: Sequence[str] | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions under which an annotation is a person's latest answer to a query, and no skip."""
    later = annotations.alias(f"after_{answer.name}")
    then, now = (sa.tuple_(each.c.updated_at, each.c.annotation_id) for each in (answer, later))
    person = [later.c.sample_id == answer.c.sample_id, later.c.annotator == answer.c.annotator]
    replaced = sa.exists().where(*person, now > then, ~later.c.deleted, _is_query(later)).correlate(answer)
    values = answer.c.value.is_not(None) if class_names is None else answer.c.value.in_(class_names)
    blind = sa.select(samples.c.sample_id).where(samples.c.split == sa.literal_column("'holdout'"))
    standing = [~answer.c.deleted, ~answer.c.cancelled, values]
    return [*standing, answer.c.sample_id.not_in(blind), _is_query(answer), ~replaced]


def _is_query(answer: NamedFromClause) -> sa.ColumnElement[bool]:
    """Return whether an annotation answers a query, if its sample is not holdout by its image; as `_with_purpose`."""
    live, asked = planned_tasks.alias(f"live_{answer.name}"), planned_tasks.alias(f"asked_{answer.name}")
    query, review = sa.literal_column("'query'"), sa.literal_column(f"'{REVIEW}'")
    now = [live.c.sample_id == answer.c.sample_id, live.c.withdrawn_at.is_(None)]
    then = [asked.c.sample_id == answer.c.sample_id, asked.c.round == answer.c.round]
    # Literals, not parameters: only so the partial indexes serve.
    queried = sa.exists().where(*now, live.c.purpose == query).correlate(answer)
    planned = sa.exists().where(*now, live.c.purpose != review).correlate(answer)
    was_query = sa.exists().where(*then, asked.c.purpose.in_([query, review])).correlate(answer)
    return queried | (~planned & ((answer.c.source == IMPORTED) | was_query))


def latest_events(*conditions: sa.ColumnElement[bool]) -> sa.Select[tuple]:
    """Select the columns of `annotations` from the newest of some events, for each that they are about."""
    event = annotation_events.c
    newest = sa.func.row_number().over(
        partition_by=[event.source, event.annotation_id, event.created_at],
        order_by=[event.updated_at.desc(), event.id.desc()],
    )
    names = [column.name for column in annotations.c]
    columns = [event.id.label(name) if name == "event_id" else event[name] for name in names]
    ranked = sa.select(*columns, newest.label("newest")).where(*conditions).subquery()
    return sa.select(*(ranked.c[name] for name in names)).where(ranked.c.newest == 1)


def _with_purpose(round_key: str | None = None) -> sa.Subquery:
    answer = annotations.c
    conditions = [answer.sample_id.is_not(None), ~answer.deleted]
    if round_key is not None:
        theirs = sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.round == round_key)
        conditions.append(answer.sample_id.in_(theirs))
    live, asked = planned_tasks.alias("live"), planned_tasks.alias("asked")
    now = (live.c.sample_id == answer.sample_id) & live.c.withdrawn_at.is_(None) & (live.c.purpose != REVIEW)
    # Labels that people brought along, and reviews of them.
    brought = sa.case((answer.source == IMPORTED, "query"), (asked.c.purpose == REVIEW, "query"))
    purpose = sa.case(
        (samples.c.split == "holdout", "holdout"), else_=sa.func.coalesce(live.c.purpose, brought, asked.c.purpose)
    ).label("purpose")
    return (
        sa.select(*(answer[name] for name in ANSWERS if name != "purpose"), purpose)
        .select_from(annotations)
        .outerjoin(samples, samples.c.sample_id == answer.sample_id)
        .outerjoin(live, now)
        .outerjoin(asked, (asked.c.sample_id == answer.sample_id) & (asked.c.round == answer.round))
        .where(*conditions)
        .subquery()
    )
