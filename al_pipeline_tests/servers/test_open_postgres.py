"""Dagster's storage in PostgreSQL that keeps its connections: as Dagster's own, with fewer of them."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy.event import listen

from al_pipeline.ledger import database
from al_pipeline.servers import open_postgres
from al_pipeline.servers.open_postgres import KEPT, PROMPT, OpenPostgresStorage
from al_pipeline_tests.ledger.postgresql import PostgreSQL

WHO = sa.text("SELECT pg_backend_pid()")
LIMIT = sa.text("SHOW statement_timeout")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    yield server
    server.stop()


@pytest.fixture
def url(postgresql: PostgreSQL) -> str:
    return postgresql.new_database()


@pytest.fixture
def instance(url: str, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    storage = {"module": open_postgres.__name__, "class": OpenPostgresStorage.__name__, "config": {"postgres_url": url}}
    (tmp_path / "dagster.yaml").write_text(
        yaml.safe_dump({"storage": {"custom": storage}, "telemetry": {"enabled": False}})
    )
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made
    open_postgres._engines.pop(url).dispose()


def connections(url: str) -> list[int]:
    """Return a list that gets the process of each connection that is made from now on."""
    made: list[int] = []
    engine = open_postgres._engines[url]
    listen(engine, "connect", lambda connection, _: made.append(connection.info.backend_pid))
    return made


def said(storage: Any, question: sa.TextClause, meanwhile: Callable[[], object] = lambda: None) -> object:
    """Return what PostgreSQL answers a storage, after something that happens while it is connected."""
    with storage.connect() as connection:
        meanwhile()
        return connection.execute(question).scalar_one()


@dg.asset
def answer() -> int:
    return 42


def test_a_run_and_all_that_is_asked_of_it_need_two_connections(instance: dg.DagsterInstance, url: str) -> None:
    made = connections(url)
    assert dg.materialize([answer], instance=instance).success
    reference = instance.get_ref()
    for _ in range(3):
        # As each look of a sensor does.
        with dg.DagsterInstance.from_ref(reference) as again:
            assert [run.status for run in again.get_runs()] == [dg.DagsterRunStatus.SUCCESS]
            assert again.get_latest_materialization_event(answer.key) is not None
            assert again.all_instigator_state() == []
    # Some questions are asked while another one is open.
    assert 1 <= len(made) <= 2


def test_all_that_dagster_asks_goes_through_the_connections_that_are_kept(url: str) -> None:
    own, ours = DagsterPostgresStorage(url), OpenPostgresStorage(url)
    parts = ("_run_storage", "_event_log_storage", "_schedule_storage")
    assert all(isinstance(vars(getattr(own, part))["_engine"].pool, sa.NullPool) for part in parts)
    assert [vars(getattr(ours, part))["_engine"] for part in parts] == [open_postgres._engines[url]] * 3
    connection: Any = open_postgres._engines[url].raw_connection()
    told = connection.dbapi_connection.info.dsn_parameters
    connection.close()
    assert PROMPT == database.PROMPT
    assert PROMPT.items() <= {name: int(told[name]) for name in PROMPT}.items()


def test_dagsters_own_class_reads_what_it_wrote(instance: dg.DagsterInstance, url: str) -> None:
    run = dg.materialize([answer], instance=instance).run_id
    own = DagsterPostgresStorage(url)
    assert own.run_storage.has_run(run)
    kinds = [
        record.event_log_entry.dagster_event_type for record in own.event_log_storage.get_records_for_run(run).records
    ]
    assert dg.DagsterEventType.ASSET_MATERIALIZATION in kinds
    assert own.event_log_storage.has_asset_key(answer.key)


def test_as_many_as_ask_at_once_are_answered_and_a_few_connections_are_kept(
    instance: dg.DagsterInstance, url: str
) -> None:
    together = Barrier(KEPT + 5)

    def ask(_: int) -> object:
        return said(instance.run_storage, WHO, lambda: together.wait(30))

    with ThreadPoolExecutor(KEPT + 5) as pool:
        assert len(set(pool.map(ask, range(KEPT + 5)))) == KEPT + 5
    kept = open_postgres._engines[url].pool
    assert isinstance(kept, sa.QueuePool)
    assert (kept.checkedin(), kept.checkedout()) == (KEPT, 0)


def test_a_server_that_was_started_anew_is_asked_as_if_nothing_had_been(
    instance: dg.DagsterInstance, postgresql: PostgreSQL
) -> None:
    assert instance.get_runs() == []
    postgresql.crash()
    postgresql.start()
    assert instance.get_runs() == []
    assert dg.materialize([answer], instance=instance).success


def test_a_fork_connects_by_itself(instance: dg.DagsterInstance, url: str) -> None:
    # The one that the parent has asked already, too.
    storages = [instance.run_storage, OpenPostgresStorage(url).run_storage]

    def look() -> None:
        told.put(({said(storage, WHO) for storage in storages}, len(instance.get_runs())))

    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    before = {said(storage, WHO) for storage in storages}
    process = context.Process(target=look)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    theirs, runs = told.get()
    assert len(before) == len(theirs) == 1
    assert theirs != before
    assert runs == 0
    assert {said(storage, WHO) for storage in storages} == before


def test_the_web_server_keeps_its_own_with_its_limit_of_time(instance: dg.DagsterInstance, url: str) -> None:
    with dg.DagsterInstance.from_ref(instance.get_ref()) as webs:
        webs.optimize_for_webserver(statement_timeout=7000, pool_recycle=60, max_overflow=2)
        assert said(webs.run_storage, LIMIT) == "7s"
        assert said(instance.run_storage, LIMIT) == "0"
