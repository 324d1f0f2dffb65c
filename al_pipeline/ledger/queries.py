"""The ledger's views: what people's answers are now, with what was planned about the sample."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.sql.selectable import NamedFromClause

from al_pipeline.core.labels.annotation import DEALT_WITH, SLIPS, VOTES
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.ledger.frames import ANSWERS, EXPORT, MEMBERS, SNAPSHOT
from al_pipeline.ledger.schema import (
    IMPORTED,
    REVIEW,
    annotation_events,
    annotations,
    drawn_holdout,
    planned_tasks,
    samples,
    snapshot_labels,
    task_members,
)

# Made by a click for many tasks, or told already: nobody's answer.
NO_ANSWERS = ("guess", "copy")
# The kind of an answer whose class is none of today's: a view's alone, no annotation is stored as this.
RETIRED = "retired"
EXTRA = ("origin", "parent_prediction")


def current_answers(
    class_set: ClassSet | None, *, purpose: str | None = None, round_key: str | None = None, nobodys: bool = False
) -> sa.Select[tuple]:
    """Select the latest state of every annotation that stands, with its sample's purpose; or of somebody's answers.

    The columns are those of `frames.ANSWERS`. A sample is holdout if the images say so, or it was drawn; else its
    purpose is that of the task that asks about it now, or else of the (withdrawn) task that was answered. Labels that
    people brought along are answers to a query. What answers no task of ours has no purpose. Values are classes of
    today.
    """
    columns = _with_purpose(class_set, round_key)
    query = sa.select(*(columns.c[name] for name in ANSWERS)).order_by(columns.c.sample_id, columns.c.annotation_id)
    if not nobodys:
        query = query.where(columns.c.kind.not_in(NO_ANSWERS))
    return query if purpose is None else query.where(columns.c.purpose == purpose)


def newest_answers(states: int) -> sa.Select[tuple]:
    """Select the answers and skips to our tasks among the newest states, by people who saw the task; oldest last.

    The columns are ``annotator, source, annotation_id, cell, created_at, lead_time``: of a grid a row per image.
    """
    event = annotation_events
    newest = sa.select(event).order_by(event.c.id.desc()).limit(states).subquery().c
    shown = [newest.lead_time > 0, newest.source != IMPORTED, newest.round.is_not(None)]
    columns = (newest[name] for name in ("annotator", "source", "annotation_id", "cell", "created_at", "lead_time"))
    return sa.select(*columns).where(*shown, newest.kind.not_in((*NO_ANSWERS, "hasty"))).order_by(newest.id.desc())


def export(class_set: ClassSet | None) -> sa.Select[tuple]:
    """Select the labels that people gave, the latest per person and sample, with all that is known about them.

    The columns are those of `frames.EXPORT`. Skips, and answers that were changed later, are not labels.
    """
    answers = _with_purpose(class_set)
    newest = sa.func.row_number().over(
        partition_by=[answers.c.sample_id, answers.c.annotator],
        order_by=[answers.c.updated_at.desc(), answers.c.annotation_id.desc()],
    )
    given = answers.c.kind.not_in((*NO_ANSWERS, *SLIPS))
    ranked = sa.select(answers, newest.label("newest")).where(given).subquery()
    task = planned_tasks.alias("asked")
    shown = {"uri": samples.c.uri, "label": ranked.c.value}
    found = dict(task.c.items()) | dict(ranked.c.items()) | shown
    return (
        sa.select(*(found[name].label(name) for name in EXPORT))
        .select_from(ranked)
        .outerjoin(samples, samples.c.sample_id == ranked.c.sample_id)
        .outerjoin(task, (task.c.sample_id == ranked.c.sample_id) & (task.c.round == ranked.c.round))
        .where(ranked.c.newest == 1, ranked.c.kind.in_(VOTES), ranked.c.value.is_not(None))
        .order_by(ranked.c.sample_id, ranked.c.annotator)
    )


def planned(round_key: str | None, columns: Iterable[str], purpose: str | None = None) -> sa.Select[tuple]:
    """Select these columns of the planned tasks of a round, or of all; of one purpose, or of any."""
    task = planned_tasks.c
    # "query" sorts after "holdout"; the rank orders each, the id whatever shares a rank.
    order = [task.round, task.purpose.desc(), task.rank, task.sample_id]
    asked = {task.round: round_key, task.purpose: purpose}
    conditions = [column == value for column, value in asked.items() if value is not None]
    return sa.select(*(task[name] for name in columns)).where(*conditions).order_by(*order)


def drawn_or_asked_blind() -> sa.CompoundSelect[tuple[str]]:
    """Select the samples that were drawn for the holdout, asked about or not yet."""
    asked = sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.purpose == "holdout")
    return sa.union(asked, sa.select(drawn_holdout.c.sample_id))


def held_back() -> sa.Select[tuple]:
    """Select the pool's samples whose group has one that was drawn for the holdout, without these."""
    blind = drawn_or_asked_blind()
    mate = samples.alias("mate")
    groups = sa.select(mate.c.group_id).where(mate.c.group_id.is_not(None), mate.c.sample_id.in_(blind))
    one = samples.c
    return sa.select(one.sample_id).where(one.split == "pool", one.group_id.in_(groups), one.sample_id.not_in(blind))


