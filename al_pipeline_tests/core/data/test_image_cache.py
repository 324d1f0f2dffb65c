"""Decoded images are the same from the cache as from their files, whatever happens to the cache."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from al_pipeline.core.data import image_cache
from al_pipeline.core.data.framing import BORDER
from al_pipeline.core.data.image_cache import PREPROCESSING, CachedImages, ImageCache, image_blocks
from al_pipeline.core.data.images import iter_blocks
from al_pipeline.core.errors import InputError
from al_pipeline_tests.core.data.cached_pool import BYTES, OVERHEAD, PER_IMAGE, SIZE, Pool, direct, flip, stacked


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path)


@pytest.mark.parametrize("block", [1, 5, 12, 256])
def test_pixels_are_those_of_the_files_first_and_later(pool: Pool, block: int) -> None:
    assert pool.right(block=block)
    assert len(pool.files()) == 1
    pool.lose_sources()
    assert pool.right(block=block)


def test_the_same_instance_finds_what_it_has_stored(pool: Pool) -> None:
    cache = pool.cache()
    assert pool.right(cache=cache)
    pool.lose_sources()
    assert pool.right(cache=cache)


def test_an_instance_finds_what_another_has_stored_since(pool: Pool) -> None:
    cache = pool.cache()
    assert pool.right([0, 1], cache=cache)
    assert pool.right()
    pool.lose_sources()
    assert pool.right(cache=cache)


def test_only_what_is_missing_is_decoded_and_the_order_is_the_callers(pool: Pool) -> None:
    assert pool.right([7, 2, 9, 4])
    for row in (7, 2, 9, 4):
        pool.paths[row].write_bytes(b"")
    rows = [4, 11, 9, 0, 1, 7, 3, 2, 5]
    assert pool.right(rows, block=4)
    pool.lose_sources()
    assert pool.right(rows[::-1], block=2)


def test_an_image_asked_for_twice_comes_twice_and_is_stored_once(pool: Pool) -> None:
    rows = [3, 3, 1, 3, 0, 1, 1, 3]
    assert pool.right(rows, block=2)
    assert pool.bytes() == OVERHEAD + 3 * PER_IMAGE
    assert pool.right(rows, block=3)
    assert pool.bytes() == OVERHEAD + 3 * PER_IMAGE


def test_every_size_is_kept_apart(pool: Pool) -> None:
    assert pool.right()
    other = CachedImages(pool.cache(), pool.ids, pool.paths)
    larger = direct(pool.paths, 10)
    assert (stacked(other.blocks(10), 12, 10) == larger).all()
    pool.lose_sources()
    assert (stacked(other.blocks(10), 12, 10) == larger).all()
    assert pool.right()


def test_every_framing_is_kept_apart_and_crops_lie_where_they_always_did(pool: Pool) -> None:
    assert pool.right()
    truth = stacked(iter_blocks(pool.paths, SIZE, framing="pad"), 12)
    # Of 10 × 12 pixels become 7 × 8, and a column of the border.
    assert (truth[:, :, -1] == BORDER).all()
    padded = CachedImages(pool.cache(), pool.ids, pool.paths)
    assert (stacked(padded.blocks(SIZE, framing="pad"), 12) == truth).all()
    assert {path.parent.name for path in pool.files()} == {f"{SIZE}-v{PREPROCESSING}", f"{SIZE}-pad-v{PREPROCESSING}"}
    pool.lose_sources()
    assert (stacked(padded.blocks(SIZE, framing="pad"), 12) == truth).all()
    assert pool.cache().stored(pool.ids, SIZE, "pad") == set(pool.ids)
    assert not pool.cache().stored(pool.ids, SIZE, "squeeze")
    assert pool.right()


def test_the_limit_counts_every_framing(pool: Pool) -> None:
    list(CachedImages(pool.cache(), pool.ids, pool.paths).blocks(SIZE, framing="pad"))
    assert pool.right(cache=pool.cache(OVERHEAD + 12 * PER_IMAGE))
    assert {path.parent.name for path in pool.files()} == {f"{SIZE}-v{PREPROCESSING}"}


def test_another_preprocessing_decodes_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.right()
    monkeypatch.setattr(image_cache, "PREPROCESSING", image_cache.PREPROCESSING + 1)
    assert not any(pool.stored())
    assert pool.right()
    assert len(pool.files()) == 2


def test_many_images_are_stored_in_files_of_256(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 600)
    assert pool.right(block=7)
    per_file = sorted((path.stat().st_size - OVERHEAD) / PER_IMAGE for path in pool.files())
    assert per_file == [600 - 512, 256, 256]
    pool.lose_sources()
    assert pool.right(block=100)


def test_the_same_work_done_twice_takes_no_more_room(pool: Pool) -> None:
    assert pool.right()
    (file,) = pool.files()
    content = file.read_bytes()
    file.unlink()
    assert pool.right()
    assert pool.files() == [file]
    assert file.read_bytes() == content


def test_what_the_caller_does_to_a_block_does_not_reach_the_cache(pool: Pool) -> None:
    for _ in range(2):
        for _, pixels in CachedImages(pool.cache(), pool.ids, pool.paths).blocks(SIZE, block=5):
            pixels[:] = 0
    pool.lose_sources()
    assert pool.right()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit of the last image": lambda path: flip(path, -1),
    "a bit of an image in the middle": lambda path: flip(path, OVERHEAD + 12 * 36 + 5 * BYTES + 3),
    "a bit of a checksum": lambda path: flip(path, OVERHEAD + 12 * 32 + 2),
    "a bit of a sample id": lambda path: flip(path, OVERHEAD + 40),
    "a bit of the count": lambda path: flip(path, 8),
    "a bit of the magic": lambda path: flip(path, 0),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "cut in the table": lambda path: os.truncate(path, 100),
    "cut in the header": lambda path: os.truncate(path, 5),
    "empty": lambda path: os.truncate(path, 0),
    "too long": lambda path: os.truncate(path, path.stat().st_size + 1),
    "zeros, as after a power failure": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "something else": lambda path: path.write_bytes(b"garbage" * 1000),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("known", [False, True], ids=["new instance", "same instance"])
def test_a_damaged_file_is_noticed_decoded_again_and_healed(
    pool: Pool, damage: str, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cache = pool.cache()
    assert pool.right(cache=cache)
    (file,) = pool.files()
    content = file.read_bytes()
    DAMAGES[damage](file)
    assert file.read_bytes() != content
    assert pool.right(cache=cache if known else None, block=12)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(file) in caplog.text
    assert file.read_bytes() == content
    pool.lose_sources()
    assert pool.right()


def test_a_file_that_another_has_put_in_place_of_a_known_one_is_not_mistaken_for_it(pool: Pool) -> None:
    cache = pool.cache()
    assert pool.right([0, 1, 2], cache=cache)
    (first,) = pool.files()
    assert pool.right([3, 4, 5])
    (second,) = set(pool.files()) - {first}
    second.replace(first)
    assert pool.right([0, 1, 2], cache=cache)


def test_a_cache_deleted_between_and_within_requests_is_only_empty(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    cache = pool.cache()
    assert pool.right(cache=cache)
    blocks = CachedImages(cache, pool.ids, pool.paths).blocks(SIZE, block=2, workers=1)
    seen = [next(blocks)[1]]
    pool.files()[0].unlink()
    seen += [pixels for _, pixels in blocks]
    assert (np.concatenate(seen) == pool.truth).all()
    for file in pool.files():
        file.unlink()
    assert pool.right(cache=cache)
    pool.lose_sources()
    assert pool.right(cache=cache)
    assert not caplog.records


class Watched(os.PathLike[str]):
    """A path that knows when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path, self.opened = path, threading.Event()

    def __fspath__(self) -> str:
        self.opened.set()
        return str(self.path)


