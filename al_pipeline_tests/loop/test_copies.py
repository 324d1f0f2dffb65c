"""Published images in a bucket, of which the folder in AL_HOME may know less, or more."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import PlaceError
from al_pipeline.loop.copies import MARK, Copies

ONE, TWO = "1" * 32, "2" * 32
TOGETHER = f"{ONE}-group-0123456789abcdef.jpg"


@pytest.fixture
def place() -> Place:
    """A bucket of the test's own."""
    return Place(f"memory://{uuid4()}/shown")


def home(folder: Path, place: Place | None, **images: str) -> Any:
    """Return the settings of a home whose folder holds files of these texts, by sample id and suffix."""
    folder.mkdir()
    for name, text in images.items():
        (folder / name).write_text(text)
    return SimpleNamespace(published=place, published_images=folder)


def content(place: Place) -> dict[str, bytes]:
    return {entry.key: place.read(entry.key).getvalue() for entry in place.entries()}


def test_where_nothing_is_asked_the_bucket_may_be_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Place) -> list[Any]:
        raise PlaceError("s3://shown cannot be listed")

    monkeypatch.setattr(Place, "entries", away)
    copies = Copies(home(tmp_path / "a", Place("s3://shown/x")))
    assert copies.put([]) == 0
    with pytest.raises(PlaceError):
        copies.put([f"{ONE}.png"])


def test_without_a_bucket_nothing_is_done(tmp_path: Path) -> None:
    settings = home(tmp_path / "a", None, **{f"{ONE}.png": "one"})
    copies = Copies(settings)
    copies.mark()
    copies.fetch([ONE, TWO])
    with copies.following([ONE]):
        pass
    assert copies.put_all() == copies.put([f"{TWO}.png"]) == 0
    assert copies.samples == set()
    assert copies.find(ONE) == tmp_path / "a" / f"{ONE}.png"
    assert copies.find(TWO) is None
    assert copies.shown_at == "/data/local-files/?d=images"


def test_what_is_there_is_not_written_again(place: Place, tmp_path: Path) -> None:
    settings = home(tmp_path / "a", place, **{f"{ONE}.png": "one", TOGETHER: "both"})
    (tmp_path / "a" / f".{ONE}.png.0123.part").write_text("half")
    Copies(settings).mark()
    assert Copies(settings).put_all() == 2
    assert content(place) == {f"{ONE}.png": b"one", TOGETHER: b"both", MARK: place.read(MARK).getvalue()}
    (tmp_path / "a" / f"{ONE}.png").write_text("another")
    (tmp_path / "a" / f"{TWO}.jpg").write_text("two")
    late = Copies(settings)
    assert late.samples == {ONE}
    # Somebody else has put it since it was listed.
    place.put(f"{TWO}.jpg", b"theirs")
    assert late.put_all() == 0
    assert (content(place)[f"{ONE}.png"], content(place)[f"{TWO}.jpg"]) == (b"one", b"theirs")


def test_a_home_that_has_lost_its_folder_takes_from_the_bucket_what_it_needs(place: Place, tmp_path: Path) -> None:
    Copies(home(tmp_path / "a", place, **{f"{ONE}.jpg": "one", TOGETHER: "both", f"{TWO}.png": "two"})).put_all()
    settings = home(tmp_path / "b", place)
    Copies(settings).fetch([ONE])
    assert {path.name for path in settings.published_images.iterdir()} == {f"{ONE}.jpg", TOGETHER}
    assert (settings.published_images / f"{ONE}.jpg").read_text() == "one"
    found = Copies(settings).find(TWO)
    assert found is not None
    assert found.read_text() == "two"
    assert Copies(settings).find("3" * 32) is None


def test_what_is_made_anew_is_written_over_and_nothing_else_and_not_if_it_fails(place: Place, tmp_path: Path) -> None:
    Copies(home(tmp_path / "a", place, **{f"{ONE}.jpg": "one", f"{TWO}.png": "two"})).put_all()
    settings = home(tmp_path / "b", place)
    stamp = place.read(f"{TWO}.png").entry.modified_ns

    def make() -> None:
        (settings.published_images / f"{ONE}.jpg").rename(tmp_path / "old")
        (settings.published_images / f"{ONE}.jpg").write_text("anew")

    def fail() -> None:
        with Copies(settings).following([ONE, TWO]):
            make()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert content(place)[f"{ONE}.jpg"] == b"one"
    with Copies(settings).following([ONE, TWO]):
        make()
    assert content(place) == {f"{ONE}.jpg": b"anew", f"{TWO}.png": b"two"}
    assert place.read(f"{TWO}.png").entry.modified_ns == stamp