def frozen(round_key: str) -> sa.Select[tuple]:
    """Select what a round trains on, by sample id; the columns are those of `frames.SNAPSHOT`."""
    label = snapshot_labels.c
    return sa.select(*(label[name] for name in SNAPSHOT)).where(label.round == round_key).order_by(label.sample_id)


def live_members() -> sa.Select[tuple]:
    """Select what the tasks that stand show beside the sample they ask about; the columns are `frames.MEMBERS`."""
    task, member = planned_tasks.c, task_members.c
    theirs = (task.round == member.round) & (task.sample_id == member.sample_id)
    standing = sa.select(*(member[name] for name in MEMBERS)).join_from(task_members, planned_tasks, theirs)
    return standing.where(task.withdrawn_at.is_(None))


def members(*, split: bool) -> sa.Select[tuple]:
    """Select the members of tasks of which somebody says that they differ, or those of the others that stand."""
    member, answer = task_members.c, annotations.c
    differ = sa.exists().where(
        answer.sample_id == member.sample_id, answer.round == member.round, answer.kind == "mixed", ~answer.deleted
    )
    some = sa.select(*(member[name] for name in MEMBERS)).where(differ) if split else live_members().where(~differ)
    return some.order_by(member.round, member.sample_id, member.place)


def labels(
    min_votes: int, class_set: ClassSet | None, class_names: Sequence[str] | None = None
) -> sa.Select[tuple[int]]:
    """Select how many samples have enough votes, without the holdout."""
    return sa.select(sa.func.count()).select_from(_counted(min_votes, class_set, class_names))


def agreed(min_votes: int, class_set: ClassSet | None, class_names: Sequence[str] | None = None) -> sa.Select[tuple]:
    """Select sample, label, votes and number of votes where most people's latest answers to a query agree.

    One walk along `ix_annotations_votes`; only samples that were answered differently are counted value by value.
    """
    counted = _counted(min_votes, class_set, class_names)
    one = annotations.alias("one")
    value = _value(one, class_set)
    theirs = [one.c.sample_id == counted.c.sample_id, *_is_vote(one, class_set, class_names)]
    values = sa.select(value).where(*theirs).group_by(value)
    most = values.having(2 * sa.func.count() > counted.c.n).scalar_subquery()
    same = counted.c.lowest == counted.c.highest
    label = sa.case((same, counted.c.lowest), else_=most)
    found = sa.select(counted, label.label("label")).subquery()
    again = annotations.alias("again")
    for_it = [again.c.sample_id == found.c.sample_id, _value(again, class_set) == found.c.label]
    agreeing = sa.select(sa.func.count()).where(*for_it, *_is_vote(again, class_set, class_names)).scalar_subquery()
    votes = sa.case((found.c.lowest == found.c.highest, found.c.n), else_=agreeing)
    return (
        sa.select(found.c.sample_id, found.c.label, votes.label("votes"), found.c.n)
        .where(found.c.label.is_not(None))
        .order_by(found.c.sample_id)
    )


def _counted(min_votes: int, class_set: ClassSet | None, class_names: Sequence[str] | None) -> sa.Subquery:
    """Select the samples with enough votes, or a correction, with how many there are and the extremes of them."""
    vote, n = annotations.alias("vote"), sa.func.count().label("n")
    value = _value(vote, class_set)
    corrected = sa.func.max(sa.case((vote.c.kind == "correction", 1), else_=0)) == 1
    return (
        sa.select(vote.c.sample_id, sa.func.min(value).label("lowest"), sa.func.max(value).label("highest"), n)
        .where(*_is_vote(vote, class_set, class_names))
        .group_by(vote.c.sample_id)
        .having((n >= min_votes) | corrected)
        .subquery()
    )


def _value(answer: "NamedFromClause | sa.Table", class_set: ClassSet | None) -> sa.ColumnElement[str | None]:
    """Return the class of today that an answer names."""
    column = answer.c.value
    if class_set is None or not (class_set.renamed or class_set.retired):
        return column
    today: dict[str, sa.ColumnElement[str | None]] = {old: sa.literal(new) for old, new in class_set.renamed.items()}
    return sa.case(today | dict.fromkeys(class_set.retired, sa.null()), value=column, else_=column)


