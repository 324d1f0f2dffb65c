"""The code server that forks runs from a warm process, and reports those that the last one took along.

That real runs are warm is said by the end-to-end test.
"""

import inspect
import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import dagster._grpc.server as server
import pytest
from dagster import DagsterEventType as EventType
from dagster import DagsterRunStatus as Status
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from al_pipeline import defs
from al_pipeline.defs.observe import PARTITION_TAG, attempts_of
from al_pipeline.servers import code_server
from al_pipeline.settings import load_settings


def test_the_names_it_replaces_are_there() -> None:
    assert "_mp_ctx" in inspect.getsource(server.DagsterApiServer.__init__)
    assert "self._mp_ctx.Process(" in inspect.getsource(server.DagsterApiServer.StartRun)


def test_the_server_it_starts_is_warm() -> None:
    replaced = """
from al_pipeline.servers import code_server
import dagster._cli
from dagster._cli.api import grpc_command

def served():
    from dagster._grpc.server import DagsterApiServer
    print(DagsterApiServer.__name__)

dagster._cli.main = served
code_server.main()
"""
    done = subprocess.run([sys.executable, "-c", replaced], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "WarmServer"


def test_it_is_the_dagster_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", code_server.__name__, "api", "grpc", "--help"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "--location-name" in done.stdout


SCRIPT = """
import multiprocessing, sys

def look(queue):
    names = {"torch", "torchvision", "sklearn", "label_studio_sdk.client", "alembic.config"}
    # The last one has the settings of a run: each imports it itself.
    names |= {"al_pipeline.defs.assets.tasks", "al_pipeline.definitions"}
    queue.put(sorted(names & set(sys.modules)))

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([sys.argv[1]])
    queue = context.SimpleQueue()
    process = context.Process(target=look, args=(queue,))
    process.start()
    process.join()
    print(queue.get())
"""


def test_a_fork_finds_everything_imported(tmp_path: Path) -> None:
    script = tmp_path / "look.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), code_server.RUNS]
    # A value that no setting may have: the run says so, and finds everything all the same.
    wrong = os.environ | {"AL_ROUND__BATCH_SIZE": "none at all"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200, env=wrong)
    found = ["al_pipeline.defs.assets.tasks", "alembic.config", "label_studio_sdk.client"]
    assert done.stdout.strip() == str([*found, "sklearn", "torch", "torchvision"]), done.stderr


def test_a_run_takes_what_was_built_beforehand_if_its_settings_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    built = dg.Definitions()
    monkeypatch.setattr(defs, "build", lambda settings: settings)
    monkeypatch.setattr(defs, "READY", [(load_settings(home=tmp_path), built)])
    assert defs.ready(load_settings(home=tmp_path)) is built
    (tmp_path / "al.toml").write_text("overlap = 2")
    assert getattr(defs.ready(load_settings(home=tmp_path)), "overlap", None) == 2


@pytest.mark.parametrize(
    ("status", "location", "becomes"),
    [
        (Status.STARTED, "al_pipeline", Status.FAILURE),
        (Status.CANCELING, "al_pipeline", Status.CANCELED),
        (Status.STARTED, "somebody_elses", Status.STARTED),
        (Status.QUEUED, "al_pipeline", Status.QUEUED),
        (Status.STARTING, "al_pipeline", Status.STARTING),
        (Status.SUCCESS, "al_pipeline", Status.SUCCESS),
    ],
)
def test_what_was_in_a_process_is_ended_and_nothing_else(
    tmp_path: Path, status: Status, location: str, becomes: Status
) -> None:
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name=location)
    job = dg.GraphDefinition(name="round").to_job()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run = instance.create_run_for_job(
            job,
            status=status,
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "round"),
            job_code_origin=None,
        )
        ended = code_server.end_orphaned_runs(instance, "al_pipeline")
        after = instance.get_run_by_id(run.run_id)
        assert after is not None
        assert after.status == becomes
        assert ended == ([run.run_id] if becomes != status else [])
        assert code_server.end_orphaned_runs(instance, "al_pipeline") == []


@pytest.mark.parametrize("on_purpose", [True, False])
def test_a_round_that_ended_with_servers_which_were_told_to_is_no_failed_attempt(
    tmp_path: Path, on_purpose: bool
) -> None:
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="al_pipeline")
    job = dg.GraphDefinition(name="round").to_job()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for _ in range(4):
            instance.create_run_for_job(
                job,
                status=Status.STARTED,
                tags={PARTITION_TAG: "r0001"},
                remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "round"),
                job_code_origin=None,
            )
            code_server.end_orphaned_runs(instance, "al_pipeline", on_purpose=on_purpose)
        attempts = attempts_of(instance, "r0001")
        assert (attempts.state, attempts.count, attempts.failures) == ("failed", 4, 0 if on_purpose else 4)
        assert attempts.failed_run_id is not None
        told = next(iter(instance.all_logs(attempts.failed_run_id, of_type=EventType.RUN_FAILURE)))
        assert (told.get_dagster_event().message == code_server.ON_PURPOSE) == on_purpose
        # One that executes it anew has its tags, and may fail for itself.
        tags = dict(instance.get_runs(limit=1)[0].tags)
        instance.create_run_for_job(job, status=Status.FAILURE, tags=tags)
        assert attempts_of(instance, "r0001").failures == (1 if on_purpose else 5)


def test_a_run_that_is_reported_while_servers_stop_is_no_failed_attempt(tmp_path: Path) -> None:
    job = dg.GraphDefinition(name="round").to_job()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for seconds, failures in ((60.0, 0), (-60.0, 1)):
            run = instance.create_run_for_job(job, status=Status.STARTED, tags={PARTITION_TAG: "r0001"})
            instance.report_run_failed(run)
            code_server.excuse_stopped_runs(instance, time.time() - seconds)
            assert attempts_of(instance, "r0001").failures == failures


def test_a_run_without_a_code_location_is_left_alone(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.create_run_for_job(dg.GraphDefinition(name="round").to_job(), status=Status.STARTED)
        assert code_server.end_orphaned_runs(instance, "al_pipeline") == []
