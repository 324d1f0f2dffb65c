"""`al open` launches what lacks, once, waits for what runs, and says where Dagster is if it cannot.

The stand-in for Dagster's web server creates runs and tells of them; what it is asked is held against the real one.
That it opens a real deployment is said by the test of docker-compose.yml.
"""

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus as Status
from dagster._core.test_utils import create_run_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from typer.testing import CliRunner

from al_pipeline.cli import opening
from al_pipeline.cli.app import app
from al_pipeline.cli.opening import dagster_of, start_loop
from al_pipeline.core.errors import InputError
from al_pipeline.defs import images
from al_pipeline.defs.observe import PARTITION_TAG
from al_pipeline.loop.local import Servers
from al_pipeline.servers import dagster_api
from al_pipeline.servers.dagster_api import DagsterApi, DagsterError
from al_pipeline.servers.observer import Loop
from al_pipeline.settings import load_settings
from al_pipeline.web.serve import serving
from al_pipeline_tests.defs.conftest import empty_dagster, go_on, make_world, once_scanned, scan_once, scanned
from al_pipeline_tests.defs.worlds import World
from al_pipeline_tests.web.dagster_double import READY, DagsterDouble, dagster_double

__all__ = ["empty_dagster", "go_on", "make_world", "once_scanned", "scan_once", "scanned"]

BOUND = 60.0
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def double(scanned: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterDouble]:
    """A web server of the world's Dagster, in which runs succeed; its images are scanned, `setup` has never run."""
    folder = Path(scanned.instance.root_directory)
    log = f"module: al_pipeline.servers.event_log, class: OpenEventLog, config: {{base_dir: {folder}}}"
    (folder / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\nevent_log_storage: {{{log}}}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.setenv("AL_HOME", str(scanned.settings.home))
    monkeypatch.setenv("AL_IMAGES", str(scanned.settings.images))
    # No test waits for half a second.
    monkeypatch.setattr(dagster_api.time, "sleep", lambda seconds: threading.Event().wait(min(seconds, 0.02)))
    with dagster_double(scanned.instance) as double:
        monkeypatch.setenv("AL_DAGSTER_URL", double.url)
        double.launching = lambda run: succeed(scanned, run)
        yield double


def succeed(world: World, run: dg.DagsterRun) -> None:
    """Let a run end as it should: Dagster knows the project from then on, or the round."""
    if run.job_name == "setup":
        world.instance.report_runless_asset_event(dg.AssetMaterialization("labeling_project"))
    become(world, run, Status.SUCCESS)


def become(world: World, run: dg.DagsterRun, status: Status) -> None:
    kinds = {
        Status.SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
        Status.FAILURE: dg.DagsterEventType.RUN_FAILURE,
        Status.STARTED: dg.DagsterEventType.RUN_START,
    }
    event = dg.DagsterEvent(event_type_value=kinds[status].value, job_name=run.job_name)
    world.instance.report_dagster_event(event, run_id=run.run_id)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["open", *arguments], env={"COLUMNS": "300"})
    return result.exit_code, " ".join(result.output.split())


def test_it_launches_setup_and_the_first_round_and_then_says_that_the_loop_is_open(double: DagsterDouble) -> None:
    code, told = run()
    assert code == 0, told
    assert double.names() == [("setup", None), ("round", "r0000")]
    assert "Launching the job setup: scan the images, create the Label Studio project" in told
    assert "Launching round r0000" in told
    code, told = run()
    assert code == 0, told
    assert "The loop is open already: its newest round is r0000. Nothing is launched." in told
    assert len(double.launched) == 2


def test_a_setup_that_runs_is_waited_for_and_not_launched_again(double: DagsterDouble, scanned: World) -> None:
    under_way = create_run_for_test(scanned.instance, job_name="setup", status=Status.STARTED)
    asked: list[str] = []

    def told_of(query: str) -> None:
        asked.append(query)
        # The third time that somebody looks at it, it ends.
        if sum("runOrError(runId" in each for each in asked) == 3 and not double.launched:
            succeed(scanned, under_way)

    double.told = told_of
    code, told = run()
    assert code == 0, told
    assert "The job setup runs already: waiting for it" in told
    assert double.names() == [("round", "r0000")]


