"""Nothing secret is in what the loop writes: not after rounds that succeed, nor after those that fail."""

import io
import json
import logging
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import dagster as dg
import pytest

from al_pipeline.defs.sensors import round_failed
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline_tests.defs.rounds import errors_of, reason, tick
from al_pipeline_tests.defs.worlds import CLASSES, World
from al_pipeline_tests.faults.proxy import FAULTS, FaultProxy, fault_proxy
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.labelstudio.servers import Answer, answering
from al_pipeline_tests.ledger.postgresql import PASSWORD, PostgreSQL

pytestmark = [pytest.mark.labelstudio, pytest.mark.faults]

ALERT_PATH = "services/alert-6a0d5b19"
WEBHOOK_SECRET, BACKEND_PASSWORD = "webhook-4f1c9a7d", "backend-83b2e6c0"
IMPORT, LISTING = "POST /api/projects", "GET /api/tasks"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, by any library; pytest's own fixture is switched off where output has to be short."""
    text, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


def run(world: World, key: str) -> dg.ExecuteInProcessResult:
    """Run a round, which may fail; an error ends it at once, or after the retries of a reading op."""
    if not world.instance.has_dynamic_partition("rounds", key):
        world.instance.add_dynamic_partitions("rounds", [key])
    job = world.defs.resolve_job_def("round")
    return job.execute_in_process(instance=world.instance, partition_key=key, raise_on_error=False)


def alert(world: World, failed: dg.ExecuteInProcessResult) -> None:
    """Let the sensor `round_failed` tell of a run, to an address that answers with an error."""
    [event] = [event for event in failed.all_events if event.event_type_value == "PIPELINE_FAILURE"]
    context = dg.build_run_status_sensor_context(
        sensor_name="round_failed",
        dagster_instance=world.instance,
        dagster_run=failed.dagster_run,
        dagster_event=event,
        resources={"deployment": world.deployment},
    ).for_run_failure()
    round_failed(context)


def stored(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield everything in a folder: files, and the values in databases, unpacked where they are compressed."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        yield str(file), content
        if content.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(file)) as database:
                for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    for row in database.execute(f'SELECT * FROM "{table}"'):
                        yield from ((f"{file} {table}", _unpacked(value)) for value in row)


def _unpacked(value: object) -> bytes:
    if not isinstance(value, bytes):
        return str(value).encode()
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value


def test_no_secret_is_in_logs_events_metadata_run_config_tasks_or_tracebacks(
    make_world: Any, server: LocalLabelStudio, own_postgresql: PostgreSQL, tmp_path: Path, log: io.StringIO
) -> None:
    unauthorized = next(fault for fault in FAULTS if fault.name == "401 once")
    lost = next(fault for fault in FAULTS if fault.name == "the server acts, its answer is lost")
    with fault_proxy(server.url) as proxy, answering(lambda _: Answer(500)) as alerts:
        world = _world(make_world, server, proxy, own_postgresql, tmp_path, f"{alerts.url}/{ALERT_PATH}")
        assert world.run("setup").success
        failed = []
        for fault, where in ((unauthorized, IMPORT), (lost, IMPORT), (unauthorized, LISTING)):
            proxy.fail(fault, where, times=10)
            failed.append(run(world, "r0000"))
            proxy.fail(fault, "nothing any more")
        assert not any(result.success for result in failed)
        told = "\n".join(errors_of(result) for result in failed)
        alert(world, failed[0])
        assert alerts.count("POST", ALERT_PATH) == 1
        assert run(world, "r0000").success
        own_postgresql.crash()
        try:
            no_database = reason(tick(world))
        finally:
            own_postgresql.start()
        assert "could not be read" in no_database

        client, project = world.deployment.label_studio, world.deployment.project_id()
        for task in client.tasks(project):
            client.annotate(task.task_id, CLASSES[task.task_id % 2])
        assert run(world, "r0001").success
        tasks = client.connection.json("api/tasks/", {"project": project, "fields": "all"})
        assert tasks["total"] == 8

    places = {
        "events": "\n".join(
            repr(record) for run in world.instance.get_runs() for record in world.instance.all_logs(run.run_id)
        ),
        "runs": "\n".join(repr((run.run_config, run.tags)) for run in world.instance.get_runs()),
        "tasks": json.dumps(tasks),
        "log": log.getvalue(),
        "tracebacks": told,
        "sensor": no_database,
        "settings": repr(world.settings) + str(world.settings.model_dump()),
        "ledger": repr(world.deployment.ledger),
    }
    assert "Traceback" in told or "LabelStudioAuthError" in told
    assert min(map(len, places.values())) > 0
    secrets = {
        "token": server.token,
        "database password": PASSWORD,
        "database password in a URL": quote(PASSWORD, safe=""),
        "address of alerts": ALERT_PATH,
        "webhook secret": WEBHOOK_SECRET,
        "backend password": BACKEND_PASSWORD,
    }
    searched = 0
    for place, content in [*((name, text.encode()) for name, text in places.items()), *stored(tmp_path)]:
        searched += 1
        found = [name for name, secret in secrets.items() if secret.encode() in content]
        assert not found, f"{found} in {place}"
    report("secrets", secrets=len(secrets), places=searched, failed_runs=len(failed))


def _world(
    make_world: Any, server: LocalLabelStudio, proxy: FaultProxy, database: PostgreSQL, folder: Path, alert_url: str
) -> World:
    assert proxy.server is not None
    # Label Studio need not find the images, nobody looks at them: the secrets that it keeps itself lie elsewhere.
    return make_world(
        label_studio_images=str(server.document_root / "images"),
        label_studio_url=proxy.server.url,
        label_studio_token=server.token,
        label_studio_project=f"secrets {uuid4()}",
        label_studio_timeout=60,
        database_url=database.new_database(),
        alert_url=alert_url,
        webhook_secret=WEBHOOK_SECRET,
        ml_backend_password=BACKEND_PASSWORD,
        training={"image_size": 32, "epochs": 1},
    )
