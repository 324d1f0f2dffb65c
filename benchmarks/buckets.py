"""Images in a bucket beside the same ones in a folder: listing, first scan, second scan, in seconds of a processor.

`python -m benchmarks.buckets [FILES]`: JPEG files of 64 px, 100,000 unless said, in a temporary folder and on a real S3
server (SeaweedFS), which is filled first: ten minutes on a busy machine. The server is another process, so that what it
takes is not counted. Bars: 80,000 keys are listed in ≤ 0.6 s, reading takes ≤ 0.5 s per 1,000 beyond what a folder's
scan takes, a second scan of 100,000 takes ≤ 2 s and reads no image.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from al_pipeline.core.data import ahead
from al_pipeline.core.data.places import Place
from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.scan_cache import ScanCache
from al_pipeline_tests.buckets import bucket_server
from benchmarks.table import print_table

Result = TypeVar("Result")
FOLDERS, SIDE = 20, 64


def make(root: Path, number: int) -> tuple[str, bytes]:
    """Write a picture of smooth noise, 2 KB; return its key and its bytes."""
    small = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path = root / f"class {number % FOLDERS}" / f"{number:06d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=85)
    return path.relative_to(root).as_posix(), path.read_bytes()


def timed(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """Return what comes of it, seconds of the processor and of the clock."""
    before, began = os.times(), time.perf_counter()
    found = work()
    after = os.times()
    return found, after.user + after.system - before.user - before.system, time.perf_counter() - began


def main(count: int) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory() as name, bucket_server(Path(name) / "server"):
        root, place = Path(name) / "photos", Place("s3://photos/all")

        def put(number: int) -> None:
            place.put(*make(root, number))

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(put, range(count)))
        # Once for the imports.
        place.entries()
        entries, listed, listing = timed(place.entries)
        assert len(entries) == count
        local, folder, of_folder = timed(lambda: scan(root))
        cache = ScanCache(Path(name) / "cache")
        found, first, of_first = timed(lambda: scan(place, cache=cache))
        assert found["sample_id"].equals(local["sample_id"])
        read = list[str]()
        load, ahead.load = ahead.load, lambda uri: read.append(uri) or load(uri)
        _, second, of_second = timed(lambda: scan(place, cache=cache))
        assert not read
        listed_80k, more = listed * 80_000 / count, (first - folder) * 1000 / count
        again = second * 100_000 / count
        rows = [
            ("list", listed, listing, f"{listed_80k:.2f} per 80,000 keys (≤ 0.6)"),
            ("scan of the folder", folder, of_folder, ""),
            ("first scan of the bucket", first, of_first, f"{more:.2f} more per 1,000 (≤ 0.5)"),
            ("second scan of the bucket", second, of_second, f"{again:.2f} per 100,000 (≤ 2), no image read"),
        ]
        columns = ["what", "images", "CPU s", "s", "beside the bar"]
        print_table(
            "Images in a bucket", columns, [[a, f"{count:,}", f"{b:.2f}", f"{c:.2f}", d] for a, b, c, d in rows]
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
