"""Copies of databases that are consistent while others write to them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from al_pipeline.ledger.database import PATIENCE, LedgerError, connect, migrate, parse_url, transaction
from al_pipeline.ledger.schema import (
    annotation_events,
    class_sets,
    label_snapshots,
    metadata,
    planned_rounds,
    planned_tasks,
    projects,
)


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
    else:
        _copy_rows(url, f"sqlite:///{target}")


def fill_ledger(source: Path, url: str) -> None:
    """Fill an empty ledger, of SQLite or PostgreSQL, from a copy that `copy_ledger` made: all of it, or nothing.

    Raises
    ------
    InputError, LedgerError
        It cannot be opened or written.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        # Makes its folder.
        connect(url).dispose()
        copy_sqlite(source, Path(str(parsed.database)))
    else:
        _copy_rows(f"sqlite:///{source}", url)


def count_rows(url: str) -> dict[str, int]:
    """Return how many rows each table of a ledger has; of one that is not there yet, none.

    Raises
    ------
    InputError, LedgerError
        It cannot be opened or read.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
        return {}
    engine = connect(url)
    try:
        with transaction(engine, write=False) as connection:
            there = set(sa.inspect(connection).get_table_names())
            return {
                table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
                if table.name in there
            }
    finally:
        engine.dispose()


def _copy_rows(source: str, target: str) -> None:
    """Copy every row of every table between two kinds of database."""
    engines = connect(source), connect(target)
    try:
        for engine in engines:
            migrate(engine)
        # All tables as they were at one moment.
        here = engines[0]
        if here.dialect.name == "postgresql":
            here = here.execution_options(isolation_level="REPEATABLE READ")
        with transaction(here, write=False) as read, transaction(engines[1], write=True) as write:
            for table in metadata.sorted_tables:
                rows = read.execution_options(yield_per=1000).execute(sa.select(table))
                for part in rows.mappings().partitions():
                    write.execute(sa.insert(table), [dict(row) for row in part])
            if engines[1].dialect.name == "postgresql":
                # The numbers came along, and the next one has to be another.
                sequence, newest = sa.func.pg_get_serial_sequence, sa.func.max(annotation_events.c.id)
                next_one = sa.func.setval(sequence(annotation_events.name, "id"), newest)
                write.execute(sa.select(next_one).select_from(annotation_events))
    finally:
        for engine in engines:
            engine.dispose()


def how_far(url: str) -> tuple[int, ...]:
    """Return a mark of how far the loop is: rounds frozen and planned, tasks planned and pushed, projects, classes."""
    counts = [
        sa.select(sa.func.count()).select_from(label_snapshots),
        sa.select(sa.func.count()).select_from(planned_rounds),
        sa.select(sa.func.count()).select_from(planned_tasks),
        sa.select(sa.func.count(planned_tasks.c.pushed_at)),
        # What Label Studio is told of, too.
        sa.select(sa.func.count()).select_from(projects),
        sa.select(sa.func.count()).select_from(class_sets),
    ]
    engine = connect(url)
    try:
        migrate(engine)
        with transaction(engine, write=False) as connection:
            return tuple(connection.execute(count).scalar_one() for count in counts)
    finally:
        engine.dispose()
