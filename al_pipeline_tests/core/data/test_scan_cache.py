"""A second scan reads what changed alone, and says the same as one that reads all."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from al_pipeline.core.data import many_readings
from al_pipeline.core.data.columns import column
from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.levels import Levels
from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.scan_cache import MOST_PARTS, ScanCache
from al_pipeline_tests.core.data.jpegs import aged, photo, save, tag

SMALL = (40, 30)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(4):
        save(tmp_path / "images" / "cat" / f"{number}.jpg", photo(number, SMALL))
    return tmp_path / "images"


@pytest.fixture
def cache(tmp_path: Path) -> ScanCache:
    return ScanCache(tmp_path / "cache")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, as they are."""
    names: list[str] = []
    real = many_readings.decode_file

    def noted(path: str, *given: Any) -> object:
        names.append(Path(path).name)
        return real(path, *given)

    monkeypatch.setattr(many_readings, "decode_file", noted)
    return names


def test_an_unchanged_folder_is_not_read_again(images: Path, cache: ScanCache, read: list[str]) -> None:
    first = scan(images, cache=cache)
    assert len(read) == 4
    pd.testing.assert_frame_equal(scan(images, cache=cache), first)
    pd.testing.assert_frame_equal(scan(images, cache=ScanCache(cache.folder)), first)
    assert len(read) == 4


def test_what_is_new_touched_or_replaced_is_read_and_nothing_else(
    images: Path, cache: ScanCache, read: list[str]
) -> None:
    scan(images, cache=cache)
    read.clear()
    aged(images / "cat" / "0.jpg", 5)
    tag(images / "cat" / "1.jpg", {0x4746: 3})
    # The same size and moment, in another file.
    status = (images / "cat" / "2.jpg").stat()
    (images / "cat" / "2.jpg").rename(images / "old")
    (images / "cat" / "2.jpg").write_bytes((images / "old").read_bytes())
    os.utime(images / "cat" / "2.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    save(images / "cat" / "new.jpg", photo(9, SMALL))
    again = scan(images, cache=cache)
    assert sorted(read) == ["0.jpg", "1.jpg", "2.jpg", "new.jpg"]
    pd.testing.assert_frame_equal(again, scan(images))


def test_a_folder_that_was_moved_is_not_read_again(images: Path, cache: ScanCache, read: list[str]) -> None:
    first = scan(images, cache=cache)
    moved = images.rename(images.with_name("elsewhere"))
    again = scan(moved, cache=cache)
    assert len(read) == 4
    assert again["uri"].tolist() == [uri.replace("/images/", "/elsewhere/") for uri in first["uri"]]
    pd.testing.assert_frame_equal(again.drop(columns="uri"), first.drop(columns="uri"))


def test_what_was_written_just_now_or_cannot_be_used_is_read_each_time(
    images: Path, cache: ScanCache, read: list[str]
) -> None:
    aged(images / "cat" / "0.jpg", -60)
    (images / "cat" / "1.jpg").write_bytes(b"rubbish")
    aged(images / "cat" / "1.jpg")
    scan(images, cache=cache, max_excluded_share=0.5)
    read.clear()
    scan(images, cache=cache, max_excluded_share=0.5)
    assert sorted(read) == ["0.jpg", "1.jpg"]


def test_an_interrupted_scan_goes_on_where_it_was(
    tmp_path: Path, cache: ScanCache, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("al_pipeline.core.data.many_readings.TELL_SECONDS", 0.005)
    for number in range(400):
        save(tmp_path / "images" / f"{number}.jpg", photo(number, (20, 16)))
    kept = 0

    def interrupt(done: int, total: int) -> None:
        nonlocal kept
        kept = done
        if done >= 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path / "images", cache=cache, workers=1, progress=interrupt)
    begun = len(read)
    assert 64 <= kept <= begun < 400
    told: list[tuple[int, int]] = []
    scan(tmp_path / "images", cache=cache, workers=1, progress=lambda done, total: told.append((done, total)))
    # What was kept is what had been told as done.
    assert told[0] == (kept, 400)
    assert told[-1] == (400, 400)
    assert len(read) == begun + 400 - kept


def test_a_cache_that_is_deleted_cut_or_of_another_version_costs_time_alone(
    images: Path, cache: ScanCache, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scan(images, cache=cache)
    for part in cache.folder.iterdir():
        part.write_bytes(part.read_bytes()[:100])
    pd.testing.assert_frame_equal(scan(images, cache=cache), first)
    assert len(read) == 8
    monkeypatch.setattr("al_pipeline.core.data.scan_cache.VERSION", b"another")
    pd.testing.assert_frame_equal(scan(images, cache=cache), first)
    assert len(read) == 12
    cache.forget()
    pd.testing.assert_frame_equal(scan(images, cache=cache), first)
    assert len(read) == 16


def test_the_parts_stay_few_and_what_is_gone_goes(images: Path, cache: ScanCache, read: list[str]) -> None:
    for number in range(2 * MOST_PARTS):
        save(images / "dog" / f"{number}.jpg", photo(100 + number, SMALL))
        scan(images, cache=cache)
        assert len(list(cache.folder.iterdir())) <= MOST_PARTS + 2
    assert len(read) == 4 + 2 * MOST_PARTS


def test_what_was_read_otherwise_is_read_again(images: Path, cache: ScanCache, read: list[str]) -> None:
    scan(images, cache=cache)
    read.clear()
    # By whatever levels their pool is shown.
    scan(images, cache=ScanCache(cache.folder, HowRead(Levels(white=1023))))
    assert not read
    scan(images, cache=ScanCache(cache.folder, HowRead(truncated="use")))
    assert len(read) == 4


def test_a_process_that_tidies_up_takes_nothing_from_another(images: Path, cache: ScanCache) -> None:
    first = scan(images, cache=cache)
    other = ScanCache(cache.folder)
    stamps = tuple(first[name].to_numpy() for name in ("bytes", "mtime_ns", "inode"))
    paths = [f"cat/{number}.jpg" for number in range(4)]
    rows = other.find(paths, stamps)  # type: ignore[arg-type]
    cache.forget()
    assert column("file_id", len(rows), other.column("file_id", rows)).tolist() == first["file_id"].tolist()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["write", "delete", "tag", "move"]), st.integers(0, 3)), max_size=8
    )
)
def test_whatever_happens_between_scans_the_cache_says_what_the_files_say(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, int]]
) -> None:
    home = tmp_path_factory.mktemp("home")
    root, cache = home / "images", ScanCache(home / "cache")
    save(root / "stays.jpg", photo(99, SMALL))
    for when, (number, what, other) in enumerate(steps):
        path = root / f"{number}.jpg"
        if what == "write":
            save(path, photo(other, SMALL))
        elif path.exists() and what == "delete":
            path.unlink()
        elif path.exists() and what == "tag":
            tag(path, {0x4746: when}, seconds=60 + when)
        elif path.exists():
            path.replace(root / f"{other}.jpg")
        pd.testing.assert_frame_equal(scan(root, cache=cache), scan(root))