def test_a_first_round_that_runs_is_waited_for_and_not_launched_again(double: DagsterDouble, scanned: World) -> None:
    scanned.instance.report_runless_asset_event(dg.AssetMaterialization("labeling_project"))
    scanned.instance.add_dynamic_partitions("rounds", ["r0000"])
    under_way = create_run_for_test(
        scanned.instance, job_name="round", status=Status.STARTED, tags={PARTITION_TAG: "r0000"}
    )
    asked: list[str] = []

    def told_of(query: str) -> None:
        asked.append(query)
        if sum("runOrError(runId" in each for each in asked) == 4:
            become(scanned, under_way, Status.FAILURE)

    double.told = told_of
    code, told = run()
    assert code == 1
    assert "Round r0000 is under way already: waiting for its batch" in told
    assert f"The run {under_way.run_id} ended with FAILURE: image_pool: no" in told
    assert not double.launched


def test_of_two_at_once_one_launches(double: DagsterDouble, scanned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, both = [0], threading.Event()

    def counted(instance: dg.DagsterInstance, real: Callable[[Any], str | None] = images.running_setup) -> str | None:
        found = real(instance)
        looks[0] += 1
        # Each has looked before it wanted to launch, and the one that may not, again.
        if looks[0] >= 5:
            both.set()
        return found

    def launching(run: dg.DagsterRun) -> None:
        if run.job_name == "setup":
            assert both.wait(BOUND)
        succeed(scanned, run)

    monkeypatch.setattr(images, "running_setup", counted)
    double.launching = launching
    loops = [Loop(scanned.settings, scanned.instance) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(start_loop, DagsterApi(double.url), loop) for loop in loops]:
            each.result(BOUND)
    assert double.names() == [("setup", None), ("round", "r0000")]


def test_a_setup_that_fails_is_told_with_its_cause_and_launched_by_the_next_call(
    double: DagsterDouble, scanned: World
) -> None:
    double.launching = lambda run: become(scanned, run, Status.FAILURE)
    for calls in (1, 2):
        code, told = run()
        assert code == 1
        assert f"The run {double.launched[-1].run_id} ended with FAILURE: image_pool: no" in told
        assert double.names() == [("setup", None)] * calls


def test_a_setup_whose_process_was_lost_is_waited_for_where_dagster_launches_it_again(
    double: DagsterDouble, scanned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = scanned.instance

    def launching(run: dg.DagsterRun) -> None:
        if run.job_name != "setup":
            succeed(scanned, run)
            return
        become(scanned, run, Status.FAILURE)
        instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})

    def told_of(query: str) -> None:
        retries = [run for run in instance.get_runs() if run.tags.get("retry") == "1"]
        if "runOrError(runId" not in query or not double.launched:
            return
        if not retries:
            retry = create_run_for_test(instance, job_name="setup", status=Status.STARTED, tags={"retry": "1"})
            instance.add_run_tags(double.launched[0].run_id, {"dagster/auto_retry_run_id": retry.run_id})
        elif retries[0].status == Status.STARTED and len(double.launched) == 1:
            double.told = lambda query: None
            threading.Timer(0.2, succeed, (scanned, retries[0])).start()

    double.launching, double.told = launching, told_of
    code, told = run()
    assert code == 0, told
    assert "setup: its process was lost, Dagster has launched it again" in told
    assert double.names() == [("setup", None), ("round", "r0000")]


def test_a_retry_that_never_comes_is_not_waited_for_without_end(
    double: DagsterDouble, scanned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_api, "RETRY_COMES", 0.0)

    def launching(run: dg.DagsterRun) -> None:
        become(scanned, run, Status.FAILURE)
        scanned.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})

    double.launching = launching
    code, told = run()
    assert code == 1
    assert "ended with FAILURE: image_pool: no" in told


def test_what_dagster_refuses_to_launch_is_an_error(double: DagsterDouble) -> None:
    double.refuses = True
    code, told = run()
    assert code == 1
    assert "Dagster did not launch setup: no" in told


def test_the_dagster_of_another_home_is_left_alone(double: DagsterDouble, make_world: Any) -> None:
    other = make_world()
    create_run_for_test(other.instance, job_name="setup", status=Status.SUCCESS)
    with dagster_double(other.instance) as others:
        code, told = run("--url", others.url)
    assert code == 1
    assert f"Dagster at {others.url} (--dagster-url) keeps other runs than" in told
    assert not others.launched
    assert not double.launched


def test_a_run_that_is_not_known_there_says_so_too(double: DagsterDouble, scanned: World, make_world: Any) -> None:
    create_run_for_test(scanned.instance, job_name="setup", status=Status.SUCCESS)
    with dagster_double(make_world().instance) as others:
        code, told = run("--url", others.url)
    assert code == 1
    assert "it belongs to another home" in told
    assert not others.launched


