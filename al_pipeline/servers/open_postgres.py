"""Dagster's storage in PostgreSQL, which keeps its connections for more than one question.

Dagster's own class connects for each question and each event, some milliseconds of both servers' processors, and each
tick of a sensor asks three times anew which tables there are: a third of a second of a tick. Here the threads of a
process share a few connections, and tables are looked for once. Tables and what is in them are the same: dagster.yaml
may name either class.
"""

import os
from typing import TYPE_CHECKING

import sqlalchemy as sa
from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config

if TYPE_CHECKING:
    from dagster_postgres.auth import PgTokenProvider

# Connections that a process keeps while nobody asks; as many as are asked for at once are made.
KEPT = 4
# Seconds after which one is made anew: what stands between the two may close those that are older.
RECYCLE = 300
# As `ledger.database.PROMPT`, which comes with pandas: a server that has gone without a word is given up as soon.
PROMPT = {"connect_timeout": 10, "tcp_user_timeout": 10_000}
PROMPT |= {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# By URL.
_engines: dict[str, sa.Engine] = {}
# A fork may not use what its parent has opened.
os.register_at_fork(after_in_child=lambda: [each.dispose(close=False) for each in _engines.values()])


class OpenPostgresStorage(DagsterPostgresStorage):
    """Drop-in for `DagsterPostgresStorage`: dagster.yaml names it as `custom` below `storage`, with its `config`."""

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: "PgTokenProvider | None" = None,
    ) -> None:
        known = postgres_url in _engines
        super().__init__(postgres_url, should_autocreate_tables and not known, inst_data, token_provider)
        if not known:
            # A server that was started anew, or has gone, is found out by a question before the first one.
            options = {"pool_pre_ping": True, "pool_recycle": RECYCLE, "pool_use_lifo": True, "connect_args": PROMPT}
            options |= {"pool_size": KEPT, "max_overflow": -1, "isolation_level": "AUTOCOMMIT"}
            _engines.setdefault(postgres_url, create_pg_engine(postgres_url, token_provider, **options))
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = _engines[postgres_url]

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: PostgresStorageConfig
    ) -> "OpenPostgresStorage":
        """Return the storage that dagster.yaml describes."""
        return cls(
            pg_url_from_config(config_value),
            config_value.get("should_autocreate_tables", True),
            inst_data,
            get_token_provider_from_config(config_value),
        )
