"""Decoded images are the same from the cache as from their files, whatever happens to the cache."""

import contextlib
import hashlib
import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core import image_cache
from al_pipeline.core.errors import ImageError, InputError
from al_pipeline.core.image_cache import CachedImages, ImageCache, image_blocks
from al_pipeline.core.images import iter_blocks

SIZE = 8
BYTES = 3 * SIZE * SIZE
# Header, table and pixels of one image in a block file.
OVERHEAD, PER_IMAGE = 20, 36 + BYTES
MUCH = 1 << 30

Array = npt.NDArray[np.uint8]


def make(folder: Path, count: int, seed: int = 0) -> tuple[list[str], list[Path]]:
    """Write different images; return their sample ids and paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids, paths = [], []
    for i in range(count):
        path = folder / f"{seed}-{i}.png"
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path, compress_level=0)
        ids.append(hashlib.sha256(path.read_bytes()).hexdigest()[:32])
        paths.append(path)
    return ids, paths


def stacked(blocks: Iterator[tuple[int, Array]], count: int, size: int = SIZE) -> Array:
    """Put blocks together, and check that every image comes once and in its place."""
    pixels, following = np.empty((count, size, size, 3), dtype=np.uint8), 0
    for start, block in blocks:
        assert (start, block.dtype) == (following, np.uint8)
        pixels[start : start + len(block)] = block
        following = start + len(block)
    assert following == count
    return pixels


def direct(paths: Sequence[Path], size: int = SIZE) -> Array:
    return stacked(iter_blocks(paths, size, workers=2), len(paths), size)


class Pool:
    """Twelve images and a cache, with what the images truly look like."""

    def __init__(self, folder: Path, count: int = 12) -> None:
        self.folder = folder / "cache"
        self.ids, self.paths = make(folder / "images", count)
        self.truth = direct(self.paths)

    def cache(self, limit_bytes: int = MUCH) -> ImageCache:
        """Return the cache as a new process sees it."""
        return ImageCache(self.folder, limit_bytes)

    def get(self, rows: Sequence[int] | None = None, *, cache: ImageCache | None = None, block: int = 5) -> Array:
        rows = range(len(self.ids)) if rows is None else rows
        images = CachedImages(cache or self.cache(), [self.ids[i] for i in rows], [self.paths[i] for i in rows])
        assert len(images) == len(rows)
        return stacked(images.blocks(SIZE, block=block, workers=2), len(rows))

    def right(self, rows: Sequence[int] | None = None, *, cache: ImageCache | None = None, block: int = 5) -> bool:
        return bool(
            (self.get(rows, cache=cache, block=block) == self.truth[slice(None) if rows is None else rows]).all()
        )

    def lose_sources(self) -> None:
        """Whatever is decoded after this, fails."""
        for path in self.paths:
            path.write_bytes(b"")

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files())

    def stored(self) -> list[bool]:
        """Return which images are in the cache, found out without their sources."""
        present = []
        for sample_id in self.ids:
            images = CachedImages(self.cache(), [sample_id], [self.folder / "nowhere.png"])
            with contextlib.suppress(ImageError):
                list(images.blocks(SIZE))
                present.append(True)
                continue
            present.append(False)
        return present


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


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


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


def test_threads_share_an_instance(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 300)
    cache = pool.cache(OVERHEAD * 8 + 200 * PER_IMAGE)
    orders = [np.random.default_rng(seed).permutation(300)[:60].tolist() for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda rows: pool.right(rows, cache=cache, block=20), orders))


FILL = """
    import sys
    from pathlib import Path
    from al_pipeline.core.image_cache import CachedImages, ImageCache

    folder, limit, size, block, listing = sys.argv[1:]
    ids, paths = zip(*(line.split(" ", 1) for line in Path(listing).read_text().splitlines()))
    for start, pixels in CachedImages(ImageCache(Path(folder), int(limit)), ids, paths).blocks(
        int(size), block=int(block), workers=2
    ):
        print(start, flush=True)
"""


def fill_in_a_process(
    pool: Pool, rows: Sequence[int], listing: Path, *, limit: int = MUCH, block: int = 64
) -> subprocess.Popen[str]:
    listing.write_text("".join(f"{pool.ids[i]} {pool.paths[i]}\n" for i in rows))
    arguments = [str(pool.folder), str(limit), str(SIZE), str(block), str(listing)]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FILL), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("limit", [MUCH, OVERHEAD * 4 + 400 * PER_IMAGE], ids=["room enough", "too little room"])
def test_processes_fill_one_cache_at_once(tmp_path: Path, limit: int) -> None:
    pool = Pool(tmp_path, 600)
    orders = [list(range(600)), list(range(599, -1, -1))]
    processes = [fill_in_a_process(pool, rows, tmp_path / f"{i}.txt", limit=limit) for i, rows in enumerate(orders)]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert output.split() == [str(start) for start in range(0, 600, 64)], "something was logged"
    assert pool.bytes() <= limit
    assert all(path.suffix == ".pixels" for path in pool.files())
    if limit == MUCH:
        pool.lose_sources()
    assert pool.right(cache=pool.cache(limit))


def test_a_killed_process_leaves_what_it_had_stored(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 400)
    # Opening a pipe that nobody writes to lasts for ever: the process is killed in the middle of its work.
    stuck = tmp_path / "pipe.png"
    os.mkfifo(stuck)
    whole, pool.paths[300] = pool.paths[300], stuck
    process = fill_in_a_process(pool, range(400), tmp_path / "list.txt")
    assert process.stdout is not None
    started = [process.stdout.readline().strip() for _ in range(4)]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert started == ["0", "64", "128", "192"]
    assert process.returncode == -signal.SIGKILL
    pool.paths[300] = whole
    pool_sources = [path.read_bytes() for path in pool.paths]
    pool.lose_sources()
    assert pool.right(range(256))
    for path, content in zip(pool.paths, pool_sources, strict=True):
        path.write_bytes(content)
    assert pool.right()


def test_a_writer_killed_at_any_byte_leaves_a_readable_cache(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    assert pool.right()
    (file,) = pool.files()
    content = file.read_bytes()
    for length in range(0, len(content), 97):
        file.unlink()
        half = file.with_name("tmpdead.part")
        half.write_bytes(content[:length])
        assert pool.right()
        assert file.read_bytes() == content
        half.unlink()
    assert not caplog.records


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_asked_and_whatever_happens_the_pixels_are_right_and_the_limit_holds(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    pool = Pool(tmp_path_factory.mktemp("pool"), 6)
    limit = data.draw(st.integers(0, 8 * PER_IMAGE), label="limit")
    caches = [pool.cache(limit) for _ in range(2)]
    for _ in range(data.draw(st.integers(1, 6), label="steps")):
        if (files := pool.files()) and data.draw(st.booleans(), label="damage"):
            file = data.draw(st.sampled_from(files), label="file")
            content = file.read_bytes()
            at = data.draw(st.integers(0, len(content) - 1), label="at")
            kind = data.draw(st.sampled_from(["flip", "cut", "delete"]), label="kind")
            if kind == "flip":
                flip(file, at)
            elif kind == "cut":
                os.truncate(file, at)
            else:
                file.unlink()
        rows = data.draw(st.lists(st.integers(0, 5), max_size=10), label="rows")
        block = data.draw(st.integers(1, 4), label="block")
        assert pool.right(rows, cache=data.draw(st.sampled_from(caches), label="instance"), block=block)
        assert pool.bytes() <= limit
