"""The levels of a pool are found at a scan, kept once something is learned, and seen by person and model alike."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.levels import Levels
from al_pipeline.core.data.oddities import oddities
from al_pipeline.core.data.report import describe
from al_pipeline.core.errors import CheckpointError, FileError
from al_pipeline.core.learning.checkpoint import Checkpoint, CheckpointInfo
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.train import untrained
from al_pipeline.labelstudio.images import publish
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.how_read import how_of_home, stored
from al_pipeline.loop.scan import Scanned, scan_images
from al_pipeline.settings import load_settings
from al_pipeline_tests.web.checkpoints import checkpoint

RAMP = np.linspace(0, 1, 32 * 32).reshape(32, 32)


def write(root: Path, name: str, top: int) -> Path:
    path = root / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((RAMP * top).round().astype(np.uint16)).save(path)
    return path


class Home:
    """Two pictures of 12 bits in 16, and what was scanned of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.open = root, list[Deployment]()
        write(root, "cat/a.png", 4000)
        write(root, "dog/b.png", 900)

    def scan(self, **given: Any) -> Scanned:
        made = Deployment(load_settings(home=self.root / "home", images=self.root / "images", **given))
        self.open.append(made)
        return scan_images(made)

    @property
    def how(self) -> HowRead:
        return how_of_home(self.open[-1].artifacts)

    def learn(self) -> None:
        made = checkpoint(0, ["a", "b"])
        path = self.root / "home" / "artifacts" / "checkpoint" / "r0000.safetensors"
        replace(made, info=replace(made.info, trained=True)).save(path)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    for each in made.open:
        each.ledger.close()


def test_a_scan_finds_white_and_later_ones_may_find_another_until_something_is_learned(home: Home) -> None:
    assert home.scan().reading == ["Values of more than 8 bits are shown from 0 to 4095 (whole numbers)"]
    assert home.how == HowRead(Levels(white=4095))
    write(home.root, "cat/c.png", 5000)
    assert home.scan().reading[0].endswith("from 0 to 16383 (whole numbers), another range than before")
    assert home.how == HowRead(Levels(white=16383))
    home.learn()
    write(home.root, "cat/d.png", 40000)
    (told,) = home.scan().reading
    assert told.startswith("Values reach 40000, above white (16383), and are shown as white")
    assert home.how == HowRead(Levels(white=16383))
    # Who says so has it.
    home.scan(white=40000)
    assert home.how == HowRead(Levels(white=40000))
    home.scan(white="percentile")
    assert home.how.levels.white == pytest.approx(40000, rel=0.01)


def test_a_home_that_has_learned_before_there_was_a_choice_goes_on_as_it_was(home: Home) -> None:
    home.learn()
    for _ in range(2):
        home.scan()
        assert home.how == AS_EVER
    home.scan(white=4095)
    assert home.how == HowRead(Levels(white=4095))


def test_the_plane_that_is_asked_for_is_taken_from_the_next_scan_on(home: Home) -> None:
    home.scan()
    home.learn()
    home.scan(plane="2")
    assert home.how == HowRead(Levels(white=4095), plane=2)
    home.scan(plane="max")
    assert home.how == HowRead(Levels(white=4095), plane="max")


def test_what_nothing_was_learned_of_finds_its_levels_later(home: Home) -> None:
    home.scan()
    home.learn()
    Image.fromarray(RAMP.astype(np.float32) * 7 - 2).save(home.root / "images" / "dog" / "f.tif")
    home.scan()
    assert home.how.levels.white == 4095
    assert (home.how.levels.low, home.how.levels.high) == (pytest.approx(-2, abs=0.1), pytest.approx(5, abs=0.1))


def test_a_person_sees_what_the_network_gets_and_pictures_read_otherwise_are_made_anew(home: Home) -> None:
    manifest = home.scan().manifest
    row, folder = manifest.iloc[0], home.root / "home" / "published" / "images"
    folder.mkdir(parents=True)
    shown = folder / publish(row["uri"], row["sample_id"], folder, home.how)
    expected = (RAMP * 4000).round() / 4095 * 255
    assert np.abs(np.asarray(Image.open(shown))[..., 0] - expected).max() <= 0.5 + 1e-9
    before = shown.stat()
    home.scan()
    assert shown.stat() == before
    told = home.scan(white=8000).reading
    assert told[-1] == "1 published pictures are made anew, as images are read now"
    assert np.abs(np.asarray(Image.open(shown))[..., 0] - (RAMP * 4000).round() / 8000 * 255).max() <= 0.5 + 1e-9


def test_a_checkpoint_reads_as_it_has_learned(tmp_path: Path) -> None:
    options, how = TrainingOptions(image_size=32), HowRead(Levels(white=4095), channels=(1,))
    made = untrained(["a", "b"], options, seed=0, round_number=0, how=how).checkpoint
    made.save(tmp_path / "r.safetensors")
    found = Checkpoint.load(tmp_path / "r.safetensors")
    assert found.info == made.info
    path, eight = write(tmp_path, "a.png", 4095), tmp_path / "eight.png"
    Image.fromarray((RAMP * 255).round().astype(np.uint8)).save(eight)
    ever = replace(found, info=replace(found.info, how=AS_EVER))
    assert np.allclose(embed(found, [path]), embed(ever, [eight]), atol=1e-3)
    assert not np.allclose(embed(ever, [path]), embed(ever, [eight]), atol=1e-1)


def test_a_checkpoint_of_a_later_version_is_not_read_otherwise(tmp_path: Path) -> None:
    text = untrained(["a", "b"], TrainingOptions(image_size=32), seed=0, round_number=0).checkpoint.info.to_json()
    assert CheckpointInfo.from_json(text).how == AS_EVER
    with pytest.raises(CheckpointError):
        CheckpointInfo.from_json(text.replace('"channels": []', '"channels": [], "stereo": true'))


def test_pictures_with_few_gray_levels_are_told_and_shown(home: Home) -> None:
    write(home.root, "dog/dark.png", 300)
    found = home.scan(white=65535)
    root = home.root / "images"
    (remark,) = describe(found.manifest, root, how=found.how).remarks
    assert remark.startswith(
        "3 images of more than 8 bits have fewer than 32 gray levels, for example cat/a.png with 16"
    )
    (shown,) = [each for each in oddities(found.manifest, root, found.how.levels) if each.title == "Few gray levels"]
    assert [Path(row.uris[0]).name for row in shown.rows] == ["dark.png", "b.png", "a.png"]
    # By the rule for the pool two of them have enough.
    (remark,) = describe(found.manifest, root).remarks
    assert remark.startswith(
        "1 image of more than 8 bits has fewer than 32 gray levels, for example dog/dark.png with 1"
    )


def test_a_damaged_file_of_the_home_is_told(home: Home) -> None:
    home.scan()
    home.open[-1].artifacts.how_read.write_text("{}")
    with pytest.raises(FileError, match="delete it, and launch the job `setup`"):
        stored(home.open[-1].artifacts)
