"""A home goes to another place with the Label Studio that runs in it: the same project, and everything people did."""

from collections.abc import Callable
from pathlib import Path

import pytest

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.ledger import Ledger
from al_pipeline.loop.local import label_studio_folder
from al_pipeline.loop.packing import pack
from al_pipeline.loop.relocating import unpack
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.processes import free_port
from al_pipeline.settings import load_settings
from al_pipeline_tests.labelstudio.projects import CLASSES, Project

pytestmark = pytest.mark.labelstudio


def test_the_server_of_a_packed_home_has_its_projects_answers_and_images(
    server: LocalLabelStudio, make_project: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    project, settings = make_project(), load_settings(home=server.document_root.parent)
    first, *_ = project.add(3).items()
    project.client.annotate(first[1], CLASSES[0])
    Ledger(settings.ledger_url).close()
    (settings.dagster_home / "history").mkdir(parents=True, exist_ok=True)
    before = project.client.project(project.id), project.client.tasks(project.id)

    # The server runs meanwhile. No manifest names the image, so what is served of it goes along.
    pack(settings, tmp_path / "home.tar")
    unpack(tmp_path / "home.tar", tmp_path / "new")
    new = load_settings(home=tmp_path / "new")
    copy = LocalLabelStudio(
        label_studio_folder(new), new.published_images, port=free_port(), log=tmp_path / "label-studio.log"
    )
    try:
        copy.start()
        copy.wait_ready(300)
        client = LabelStudio(copy.url, copy.token, timeout=60)
        assert client.project(project.id) == before[0]
        assert client.tasks(project.id) == before[1]
        client.connect_images(project.id, str(new.published_images))
        assert client.image_problem(project.id) is None
    finally:
        copy.stop()
