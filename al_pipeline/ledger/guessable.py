"""Which samples people may be shown a guess about."""

from collections.abc import Iterable

import sqlalchemy as sa

from al_pipeline.ledger.database import transaction
from al_pipeline.ledger.guards import CHUNK
from al_pipeline.ledger.schema import planned_tasks, samples
from al_pipeline.ledger.store import Ledger


def guessable(ledger: Ledger, sample_ids: Iterable[str]) -> set[str]:
    """Return those of the samples that only ever were asked about as a query, and belong to the pool.

    The holdout's labels must be blind: a sample that any round planned for it, or that the images' own test split
    has, is left out, and so is one that the ledger does not know.
    """
    asked, found = sorted(set(sample_ids)), set[str]()
    task = planned_tasks.c
    query = (
        sa.select(task.sample_id)
        .join(samples, samples.c.sample_id == task.sample_id)
        .where(samples.c.split == "pool")
        .group_by(task.sample_id)
        .having(sa.func.sum(sa.case((task.purpose == "query", 0), else_=1)) == 0)
    )
    with transaction(ledger._engine, write=False) as connection:
        for start in range(0, len(asked), CHUNK):
            found.update(connection.execute(query.where(task.sample_id.in_(asked[start : start + CHUNK]))).scalars())
    return found
