"""Copies of databases that are consistent while others write to them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from al_pipeline.ledger.database import PATIENCE, LedgerError, connect, migrate, parse_url, transaction
from al_pipeline.ledger.schema import label_snapshots, metadata, planned_rounds, planned_tasks


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite database into a new file through SQLite's own backup, whoever writes to it meanwhile.

    Raises
    ------
    LedgerError
        It cannot be read, is no database, or there is no room for its copy.
    """
    try:
        with (
            closing(sqlite3.connect(source, timeout=PATIENCE)) as read,
            closing(sqlite3.connect(target, timeout=PATIENCE)) as write,
        ):
            read.backup(write)
    except sqlite3.Error as error:
        raise LedgerError(
            f"the database {source} could not be copied to {target}: {error}. Make room, or see what holds it"
        ) from error


def copy_ledger(url: str, target: Path) -> None:
    """Copy a ledger, of SQLite or PostgreSQL, into a new SQLite file.

    Parameters
    ----------
    url : str
        As of `Ledger`.
    target : Path

    Raises
    ------
    InputError, LedgerError
        It cannot be opened or read.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        copy_sqlite(Path(str(parsed.database)), target)
        return
    source, copy = connect(url), connect(f"sqlite:///{target}")
    try:
        for engine in (source, copy):
            migrate(engine)
        # All tables as they were at one moment.
        frozen = source.execution_options(isolation_level="REPEATABLE READ")
        with transaction(frozen, write=False) as read, transaction(copy, write=True) as write:
            for table in metadata.sorted_tables:
                rows = read.execution_options(yield_per=1000).execute(sa.select(table))
                for part in rows.mappings().partitions():
                    write.execute(sa.insert(table), [dict(row) for row in part])
    finally:
        source.dispose()
        copy.dispose()


def how_far(url: str) -> tuple[int, ...]:
    """Return a mark of how far the loop is: rounds frozen and planned, tasks planned and pushed."""
    counts = [
        sa.select(sa.func.count()).select_from(label_snapshots),
        sa.select(sa.func.count()).select_from(planned_rounds),
        sa.select(sa.func.count()).select_from(planned_tasks),
        sa.select(sa.func.count(planned_tasks.c.pushed_at)),
    ]
    engine = connect(url)
    try:
        migrate(engine)
        with transaction(engine, write=False) as connection:
            return tuple(connection.execute(count).scalar_one() for count in counts)
    finally:
        engine.dispose()
