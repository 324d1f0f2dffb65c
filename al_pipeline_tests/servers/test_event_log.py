"""The event log stores what Dagster's stores, where Dagster's stores it, and whoever watches is told."""

import gc
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import psutil
import pytest
import yaml
from dagster._core.events.log import EventLogEntry
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType
from dagster._core.storage.event_log import SqliteEventLogStorage

from al_pipeline.servers import event_log
from al_pipeline.servers.event_log import OPEN_DATABASES, OpenEventLog, is_set_up
from al_pipeline.servers.open_storages import OpenRunStorage, OpenScheduleStorage


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A DAGSTER_HOME with the storages that stay open."""
    storages = {
        "event_log_storage": (OpenEventLog, "history/runs"),
        "run_storage": (OpenRunStorage, "history"),
        "schedule_storage": (OpenScheduleStorage, "schedules"),
    }
    settings: dict[str, Any] = {
        kind: {"module": own.__module__, "class": own.__name__, "config": {"base_dir": str(tmp_path / place)}}
        for kind, (own, place) in storages.items()
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings | {"telemetry": {"enabled": False}}))
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as found:
        assert type(found.event_log_storage) is OpenEventLog
        assert type(found.run_storage) is OpenRunStorage
        assert type(found.schedule_storage) is OpenScheduleStorage
        yield found


@pytest.fixture
def stock(home: Path) -> Iterator[SqliteEventLogStorage]:
    """What Dagster's own class finds in the same folder."""
    storage = SqliteEventLogStorage(str(home / "history" / "runs"))
    yield storage
    storage.dispose()


@dg.asset(check_specs=[dg.AssetCheckSpec("whole", asset="thing")])
def thing(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """An asset with a check."""
    context.log.info("made")
    return dg.MaterializeResult(metadata={"n": 7}, check_results=[dg.AssetCheckResult(passed=True, check_name="whole")])


def run(instance: dg.DagsterInstance) -> str:
    return dg.materialize([thing], instance=instance).run_id


def messages(storage: Any, run_id: str) -> list[str]:
    return [dg.serialize_value(record.event_log_entry) for record in storage.get_records_for_run(run_id).records]


def test_dagsters_own_class_reads_the_same_while_the_databases_are_open(
    instance: dg.DagsterInstance, stock: SqliteEventLogStorage
) -> None:
    ids = [run(instance), run(instance)]
    ours = instance.event_log_storage
    for run_id in ids:
        assert len(messages(ours, run_id)) > 10
        assert messages(stock, run_id) == messages(ours, run_id)
    asset = dg.AssetKey("thing")
    [record] = stock.get_asset_records([asset])
    assert record.asset_entry.last_materialization is not None
    assert record.asset_entry.last_materialization.run_id == ids[1]
    check = dg.AssetCheckKey(asset, "whole")
    assert [found.run_id for found in stock.get_asset_check_execution_history(check, limit=9)] == ids[::-1]


def test_it_goes_on_with_what_dagsters_own_class_wrote(home: Path) -> None:
    whole = (home / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        run_id = run(instance)
        before = messages(instance.event_log_storage, run_id)
    (home / "dagster.yaml").write_text(whole)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert messages(instance.event_log_storage, run_id) == before
        run(instance)
        assert len(instance.fetch_materializations(dg.AssetKey("thing"), limit=9).records) == 2


def test_an_open_database_is_not_opened_again(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = run(instance)
    storage = instance.event_log_storage
    assert isinstance(storage, OpenEventLog)
    monkeypatch.setattr(storage, "_opened", lambda path: pytest.fail(f"{path} is opened again"))
    assert messages(storage, run_id)
    assert storage.get_asset_records([dg.AssetKey("thing")])


def test_a_partition_that_was_deleted_is_gone_at_once_here_and_soon_elsewhere(
    instance: dg.DagsterInstance, stock: SqliteEventLogStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def there() -> bool:
        return instance.has_dynamic_partition("rounds", "r0001")

    assert not there()
    instance.add_dynamic_partitions("rounds", ["r0001"])
    assert there()
    instance.delete_dynamic_partition("rounds", "r0001")
    assert not there()
    instance.add_dynamic_partitions("rounds", ["r0001"])
    assert there()
    stock.delete_dynamic_partition("rounds", "r0001")
    monkeypatch.setattr(event_log, "LATELY", 0.0)
    assert not there()


def test_dagsters_own_classes_find_runs_and_ticks_of_ours_and_we_theirs(home: Path) -> None:
    ours = (home / "dagster.yaml").read_text()
    ids: set[str] = set()
    for text in ("telemetry: {enabled: false}\n", ours, "telemetry: {enabled: false}\n", ours):
        (home / "dagster.yaml").write_text(text)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            assert {each.run_id for each in instance.get_runs()} == ids
            assert len(instance.all_instigator_state()) == len(ids)
            ids.add(run(instance))
            server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="al_pipeline")
            origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(server, "__repository__"), f"sensor {len(ids)}")
            instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING))


