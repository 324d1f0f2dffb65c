"""Whether what people did is told as they did it, once, under their names, and the current answers follow from it."""

import json
from collections.abc import Iterator
from datetime import timedelta

import sqlalchemy as sa

from al_pipeline.core.labels.annotation import KINDS, VOTES, choices_of, kind_of, unknown_author
from al_pipeline.ledger.queries import latest_events
from al_pipeline.ledger.schema import IMPORTED, annotation_events, annotations, planned_tasks, projects, samples
from al_pipeline.ledger.verify.findings import Remark

# Clocks differ; a server that is further ahead of ours has a wrong one.
AHEAD = timedelta(days=1)
# Whom Label Studio could not name, as ledgers of before schema 0004 have it: all such people are one there.
NAMELESS = "user None"
NOBODY = unknown_author(0)[:-1]
CLOCK = "Label Studio's clock was wrong, or set back meanwhile"
BEFORE_ADOPTION = "one server under two names, until the next round finds out that they are one project"
SKIPS = ("skip", "skip_choice")


def events(connection: sa.Connection) -> Iterator[str]:
    """Find events about what is not there, and times that cannot be."""
    event = annotation_events.c
    unknown = (
        sa.select(event.annotation_id, event.sample_id, event.source)
        .outerjoin(samples, samples.c.sample_id == event.sample_id)
        .where(event.sample_id.is_not(None), samples.c.sample_id.is_(None), (event.source == IMPORTED) | _by_us())
    )
    for annotation, sample, source in connection.execute(unknown):
        yield f"annotation {annotation} of {source} is about sample {sample}, which is not in the ledger"
    yield from _changed(connection)
    of_source = sa.select(event.source, sa.func.count(), sa.func.min(event.annotation_id)).group_by(event.source)
    back = of_source.where(event.updated_at < event.created_at).order_by(event.source)
    for source, count, first in connection.execute(back):
        yield Remark(
            f"{count} states of annotations of {source} are older than their annotations, the first is {first}: {CLOCK}"
        )
    for source, made, pulled, first in _ahead(connection):
        yield Remark(f"annotation {first} of {source} was pulled {pulled}, before it was made ({made}): {CLOCK}")


def _changed(connection: sa.Connection) -> Iterator[str]:
    """Find annotations that are about another sample, or by another person, than they were."""
    event = annotation_events.c
    named = (event.annotator != NAMELESS) & ~event.annotator.startswith(NOBODY)
    n_samples = sa.func.count(event.sample_id.distinct())
    n_people = sa.func.count(sa.case((named, event.annotator)).distinct())
    states = sa.select(event.source, event.annotation_id, n_samples, n_people)
    states = states.group_by(event.source, event.annotation_id, event.created_at)
    states = states.having((n_samples > 1) | (n_people > 1))
    for source, annotation, of_samples, of_people in connection.execute(states):
        if of_samples > 1:
            yield f"annotation {annotation} of {source} is about more than one sample"
        if of_people > 1:
            yield f"annotation {annotation} of {source} is by {of_people} people, one after the other"
    own, origin = (sa.literal(NOBODY) + sa.cast(number, sa.Text) for number in (event.annotation_id, event.import_id))
    taken = sa.select(event.source, event.annotation_id, event.annotator).where(event.annotator.startswith(NOBODY))
    # A copy has the author of what it is a copy of, and that may be a copy itself.
    original = annotation_events.alias("original").c
    of_original = sa.exists().where(original.annotation_id == event.import_id, original.annotator == event.annotator)
    of_original = of_original.where(original.sample_id == event.sample_id).correlate(annotation_events)
    taken = taken.where(event.annotator != own, origin.is_distinct_from(event.annotator), ~of_original)
    for source, annotation, who in connection.execute(taken):
        yield f"annotation {annotation} of {source} has the author of another: {who}"
    nameless = sa.select(event.source, sa.func.count(event.annotation_id.distinct())).group_by(event.source)
    nameless = nameless.where(event.annotator == NAMELESS).having(sa.func.count(event.annotation_id.distinct()) > 1)
    for source, count in connection.execute(nameless.order_by(event.source)):
        yield Remark(f"{count} annotations of {source} are by {NAMELESS}: all whom nobody knows any more count as one")


def _ahead(connection: sa.Connection) -> Iterator[tuple]:
    """Return, per source, an annotation that was pulled long before it was made."""
    event = annotation_events.c
    at = sa.select(event.source, event.created_at, event.pulled_at, event.annotation_id)
    # Days are counted in Python, as the databases do not agree on how; there are few.
    seen = set[str]()
    for row in connection.execute(at.where(event.pulled_at < event.created_at).order_by(event.id)):
        if row.source not in seen and row.created_at - row.pulled_at > AHEAD:
            seen.add(row.source)
            yield row.source, row.created_at, row.pulled_at, row.annotation_id


def _by_us() -> sa.ColumnElement[bool]:
    """Return whether an event is about a task that we have made: one of a sample or of a task id that was planned."""
    event, task = annotation_events.c, planned_tasks.c
    planned = sa.exists().where(task.round == event.round, task.sample_id == event.sample_id)
    pushed = sa.exists().where(task.round == event.round, task.task_id == event.task_id)
    return planned.correlate(annotation_events) | pushed.correlate(annotation_events)


def made_by_hand(connection: sa.Connection) -> Iterator[str]:
    """Remark on answers to tasks that nobody planned."""
    event, n = annotation_events.c, sa.func.count(annotation_events.c.annotation_id.distinct())
    foreign = sa.select(event.source, n, sa.func.min(event.annotation_id), sa.func.min(event.task_id))
    foreign = foreign.where(event.source != IMPORTED, ~_by_us()).group_by(event.source).order_by(event.source)
    for source, count, annotation, task in connection.execute(foreign):
        yield Remark(
            f"{count} annotations of {source} answer tasks that were made by hand (the first is annotation "
            f"{annotation}, the first task {task}): nobody planned them, and they are left out"
        )


