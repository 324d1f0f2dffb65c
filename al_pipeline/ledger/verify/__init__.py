"""A check of the whole ledger: whether everything in it can be, and every label can be traced to who gave it when."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from al_pipeline.ledger.database import connect, migrate, transaction
from al_pipeline.ledger.schema import (
    annotation_events,
    label_snapshots,
    planned_rounds,
    planned_tasks,
    samples,
    snapshot_labels,
)
from al_pipeline.ledger.verify.classes import class_history
from al_pipeline.ledger.verify.events import current_answers, doubled, events, made_by_hand, worth
from al_pipeline.ledger.verify.findings import Remark
from al_pipeline.ledger.verify.plans import plans
from al_pipeline.ledger.verify.snapshots import snapshots
from al_pipeline.ledger.verify.sources import sources
from al_pipeline.ledger.verify.storage import references, storage


@dataclass(frozen=True)
class Report:
    """What was looked at, in rows per kind, what is wrong, and what is odd and breaks nothing, a sentence each."""

    counts: dict[str, int]
    problems: list[str]
    remarks: list[str] = field(default_factory=list)


def verify(url: str) -> Report:
    """Check the invariants of a ledger; nothing but its schema is brought up to date.

    Whatever the database's own constraints promise is checked too: a file may have been edited, or copied while it was
    written to.

    Parameters
    ----------
    url : str
        As of `Ledger`.

    Raises
    ------
    InputError, LedgerError
        It cannot be opened.
    """
    engine = connect(url)
    try:
        migrate(engine)
        with transaction(engine, write=False) as connection:
            found = list(storage(connection))
            if not found:
                checks = (
                    references,
                    plans,
                    events,
                    made_by_hand,
                    worth,
                    doubled,
                    current_answers,
                    class_history,
                    snapshots,
                    sources,
                )
                found = [finding for check in checks for finding in check(connection)]
            tables = {
                "samples": samples,
                "rounds": planned_rounds,
                "tasks": planned_tasks,
                "annotation events": annotation_events,
                "snapshots": label_snapshots,
                "labels in snapshots": snapshot_labels,
            }
            count = sa.select(sa.func.count())
            counts = {name: connection.execute(count.select_from(table)).scalar_one() for name, table in tables.items()}
    finally:
        engine.dispose()
    remarks = [str(each) for each in found if isinstance(each, Remark)]
    return Report(counts, [each for each in found if not isinstance(each, Remark)], remarks)
