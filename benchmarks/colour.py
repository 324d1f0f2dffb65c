"""What the colours of phones cost: photos of 12 megapixels in Display P3 beside the same ones in sRGB.

`python -m benchmarks.colour [REPEATS]`: both kinds in turn, in seconds of the processor on one thread. Bar: decoding to
224 px, and reading in a scan, take ≤ 1.15 × as long as for sRGB.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from al_pipeline.core.data.images import decode
from al_pipeline.core.data.profiles import BT709, D65, SRGB_CURVE, rgb_profile
from al_pipeline.core.data.reading import read_file
from benchmarks.table import print_table

SIZE, SIDE = (4000, 3000), 224
# What phones write has 2 to 5 MB.
QUALITIES = (85, 93)
PROFILES = {
    "sRGB": rgb_profile(BT709, SRGB_CURVE),
    "Display P3": rgb_profile((D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), SRGB_CURVE),
}


def make(folder: Path, quality: int) -> dict[str, Path]:
    """Write one smooth photo with some noise under each profile."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    noise = rng.integers(-8, 9, (SIZE[1], SIZE[0], 1), dtype=np.int16)
    photo = Image.fromarray((np.asarray(smooth, dtype=np.int16) + noise).clip(0, 255).astype(np.uint8))
    paths = {name: folder / f"{name} {quality}.jpg" for name in PROFILES}
    for name, path in paths.items():
        photo.save(path, quality=quality, icc_profile=PROFILES[name])
    return paths


def seconds(work: Callable[[], object]) -> float:
    """Return what a call took of the processor."""
    used = time.process_time()
    work()
    return time.process_time() - used


def main(repeats: int) -> None:
    """Print medians, and the median of the pairs' ratios."""
    work: dict[str, Callable[[Path], object]] = {
        f"decode to {SIDE} px": lambda path: decode(path, SIDE),
        "read in a scan": lambda path: read_file(str(path), time.time_ns()),
    }
    rows = []
    with tempfile.TemporaryDirectory(prefix="colour-") as folder:
        for quality in QUALITIES:
            paths = make(Path(folder), quality)
            for title, one in work.items():
                times: dict[str, list[float]] = {name: [] for name in paths}
                for path in paths.values():
                    one(path)
                for i in range(repeats):
                    for name in list(paths)[:: 1 if i % 2 else -1]:
                        times[name].append(seconds(lambda path=paths[name], one=one: one(path)))
                ratio = statistics.median(p3 / srgb for srgb, p3 in zip(*times.values(), strict=True))
                megabytes = f"{paths['sRGB'].stat().st_size / 1e6:.1f} MB"
                medians = [f"{statistics.median(each) * 1000:.1f} ms" for each in times.values()]
                rows.append([title, megabytes, *medians, f"{ratio:.3f}"])
    print_table("Photos of 12 megapixels", ["", "file", *PROFILES, "ratio"], rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 31)