def test_the_next_block_is_decoded_while_the_caller_works_and_no_more_than_that(pool: Pool) -> None:
    watched = [Watched(path) for path in pool.paths]
    blocks = CachedImages(pool.cache(), pool.ids, watched).blocks(SIZE, block=2, workers=1)
    next(blocks)
    assert watched[3].opened.wait(10), "the second block is not begun while the caller has the first"
    assert not watched[4].opened.is_set(), "the third block is begun while the caller has the first"
    blocks.close()


def test_no_images_give_no_blocks(pool: Pool) -> None:
    assert list(CachedImages(pool.cache(), [], []).blocks(SIZE)) == []


def test_image_blocks_takes_paths_as_well(pool: Pool) -> None:
    assert (stacked(image_blocks(pool.paths, SIZE, block=5, workers=2), 12) == pool.truth).all()
    assert pool.files() == []
    images = CachedImages(pool.cache(), pool.ids, pool.paths)
    assert (stacked(image_blocks(images, SIZE, block=5, workers=2), 12) == pool.truth).all()
    assert pool.files() != []


def test_ids_and_paths_differ_in_number(pool: Pool) -> None:
    with pytest.raises(InputError, match="11 sample ids for 12 paths"):
        CachedImages(pool.cache(), pool.ids[1:], pool.paths)


@pytest.mark.parametrize("wrong", ["", "a" * 31, "a" * 33, "A" * 32, "g" * 32, "a" * 32 + "\n", "../" + "a" * 29])
def test_what_is_no_sample_id_is_named(pool: Pool, wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        CachedImages(pool.cache(), [pool.ids[0], wrong], pool.paths[:2])
    assert repr(wrong) in str(caught.value)


def test_a_negative_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="-1 bytes"):
        ImageCache(tmp_path, -1)
