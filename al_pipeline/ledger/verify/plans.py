"""Whether the plans can be: who is asked about what, once, for one purpose, by which task."""

from collections.abc import Iterator

import sqlalchemy as sa

from al_pipeline.core.rounds import is_round
from al_pipeline.ledger.members import MOST_SHOWN
from al_pipeline.ledger.queries import drawn_or_asked_blind, live_members
from al_pipeline.ledger.schema import (
    AGAIN,
    REVIEW,
    drawn_holdout,
    label_snapshots,
    planned_rounds,
    planned_tasks,
    samples,
    task_members,
)
from al_pipeline.ledger.verify.findings import Remark

PURPOSES = ("query", "holdout", REVIEW)
SHARES = ("propensity", "certainty", "predicted_probability")
# Sums of floats end this far beyond 1.
ROUNDING = 1e-6


def plans(connection: sa.Connection) -> Iterator[str]:
    """Find what no plan can be."""
    yield from _rounds(connection)
    yield from _tasks(connection)
    yield from _purposes(connection)
    yield from _draw(connection)
    yield from _task_ids(connection)
    yield from _numbers(connection)
    yield from _members(connection)


def _rounds(connection: sa.Connection) -> Iterator[str]:
    planned = set(connection.execute(sa.select(planned_rounds.c.round)).scalars())
    frozen = set(connection.execute(sa.select(label_snapshots.c.round)).scalars())
    for key in sorted(planned | frozen):
        if not is_round(key):
            yield f"{key!r} is no round (r and four digits)"
    for key in sorted(frozen - planned):
        if key < max(planned | frozen):
            yield Remark(f"{key}: the labels are frozen, but nothing was planned, though later rounds were begun")


def _tasks(connection: sa.Connection) -> Iterator[str]:
    task = planned_tasks.c
    live = sa.select(task.sample_id, sa.func.count()).where(task.withdrawn_at.is_(None), task.purpose != REVIEW)
    for sample, count in connection.execute(live.group_by(task.sample_id).having(sa.func.count() > 1)):
        yield f"sample {sample} has {count} tasks at once"
    half = sa.select(task.round, task.sample_id).where(task.task_id.is_(None) != task.pushed_at.is_(None))
    for key, sample in connection.execute(half):
        yield f"{key}: the task of sample {sample} has a task id or a time of its push, but not both"
    early = sa.select(task.round, task.sample_id).where(task.withdrawn_at < task.pushed_at)
    for key, sample in connection.execute(early):
        yield f"{key}: the task of sample {sample} was withdrawn before it was pushed"


def _purposes(connection: sa.Connection) -> Iterator[str]:
    task = planned_tasks.c
    for key, sample, purpose in connection.execute(
        sa.select(task.round, task.sample_id, task.purpose).where(task.purpose.not_in(PURPOSES))
    ):
        yield f"{key}: the purpose of sample {sample} is {purpose!r}, which is none of {', '.join(PURPOSES)}"
    asked = task.withdrawn_at.is_(None) & (task.purpose != "holdout")
    own = sa.select(task.round, task.sample_id).join(samples, samples.c.sample_id == task.sample_id)
    for key, sample in connection.execute(own.where(asked, samples.c.split == "holdout")):
        yield f"{key}: sample {sample} is asked to be trained on, but is of the images' holdout"
    blind = planned_tasks.alias("blind")
    later = (blind.c.sample_id == task.sample_id) & (blind.c.purpose == "holdout") & (blind.c.round < task.round)
    again = sa.select(task.round, task.sample_id, blind.c.round).join_from(planned_tasks, blind, later)
    for key, sample, before in connection.execute(again.where(task.purpose != "holdout")):
        yield f"{key}: sample {sample} is asked to be trained on, but was of the holdout in {before}"


def _draw(connection: sa.Connection) -> Iterator[str]:
    """Find what the list of what was drawn for the holdout cannot be, and tasks that do not go by it."""
    task, one = planned_tasks.c, drawn_holdout.c
    theirs = sa.select(task.round, task.sample_id, task.purpose).join(drawn_holdout, one.sample_id == task.sample_id)
    for key, sample, purpose in connection.execute(theirs.where(task.purpose != "holdout")):
        yield f"{key}: sample {sample} was drawn for the holdout, and is asked about as a {purpose}"
    since = sa.select(sa.func.min(one.drawn_at)).scalar_subquery()
    blind = sa.select(task.round, task.sample_id).where(task.purpose == "holdout", task.propensity.is_not(None))
    # Rounds of before there was a list have asked about all that they drew.
    unlisted = blind.where(task.planned_at >= since, task.sample_id.not_in(sa.select(one.sample_id)))
    for key, sample in connection.execute(unlisted):
        yield f"{key}: sample {sample} is asked about for the holdout, and was not drawn"
    for sample, share in connection.execute(
        sa.select(one.sample_id, one.propensity).where((one.propensity < 0) | (one.propensity > 1 + ROUNDING))
    ):
        yield f"the propensity of sample {sample}, drawn for the holdout, is {share}, and should be between 0 and 1"
    n = sa.func.count()
    for rank, count in connection.execute(sa.select(one.rank, n).group_by(one.rank).having(n > 1)):
        yield f"{count} samples were drawn for the holdout with the rank {rank}"


