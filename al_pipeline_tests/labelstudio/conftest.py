"""One real Label Studio for the whole session, and a fresh project for each test that asks for one."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pytest
from PIL import Image

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.images import publish
from al_pipeline.labelstudio.server import LocalLabelStudio
from al_pipeline.labelstudio.tasks import payload
from al_pipeline.processes import ServiceError, free_port

# The first start installs Label Studio and migrates its database.
FIRST_START = 600.0
CLASSES = ("dark horse", "grüner Wald & <Wiese>")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalLabelStudio]:
    """A real server, started once.

    AL_TEST_LABEL_STUDIO_HOME names a folder that keeps its database, so that the next session starts in seconds.
    """
    kept = os.environ.get("AL_TEST_LABEL_STUDIO_HOME")
    home = Path(kept) if kept else tmp_path_factory.mktemp("label-studio")
    try:
        local = LocalLabelStudio(
            home / "labelstudio", home / "images", port=free_port(), log=home / "logs" / "label-studio.log"
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


@dataclass
class Project:
    """A project of one test."""

    client: LabelStudio
    id: int
    title: str
    class_names: Sequence[str]
    image_name: str

    def payloads(self, samples: Sequence[str], round_key: str = "r0000", **row: Any) -> list[dict[str, Any]]:
        """Return a task for each sample; all show the same image."""
        prediction = "predicted" in row
        row = {"purpose": "query", "predicted": None, "predicted_probability": 0.75, "checkpoint": "c0ffee"} | row
        return [
            payload(row | {"sample_id": sample}, round_key=round_key, image_name=self.image_name, prediction=prediction)
            for sample in samples
        ]

    def add(self, count: int, round_key: str = "r0000", **row: Any) -> dict[str, int]:
        """Import `count` tasks and return sample_id → task id."""
        samples = [f"{round_key}{i:027d}" for i in range(count)]
        ids = self.client.import_tasks(self.id, self.payloads(samples, round_key, **row))
        return dict(zip(samples, ids, strict=True))


@pytest.fixture
def make_project(server: LocalLabelStudio, client: LabelStudio, tmp_path: Path) -> Callable[..., Project]:
    """A factory of projects whose images are served."""

    def make(class_names: Sequence[str] = CLASSES, *, overlap: int = 1) -> Project:
        title = f"test {uuid4()}"
        images = server.document_root / "images"
        Image.linear_gradient("L").convert("RGB").save(tmp_path / "gradient.png")
        name = publish(tmp_path / "gradient.png", uuid4().hex, images)
        project_id = client.ensure_project(title, class_names, overlap=overlap)
        client.connect_images(project_id, str(images))
        return Project(client, project_id, title, class_names, name)

    return make


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    """An empty project with two classes."""
    return make_project()