def test_what_another_process_stores_of_a_run_meanwhile_is_kept(
    instance: dg.DagsterInstance, stock: SqliteEventLogStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, run_id = shutil.copyfile, str(uuid4())

    def overtaken(source: Path, target: Path) -> None:
        copied(source, target)
        stock.store_event(EventLogEntry(None, 20, "theirs", run_id, time.time()))

    run(instance)
    monkeypatch.setattr(shutil, "copyfile", overtaken)
    instance.report_engine_event("ours", job_name="job", run_id=run_id)
    stored = [record.event_log_entry.message for record in stock.get_records_for_run(run_id).records]
    assert stored == ["theirs", "ours"]


def test_whoever_watches_a_run_is_told_of_every_event(
    instance: dg.DagsterInstance, home: Path, stock: SqliteEventLogStorage
) -> None:
    """As the UI, in a process of its own with its own storage, watches a run of a worker."""
    run_id = run(instance)
    with dg.DagsterInstance.from_config(str(home)) as other:
        stock.register_instance(other)
        seen: dict[str, list[EventLogEntry]] = {"ours": [], "stock": []}
        for name, storage in (("ours", other.event_log_storage), ("stock", stock)):
            # Some watchers read to the end at the first event; none may miss the last one.
            storage.watch(run_id, None, lambda event, _, name=name: seen[name].append(event))
        for i in range(3):
            before = {name: len(events) for name, events in seen.items()}
            instance.report_engine_event(f"event {i}", job_name="job", run_id=run_id)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not all(len(seen[name]) > n for name, n in before.items()):
                time.sleep(0.01)
        for events in seen.values():
            assert [event.message for event in events][-3:] == ["event 0", "event 1", "event 2"]


def test_only_the_databases_used_last_stay_open(instance: dg.DagsterInstance) -> None:
    ids = [run(instance) for _ in range(OPEN_DATABASES + 3)]
    gc.collect()
    names = {Path(file.path).stem for file in psutil.Process().open_files() if file.path.endswith(".db")}
    assert len(names & {"index", *ids}) == OPEN_DATABASES
    assert {"index", ids[-1]} <= names
    assert ids[0] not in names
    assert len(messages(instance.event_log_storage, ids[0])) > 10


def test_threads_of_one_process_store_every_event_once(instance: dg.DagsterInstance) -> None:
    ids = [run(instance) for _ in range(2)]

    def report(i: int) -> None:
        instance.report_engine_event(f"event {i}", job_name="job", run_id=ids[i % 2])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(report, range(60)))
    for parity, run_id in enumerate(ids):
        stored = [record.event_log_entry.message for record in instance.get_records_for_run(run_id).records]
        assert sorted(m for m in stored if m.startswith("event ")) == sorted(f"event {i}" for i in range(parity, 60, 2))


def test_a_log_wiped_by_another_process_begins_anew(instance: dg.DagsterInstance, stock: SqliteEventLogStorage) -> None:
    run_id = run(instance)
    stock.wipe()
    assert messages(instance.event_log_storage, run_id) == []
    assert instance.fetch_materializations(dg.AssetKey("thing"), limit=9).records == []
    again = run(instance)
    assert messages(stock, again) == messages(instance.event_log_storage, again) != []


@pytest.mark.parametrize("kind", [OpenRunStorage, OpenScheduleStorage])
def test_of_several_who_open_a_new_database_at_once_one_makes_it(
    kind: type[OpenRunStorage | OpenScheduleStorage], tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    together = context.Barrier(4)

    def opened() -> None:
        together.wait(30)
        storage: Any = kind.from_config_value(None, {"base_dir": str(tmp_path / "new")})
        assert is_set_up(storage.engine)

    processes = [context.Process(target=opened) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4


def test_leaving_the_instance_closes_its_databases(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run(instance)
        instance.event_log_storage.wipe()
        run(instance)
    assert not [file.path for file in psutil.Process().open_files() if file.path.startswith(os.fspath(home))]
