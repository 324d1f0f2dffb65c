"""Threads and processes share an image cache, and killing one of them leaves it whole."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from al_pipeline_tests.core.data.cached_pool import MUCH, OVERHEAD, PER_IMAGE, SIZE, Pool, flip


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path)


def test_threads_share_an_instance(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 300)
    cache = pool.cache(OVERHEAD * 8 + 200 * PER_IMAGE)
    orders = [np.random.default_rng(seed).permutation(300)[:60].tolist() for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda rows: pool.right(rows, cache=cache, block=20), orders))


FILL = """
    import sys
    from pathlib import Path
    from al_pipeline.core.data.image_cache import CachedImages, ImageCache

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
