"""What people are shown stays what they were asked about, wherever the originals lie."""

import logging
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.data.pool import scan
from al_pipeline.labelstudio.images import publish
from al_pipeline.ledger import Ledger
from al_pipeline.loop.published import publish_again
from al_pipeline_tests.ledger.builders import plan_rows

LOG = logging.getLogger(__name__)


class Asked:
    """Four images, of which two were asked about and are published."""

    def __init__(self, folder: Path) -> None:
        self.images, self.folder = folder / "photos", folder / "published"
        for number in range(4):
            path = self.images / f"class{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 60 * number).save(path)
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite3'}")
        manifest = self.scan()
        self.ids = dict(zip(manifest["uri"].map(lambda uri: int(Path(uri).stem)), manifest["sample_id"], strict=True))
        plan = plan_rows(0, 1).assign(sample_id=[self.ids[0], self.ids[1]])
        self.ledger.plan("r0000", plan)
        for number in (0, 1):
            publish(self.images / f"class{number}" / f"{number}.png", self.ids[number], self.folder)

    def scan(self) -> pd.DataFrame:
        manifest = scan(self.images)
        self.ledger.register(manifest)
        return manifest.assign(inode=[Path(uri).stat().st_ino for uri in manifest["uri"]])

    def again(self) -> int:
        return publish_again(self.ledger, self.scan(), self.folder, LOG)

    def served(self) -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_only_what_was_asked_about_and_is_not_served_is_published(asked: Asked) -> None:
    before = asked.served()
    assert before.keys() == {asked.ids[0], asked.ids[1]}
    assert asked.again() == 0
    for path in asked.folder.iterdir():
        path.unlink()
    asked.images.rename(asked.images.with_name("pictures"))
    asked.images = asked.images.with_name("pictures")
    assert asked.again() == 2
    assert asked.served() == before


def test_what_has_left_the_folder_is_served_on(asked: Asked) -> None:
    before = asked.served()
    (asked.images / "class0" / "0.png").unlink()
    assert asked.again() == 0
    assert asked.served() == before


def test_an_example_of_the_guideline_stays_under_the_name_of_its_bytes(asked: Asked) -> None:
    publish(asked.images / "class0" / "2.png", "e" * 32, asked.folder)
    asked.again()
    assert "e" * 32 in asked.served()


def test_what_is_shown_beside_another_image_is_published_too(asked: Asked) -> None:
    members = pd.DataFrame({"sample_id": [asked.ids[2]], "member_id": [asked.ids[3]], "place": [1]})
    asked.ledger.plan("r0001", plan_rows(2).assign(sample_id=asked.ids[2]), members)
    assert asked.again() == 2
    assert asked.served().keys() == set(asked.ids.values())


def test_an_image_that_was_written_over_shows_no_other_picture(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    # In place, as `cp` does: the published file is a hard link to it.
    original = asked.images / "class0" / "0.png"
    Image.new("L", (8, 8), 255).save(asked.images / "other.png")
    original.write_bytes((asked.images / "other.png").read_bytes())
    (asked.images / "other.png").unlink()
    asked.again()
    assert asked.served().keys() == {asked.ids[1]}
    assert "holds another picture now" in caplog.text
    # It comes back under another name.
    Image.new("L", (8, 8), 0).save(asked.images / "class0" / "back.png")
    assert asked.again() == 1
    assert asked.served().keys() == {asked.ids[0], asked.ids[1]}
