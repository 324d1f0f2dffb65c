"""What the ledger refuses to store, said in words before the database's own constraints would say it in theirs."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from al_pipeline.ledger.database import LedgerError
from al_pipeline.ledger.schema import REVIEW, planned_tasks, samples

# SQLite takes at most 32,766 parameters in a statement.
CHUNK = 10_000


def refuse_unplannable(connection: sa.Connection, round_key: str, rows: list[dict[str, Any]]) -> None:
    """Raise LedgerError if a sample is not registered, or some task asks about it now and this is no review."""
    refuse_unregistered(connection, [row["sample_id"] for row in rows])
    task = planned_tasks.c
    query = sa.select(task.sample_id, task.round).where(task.withdrawn_at.is_(None), task.purpose != REVIEW)
    new = [row["sample_id"] for row in rows if row["purpose"] != REVIEW]
    live: dict[str, str] = {}
    for start in range(0, len(new), CHUNK):
        live.update(connection.execute(query.where(task.sample_id.in_(new[start : start + CHUNK]))).tuples().all())
    if asked := [sample for sample in new if sample in live]:
        raise LedgerError(
            f"{round_key} cannot be planned: {len(asked)} of its samples have a task already, "
            f"the first is {asked[0]} in {live[asked[0]]}; draw the batch from samples that no task asks about"
        )


def refuse_unregistered(connection: sa.Connection, sample_ids: list[str]) -> None:
    """Raise LedgerError if a sample is not registered."""
    known: set[str] = set()
    for start in range(0, len(sample_ids), CHUNK):
        query = sa.select(samples.c.sample_id).where(samples.c.sample_id.in_(sample_ids[start : start + CHUNK]))
        known.update(connection.execute(query).scalars())
    if unknown := [sample for sample in sample_ids if sample not in known]:
        raise LedgerError(
            f"{len(unknown)} samples are not in the ledger, the first is {unknown[0]}: register the images first "
            "(materialize image_pool)"
        )


def refuse_unknown(connection: sa.Connection, round_key: str, sample_ids: Iterable[str]) -> None:
    """Raise LedgerError if a sample is not in the plan of the round."""
    query = sa.select(planned_tasks.c.sample_id).where(planned_tasks.c.round == round_key)
    if unknown := sorted(set(sample_ids) - set(connection.execute(query).scalars())):
        raise LedgerError(
            f"{len(unknown)} samples are not in the plan of {round_key}, the first is {unknown[0]}: "
            "a batch is planned before it is pushed"
        )