FAILED = READY | {"locationOrLoadError": {"__typename": "PythonError", "message": "Error: no such module\nmore"}}
OBSTACLES: dict[str, dict[str, Any]] = {
    "has no code location al_pipeline; it has: theirs": {"entries": [READY | {"name": "theirs"}]},
    "could not load the code location al_pipeline: no such module. The": {"entries": [FAILED]},
    "is loading the code location al_pipeline": {"entries": [READY | {"loadStatus": "LOADING"}]},
    "what is launched would stay in the queue": {"healthy": False},
}


@pytest.mark.parametrize("sentence", OBSTACLES)
def test_what_is_in_the_way_is_waited_for_and_told(
    sentence: str, double: DagsterDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "GLANCE", 0.01)
    usual = {name: getattr(double, name) for name in OBSTACLES[sentence]}
    for name, value in OBSTACLES[sentence].items():
        setattr(double, name, value)
    code, told = run("--wait", "0")
    assert code == 1
    assert sentence in told
    assert "The address is AL_DAGSTER_URL in the environment. If it is wrong, or nothing runs there: start it" in told
    assert not double.launched

    looked = [0]

    def mend(query: str) -> None:
        looked[0] += "locationEntries" in query
        if looked[0] == 3:
            for name, value in usual.items():
                setattr(double, name, value)

    double.told = mend
    code, told = run("--wait", str(BOUND))
    assert code == 0, told
    # It tells how many seconds are left, and some may have gone by.
    assert re.match(r"Waiting up to [56]\d s: ", told)
    assert double.names() == [("setup", None), ("round", "r0000")]


def test_where_nobody_answers_the_address_its_origin_and_the_remedy_are_told(double: DagsterDouble) -> None:
    code, told = run("--wait", "0", "--url", NOBODY)
    assert code == 1
    assert f"Dagster at {NOBODY} did not answer" in told
    assert "The address is --dagster-url." in told
    assert "start it (`al up`, or docker compose up), or say where it is (--dagster-url, AL_DAGSTER_URL)" in told


def test_who_says_where_dagster_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AL_DAGSTER_URL", raising=False)

    def found(given: str | None = None) -> tuple[str, str]:
        api, origin = dagster_of(load_settings(home=tmp_path / "home"), given)
        return api.url, origin

    assert found() == ("http://127.0.0.1:3000", "the usual one, as nothing else is set")
    (tmp_path / "home").mkdir()
    import psutil

    process = psutil.Process()
    urls = {"dagster_url": "http://127.0.0.1:3456", "label_studio_url": NOBODY}
    Servers(pid=process.pid, started=process.create_time(), **urls).write(load_settings(home=tmp_path / "home"))
    assert found() == ("http://127.0.0.1:3456", f"that of `al up` in {tmp_path / 'home'}")
    (tmp_path / "al.toml").write_text('dagster_url = "http://there:3000/"')
    assert found() == ("http://there:3000", str(tmp_path / "al.toml"))
    monkeypatch.setenv("AL_DAGSTER_URL", "http://elsewhere:3000")
    assert found() == ("http://elsewhere:3000", "AL_DAGSTER_URL in the environment")
    assert found("https://here") == ("https://here", "--dagster-url")
    with pytest.raises(InputError, match=r"'webserver:3000' \(--dagster-url\) is no address of a web server"):
        found("webserver:3000")


@pytest.mark.filterwarnings("ignore:Error loading repository location")
def test_what_is_asked_is_understood_by_the_real_web_server(make_world: Any) -> None:
    instance = make_world().instance
    nobody = GrpcServerTarget(host="127.0.0.1", port=9, socket=None, location_name="al_pipeline")
    with (
        WorkspaceProcessContext(instance, nobody) as context,
        serving(create_app_from_workspace_process_context(context), "127.0.0.1", 0) as port,
    ):
        api = DagsterApi(f"http://127.0.0.1:{port}")
        sentence, until = api.obstacle() or "", time.monotonic() + BOUND
        while "could not load" not in sentence and time.monotonic() < until:
            sentence = api.obstacle() or ""
        assert f"Dagster at {api.url} could not load the code location al_pipeline: " in sentence
        assert api.newest_run() is None
        known = create_run_for_test(instance, job_name="setup", status=Status.SUCCESS)
        assert api.newest_run() == known.run_id
        assert api.status(known.run_id) == "SUCCESS"
        assert api.status(str(uuid.uuid4())) == "NOT_FOUND"
        queue = api.query(dagster_api._QUEUE)["instance"]["daemonHealth"]["daemonStatus"]
        assert set(queue) == {"required", "healthy"}
        with pytest.raises(DagsterError, match="400 Bad Request"):
            api.query("query { nothing }")