def _task_ids(connection: sa.Connection) -> Iterator[str]:
    task = planned_tasks.c
    # A push gives every sample a task of its own, or a place in one; a later one may meet ids that are given out again.
    n, pushes = sa.func.count(), sa.func.count(task.pushed_at.distinct())
    place = sa.func.coalesce(task.cell, 0)
    first, last = sa.func.min(task.round), sa.func.max(task.round)
    push = (task.task_id, task.pushed_at)
    pushed = sa.select(task.task_id, n, first).where(task.task_id.is_not(None)).group_by(*push).order_by(task.task_id)
    several = (n > sa.func.count(place.distinct())) | ((n > 1) & ((sa.func.min(place) == 0) | (first != last)))
    for number, count, key in connection.execute(pushed.having(several)):
        yield f"{key}: task {number} asks about {count} samples"
    outside = sa.select(task.round, task.sample_id, task.cell).where((task.cell < 1) | (task.cell > MOST_SHOWN))
    for key, sample, cell in connection.execute(outside):
        yield f"{key}: sample {sample} is image {cell} of its task, which shows {MOST_SHOWN} at most"
    reused = sa.select(task.task_id, first, last).where(task.task_id.is_not(None)).group_by(task.task_id)
    if found := connection.execute(reused.having(pushes > 1).order_by(task.task_id)).all():
        number, key, other = found[0]
        yield Remark(
            f"{len(found)} task ids are of several pushes, the first is {number} of {key} and {other}: Label Studio "
            "has given them out again after it was set back, or replaced by another one"
        )


def _numbers(connection: sa.Connection) -> Iterator[str]:
    task = planned_tasks.c
    for name in SHARES:
        outside = sa.select(task.round, task.sample_id, task[name])
        for key, sample, share in connection.execute(outside.where((task[name] < 0) | (task[name] > 1 + ROUNDING))):
            yield f"{key}: the {name} of sample {sample} is {share}, and should be between 0 and 1"
    # What is asked again is ranked by itself; a random draw has no score either.
    ranks = (task.round, task.purpose, task.rank, task.score.is_(None), task.strategy.startswith(AGAIN))
    for key, purpose, rank, _, _, count in connection.execute(
        sa.select(*ranks, sa.func.count()).group_by(*ranks).having(sa.func.count() > 1).order_by(*ranks)
    ):
        yield f"{key}: {count} samples have the rank {rank} of the purpose {purpose}"


def _members(connection: sa.Connection) -> Iterator[str]:
    """Find what no task can show beside its sample: what it may not teach, what is asked about elsewhere."""
    member, task = task_members.c, planned_tasks.c
    shown = (member.round, member.sample_id, member.member_id)
    theirs = sa.and_(task.round == member.round, task.sample_id == member.sample_id)
    of_query = sa.select(*shown, task.purpose).outerjoin_from(task_members, planned_tasks, theirs)
    for key, sample, other, purpose in connection.execute(of_query.order_by(*shown)):
        if purpose != "query" or sample == other:
            why = "itself" if sample == other else "nothing planned" if purpose is None else f"a {purpose}"
            yield f"{key}: sample {other} is shown beside {sample}, which is {why}"
    places = sa.select(member.round, member.sample_id)
    low, high = sa.func.min(member.place), sa.func.max(member.place)
    wrong = sa.or_(low < 2, high > MOST_SHOWN, sa.func.count() != sa.func.count(member.place.distinct()))
    for key, sample in connection.execute(places.group_by(member.round, member.sample_id).having(wrong)):
        yield f"{key}: what is shown beside sample {sample} has not each a place from 2 to {MOST_SHOWN}"
    blind = sa.select(samples.c.sample_id).where(samples.c.split == "holdout")
    held = sa.union(blind, *drawn_or_asked_blind().selects)
    live = live_members().subquery()
    standing = sa.select(live.c.round, live.c.sample_id, live.c.member_id).order_by(*live.c)
    for key, sample, other in connection.execute(standing.where(live.c.member_id.in_(held))):
        yield f"{key}: sample {other} is shown beside {sample} to be trained on, but is of the holdout"
    alone = [task.sample_id == live.c.member_id, task.withdrawn_at.is_(None), task.purpose != REVIEW]
    for key, sample, other, elsewhere in connection.execute(
        standing.add_columns(task.round).join_from(live, planned_tasks, sa.and_(*alone))
    ):
        yield f"{key}: sample {other} is shown beside {sample}, and asked about by itself in {elsewhere}"
    n = sa.func.count()
    for other, count in connection.execute(
        sa.select(live.c.member_id, n).group_by(live.c.member_id).having(n > 1).order_by(live.c.member_id)
    ):
        yield f"sample {other} is shown by {count} tasks at once"
