"""A fresh Label Studio project for each test that asks for one, on the session's server."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import Interface
from al_pipeline.labelstudio.images import publish
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline_tests.labelstudio.projects import CLASSES, Project


@pytest.fixture
def make_project(server: LocalLabelStudio, client: LabelStudio, tmp_path: Path) -> Callable[..., Project]:
    """A factory of projects whose images are served."""

    def make(class_names: Sequence[str] = CLASSES, *, overlap: int = 1, **more: Any) -> Project:
        title = f"test {uuid4()}"
        images = server.document_root / "images"
        Image.linear_gradient("L").convert("RGB").save(tmp_path / "gradient.png")
        name = publish(tmp_path / "gradient.png", uuid4().hex, images)
        project_id = client.ensure_project(title, Interface(class_names, **more), overlap=overlap)
        client.connect_images(project_id, str(images))
        return Project(client, project_id, title, class_names, name)

    return make


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    """An empty project with two classes."""
    return make_project()
