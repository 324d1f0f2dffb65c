"""docker-compose.yml's commands, by hand: from nothing to round r0001 on PostgreSQL, with `al open`.

The services' own commands and environments are run, those of Label Studio's image but for its database, which is SQLite
here: its hundred migrations take half a minute of a processor.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
import sqlalchemy as sa

from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.observer import truth
from al_pipeline.servers.processes import free_port
from al_pipeline_tests.compose import ROOT, Compose, interpolated
from al_pipeline_tests.conftest import FIRST_START
from al_pipeline_tests.defs.worlds import CLASSES, write_images
from al_pipeline_tests.labelstudio.databases import FreshDatabase
from al_pipeline_tests.ledger.postgresql import PASSWORD, PostgreSQL, run_postgresql

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.labelstudio,
    pytest.mark.skipif(sys.platform != "linux", reason="each service has an address of its own on loopback"),
]
BOUND = 300.0
BATCH = 4
# Two sessions on one machine do not meet.
NETWORK = f"127.77.{os.getpid() % 250 + 1}"
# Of Label Studio's variables those that say where its database is.
DATABASE = {"DJANGO_DB", "POSTGRE_HOST", "POSTGRE_PORT", "POSTGRE_NAME", "POSTGRE_USER", "POSTGRE_PASSWORD"}


def test_variables_are_put_in_as_compose_does() -> None:
    assert interpolated("a$$b ${X:-usual} ${Y:?set it}", {"Y": "given"}) == "a$b usual given"
    with pytest.raises(AssertionError, match="Y is not set: set it"):
        interpolated("${Y:?set it}", {})


def test_every_service_has_a_limit_of_memory_and_of_logs() -> None:
    for name, service in Compose(ROOT, {}, NETWORK, {}).services.items():
        assert re.fullmatch(r"\d+g|\$\{\w+:-\d+g\}", service["mem_limit"]), name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name


def test_label_studio_runs_under_uwsgi_where_it_is_looked_for() -> None:
    services = Compose(ROOT, {}, NETWORK, {}).services
    studio = services["label-studio"]
    assert studio["command"] == ["label-studio-uwsgi"]
    # Without it the tests of `labelstudio/test_client.py` that follow a redirect fail under uWSGI.
    assert studio["environment"]["UWSGI_ADD_HEADER"] == "Connection: close"
    # uWSGI's port in the image.
    assert studio["ports"] == ["127.0.0.1:${LABEL_STUDIO_PORT:-8080}:8000"]
    assert "http://127.0.0.1:8000/health" in studio["healthcheck"]["test"][-1]
    assert services["code-server"]["environment"]["AL_LABEL_STUDIO_URL"] == "http://label-studio:8000"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """The service `postgres`: at its own address, with the password of `.env`, and the databases of its script."""
    for server in run_postgresql(f"{NETWORK}.1", 5432):
        environment = {"PATH": os.environ["PATH"], "POSTGRES_USER": "al", "PGHOST": server.host, "PGPASSWORD": PASSWORD}
        subprocess.run(["sh", str(ROOT / "deploy" / "init-databases.sh")], env=environment, check=True)
        yield server


@pytest.fixture(scope="module")
def compose(
    postgresql: PostgreSQL, fresh_database: FreshDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compose]:
    """All services but pages and webhook, running: what `docker compose up --detach` leaves."""
    folder, port = tmp_path_factory.mktemp("compose"), free_port()
    write_images(folder / "images", 12, seed=0)
    write_images(folder / "images", 6, seed=1, split="holdout")
    data = folder / "labelstudio"
    with fresh_database.first_start(data):
        log, images = folder / "logs" / "label-studio.log", folder / "al" / "published" / "images"
        studio = LocalLabelStudio(data, images, port=port, log=log)
        variables = {
            "AL_IMAGES": str(folder / "images"),
            "POSTGRES_PASSWORD": PASSWORD,
            "LABEL_STUDIO_USERNAME": studio.username,
            "LABEL_STUDIO_PASSWORD": studio.password,
            "AL_LABEL_STUDIO_TOKEN": studio.token,
            "LABEL_STUDIO_PORT": str(port),
            "AL_ROUND__BATCH_SIZE": str(BATCH),
            "AL_POLICY__PREFETCH": "false",
            "AL_TRAINING__WEIGHTS": "none",
            "AL_TRAINING__IMAGE_SIZE": "32",
            "AL_TRAINING__EPOCHS": "1",
        }
        compose = Compose(folder, variables, NETWORK, {"label-studio:8000": f"127.0.0.1:{port}"})
        assert compose.hosts["postgres"] == postgresql.host
        compose.prepare()
        told = compose.environment("label-studio")
        left = DATABASE | {"PATH", "HOME", "PYTHONPATH"}
        studio.env = {**studio.env, **{key: value for key, value in told.items() if key not in left}}
        studio.start()
        try:
            compose.run("migration")
            for name in compose.order("code-server", "webserver", "daemon"):
                compose.start(name)
                if name == "code-server":
                    wait_until(lambda: listens(compose.hosts["code-server"], 4000))
            studio.wait_ready(FIRST_START)
            yield compose
        finally:
            compose.stop()
            studio.stop()


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {BOUND:.0f} s"
        time.sleep(0.2)


def test_al_open_asks_the_first_batch_and_the_answers_open_the_next_round(compose: Compose) -> None:
    told = " ".join(compose.run("code-server", "al", "open", "--wait", str(BOUND)).split())
    assert "Launching the job setup: scan the images, create the Label Studio project" in told
    assert "Launching round r0000" in told
    settings = compose.environment("code-server")
    url, token = settings["AL_LABEL_STUDIO_URL"], settings["AL_LABEL_STUDIO_TOKEN"]
    client = LabelStudio(url, token, timeout=60)
    project = client.find_project("al_pipeline")
    assert project is not None
    assert f"Label here {url}/projects/{project.project_id}/data?labeling=1" in told
    first = client.tasks(project.project_id, "r0000")
    assert len(first) >= BATCH

    again = compose.run("code-server", "al", "open")
    assert "The loop is open already: its newest round is r0000. Nothing is launched." in again

    # The machine's disk is none of ours.
    examined = [" ".join(line.split()) for line in compose.run("code-server", "al", "doctor", check=False).splitlines()]
    assert not [line for line in examined if line.startswith("fix") and "disk" not in line]
    for well in ("Dagster", "database", "clock", "images in Label Studio", "privacy", "last scan"):
        assert any(line.startswith(f"ok {well}: ") for line in examined), examined

    known = truth(pd.read_parquet(compose.folder / "al" / "artifacts" / "image_pool.parquet"))
    answered = SimulatedAnnotator(client, project.project_id, known, CLASSES).answer_open_tasks()
    assert answered.labeled == len(first)
    wait_until(lambda: bool(client.tasks(project.project_id, "r0001")))
    assert "r0001" in compose.run("code-server", "al", "status")

    engine = sa.create_engine(settings["AL_DATABASE_URL"], connect_args={"password": settings["PGPASSWORD"]})
    with engine.connect() as connection:
        rounds = connection.execute(sa.text("SELECT DISTINCT round FROM planned_tasks ORDER BY round")).scalars().all()
    engine.dispose()
    assert rounds == ["r0000", "r0001"]


@pytest.mark.parametrize(
    ("name", "healthy"), [("code-server", True), ("webserver", True), ("daemon", True), ("page", False)]
)
def test_a_service_that_runs_is_healthy_and_no_other(compose: Compose, name: str, healthy: bool) -> None:
    assert compose.is_healthy(name) is healthy


def test_nothing_that_the_services_print_holds_a_secret(compose: Compose) -> None:
    logs = sorted((compose.folder / "logs").glob("*.log"))
    assert {log.stem for log in logs} >= {"code-server", "webserver", "daemon", "label-studio"}
    secrets = {name: compose.variables[name] for name in ("POSTGRES_PASSWORD", "AL_LABEL_STUDIO_TOKEN")}
    for log in logs:
        said = log.read_text(errors="replace")
        assert said
        assert not [name for name, secret in secrets.items() if secret in said], log.name
