"""What people are shown stays what they were asked about, wherever the originals lie."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.levels import Levels
from al_pipeline.core.data.montage import montage
from al_pipeline.core.data.pool import scan
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.labelstudio.images import publish, publish_together, published
from al_pipeline.ledger import Ledger
from al_pipeline.loop.classes import interface_of
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.how_read import how_of_home
from al_pipeline.loop.published import is_shown_otherwise, publish_again, published_as, reduced, show_as_read, shown_px
from al_pipeline.loop.scan import Scanned, scan_images
from al_pipeline.settings import load_settings
from al_pipeline_tests.ledger.builders import moment, plan_rows, said

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


def anew(count: int) -> str:
    return f"{count} published pictures are made anew, as images are read now"


class Home:
    """A home with three images of 12 bits and two of 8, one of them transparent, that people were asked about."""

    def __init__(self, root: Path) -> None:
        self.root, self.images = root, root / "images"
        self.images.mkdir()
        ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
        for name, top in (("a", 4000), ("b", 3000), ("c", 2000)):
            Image.fromarray((ramp * top).astype(np.uint16)).save(self.images / f"{name}.png")
        Image.fromarray((ramp * 255).astype(np.uint8)).save(self.images / "plain.png")
        Image.fromarray((ramp * 254).astype(np.uint8)).convert("LA").save(self.images / "clear.png")
        with Image.open(self.images / "clear.png") as clear:
            clear.putalpha(100)
            clear.save(self.images / "clear.png")
        self.scan()
        self.settings.published_images.mkdir(parents=True)

    def scan(self, **given: Any) -> Scanned:
        self.settings = load_settings(home=self.root / "home", images=self.images, classes=["a", "b"], **given)
        self.deployment = Deployment(self.settings)
        found = scan_images(self.deployment)
        # As the asset does.
        found.manifest.to_parquet(self.deployment.artifacts.image_pool)
        self.deployment.ledger.close()
        self.ids = {Path(uri).stem: i for uri, i in found.manifest[["uri", "sample_id"]].to_numpy()}
        return found

    def ask(self, *names: str, beside: tuple[str, ...] = ()) -> None:
        ledger = Deployment(self.settings).ledger
        members = pd.DataFrame(
            {"sample_id": self.ids[names[0]], "member_id": [self.ids[i] for i in beside], "place": range(len(beside))}
        )
        ledger.plan("r0000", plan_rows(*range(len(names))).assign(sample_id=[self.ids[i] for i in names]), members)
        ledger.close()

    def path(self, name: str) -> Path:
        return self.settings.published_images / str(published(self.ids[name], self.settings.published_images))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.deployment.ledger.close()


def test_what_an_earlier_version_linked_is_made_anew_at_once_and_looked_at_no_more(home: Home) -> None:
    home.ask("plain", "clear", "a", "b")
    folder = home.settings.published_images
    for name in ("plain", "clear", "a", "b"):
        (folder / f"{home.ids[name]}.png").hardlink_to(home.images / f"{name}.png")
    home.deployment.artifacts.published_as.unlink()
    assert is_shown_otherwise(home.settings)
    assert home.scan().reading[-1] == anew(3)
    assert not is_shown_otherwise(home.settings)
    assert home.path("plain").samefile(home.images / "plain.png")
    for name in ("clear", "a", "b"):
        with Image.open(home.path(name)) as image:
            assert image.mode == "RGB"
    # By a version stamp, and not by looking at them.
    home.path("a").unlink()
    home.path("b").write_bytes(b"")
    assert anew(1) not in home.scan().reading
    assert home.path("b").read_bytes() == b""


def test_of_an_earlier_rule_open_tasks_are_shown_anew_even_if_their_pictures_are_plain(home: Home) -> None:
    home.ask("a", "b")
    ledger, folder = Deployment(home.settings).ledger, home.settings.published_images
    ledger.append([said(1, home.ids["b"], "a")], moment(1), source="project")
    ledger.close()
    for name in ("a", "b"):
        Image.new("RGB", (32, 32), "red").save(folder / f"{home.ids[name]}.png")
    home.deployment.artifacts.published_as.unlink()
    assert home.scan().reading[-1] == anew(1)
    assert [Image.open(home.path(name)).getpixel((0, 0)) for name in ("a", "b")] == [(0, 0, 0), (255, 0, 0)]


def test_with_other_levels_tasks_of_several_images_and_examples_follow(home: Home) -> None:
    home.ask("plain", beside=("a", "b"))
    folder, how = home.settings.published_images, how_of_home(home.deployment.artifacts)
    places = {home.ids[name]: str(home.images / f"{name}.png") for name in ("plain", "a", "b")}
    for i, place in places.items():
        publish(place, i, folder, how)
    shown = folder / publish_together(places, folder, how)[0]
    examples = home.root / "examples" / "a"
    examples.mkdir(parents=True)
    (examples / "c.png").hardlink_to(home.images / "c.png")
    guidelines = []
    for white in ("auto", 8000):
        told = home.scan(white=white, examples=examples.parent).reading
        guidelines.append(interface_of(home.settings, ClassSet(("a", "b"))).guideline)
    assert told[-1] == anew(3)
    how = how_of_home(home.deployment.artifacts)
    assert how.levels.white == 8000
    expected = np.asarray(montage(list(places.values()), how), dtype=int)
    assert np.abs(np.asarray(Image.open(shown), dtype=int) - expected).mean() < 2
    assert guidelines[0] != guidelines[1]
    example = guidelines[1].split("images/")[1][:36]
    assert np.asarray(Image.open(folder / example)).max() == round(2000 / 8000 * 255)


def test_large_pictures_are_shown_at_the_size_that_is_set_now(home: Home) -> None:
    Image.linear_gradient("L").resize((4000, 3000)).save(home.images / "large.png")
    assert home.scan().reading[-1] == (
        "People see 1 picture of 12 megapixels and more at 1,000 pixels: set AL_SHOWN_PX=0 to show them whole"
    )
    home.ask("large", "plain")

    def again() -> None:
        ledger, pool = Deployment(home.settings).ledger, pd.read_parquet(home.deployment.artifacts.image_pool)
        publish_again(ledger, pool, home.settings.published_images, LOG, side=shown_px(home.settings))
        ledger.close()

    def width() -> int:
        with Image.open(home.path("large")) as image:
            return image.width

    again()
    assert width() == 1000
    assert home.path("plain").samefile(home.images / "plain.png")
    assert is_shown_otherwise(home.settings) is False
    for side, image_size, expected in ((300, None, 300), (300, 512, 512), (0, 512, 4000)):
        training = {"image_size": image_size}
        assert is_shown_otherwise(load_settings(home=home.settings.home, shown_px=side, training=training))
        assert home.scan(shown_px=side, training=training).reading[-1] == anew(1)
        assert width() == expected
    assert home.path("large").samefile(home.images / "large.png")


def test_only_large_pictures_that_are_no_panoramas_are_reduced() -> None:
    sizes = [(4000, 3000), (3000, 4000), (3999, 3000), (8000, 2000), (8004, 2000)]
    manifest = pd.DataFrame(sizes, columns=["width", "height"]).assign(sample_id=list("abcde"), split="pool")
    assert reduced(manifest, 1000) == {"a": 1000, "b": 1000, "d": 1000}
    assert reduced(manifest, 4000) == {"d": 4000}
    assert reduced(manifest, 0) == reduced(manifest.assign(split="excluded"), 1000) == {}


def test_what_cannot_be_made_anew_stays_is_told_and_tried_again(home: Home) -> None:
    home.ask("a")
    found, artifacts, folder = home.scan(), home.deployment.artifacts, home.settings.published_images
    publish(home.images / "a.png", home.ids["a"], folder, found.how)
    before, brighter = home.path("a").read_bytes(), HowRead(Levels(white=8000))
    (home.images / "a.png").rename(home.root / "a.png")
    [told] = show_as_read(home.deployment, found.manifest, published_as(artifacts), brighter)
    assert told.startswith(f"1 published pictures stay as they were: {home.images / 'a.png'} cannot be read")
    assert home.path("a").read_bytes() == before
    (home.root / "a.png").rename(home.images / "a.png")
    assert show_as_read(home.deployment, found.manifest, published_as(artifacts), brighter) == [anew(1)]
    assert show_as_read(home.deployment, found.manifest, published_as(artifacts), brighter) == []
