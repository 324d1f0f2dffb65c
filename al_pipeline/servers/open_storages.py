"""Dagster's SQLite storages of runs, and of sensors and schedules, that keep what they need for more than one question.

Dagster's own classes make an engine, open and close the database and compile the statement for each, about a hundred
times in a round; and each process that begins reads all migrations there ever were, to know that the database
has them. Files and tables are the same. As for events (`event_log`), nobody waits for the disk: whatever ends a process
loses nothing, a power cut the last seconds of what is known of runs, and a round that has lost its run is begun again.
"""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._serdes import ConfigurableClassData
from sqlalchemy.event import listen

from al_pipeline.servers.event_log import do_not_wait_for_the_disk, is_set_up


class _Open:
    """What is another way in both."""

    _database: ClassVar[str]
    _pool: ClassVar[type[sa.Pool]] = sa.QueuePool
    _conn_string: str

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Any:
        """Return the storage that dagster.yaml describes."""
        folder = config_value["base_dir"]
        found: Any = cls(create_db_conn_string(folder, cls._database), inst_data)  # type: ignore[call-arg]
        Path(folder).mkdir(parents=True, exist_ok=True)
        # Of several who open a new one at once, one makes it.
        with (Path(folder) / f".{cls._database}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (Path(folder) / f"{cls._database}.db").exists() and is_set_up(found.engine):
                return found
            found.dispose()
            return found.from_local(inst_data=inst_data, **config_value)

    @cached_property
    def engine(self) -> sa.Engine:
        """The database, opened when it is asked first."""
        options = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        engine = sa.create_engine(self._conn_string, connect_args=options, poolclass=self._pool)
        listen(engine, "connect", do_not_wait_for_the_disk)
        return engine

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """One transaction."""
        with self.engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close the database."""
        self.engine.dispose()


class OpenRunStorage(_Open, SqliteRunStorage):
    """Drop-in for `SqliteRunStorage`: dagster.yaml names it as `run_storage`, with its `base_dir`."""

    _database = "runs"


class OpenScheduleStorage(_Open, SqliteScheduleStorage):
    """Drop-in for `SqliteScheduleStorage`: dagster.yaml names it as `schedule_storage`, with its `base_dir`."""

    _database = "schedules"
    # Nobody tells it when to close the database: Dagster disposes of the others alone.
    _pool = sa.NullPool
