"""One real Label Studio for the whole session."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from xdist.scheduler import LoadScopeScheduling

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.server import LocalLabelStudio
from al_pipeline.processes import ServiceError, free_port

# Files of tests that share servers, or need the machine's time as people would have it.
SERVERS = tuple(
    f"al_pipeline_tests/{name}"
    for name in (
        "labelstudio/",
        "defs/test_labeling.py",
        "defs/test_people.py",
        "test_end_to_end.py",
        "test_code_server.py",
    )
)
# These need a Label Studio too, and half as long as all of those: they have a server of their own.
FAULTS = "al_pipeline_tests/faults/"
NO_SERVER = "al_pipeline_tests/faults/test_interleavings.py"
# The first start installs Label Studio and migrates its database.
FIRST_START = 600.0


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
    """With several workers the tests with servers begin, since they take longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith((*SERVERS, FAULTS)))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalLabelStudio]:
    """A real server, started once.

    AL_TEST_LABEL_STUDIO_HOME names a folder that keeps its database, so that the next session starts in seconds.
    """
    kept = os.environ.get("AL_TEST_LABEL_STUDIO_HOME")
    home = Path(kept) if kept else tmp_path_factory.mktemp("label-studio")
    # Label Studio connects no folder that is not there.
    images = home / "published" / "images"
    images.mkdir(parents=True, exist_ok=True)
    try:
        local = LocalLabelStudio(
            home / "labelstudio",
            images,
            port=free_port(),
            log=home / "logs" / "label-studio.log",
        )
        local.start()
    except OSError as error:
        unavailable(str(error))
    try:
        local.wait_ready(FIRST_START)
        yield local
    except ServiceError as error:
        unavailable(str(error))
    finally:
        local.stop()


def unavailable(reason: str) -> NoReturn:
    """Skip the tests that need the server, unless AL_REQUIRE_LABEL_STUDIO says that they must run."""
    if os.environ.get("AL_REQUIRE_LABEL_STUDIO"):
        pytest.fail(f"AL_REQUIRE_LABEL_STUDIO is set and Label Studio did not start: {reason}")
    pytest.skip(f"Label Studio could not be started: {reason}")


@pytest.fixture(scope="session")
def client(server: LocalLabelStudio) -> LabelStudio:
    """A client of the session's server; patient, for busy machines."""
    return LabelStudio(server.url, server.token, timeout=60)
