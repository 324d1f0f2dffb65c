"""What `al up` starts: modules that are there, with the settings whole in their environment and nowhere else."""

import json
import os
import socket
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image

from al_pipeline.core.errors import InputError
from al_pipeline.loop.changes import published_places
from al_pipeline.loop.local import Servers
from al_pipeline.servers.dagster_api import STOPPED, DagsterApi, DagsterError
from al_pipeline.servers.event_log import OpenEventLog
from al_pipeline.servers.open_storages import OpenRunStorage, OpenScheduleStorage
from al_pipeline.servers.ports import USUAL_PORTS, Ports
from al_pipeline.servers.processes import free_port
from al_pipeline.servers.stack import Stack
from al_pipeline.settings import load_settings
from al_pipeline_tests.labelstudio.servers import Answer, Request, answering


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AL_ALERT_URL", "https://alerts.example.org/s3cret")
    monkeypatch.delenv("AL_TRAINING__WEIGHTS")
    settings = load_settings(
        home=tmp_path / "home", images=Path("photos"), label_studio_url="http://ls.example.org", round={"batch_size": 3}
    )
    return Stack(settings, say=lambda _: None)


def test_servers_are_handed_the_settings_and_our_own_environment_stays_as_it_is(stack: Stack, tmp_path: Path) -> None:
    for service in stack.dagster:
        handed = {name: value for name, value in service.env.items() if name.startswith("AL_")}
        assert handed == {
            "AL_HOME": str(tmp_path / "home"),
            "AL_IMAGES": str(tmp_path / "photos"),
            "AL_LABEL_STUDIO_URL": "http://ls.example.org",
            "AL_ROUND__BATCH_SIZE": "3",
            "AL_ALERT_URL": "https://alerts.example.org/s3cret",
        }
        assert "s3cret" not in " ".join(service.argv)
    assert {name for name in os.environ if name.startswith("AL_")} >= {"AL_ALERT_URL"}
    assert "AL_ROUND__BATCH_SIZE" not in os.environ


@pytest.mark.parametrize("program", ["sleep 60", "exit 1"])
def test_what_runs_when_the_servers_are_told_to_end_is_known_to_have_been_stopped(stack: Stack, program: str) -> None:
    stack.dagster[0].argv = ["sh", "-c", f"exec {program}" if program.startswith("sleep") else program]
    stack.dagster[0].start()
    if program.startswith("exit"):
        # It has failed before.
        assert stack.dagster[0].process is not None
        stack.dagster[0].process.wait(10)
    stack.stop()
    assert (stack.settings.dagster_home / STOPPED).exists() == program.startswith("sleep")


@pytest.mark.parametrize(("given", "submits", "keys"), [({}, "enter", "enter"), ({"submit": "key"}, "key", "1,2,0")])
def test_its_label_studio_is_told_which_keys_submit(
    given: dict[str, Any], submits: str, keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (8, 8), number).save(tmp_path / "photos" / name / "a.png")
    settings = load_settings(home=tmp_path / "home", images=tmp_path / "photos", unsure_class=True, **given)
    stack = Stack(settings, say=lambda _: None)
    assert stack.label_studio is not None
    told = json.loads(stack.label_studio.env["EDITOR_KEYMAP"])
    assert told["annotation:submit"]["key"] == f"ctrl+enter,command+enter,{keys}"
    assert stack.dagster[0].env["AL_SUBMIT"] == submits


