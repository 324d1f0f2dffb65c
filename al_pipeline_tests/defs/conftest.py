"""Worlds of one test each."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from al_pipeline_tests.defs.worlds import USUAL, World, open_instance, open_world, write_usual_images
from al_pipeline_tests.templates import pictures_drawn_once

# Takes what writes the images, and settings.
ScanOnce = Callable[..., Path]


@pytest.fixture(scope="session")
def empty_dagster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Dagster's databases before anything has run: to make them takes longer than many a test."""
    folder = tmp_path_factory.mktemp("empty") / "dagster"
    open_instance(folder).dispose()
    return folder


@pytest.fixture(scope="session")
def scan_once(empty_dagster: Path, tmp_path_factory: pytest.TempPathFactory) -> ScanOnce:
    """A function that makes a folder with images, and with the home and Dagster's folder of a world that has them."""

    def scan(write: Callable[[Path], None], **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("scanned")
        shutil.copytree(empty_dagster, folder / "dagster")
        write(folder / "images")
        world = open_world(
            folder / "dagster", USUAL | {"home": folder / "home", "images": folder / "images"} | settings
        )
        assert world.materialize("image_pool", "embeddings").success
        world.instance.dispose()
        return folder

    return scan


@pytest.fixture(scope="session")
def once_scanned(scan_once: ScanOnce) -> Path:
    """The folder of the usual world."""
    return scan_once(write_usual_images)


@pytest.fixture
def make_world(tmp_path: Path, empty_dagster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A factory of worlds in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    pictures_drawn_once(monkeypatch)
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
def go_on(make_world: Any, tmp_path: Path) -> Callable[..., World]:
    """A function that returns a world which has scanned what `scan_once` has; it shares the images with other tests."""

    def made(folder: Path, **settings: Any) -> World:
        shutil.copytree(folder / "home", tmp_path / "home")
        return make_world(folder / "images", dagster=folder / "dagster", **settings)

    return made


@pytest.fixture
def scanned(go_on: Callable[..., World], once_scanned: Path) -> World:
    """The usual world with its images scanned."""
    return go_on(once_scanned)
