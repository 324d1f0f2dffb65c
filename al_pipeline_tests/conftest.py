"""One real Label Studio for the whole session, and who runs which tests where there are several workers."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from xdist.scheduler import LoadScopeScheduling

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.processes import ServiceError, free_port

# Files of tests that share servers, or need the machine's time as people would have it.
SERVERS = tuple(
    f"al_pipeline_tests/{name}"
    for name in (
        "labelstudio/",
        "defs/test_labeling.py",
        "defs/test_people.py",
        "test_end_to_end.py",
        "servers/test_code_server.py",
    )
)
# These need a Label Studio too, and half as long as all of those: they have a server of their own.
FAULTS = "al_pipeline_tests/faults/"
NO_SERVER = "al_pipeline_tests/faults/test_interleavings.py"
# The longest files first, so that no worker waits for the others in the end. Two keep the other workers busy until the
# first one's Label Studio has a database to copy.
ORDER = (
    SERVERS,
    (NO_SERVER,),
    ("al_pipeline_tests/core/learning/test_finetune.py",),
    (FAULTS,),
    tuple(
        f"al_pipeline_tests/{name}"
        for name in (
            "test_notebook.py",
            "core/learning/test_export.py",
            "core/study/test_simulate.py",
            "core/evaluation/test_coverage_of_intervals.py",
            "core/study/test_run.py",
            "cli/test_model.py",
            "cli/test_simulate.py",
            "defs/",
            "web/",
        )
    ),
)
# The first start installs Label Studio and migrates its database.
FIRST_START = 600.0
DATABASE = "label_studio.sqlite3"


class FileByFile(LoadScopeScheduling):
    """With several workers (pytest-xdist): one has the tests with servers, one the faults; then file by file."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(FAULTS) and not nodeid.startswith(NO_SERVER):
            return "faults"
        return "servers" if nodeid.startswith(SERVERS) else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileByFile:
    """Replace the choices of --dist."""
    return FileByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers what takes longest begins."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    return next((i for i, names in enumerate(ORDER) if nodeid.startswith(names)), len(ORDER))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalLabelStudio]:
    """A real server, started once.

    AL_TEST_LABEL_STUDIO_HOME names a folder that keeps its database, so that the next session starts in seconds. Of
    several workers one makes an empty database, which takes a minute; the others copy it.
    """
    kept = os.environ.get("AL_TEST_LABEL_STUDIO_HOME")
    home = Path(kept) if kept else tmp_path_factory.mktemp("label-studio")
    # Label Studio connects no folder that is not there.
    images = home / "published" / "images"
    images.mkdir(parents=True, exist_ok=True)
    shared = None if kept or "PYTEST_XDIST_WORKER" not in os.environ else tmp_path_factory.getbasetemp().parent
    with ExitStack() as stack:
        with one_makes_the_database(shared, home / "labelstudio"):
            try:
                local = LocalLabelStudio(
                    home / "labelstudio", images, port=free_port(), log=home / "logs" / "label-studio.log"
                )
                local.start()
            except OSError as error:
                unavailable(str(error))
            stack.callback(local.stop)
            try:
                local.wait_ready(FIRST_START)
            except ServiceError as error:
                unavailable(str(error))
        yield local


@contextmanager
def one_makes_the_database(shared: Path | None, data_dir: Path) -> Iterator[None]:
    """Let the body start a server; all bodies but the first one find in `data_dir` what that one has made.

    Parameters
    ----------
    shared : Path | None
        A folder that all workers of this session know; None if there is nobody to share with.
    data_dir : Path
    """
    if shared is None:
        yield
        return
    made = shared / "label-studio"
    with (shared / "label-studio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            fcntl.flock(lock, fcntl.LOCK_UN)
            shutil.copytree(made, data_dir)
            yield
            return
        yield
        half = made.with_suffix(".half")
        half.mkdir()
        shutil.copy2(data_dir / "credentials.json", half)
        # The server is running: SQLite's own copy is whole all the same.
        with closing(sqlite3.connect(data_dir / DATABASE)) as ours, closing(sqlite3.connect(half / DATABASE)) as theirs:
            ours.backup(theirs)
        half.rename(made)


def unavailable(reason: str) -> NoReturn:
    """Skip the tests that need the server, unless AL_REQUIRE_LABEL_STUDIO says that they must run."""
    if os.environ.get("AL_REQUIRE_LABEL_STUDIO"):
        pytest.fail(f"AL_REQUIRE_LABEL_STUDIO is set and Label Studio did not start: {reason}")
    pytest.skip(f"Label Studio could not be started: {reason}")


@pytest.fixture(scope="session")
def client(server: LocalLabelStudio) -> LabelStudio:
    """A client of the session's server; patient, for busy machines."""
    return LabelStudio(server.url, server.token, timeout=60)
