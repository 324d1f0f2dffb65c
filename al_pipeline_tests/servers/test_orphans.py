"""Runs that a code server has taken along are reported when the next one starts, and those of others go on.

A restart of the code server once reported runs of other launchers as failed while they ran.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import pytest
from dagster import DagsterEventType as EventType
from dagster import DagsterRunStatus as Status
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget

from al_pipeline.defs.observe import PARTITION_TAG, attempts_of
from al_pipeline.servers.orphans import MESSAGE, ON_PURPOSE, end_orphaned_runs, excuse_stopped_runs, is_this_machine
from al_pipeline.servers.processes import HOST, free_port, port_in_use
from al_pipeline_tests.labelstudio.servers import answering
from al_pipeline_tests.servers.launchers import ProcessLauncher, launcher_of

ROUND = dg.GraphDefinition(name="round").to_job()
# What Dagster writes for a run that it starts in a code server: here nobody listens.
GONE = {GRPC_INFO_TAG: json.dumps({"host": HOST, "port": 1})}
# TEST-NET-1 (RFC 5737): no machine has this address.
NOWHERE = {GRPC_INFO_TAG: json.dumps({"host": "192.0.2.1", "port": 4000})}


def new_run(
    instance: dg.DagsterInstance,
    status: Status = Status.STARTED,
    location: str = "al_pipeline",
    tags: dict[str, str] = GONE,
    parent: dg.DagsterRun | None = None,
) -> dg.DagsterRun:
    server = GrpcServerCodeLocationOrigin(host=HOST, port=1, location_name=location)
    return instance.create_run_for_job(
        ROUND,
        status=status,
        tags=tags,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "round"),
        job_code_origin=None,
        parent_run_id=parent and parent.run_id,
        root_run_id=parent and parent.run_id,
    )


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Status:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


@contextmanager
def instance_in(folder: Path, launcher: type | None = None) -> Iterator[dg.DagsterInstance]:
    told = "telemetry: {enabled: false}\n"
    if launcher is not None:
        told += f"run_launcher: {{module: {launcher.__module__}, class: {launcher.__name__}}}\n"
    (folder / "dagster.yaml").write_text(told)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


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
    with instance_in(tmp_path) as instance:
        run = new_run(instance, status, location)
        ended = end_orphaned_runs(instance, "al_pipeline")
        assert status_of(instance, run) == becomes
        assert ended == ([run.run_id] if becomes != status else [])
        assert end_orphaned_runs(instance, "al_pipeline") == []


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELING])
@pytest.mark.parametrize(
    ("tags", "told"), [({}, "another launcher"), (NOWHERE, "192.0.2.1:4000, which has started it, does not answer")]
)
def test_what_no_code_server_of_this_machine_has_started_is_left_alone_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: Status, tags: dict[str, str], told: str
) -> None:
    monkeypatch.setattr("al_pipeline.servers.orphans.PATIENCE", 1.0)
    said: list[str] = []
    with instance_in(tmp_path) as instance:
        run = new_run(instance, status, tags=tags)
        assert end_orphaned_runs(instance, "al_pipeline", say=said.append) == []
        assert status_of(instance, run) == status
    [sentence] = said
    assert sentence.startswith(f"The run {run.run_id} is left alone: ")
    assert told in sentence


def test_a_socket_that_is_gone_and_a_port_that_others_have_now_are_no_code_servers(tmp_path: Path) -> None:
    with answering(lambda _: None) as other, instance_in(tmp_path) as instance:
        socket_gone = {"host": "localhost", "socket": str(tmp_path / "gone")}
        addresses = [socket_gone, {"host": HOST, "port": urlsplit(other.url).port}]
        runs = [new_run(instance, tags={GRPC_INFO_TAG: json.dumps(address)}) for address in addresses]
        assert set(end_orphaned_runs(instance, "al_pipeline")) == {run.run_id for run in runs}


def test_a_code_server_too_busy_to_answer_may_have_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("al_pipeline.servers.orphans.PATIENCE", 1.0)
    said: list[str] = []
    with socket.create_server((HOST, 0)) as busy, instance_in(tmp_path) as instance:
        address = {"host": HOST, "port": busy.getsockname()[1]}
        run = new_run(instance, tags={GRPC_INFO_TAG: json.dumps(address)})
        assert end_orphaned_runs(instance, "al_pipeline", say=said.append) == []
        assert status_of(instance, run) == Status.STARTED
    assert "does not answer (DEADLINE_EXCEEDED)" in said[0]


@pytest.mark.parametrize(("launcher", "becomes"), [(None, Status.FAILURE), (ProcessLauncher, Status.STARTED)])
def test_a_retry_has_the_tags_of_what_it_retries_and_was_started_by_todays_launcher(
    tmp_path: Path, launcher: type | None, becomes: Status
) -> None:
    with instance_in(tmp_path, launcher) as instance:
        retried = new_run(instance, Status.FAILURE)
        retry, own = new_run(instance, parent=retried), new_run(instance)
        assert own.run_id in end_orphaned_runs(instance, "al_pipeline")
        assert status_of(instance, retry) == becomes
        excuse_stopped_runs(instance, time.time() - 60)
        instance.report_run_failed(retry)
        excuse_stopped_runs(instance, time.time() - 60)
        excused = {run.run_id for run in instance.get_runs() if "al_pipeline/interrupted" in run.tags}
        assert excused == {retried.run_id, own.run_id} | ({retry.run_id} if launcher is None else set())


@pytest.mark.parametrize("on_purpose", [True, False])
def test_a_round_that_ended_with_servers_which_were_told_to_is_no_failed_attempt(
    tmp_path: Path, on_purpose: bool
) -> None:
    with instance_in(tmp_path) as instance:
        for _ in range(4):
            new_run(instance, tags={PARTITION_TAG: "r0001"} | GONE)
            end_orphaned_runs(instance, "al_pipeline", on_purpose=on_purpose)
        attempts = attempts_of(instance, "r0001")
        assert (attempts.state, attempts.count, attempts.failures) == ("failed", 4, 0 if on_purpose else 4)
        assert attempts.failed_run_id is not None
        told = next(iter(instance.all_logs(attempts.failed_run_id, of_type=EventType.RUN_FAILURE)))
        assert told.get_dagster_event().message == (ON_PURPOSE if on_purpose else MESSAGE)
        # One that executes it anew has its tags, and may fail for itself.
        tags = dict(instance.get_runs(limit=1)[0].tags)
        instance.create_run_for_job(ROUND, status=Status.FAILURE, tags=tags)
        assert attempts_of(instance, "r0001").failures == (1 if on_purpose else 5)


def test_a_run_that_is_reported_while_servers_stop_is_no_failed_attempt(tmp_path: Path) -> None:
    with instance_in(tmp_path) as instance:
        for seconds, failures in ((60.0, 0), (-60.0, 1)):
            run = new_run(instance, tags={PARTITION_TAG: "r0001"} | GONE)
            instance.report_run_failed(run)
            excuse_stopped_runs(instance, time.time() - seconds)
            assert attempts_of(instance, "r0001").failures == failures


def test_a_run_without_a_code_location_is_left_alone(tmp_path: Path) -> None:
    with instance_in(tmp_path) as instance:
        instance.create_run_for_job(ROUND, status=Status.STARTED, tags=GONE)
        assert end_orphaned_runs(instance, "al_pipeline") == []


def test_this_machine_has_the_names_that_lead_to_it_alone() -> None:
    assert is_this_machine(HOST)
    assert is_this_machine("localhost")
    assert is_this_machine(socket.gethostname())
    assert not is_this_machine("192.0.2.1")
    assert not is_this_machine("code-server.invalid")


def test_a_starting_code_server_ends_them(tmp_path: Path) -> None:
    started = """