@pytest.mark.parametrize("given", [{}, {"published": "s3://shown/x"}])
def test_runs_know_the_places_of_images_that_we_know(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the home would seem to have moved at each start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    settings = load_settings(home=tmp_path / "home", images="s3://photos/all", **given)
    stack = Stack(settings, say=lambda _: None)
    for name, value in stack.dagster[0].env.items():
        if name.startswith("AL_"):
            monkeypatch.setenv(name, value)
    places = published_places(settings)
    assert published_places(load_settings()) == places == [str(settings.published_images), *given.values()]
    assert stack.label_studio is not None
    assert stack.label_studio.env.get("S3_ENDPOINT") == ("http://127.0.0.1:1" if given else None)


def test_the_modules_it_names_are_there(stack: Stack) -> None:
    for service in stack.dagster:
        assert find_spec(service.argv[2]) is not None
    # Two of them wait for the first, and begin with a function that reads their arguments.
    assert [callable(import_module(service.argv[4]).main) for service in stack.dagster[1:]] == [True, True]
    file = stack.settings.dagster_home / "dagster.yaml"
    with dg.DagsterInstance.from_config(str(file.parent)) as instance:
        assert isinstance(instance.event_log_storage, OpenEventLog)
        assert isinstance(instance.run_storage, OpenRunStorage)
        assert isinstance(instance.schedule_storage, OpenScheduleStorage)
        # Where Dagster's own are by default, so that an older version finds all again.
        found = sorted(path.relative_to(file.parent).as_posix() for path in file.parent.rglob("*.db"))
        assert found == ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"]


def test_keys_go_on_where_tasks_from_before_show_images_of_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    def endpoint(**settings: Any) -> str | None:
        given = load_settings(home=tmp_path / "home", images=tmp_path, **settings)
        studio = Stack(given, say=lambda _: None).label_studio
        assert studio is not None
        return studio.env.get("S3_ENDPOINT")

    found = [endpoint(), endpoint(published="s3://shown/x"), endpoint()]
    assert found == [None, "http://127.0.0.1:9", "http://127.0.0.1:9"]


def test_a_run_that_failed_is_told_without_the_address_of_a_server_that_is_about_to_stop() -> None:
    failed = {"runOrError": {"__typename": "Run", "status": "FAILURE"}}
    below = {"error": {"message": "KeyError: 'classes'\n"}}
    chain = [{"error": {"message": "al_pipeline.core.errors.InputError: no class folders: name them\n"}}, below]
    cause = {"message": "StepError", "errorChain": chain}
    logs = {"logsForRun": {"events": [{}, {"stepKey": "image_pool", "error": cause}]}}

    def answer(request: Request) -> Answer:
        return Answer(body={"data": logs if b"logsForRun" in request.body else failed})

    with answering(answer) as server, pytest.raises(DagsterError) as told:
        DagsterApi(server.url).wait("1234")
    assert str(told.value) == "The run 1234 ended with FAILURE: image_pool: no class folders: name them"


def test_a_home_keeps_its_ports_and_says_when_one_of_them_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(home=tmp_path / "home", images=Path("photos"))
    dagster, studio = free_port(), free_port()
    first = Stack(settings, dagster_port=dagster, label_studio_port=studio, say=lambda _: None)
    # As a process that has ended would have left it.
    urls = {"dagster_url": first.dagster_url, "label_studio_url": first.label_studio_url}
    Servers(pid=os.getpid(), started=0.0, **urls).write(settings)
    again = Stack(settings, say=lambda _: None)
    assert (again.dagster_url, again.label_studio_url) == (first.dagster_url, first.label_studio_url)

    with socket.create_server(("127.0.0.1", studio)):
        with pytest.raises(InputError) as told:
            Stack(settings, say=lambda _: None)
        assert str(told.value) == (
            f"Port {studio}, where Label Studio of this home was the last time, is in use on 127.0.0.1: end what "
            "listens there, or choose another port with --label-studio-port; it is kept from then on"
        )
        other = free_port()
        moved = Stack(settings, label_studio_port=other, say=lambda _: None)
    assert moved.label_studio_url == f"http://127.0.0.1:{other}"
    assert moved.dagster_url == first.dagster_url


def test_a_home_that_had_a_label_studio_elsewhere_gets_a_port_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(home=tmp_path / "home", images=Path("photos"))
    dagster = f"http://127.0.0.1:{free_port()}"
    Servers(pid=os.getpid(), started=0.0, dagster_url=dagster, label_studio_url="https://ls.example.org").write(
        settings
    )
    stack = Stack(settings, say=lambda _: None)
    assert stack.dagster_url == dagster
    assert stack.label_studio_url.startswith("http://127.0.0.1:")


def test_two_homes_that_start_at_once_get_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(USUAL_PORTS, "Label Studio", usual := free_port())
    first, second = Ports(), Ports()
    assert first.choose("Label Studio", None, None) == usual
    # Nothing listens there yet.
    assert second.choose("Label Studio", None, None) != usual
    first.release()
    assert Ports().choose("Label Studio", None, None) == usual
