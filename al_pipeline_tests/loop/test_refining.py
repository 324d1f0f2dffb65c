"""What refining leaves of features: no round to come needs those of older networks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from al_pipeline.core.data.places import Place, Root
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.refined import Network
from al_pipeline.loop.refining import Refining


def written(root: Root, name: str) -> None:
    if isinstance(root, Place):
        root.put(name, b"rows")
    else:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"rows")


def names(root: Root) -> set[str]:
    if isinstance(root, Place):
        return {entry.key for entry in root.entries()}
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("bucket", [False, True])
def test_features_of_older_networks_go_and_no_others_in_a_folder_and_in_a_bucket(
    tmp_path: Path, *, bucket: bool
) -> None:
    root: Root = Place(f"memory://{uuid4()}/features") if bucket else tmp_path / "features"
    kept = {"given/0.features", "new-refined/0.features", "new-refined/1.features", "told"}
    for name in (*kept, "old-refined/0.features", "old-refined/1.features", "older-refined/0.features"):
        written(root, name)
    artifacts = Artifacts(tmp_path / "artifacts")
    artifacts.refining.mkdir(parents=True)
    (artifacts.refining / "state").write_text("half")
    Network("r0002", artifacts.refined / "r0002.safetensors", "0" * 16, True, "better", "new-refined").write({})
    none: Any = None
    deployment: Any = SimpleNamespace(artifacts=artifacts)
    refining = Refining(deployment, none, none, TrainingOptions(), 0, 1, "r0002", none, none)
    store = SimpleNamespace(folder=root / "given")
    refining.__dict__["given"] = SimpleNamespace(store=store, training=TrainingOptions())
    for _ in range(2):
        refining._clear()
        assert names(root) == kept
    assert not artifacts.refining.exists()
