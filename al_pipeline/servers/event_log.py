"""Dagster's SQLite event log, with its databases kept open.

Dagster's own class opens and closes a database for each event that it stores or reads, several milliseconds every
time. Here those used last stay open. For each run it makes a database, by all that Alembic has to say about it; here an
empty one is copied. Files and tables are the same: each class reads what the other wrote.

It also waits for the disk at each event, up to ten milliseconds some 200 times in a round. Here it does not: whatever
ends a process loses nothing, a power cut the last seconds of what the UI shows of runs. The databases stay whole, a run
that was cut off is reported and run again, and what rounds must not lose is in the ledger, which waits for the disk.
"""

import math
import os
import shutil
import sqlite3
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster
import sqlalchemy as sa
from alembic.migration import MigrationContext
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy.event import listen

from al_pipeline.core.files import whole_file

# Each run has a database of its own; a daemon looks at all of them and must not keep all of them open.
OPEN_DATABASES = 8
# Seconds for which a partition that was there is taken to be.
LATELY = 1.0


class OpenEventLog(SqliteEventLogStorage):
    """Drop-in for `SqliteEventLogStorage`: dagster.yaml names it as `event_log_storage`, with its `base_dir`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, sa.Engine] = OrderedDict()
        self._there: dict[tuple[str, str], float] = {}
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "OpenEventLog":
        """Return the storage that dagster.yaml describes."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        # The lock lets in one thread at a time, so one connection for each database is enough.
        with self._db_lock:
            engine = self._engine(shard)
            with engine.begin() as connection:
                yield connection

    def _engine(self, shard: str) -> sa.Engine:
        engine = self._engines.pop(shard, None)
        if engine is not None and not Path(self.path_for_shard(shard)).exists():
            # `dagster run wipe` in another process.
            engine.dispose()
            engine = None
        if engine is None:
            path = Path(self.path_for_shard(shard))
            if not path.exists():
                self._copy_of_empty(path)
            engine = self._opened(path)
            if not is_set_up(engine):
                self._initdb(engine)
        self._engines[shard] = engine
        if len(self._engines) > OPEN_DATABASES:
            self._engines.popitem(last=False)[1].dispose()
        return engine

    def _opened(self, path: Path) -> sa.Engine:
        engine = sa.create_engine(
            f"sqlite:///{path}",
            pool_size=1,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        )
        listen(engine, "connect", do_not_wait_for_the_disk)
        return engine

    def _copy_of_empty(self, path: Path) -> None:
        """Put an empty database there, unless somebody else does meanwhile; the first one of a home is made."""
        empty = path.with_name(f"empty-{dagster.__version__}")
        if not empty.exists():
            with whole_file(empty, "The empty event log", sync=False) as file:
                engine = self._opened(file)
                self._initdb(engine)
                # Whoever closes it last leaves no write-ahead log beside it.
                engine.dispose()
        copy = path.with_name(f".{uuid.uuid4().hex}")
        try:
            shutil.copyfile(empty, copy)
            # What cannot be linked here is made, as it would be without.
            with suppress(OSError):
                os.link(copy, path)
        finally:
            copy.unlink(missing_ok=True)

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event and tell those who watch its run."""
        super().store_event(event)
        # While a connection is open, SQLite writes to a file beside the database, and the watchers look at this one.
        os.utime(self.path_for_shard(event.run_id))

    def has_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> bool:
        """Say whether there is such a partition, or was a second ago: each read and write of an asset asks, twice."""
        asked = partitions_def_name, partition_key
        if time.monotonic() - self._there.get(asked, -math.inf) > LATELY:
            if not super().has_dynamic_partition(*asked):
                return False
            self._there = {asked: time.monotonic()}
        return True

    def delete_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> None:
        """Delete a partition."""
        self._there = {}
        super().delete_dynamic_partition(partitions_def_name, partition_key)

    def wipe(self) -> None:
        """Remove all events."""
        self._close()
        super().wipe()

    def upgrade(self) -> None:
        """Bring all databases to the version of this Dagster."""
        self._close()
        super().upgrade()

    def dispose(self) -> None:
        """Stop watching and close the databases."""
        super().dispose()
        self._close()

    def _close(self) -> None:
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


def do_not_wait_for_the_disk(connection: sqlite3.Connection, _: object) -> None:
    """Leave it to the operating system when what was stored is on the disk."""
    # Beside its write-ahead log, which Dagster sets, SQLite loses no more than the end of it by that.
    connection.execute("PRAGMA synchronous=NORMAL")


def is_set_up(engine: sa.Engine) -> bool:
    """Say whether a database has its tables.

    As Dagster asks, but without loading every migration there ever was only to know that this one has some.
    """
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() is not None
