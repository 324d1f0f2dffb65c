"""What a scan costs: the first one beside bare hashing and decoding, a second one, and one with a few new files.

`python -m benchmarks.scan [FILES]`: JPEG files of 500 px, 100,000 unless said, made in a temporary folder. Bars: the
first scan takes ≤ 1.15 × what hashing and decoding alone take on two threads, an unchanged folder ≤ 3 % of it, one with
1 % new files ≤ 5 %. Processor seconds stand beside those of the clock, for machines that others use too.

`python -m benchmarks.scan memory [ROWS]`: the most memory of a scan of 1,000,000 rows, a first one and one that finds
them as they were. What was read of them is made up, and the files are not there. Bar: ≤ 1.5 GB.
"""

import hashlib
import io
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from al_pipeline.core.data import pool
from al_pipeline.core.data.layout import Found, Listing
from al_pipeline.core.data.reading import AT_LEAST, Reading
from al_pipeline.core.data.scan_cache import ScanCache
from benchmarks.table import print_table

FOLDERS, SIZE, QUALITY = 20, (500, 375), 85
REPEATS, PIECE = 5, 16
# Written a minute ago, or it would not be kept.
AGE = 60.0
MADE_UP = 50_000


def make(root: Path, first: int, last: int) -> None:
    """Write smooth pictures with some noise: about 35 KB each."""
    noise = np.random.default_rng(0).integers(-6, 7, (8, SIZE[1], SIZE[0], 1), dtype=np.int16)
    for number in range(first, last):
        small = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC), dtype=np.int16)
        path = root / f"class {number % FOLDERS}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((smooth + noise[number % 8]).clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
        moment = time.time() - AGE
        os.utime(path, (moment, moment))


def bare(root: Path) -> None:
    """Hash and decode at draft size, on two threads, and nothing else."""
    paths = sorted(root.glob("*/*.jpg"))

    def read(start: int) -> None:
        for path in paths[start : start + PIECE]:
            data = path.read_bytes()
            hashlib.sha256(data).hexdigest()
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                image.draft(None, (AT_LEAST, AT_LEAST))
                image.load()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(read, range(0, len(paths), PIECE)))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the processor and of the clock."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - used, time.perf_counter() - began


def speed(files: int) -> None:
    """Print what scans of so many files cost."""
    with tempfile.TemporaryDirectory(prefix="scan-") as folder:
        root, cache = Path(folder, "images"), ScanCache(Path(folder, "cache"))
        make(root, 0, files)
        rows: dict[str, list[tuple[float, float]]] = {}

        def note(name: str, work: Callable[[], object]) -> None:
            rows.setdefault(name, []).append(timed(work))

        def scan() -> None:
            pool.scan(root, workers=2, cache=cache)

        added = files
        # Files and code are in memory, for all alike.
        timed(lambda: bare(root))
        timed(lambda: pool.scan(root, workers=2))
        for _ in range(REPEATS):
            cache.forget()
            if len(rows.get("first scan", ())) % 2:
                note("first scan", scan)
                note("hashing and decoding alone", lambda: bare(root))
            else:
                note("hashing and decoding alone", lambda: bare(root))
                note("first scan", scan)
            note("second scan, nothing changed", scan)
            make(root, added, added + files // 100)
            added += files // 100
            note("1 % added", scan)
        first = rows["first scan"]
        table = []
        for name, times in rows.items():
            base = rows["hashing and decoding alone"] if name == "first scan" else first
            ratio = [
                statistics.median(one[kind] / other[kind] for one, other in zip(times, base, strict=True))
                for kind in (0, 1)
            ]
            spent = [statistics.median(one[kind] for one in times) for kind in (0, 1)]
            of = "of the bare" if name == "first scan" else "of the first"
            table.append([name, *(f"{each:.2f} s" for each in spent), *(f"{each:.3f} {of}" for each in ratio)])
        print_table(f"Scans of {files:,} files", ["", "processor", "clock", "ratio, processor", "ratio, clock"], table)


def memory(rows: int) -> None:
    """Print the most memory of two scans of so many rows, each in a process of its own."""
    table = []
    for name, known in (("a first scan", False), ("one that finds all as it was", True)):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            table.append([name, *process.submit(_memory, rows, known).result()])
    columns = ["", "processor", "clock", "before", "most memory"]
    print_table(f"Scans of {rows:,} rows, without reading files", columns, table)


def _memory(rows: int, known: bool) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="scan-") as folder:
        cache = ScanCache(Path(folder, "cache"))
        listing = Listing([], {}, Counter(), [])
        for start in range(0, rows, MADE_UP):
            numbers = range(start, min(rows, start + MADE_UP))
            paths = [f"class {number % FOLDERS}/2024/05/photo {number:07d}.jpg" for number in numbers]
            if known:
                cache.add(paths, [_made_up(number) for number in numbers])
            listing.files.extend(
                Found(path, "pool", f"class {number % FOLDERS}") for path, number in zip(paths, numbers, strict=True)
            )
        before = _peak()
        pool.file_stamp = lambda uri: _stamp(int(uri[-11:-4]))
        pool.read_files = _read_files
        used = timed(lambda: pool.scan_listed(Path(folder), listing, cache=cache))
        return [*(f"{each:.1f} s" for each in used), f"{before:.2f} GB", f"{_peak():.2f} GB"]


def _read_files(uris: Sequence[str], _: int, **how: object) -> Iterator[list[Reading]]:
    del how
    for start in range(0, len(uris), 100):
        yield [_made_up(int(uri[-11:-4])) for uri in uris[start : start + 100]]


def _stamp(number: int) -> tuple[int, int, int]:
    return 10_000 + number, 10**18 + number, number + 1


def _made_up(number: int) -> Reading:
    (size, moment, inode), digest = _stamp(number), hashlib.sha256(str(number).encode()).hexdigest()
    return Reading(
        file_id=digest[:32],
        pixels=digest[32:],
        width=500,
        height=375,
        format="JPEG",
        thumbnail=bytes.fromhex(digest) * 8,
        phash=digest[:16],
        bytes=size,
        taken=f"2024-05-01T12:{number // 60 % 60:02d}:{number % 60:02d}.{number % 1000:03d}",
        mtime_ns=moment,
        inode=inode,
        settled=True,
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        memory(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
    else:
        speed(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
