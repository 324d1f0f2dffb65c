"""Worlds of one test each."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from al_pipeline_tests.defs.worlds import USUAL, World, open_instance, open_world, write_usual_images


@pytest.fixture(scope="session")
def empty_dagster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Dagster's databases before anything has run: to make them takes longer than many a test."""
    folder = tmp_path_factory.mktemp("empty") / "dagster"
    open_instance(folder).dispose()
    return folder


@pytest.fixture(scope="session")
def once_scanned(empty_dagster: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the usual images, and with the home and Dagster's folder of a world that has scanned them."""
    folder = tmp_path_factory.mktemp("scanned")
    shutil.copytree(empty_dagster, folder / "dagster")
    write_usual_images(folder / "images")
    world = open_world(folder / "dagster", USUAL | {"home": folder / "home", "images": folder / "images"})
    assert world.materialize("image_pool", "embeddings").success
    world.instance.dispose()
    return folder


@pytest.fixture
def make_world(tmp_path: Path, empty_dagster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A factory of worlds in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    opened: list[dg.DagsterInstance] = []

    def make(images: Path | None = None, *, dagster: Path = empty_dagster, **overrides: Any) -> World:
        if images is None:
            images = tmp_path / "images"
            write_usual_images(images)
        if not opened and "home" in overrides:
            # Where Label Studio serves files from: what another test left there is not this one's.
            shutil.rmtree(overrides["home"] / "artifacts", ignore_errors=True)
        folder = tmp_path / f"dagster{len(opened)}"
        shutil.copytree(dagster, folder)
        world = open_world(folder, USUAL | {"home": tmp_path / "home", "images": images} | overrides)
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
def scanned(make_world: Any, once_scanned: Path, tmp_path: Path) -> World:
    """The usual world with its images scanned; it shares them with other tests."""
    shutil.copytree(once_scanned / "home", tmp_path / "home")
    return make_world(once_scanned / "images", dagster=once_scanned / "dagster")
