"""Connections to the ledger's database, SQLite or PostgreSQL, its migrations, and errors that keep passwords out."""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.files import private_folder
from al_pipeline.ledger.schema import REVISION

# Seconds that a writer waits for another one, or for a server to answer, before it gives up.
PATIENCE = 10
# Of a connection to PostgreSQL: one whose server has gone without a word is given up as soon as that.
PROMPT = {
    "connect_timeout": PATIENCE,
    "tcp_user_timeout": PATIENCE * 1000,
    "keepalives_idle": 30,
    "keepalives_interval": PATIENCE,
    "keepalives_count": 3,
}
# Any constant: it names the lock under which PostgreSQL clients migrate one after the other.
MIGRATION_LOCK = 0x616C5F7069706531
WRITES = "al_pipeline_writes"
# Values in one statement: SQLite takes at most 32,766.
CHUNK = 10_000
T = TypeVar("T")


class LedgerError(ALError):
    """The ledger cannot be reached, or refuses what would break it."""


class LedgerConflictError(LedgerError):
    """A constraint of the database refused what another writer made impossible meanwhile; nothing was stored."""


def parse_url(url: str) -> sa.URL:
    """Return the parsed URL of a ledger; ``postgres://`` is accepted for ``postgresql://``.

    Raises
    ------
    InputError
        It is no URL, or not one of SQLite (as a file) or PostgreSQL. The message holds no password.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        parsed = None
    # With a second "@" part of the password is taken for the host, and would be shown. SQLAlchemy's own message may
    # repeat the whole URL: neither is repeated here.
    if parsed is None or (url.count("@") > 1 and parsed.get_backend_name() != "sqlite"):
        raise InputError(
            "the ledger's URL (AL_DATABASE_URL) cannot be read: write sqlite:////path/ledger.sqlite3 or "
            "postgresql://user:password@host/database, special characters in the password percent-encoded (@ is %40)"
        )
    if parsed.drivername == "postgres":
        parsed = parsed.set(drivername="postgresql")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise InputError(
            f"the ledger cannot use {shown(parsed)} (AL_DATABASE_URL): "
            "SQLite (sqlite:////path/ledger.sqlite3) and PostgreSQL (postgresql://…) are supported"
        )
    if parsed.get_backend_name() == "sqlite" and (not parsed.database or ":memory:" in parsed.database):
        raise InputError("the ledger must be a file, since labels must outlive the process: sqlite:////path/ledger.db")
    return parsed


def connect(url: str) -> sa.Engine:
    """Return an engine for the ledger's database; nothing is connected yet.

    Raises
    ------
    InputError
        The URL cannot be used, or the PostgreSQL driver is not installed.
    LedgerError
        The folder of the SQLite file cannot be created.
    """
    parsed = parse_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite:
        folder = Path(str(parsed.database)).parent
        try:
            private_folder(folder)
        except OSError as error:
            raise LedgerError(f"the folder {folder} of the ledger cannot be created: {error.strerror}") from error
    arguments = {"timeout": PATIENCE} if sqlite else PROMPT | {"application_name": "al_pipeline"}
    try:
        engine = sa.create_engine(
            parsed, connect_args=arguments, pool_pre_ping=not sqlite, json_serializer=partial(json.dumps, default=str)
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise InputError(
            f"the driver of {parsed.drivername} is missing: uv pip install 'al_pipeline[postgres]'"
        ) from error
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Let readers read while one writes (WAL), enforce foreign keys, and leave transactions to `_begin_sqlite`."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode")
    if cursor.fetchone()[0] != "wal":
        _write_ahead(cursor)
    cursor.execute("PRAGMA foreign_keys = ON")
    # The pages that a view needs are read once: 256 MB at most, and only as much as is used.
    cursor.execute("PRAGMA cache_size = -262144")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Change a new file to WAL, waiting for whoever writes to it: for this change alone SQLite itself never waits."""
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once where a transaction will write: taking it later can fail whatever the patience."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def server_of(url: str) -> tuple[str, datetime] | None:
    """Return version and time of the PostgreSQL server of a ledger; None for a file.

    Raises
    ------
    InputError, LedgerError
        The URL cannot be used, or the server not be reached.
    """
    engine = connect(url)
    if engine.dialect.name != "postgresql":
        return None
    try:
        with transaction(engine, write=False) as connection:
            asked = "SELECT current_setting('server_version'), clock_timestamp()"
            version, now = connection.execute(sa.text(asked)).one()
    finally:
        engine.dispose()
    return str(version), now


@contextmanager
def transaction(engine: sa.Engine, *, write: bool) -> Iterator[sa.Connection]:
    """One transaction: all of it is stored, or, whatever happens, nothing.

    Raises
    ------
    LedgerError
        The database cannot be reached or used; the message holds no password. `LedgerConflictError` for a constraint.
    """
    try:
        with engine.connect().execution_options(**{WRITES: write}) as connection, connection.begin():
            yield connection
    except IntegrityError as error:
        raise LedgerConflictError(f"the ledger at {shown(engine.url)} refused this: {_first_line(error)}") from error
    except DBAPIError as error:
        raise LedgerError(
            f"the ledger at {shown(engine.url)} could not be {'written' if write else 'read'}: {_first_line(error)}. "
            "Check that its database runs and that AL_DATABASE_URL names it"
        ) from error


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut values into parts that a statement takes."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def shown(url: sa.URL) -> str:
    """Return the URL as it may be shown: without its password, and without its query, which may hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]


def migrate(engine: sa.Engine) -> None:
    """Bring the database to the newest schema; several processes may do so at once.

    Raises
    ------
    LedgerError
        The database cannot be reached, or a newer version of this project has written it.
    """
    with transaction(engine, write=False) as connection:
        if _revision(connection) == REVISION:
            return
    # Only a database that is behind pays for importing Alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "al_pipeline.ledger:migrations")
    with transaction(engine, write=True) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerError(
                f"the ledger at {shown(engine.url)} has the schema "
                f"{_revision(connection)!r}, which this version does not know ({REVISION} is its newest): "
                "install the version of al_pipeline that wrote it, or a newer one"
            ) from error


def _revision(connection: sa.Connection) -> str | None:
    """Return the schema revision of the database, None for an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
