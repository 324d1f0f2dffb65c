"""Worlds of one test each."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from al_pipeline_tests.defs.worlds import World, open_world, write_images


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A factory of worlds in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    opened: list[dg.DagsterInstance] = []

    def make(images: Path | None = None, **overrides: Any) -> World:
        if images is None:
            images = tmp_path / "images"
            write_images(images, 12, seed=0)
            write_images(images, 6, seed=1, split="holdout")
        defaults: dict[str, Any] = {
            "home": tmp_path / "home",
            "images": images,
            "round": {"strategy": "low_certainty", "batch_size": 4, "sample_size": None},
            "training": {"image_size": 32, "epochs": 2},
        }
        if not opened and "home" in overrides:
            # Where Label Studio serves files from: what another test left there is not this one's.
            shutil.rmtree(overrides["home"] / "artifacts", ignore_errors=True)
        world = open_world(tmp_path / f"dagster{len(opened)}", defaults | overrides)
        opened.append(world.instance)
        return world

    yield make
    for instance in opened:
        instance.dispose()


@pytest.fixture
def world(make_world: Any) -> World:
    """The usual world."""
    return make_world()


@pytest.fixture
def scanned(world: World) -> World:
    """A world whose images are scanned."""
    assert world.materialize("image_pool", "embeddings").success
    return world
