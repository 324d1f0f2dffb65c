"""The image cache keeps its limit, and what fails about its folder, its disk or a file costs no pixel."""

import contextlib
import logging
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from al_pipeline.core.data.image_cache import CachedImages
from al_pipeline.core.errors import ImageError
from al_pipeline_tests.core.data.cached_pool import OVERHEAD, PER_IMAGE, SIZE, Pool


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_the_file_not_used_for_the_longest_time_makes_room(pool: Pool) -> None:
    three = OVERHEAD + 3 * PER_IMAGE
    limit = 3 * three
    for rows in ([0, 1, 2], [3, 4, 5], [6, 7, 8]):
        known = set(pool.files())
        assert pool.right(rows, cache=pool.cache(limit))
        (new,) = set(pool.files()) - known
        age(new, 1000 - rows[0])
    # Reading the oldest makes the second the oldest.
    assert pool.right([1], cache=pool.cache(limit))
    assert pool.right([9, 10, 11], cache=pool.cache(limit))
    assert pool.stored() == [True] * 3 + [False] * 3 + [True] * 6
    assert pool.bytes() == limit


@pytest.mark.parametrize("limit", [OVERHEAD + PER_IMAGE - 1, 1500, 3000])
def test_the_limit_holds_after_every_request(pool: Pool, limit: int) -> None:
    cache = pool.cache(limit)
    fits = (limit - OVERHEAD) // PER_IMAGE
    for count in (1, 2, 3, 4, 8, 12, 1):
        for first in range(0, 12, count):
            rows = list(range(first, min(first + count, 12)))
            assert pool.right(rows, cache=cache)
            assert pool.bytes() <= limit
            if len(rows) <= fits:
                assert all(pool.stored()[i] for i in rows), "the newest has to make room for nothing"


def test_what_does_not_fit_at_all_pushes_nothing_out(pool: Pool) -> None:
    limit = OVERHEAD + 4 * PER_IMAGE
    assert pool.right([0, 1, 2, 3], cache=pool.cache(limit))
    assert pool.right([4, 5, 6, 7, 8], cache=pool.cache(limit))
    assert pool.stored() == [True] * 4 + [False] * 8


def test_of_a_request_larger_than_the_limit_a_part_stays_stored(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 600)
    limit = OVERHEAD + 300 * PER_IMAGE
    assert pool.right(cache=pool.cache(limit), block=50)
    (file,) = pool.files()
    before = file.stat().st_ino
    assert pool.right(cache=pool.cache(limit), block=50)
    assert [path.stat().st_ino for path in pool.files()] == [before], "each part pushes the other one out"
    for path in pool.paths[:256]:
        path.write_bytes(b"")
    assert pool.right(cache=pool.cache(limit), block=50)


def test_a_lower_limit_takes_effect_with_the_next_request(pool: Pool) -> None:
    assert pool.right([0, 1, 2])
    for file in pool.files():
        age(file, 100)
    assert pool.right([3, 4, 5])
    limit = OVERHEAD + 3 * PER_IMAGE
    assert pool.right([4], cache=pool.cache(limit))
    assert pool.stored() == [False] * 3 + [True] * 3 + [False] * 6
    assert pool.right([4], cache=pool.cache(0))
    assert pool.files() == []


def test_files_of_all_sizes_and_older_preprocessing_count(pool: Pool) -> None:
    assert pool.right()
    (file,) = pool.files()
    old = pool.folder / "999-v0" / file.name
    old.parent.mkdir()
    file.rename(old)
    age(old, 1000)
    assert pool.right(cache=pool.cache(OVERHEAD + 13 * PER_IMAGE))
    assert pool.files() == [file]


def test_a_limit_of_zero_stores_nothing(pool: Pool) -> None:
    assert pool.right(cache=pool.cache(0))
    assert not pool.folder.exists()


def test_strange_files_in_the_folder_are_left_alone(pool: Pool) -> None:
    strangers = [pool.folder / "notes.txt", pool.folder / "mine" / "x.pixels", pool.folder / f"{SIZE}-v1" / "README"]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(2000))
        age(path, 100_000)
    limit = OVERHEAD + 2 * PER_IMAGE
    assert pool.right([0, 1], cache=pool.cache(limit))
    assert pool.right([2, 3], cache=pool.cache(limit))
    assert all(path.exists() for path in strangers)
    assert pool.stored()[:4] == [False, False, True, True]


def test_what_a_dead_writer_left_is_cleared_away_and_what_a_living_one_writes_is_not(pool: Pool) -> None:
    assert pool.right([0])
    dead, living = (pool.files()[0].with_name(f"{name}.part") for name in ("dead", "living"))
    for path in (dead, living):
        path.write_bytes(bytes(100))
    age(dead, 2 * 3600)
    age(living, 600)
    assert pool.right()
    assert (dead.exists(), living.exists()) == (False, True)


def test_a_folder_that_cannot_be_made_costs_a_warning_and_no_pixels(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    pool.folder.write_text("a file where the folder should be")
    cache = pool.cache()
    assert pool.right(cache=cache)
    assert pool.right(cache=cache)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(pool.folder) in caplog.text
    assert "Free disk space" in caplog.text
    assert pool.folder.read_text() == "a file where the folder should be"


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let writing fail in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_while_writing_costs_a_warning_and_leaves_no_half_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(tmp_path, 900)
    cache = pool.cache()
    assert pool.right([0, 1, 2], cache=cache)
    with files_of_at_most(20_000):
        assert pool.right(cache=cache)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert len(pool.files()) == 1
    pool.lose_sources()
    assert pool.right([2, 0, 1], cache=cache)


def test_a_caller_that_stops_early_keeps_what_is_decoded_and_leaves_no_thread(pool: Pool) -> None:
    before = threading.active_count()
    blocks = CachedImages(pool.cache(), pool.ids, pool.paths).blocks(SIZE, block=4, workers=2)
    next(blocks)
    next(blocks)
    assert threading.active_count() > before
    blocks.close()
    assert threading.active_count() == before
    pool.lose_sources()
    assert pool.right(range(8))


def test_a_broken_file_is_named_and_the_blocks_before_it_are_kept(pool: Pool) -> None:
    content = pool.paths[9].read_bytes()
    pool.paths[9].write_bytes(b"")
    with pytest.raises(ImageError, match=r"0-9\.png: empty file.* scan the image pool again"):
        pool.get(block=4)
    pool.lose_sources()
    assert pool.right(range(8))
    pool.paths[9].write_bytes(content)
    assert pool.right([*range(8), 9])
