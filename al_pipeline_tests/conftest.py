"""One real Label Studio for the whole session, and the order of its tests."""

import faulthandler
import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pytest

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.submitting import editor_keymap
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.processes import ServiceError, free_port
from al_pipeline_tests.labelstudio.databases import FreshDatabase
from al_pipeline_tests.schedule import FileByFile, place
from al_pipeline_tests.templates import new_ledgers_copied

# No test reaches for weights on the network, whether it reads settings here or in a process of its own.
os.environ["AL_TRAINING__WEIGHTS"] = "none"
# The first start installs Label Studio and migrates its database.
FIRST_START = 600.0
STACKS = pytest.StashKey[TextIO]()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileByFile:
    """Replace the choices of --dist."""
    return FileByFile(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Keep the stacks of a worker that dies: what it prints is lost among the results."""
    if (folder := os.environ.get("AL_TEST_CRASHES")) and hasattr(session.config, "workerinput"):
        # Open as long as the process lives.
        session.config.stash[STACKS] = Path(folder, f"{os.getpid()}.txt").open("w")  # noqa: SIM115
        faulthandler.enable(session.config.stash[STACKS])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers what takes longest begins."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.nodeid))


def pytest_collection_finish() -> None:
    """Keep what is there now out of garbage collections: it stays, and to look at all of it takes most of a second."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let everything be collected at the end, as libraries expect that count what is left of them."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def ledgers() -> Iterator[None]:
    """New ledgers are copies of one that was migrated."""
    with new_ledgers_copied():
        yield


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> FreshDatabase:
    """The database of a Label Studio that has just started for the first time.

    AL_TEST_LABEL_STUDIO_HOME names a folder that keeps it, so that the next session starts in seconds. Of several
    workers one makes it, which takes a minute; the others copy it.
    """
    if kept := os.environ.get("AL_TEST_LABEL_STUDIO_HOME"):
        return FreshDatabase(Path(kept))
    own = tmp_path_factory.getbasetemp()
    return FreshDatabase(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def server(fresh_database: FreshDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalLabelStudio]:
    """A real server, started once."""
    home = tmp_path_factory.mktemp("label-studio")
    # Label Studio connects no folder that is not there.
    images = home / "published" / "images"
    images.mkdir(parents=True)
    with ExitStack() as stack:
        with fresh_database.first_start(home / "labelstudio"):
            try:
                log, keymap = home / "logs" / "label-studio.log", editor_keymap("enter")
                local = LocalLabelStudio(home / "labelstudio", images, port=free_port(), log=log, keymap=keymap)
                local.start()
            except OSError as error:
                unavailable(str(error))
            stack.callback(local.stop)
            try:
                local.wait_ready(FIRST_START)
            except ServiceError as error:
                unavailable(str(error))
        yield local


def unavailable(reason: str) -> NoReturn:
    """Skip the tests that need the server, unless AL_REQUIRE_LABEL_STUDIO says that they must run."""
    if os.environ.get("AL_REQUIRE_LABEL_STUDIO"):
        pytest.fail(f"AL_REQUIRE_LABEL_STUDIO is set and Label Studio did not start: {reason}")
    pytest.skip(f"Label Studio could not be started: {reason}")


@pytest.fixture(scope="session")
def client(server: LocalLabelStudio) -> LabelStudio:
    """A client of the session's server; patient, for busy machines."""
    return LabelStudio(server.url, server.token, timeout=60)
