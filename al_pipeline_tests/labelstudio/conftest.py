"""A fresh Label Studio project for each test that asks for one, on the session's server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import payload
from al_pipeline.labelstudio.images import publish
from al_pipeline.servers.label_studio import LocalLabelStudio

CLASSES = ("dark horse", "grüner Wald & <Wiese>")


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