import dagster._cli
from al_pipeline.servers import code_server
dagster._cli.main = lambda: None
code_server.main()
"""
    with instance_in(tmp_path) as instance:
        mine, other = new_run(instance), new_run(instance, tags={})
        command = [sys.executable, "-c", started, "api", "grpc"]
        environment = os.environ | {"DAGSTER_HOME": str(tmp_path)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        assert [status_of(instance, run) for run in (mine, other)] == [Status.FAILURE, Status.STARTED]
    assert f"The run {mine.run_id} was in progress when the last code server ended" in done.stdout
    assert f"The run {other.run_id} is left alone" in done.stdout


WAITS = """
import time
from pathlib import Path

import dagster as dg

@dg.op
def wait():
    while not Path(__file__).with_name("go").exists():
        time.sleep(0.05)

@dg.job(executor_def=dg.in_process_executor, resource_defs={"io_manager": dg.fs_io_manager})
def waits():
    wait()

defs = dg.Definitions(jobs=[waits])
"""


class CodeServer:
    """A code server of Dagster's own with one job, which runs until the file `go` is there."""

    def __init__(self, code: Path) -> None:
        self.port, self._job = free_port(), runpy.run_path(str(code))["waits"]
        asked = ["--host", HOST, "--port", str(self.port), "--python-file", str(code), "--location-name", "al_pipeline"]
        command = [sys.executable, "-m", "dagster", "api", "grpc", *asked]
        self._process = subprocess.Popen(command, start_new_session=True)

    def launch(self, instance: dg.DagsterInstance, parent: dg.DagsterRun | None = None) -> dg.DagsterRun:
        """Launch the job as Dagster's daemon does, and return once it is in progress."""
        wait_until(lambda: port_in_use(self.port))
        target = GrpcServerTarget(host=HOST, port=self.port, socket=None, location_name="al_pipeline")
        with WorkspaceProcessContext(instance, target) as context:
            workspace = context.create_request_context()
            job = workspace.get_code_location("al_pipeline").get_repository("__repository__").get_full_job("waits")
            run = instance.create_run_for_job(
                self._job,
                remote_job_origin=job.get_remote_origin(),
                job_code_origin=job.get_python_origin(),
                tags=parent and parent.tags,
                parent_run_id=parent and parent.run_id,
                root_run_id=parent and parent.run_id,
            )
            instance.launch_run(run.run_id, workspace)
        wait_until(lambda: status_of(instance, run) not in {Status.NOT_STARTED, Status.STARTING})
        assert status_of(instance, run) == Status.STARTED, [entry.message for entry in instance.all_logs(run.run_id)]
        return run

    def kill(self) -> None:
        """End it and its children as a power cut does."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_of_real_runs_those_of_the_code_server_that_died_are_ended_and_the_others_succeed(tmp_path: Path) -> None:
    code = tmp_path / "waits.py"
    code.write_text(WAITS)
    home = tmp_path / "dagster"
    home.mkdir()
    with ExitStack() as stack:
        died, lives = CodeServer(code), CodeServer(code)
        stack.callback(lives.kill)
        stack.callback(died.kill)
        with instance_in(home) as instance:
            mine, of_another_server = died.launch(instance), lives.launch(instance)
        died.kill()
        # From here on the deployment launches otherwise, as one that moves to Kubernetes.
        with instance_in(home, ProcessLauncher) as instance:
            retried = instance.get_run_by_id(mine.run_id)
            assert retried is not None
            assert GRPC_INFO_TAG in retried.tags
            others = [of_another_server, lives.launch(instance), lives.launch(instance, parent=retried)]
            said: list[str] = []
            assert end_orphaned_runs(instance, "al_pipeline", say=said.append) == [mine.run_id]
            assert sum("left alone" in each for each in said) == len(others)
            assert f"{HOST}:{lives.port} has it in progress" in "".join(said)
            assert [status_of(instance, run) for run in others] == [Status.STARTED] * len(others)
            code.with_name("go").touch()
            wait_until(lambda: [status_of(instance, run) for run in others] == [Status.SUCCESS] * len(others))
            assert status_of(instance, mine) == Status.FAILURE
            for process in launcher_of(instance).processes:
                assert process.wait(60) == 0
