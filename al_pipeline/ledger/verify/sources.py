"""Where annotations come from: the projects that are ours, and how far each source was read."""

from collections.abc import Iterator
from datetime import timedelta

import sqlalchemy as sa

from al_pipeline.ledger.schema import IMPORTED, annotation_events, projects, watermarks
from al_pipeline.ledger.verify.findings import Remark

# A source is read up to its own time; one that is further ahead of ours has a wrong clock.
AHEAD = timedelta(days=1)


def sources(connection: sa.Connection) -> Iterator[str]:
    """Find a project of two identities; remark on sources that are nobody's, and on clocks."""
    project, n = projects.c, sa.func.count()
    # A project that is about to be made has the number 0.
    twice = sa.select(project.project_id, project.created_at, n, sa.func.min(project.identity))
    twice = twice.where(project.project_id != 0).group_by(project.project_id, project.created_at).having(n > 1)
    for number, made, count, first in connection.execute(twice.order_by(project.project_id)):
        yield f"project {number} of {made} has {count} identities, the first is {first}"
    mark = watermarks.c
    for name, until, pulled in connection.execute(sa.select(mark.name, mark.value, mark.pulled_at)).all():
        if pulled is not None and until - pulled > AHEAD:
            yield Remark(
                f"{name} was read up to {until} at {pulled}: its clock was ahead, and what was done since is read once "
                "that has passed, or its counts differ"
            )
    known = {*connection.execute(sa.select(project.identity)).scalars()}
    if not known:
        return
    ours = {IMPORTED, *known, *(f"project {identity}" for identity in known)}
    told = set(connection.execute(sa.select(annotation_events.c.source.distinct())).scalars())
    for name in sorted(told - ours):
        yield Remark(f"the annotations of {name} are of no project that is known: it was not adopted, and is not read")
    for name in sorted(set(connection.execute(sa.select(mark.name)).scalars()) - told - ours):
        yield Remark(f"{name} was read, but has no annotations and is no project that is known")
