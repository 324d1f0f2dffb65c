"""A home's scan: labels follow the pictures, what went is told, and a share that is not mounted stores nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.scan import Pace, scan_images
from al_pipeline.settings import load_settings
from al_pipeline_tests.core.data.jpegs import photo, save, tag


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    for number in range(12):
        save(tmp_path / "images" / ("cat" if number % 2 else "dog") / f"{number}.jpg", photo(number, (100, 80)))
    made = Deployment(load_settings(home=tmp_path / "home", images=tmp_path / "images"))
    yield made
    made.ledger.close()


def stored(deployment: Deployment, *, full: bool = False) -> list[str]:
    """Scan, keep the manifest as the asset does, and return what is told."""
    scanned = scan_images(deployment, full=full)
    deployment.artifacts.image_pool.parent.mkdir(parents=True, exist_ok=True)
    scanned.manifest.to_parquet(deployment.artifacts.image_pool)
    return scanned.sentences()


def test_what_a_scan_changes_is_told_with_names(deployment: Deployment, tmp_path: Path) -> None:
    cats = tmp_path / "images" / "cat"
    assert stored(deployment) == ["12 images new: 1.jpg, 11.jpg, 3.jpg, …"]
    assert stored(deployment) == []
    tag(cats / "1.jpg", {0x4746: 5})
    (cats / "3.jpg").rename(cats / "3 moved.jpg")
    aside = (cats / "5.jpg").rename(tmp_path / "5.jpg")
    assert stored(deployment) == [
        "1 image gone: their labels stay in the ledger, and count again when the images are back: 5.jpg",
        "1 image in another place than before: 3 moved.jpg",
        "1 image known in other bytes (tags written, turned without loss, or saved anew): their labels were carried "
        "over: 1.jpg",
    ]
    aside.rename(cats / "5.jpg")
    assert stored(deployment) == ["1 image back: 5.jpg"]
    assert deployment.ledger.gone() == {}


def test_a_picture_turned_without_loss_keeps_its_id_for_ever(deployment: Deployment, tmp_path: Path) -> None:
    stored(deployment)
    before = deployment.ledger.uris()
    path = tmp_path / "images" / "cat" / "1.jpg"
    for turns in (1, 2, 3):
        save(path, photo(1, (100, 80)).rotate(90 * turns, expand=True))
        assert "known in other bytes" in "".join(stored(deployment))
        assert deployment.ledger.uris() == before
    # Its bytes are known now, wherever the file goes.
    path.rename(path.with_name("x.jpg"))
    assert stored(deployment) == ["1 image in another place than before: x.jpg"]


def test_a_share_that_is_not_mounted_stores_nothing(deployment: Deployment, tmp_path: Path) -> None:
    stored(deployment)
    known = deployment.ledger.uris()
    cats, away = tmp_path / "images" / "cat", tmp_path / "away"
    cats.rename(away)
    (tmp_path / "images" / "dog" / "0.jpg").rename(tmp_path / "0.jpg")
    with pytest.raises(InputError, match=r"7 of the 12 known images are not in .*images/cat/1\.jpg: .* 50% .*SHARE=1"):
        scan_images(deployment)
    assert (deployment.ledger.uris(), deployment.ledger.gone()) == (known, {})
    cats.mkdir()
    (away / "1.jpg").rename(cats / "1.jpg")
    assert stored(deployment)[0].startswith("6 images gone")


def test_pictures_that_all_moved_are_not_missing(deployment: Deployment, tmp_path: Path) -> None:
    stored(deployment)
    (tmp_path / "images").rename(tmp_path / "new")
    settings = deployment.settings.model_copy(update={"images": tmp_path / "new"})
    moved = Deployment(settings)
    assert stored(moved)[0].startswith("12 images in another place than before")
    assert moved.ledger.gone() == {}
    moved.ledger.close()


def test_what_was_read_is_kept_in_the_home_and_full_reads_all(deployment: Deployment) -> None:
    told: list[list[tuple[int, int]]] = []
    for full in (False, False, True):
        told.append([])
        scan_images(deployment, full=full, progress=lambda done, total: told[-1].append((done, total)))
    first, again, anew = told
    assert again == [(12, 12)]
    for read in (first, anew):
        assert read == sorted(read)
        assert (read[0], read[-1]) == ((0, 12), (12, 12))
    assert list((deployment.settings.home / "cache" / "scan").glob("*.parquet"))


def test_no_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set AL_IMAGES"):
        scan_images(Deployment(load_settings(home=tmp_path / "home")))


def test_the_pace_is_told_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = iter([0.0, 4.0, 10.0, 19.0, 20.0, 400.0])
    monkeypatch.setattr("al_pipeline.loop.scan.time.monotonic", lambda: next(clock))
    pace = Pace(said.append)
    for done in (1_000, 1_400, 2_000, 2_900, 3_000, 3_000):
        pace(done, 100_000)
    assert said == [
        "1,000 of 100,000 files are as they were read before, 99,000 are read now",
        "2,000 of 100,000 files read, 100 a second, about 16 min left",
        "3,000 of 100,000 files read, 100 a second, about 16 min left",
        "3,000 of 100,000 files read, 5 a second, about 323 min left",
    ]