def worth(connection: sa.Connection) -> Iterator[str]:
    """Find events that are said to be worth what they are not: by themselves, and by what Label Studio had shown."""
    event = annotation_events.c
    skips, about = event.kind.in_(SKIPS), (event.annotation_id, event.source, event.kind, event.value)
    for condition, wrong in (
        (event.kind.not_in(KINDS), "is of the kind {kind!r}, which is none"),
        (skips != event.cancelled, "is kept as {kind}, but is {not_}cancelled"),
        (event.kind.in_((*SKIPS, "empty")) & event.value.is_not(None), "is kept as {kind}, but says {value!r}"),
        (event.kind.in_(VOTES) & event.value.is_(None) & ~event.deleted, "is kept as {kind}, but names no class"),
        ((event.kind == "hasty") & event.lead_time.is_(None), "is kept as {kind}, but nobody knows how long it took"),
        ((event.kind == "copy") & event.import_id.is_(None), "is kept as {kind}, but of no other annotation"),
        ((event.kind == "correction") & (event.source != IMPORTED), "is kept as {kind}, but was not brought along"),
    ):
        if "cancelled" in wrong:
            condition &= event.kind.in_(KINDS) & (event.kind != "copy")
        for annotation, source, kind, value, cancelled in connection.execute(
            sa.select(*about, event.cancelled).where(condition).order_by(event.id)
        ):
            text = wrong.format(kind=kind, value=value, not_="" if cancelled else "not ")
            yield f"annotation {annotation} of {source} {text}"
    yield from _shown(connection)


def _shown(connection: sa.Connection) -> Iterator[str]:
    """Compare events with the JSON that they were read from; labels that people brought along have another one."""
    event = annotation_events.c
    # As text: it is parsed once, and only where there is something to compare.
    raw = sa.cast(event.raw, sa.Text)
    columns = (event.annotation_id, event.source, event.kind, event.value, event.cancelled, event.deleted)
    query = sa.select(*columns, event.import_id, event.cell, raw).where(event.source != IMPORTED).order_by(event.id)
    for annotation, source, kind, value, cancelled, deleted, import_id, cell, text in connection.execute(query):
        shown = json.loads(text)
        problem = None
        if "result" in shown:
            said, chosen = kind_of(shown), choices_of(shown)
            possible = {said, "hasty" if said == "answer" else said, "copy" if shown.get("import_id") else said}
            if kind not in possible:
                problem = f"is kept as {kind}, but Label Studio showed: {said}"
            elif value != (chosen[0] if len(chosen) == 1 and said != "skip_choice" else None):
                problem = (
                    f"is kept with the class {value!r}, but Label Studio showed {', '.join(map(repr, chosen)) or None}"
                )
            elif cancelled != bool(shown.get("was_cancelled")):
                problem = "is kept as cancelled, but was not" if cancelled else "is kept as not cancelled, but was"
            elif "id" in shown and annotation != shown["id"]:
                problem = f"has the number {shown['id']} in Label Studio"
            elif cell != shown.get("cell"):
                problem = f"is kept as of image {cell} of its task, but Label Studio showed image {shown.get('cell')}"
            elif import_id not in (None, shown.get("import_id")):
                problem = f"is kept as a copy of {import_id}, but Label Studio showed {shown.get('import_id')}"
        elif shown.get("deleted") and not deleted:
            problem = "is kept as standing, but was taken back"
        if problem is not None:
            yield f"annotation {annotation} of {source} {problem}"


def doubled(connection: sa.Connection) -> Iterator[str]:
    """Find what counts twice: an annotation under two names of its server, a copy beside what it is a copy of."""
    event = annotation_events.c
    state = (event.annotation_id, event.created_at, event.updated_at, event.task_id, event.sample_id)
    names = sa.func.min(event.source).label("one"), sa.func.max(event.source).label("other")
    both = sa.select(event.annotation_id, *names).where(event.source != IMPORTED).group_by(*state)
    found = both.having(names[0] != names[1]).subquery()
    count = sa.func.count(found.c.annotation_id.distinct()), sa.func.min(found.c.annotation_id)
    pairs = sa.select(found.c.one, found.c.other, *count).group_by(found.c.one, found.c.other)
    adopted = connection.execute(sa.select(sa.func.count()).select_from(projects)).scalar_one()
    for one, other, n, first in connection.execute(pairs.order_by(found.c.one, found.c.other)):
        text = f"{n} annotations are of {one} and of {other} too, the first is {first}"
        yield f"{text}: one server under two names" if adopted else Remark(f"{text}: {BEFORE_ADOPTION}")
    copy, original = annotation_events.alias("copy").c, annotation_events.alias("original").c
    same = [original.annotation_id == copy.import_id, original.sample_id == copy.sample_id]
    same += [original.import_id.is_(None), original.cancelled == copy.cancelled, original.pulled_at < copy.pulled_at]
    counted = sa.select(copy.source, copy.annotation_id, copy.import_id).distinct()
    counted = counted.where(copy.import_id.is_not(None), copy.kind.in_(VOTES), copy.value == original.value, *same)
    for source, annotation, of in connection.execute(counted.order_by(copy.source, copy.annotation_id)):
        yield f"annotation {annotation} of {source} counts beside annotation {of}, of which it is a copy"


def current_answers(connection: sa.Connection) -> Iterator[str]:
    """Compare the current answers with the newest event of each annotation."""
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