def _is_vote(
    answer: NamedFromClause, class_set: ClassSet | None, class_names: Sequence[str] | None
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions under which an annotation is a person's latest answer to a query, and names a class."""
    later, settled = annotations.alias(f"after_{answer.name}"), annotations.alias(f"settled_{answer.name}")
    then, now, end = (sa.tuple_(each.c.updated_at, each.c.annotation_id) for each in (answer, later, settled))
    person = [later.c.sample_id == answer.c.sample_id, later.c.annotator == answer.c.annotator]
    standing = [~later.c.deleted, later.c.kind.not_in((*NO_ANSWERS, *SLIPS))]
    replaced = sa.exists().where(*person, now > then, *standing, _is_query(later)).correlate(answer)
    # A literal, not a parameter: only so the partial index serves.
    is_correction = settled.c.kind == sa.literal_column("'correction'")
    corrected = (
        sa.exists()
        .where(settled.c.sample_id == answer.c.sample_id, is_correction, ~settled.c.deleted, end > then)
        .where(_is_query(settled))
        .correlate(answer)
    )
    value = _value(answer, class_set)
    values = value.is_not(None) if class_names is None else value.in_(class_names)
    blind = sa.select(samples.c.sample_id).where(samples.c.split == sa.literal_column("'holdout'"))
    mine = [~answer.c.deleted, answer.c.kind.in_(VOTES), values]
    drawn = answer.c.sample_id.in_(sa.select(drawn_holdout.c.sample_id))
    return [*mine, answer.c.sample_id.not_in(blind), ~drawn, _is_query(answer), ~replaced, ~corrected]


def _is_query(answer: NamedFromClause) -> sa.ColumnElement[bool]:
    """Return whether an annotation answers a query, if its sample is not holdout by its image; as `_with_purpose`."""
    live, asked = planned_tasks.alias(f"live_{answer.name}"), planned_tasks.alias(f"asked_{answer.name}")
    query, review = sa.literal_column("'query'"), sa.literal_column(f"'{REVIEW}'")
    now = [live.c.sample_id == answer.c.sample_id, live.c.withdrawn_at.is_(None)]
    then = [asked.c.sample_id == answer.c.sample_id, asked.c.round == answer.c.round]
    # Literals, not parameters: only so the partial indexes serve.
    queried = sa.exists().where(*now, live.c.purpose == query).correlate(answer)
    planned = sa.exists().where(*now, live.c.purpose != review).correlate(answer)
    brought = answer.c.source == IMPORTED
    ours = sa.exists().where(*then).correlate(answer)
    was_query = sa.exists().where(*then, asked.c.purpose.in_([query, review])).correlate(answer)
    return ((brought | ours) & queried) | (~planned & (brought | was_query))


def open_tasks() -> sa.Select[tuple]:
    """Select round and sample of the tasks with which nobody has dealt yet; an empty answer or a guess is none.

    Whoever answered before does not answer a review.
    """
    task, answer = planned_tasks, annotations.alias("answer")
    asked = planned_tasks.alias("asked")
    of_ours = sa.exists().where(asked.c.sample_id == answer.c.sample_id, asked.c.round == answer.c.round)
    dealt_with = sa.exists().where(
        answer.c.sample_id == task.c.sample_id,
        ~answer.c.deleted,
        answer.c.kind.in_((*VOTES, *DEALT_WITH)),
        (task.c.purpose != REVIEW) | (answer.c.round == task.c.round),
        (answer.c.source == IMPORTED) | of_ours.correlate(answer),
    )
    return sa.select(task.c.round, task.c.sample_id).where(task.c.withdrawn_at.is_(None), ~dealt_with.correlate(task))


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


def _with_purpose(class_set: ClassSet | None, round_key: str | None = None) -> sa.Subquery:
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
        (samples.c.split == "holdout", "holdout"),
        # A task that was made by hand asks nothing of ours.
        ((answer.source != IMPORTED) & asked.c.round.is_(None), None),
        # Also of those that nobody was asked about yet.
        (answer.sample_id.in_(sa.select(drawn_holdout.c.sample_id)), "holdout"),
        else_=sa.func.coalesce(live.c.purpose, brought, asked.c.purpose),
    ).label("purpose")
    columns = [name for name in dict.fromkeys([*ANSWERS, *EXTRA]) if name != "purpose"]
    shown = {"value": _value(annotations, class_set).label("value"), "kind": answer.kind}
    if class_set is not None and class_set.retired:
        gone = answer.value.in_(class_set.retired) & answer.kind.in_(VOTES)
        shown["kind"] = sa.case((gone, RETIRED), else_=answer.kind).label("kind")
    return (
        sa.select(*(shown.get(name, answer.get(name)) for name in columns), purpose)
        .select_from(annotations)
        .outerjoin(samples, samples.c.sample_id == answer.sample_id)
        .outerjoin(live, now)
        .outerjoin(asked, (asked.c.sample_id == answer.sample_id) & (asked.c.round == answer.round))
        .where(*conditions)
        .subquery()
    )
