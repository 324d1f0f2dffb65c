"""Features by two workers of Ray beside our own process on two threads: images per second, and what starting takes.

`python -m benchmarks.fan_out [COUNT]`: JPEG files of 64 px, 20,000 unless said, ResNet-18 at 64 px in the arithmetic
that is fastest here; own process, Ray, own process again; five minutes on a quiet machine. Ray listens on all of a
machine's addresses: it runs in a network of its own (`unshare --net`, which root may). Bar: Ray once started ≥ 0.9 ×
the images per second of the own process, and the same bits.

Seconds of the clock tell what people wait for, and are as good as the machine is quiet; processor seconds per 1,000
images are less noisy. "Once started" is from when both workers have computed their first 256 images to the end.
"""

import hashlib
import io
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from al_pipeline.core.data.embeddings import EmbeddingStore
from al_pipeline.core.data.how_read import AS_EVER
from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.learning.arithmetic import Arithmetic, possible
from al_pipeline.core.learning.checkpoint import Checkpoint, device
from al_pipeline.core.learning.compute import ComputeOptions
from al_pipeline.core.learning.on_ray import FeatureWork, complete_on_ray
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.train import untrained
from benchmarks.table import print_table

SIDE, WORKERS, INSIDE = 64, 2, "AL_TEST_IN_A_NETWORK_OF_ITS_OWN"


@dataclass(frozen=True)
class Timed(FeatureWork):
    """Work whose workers write down when they have computed how many images, and with how much of a processor."""

    times: Path

    def features(self, images: CachedImages) -> np.ndarray:
        """Compute, and write it down."""
        found = super().features(images)
        with (self.times / f"{os.getpid()}").open("a") as file:
            file.write(f"{time.time()} {len(images)} {time.process_time()}\n")
        return found


@dataclass(frozen=True)
class Seen:
    """What the workers have written down: images per second once all have begun, and processor seconds per 1,000."""

    per_second: float
    cpu: float
    began: float

    @classmethod
    def of(cls, times: Path, ended: float) -> "Seen":
        """Return what stands in a folder."""
        each = [np.loadtxt(path, ndmin=2) for path in times.iterdir()]
        began = max(float(lines[0, 0]) for lines in each)
        images = sum(float(lines[lines[:, 0] > began, 1].sum()) for lines in each)
        spent = sum(float(lines[-1, 2] - lines[0, 2]) for lines in each)
        return cls(images / (ended - began), 1000 * spent / sum(float(lines[1:, 1].sum()) for lines in each), began)


def make(folder: Path, number: int) -> tuple[str, str]:
    """Write a picture of smooth noise, 2 KB; return its sample id and its path."""
    small, data = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(data, "JPEG", quality=85)
    path = folder / f"{number:06d}.jpg"
    path.write_bytes(data.getvalue())
    return hashlib.sha256(data.getvalue()).hexdigest()[:32], str(path)


def main(count: int) -> None:
    """Measure, and print the table."""
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)8d ms  %(message)s")
    with tempfile.TemporaryDirectory(prefix="al-fan-out-", dir="/dev/shm") as name:
        root = Path(name)
        (root / "images").mkdir()
        ids, uris = zip(*(make(root / "images", number) for number in range(count)), strict=True)
        drawn = untrained(("0", "1"), TrainingOptions(image_size=SIDE), seed=1, round_number=0).checkpoint
        fastest = possible(Arithmetic("openvino", "bfloat16"), device(), "resnet18").key
        start = Checkpoint(replace(drawn.info, arithmetic=fastest), drawn.state)
        options = ComputeOptions(engine="ray", workers=WORKERS)

        def own(work: FeatureWork) -> int:
            return work.complete(ids, uris, ImageCache(root / "none", 0))

        def by_ray(work: FeatureWork) -> int:
            return complete_on_ray(work, ids, uris, options, logging.getLogger(__name__))

        rows, features, rates = [], list[np.ndarray](), list[float]()
        runs: list[tuple[str, Callable[[FeatureWork], int]]] = [
            ("own process", own),
            ("Ray, 2 workers", by_ray),
            ("own process again", own),
        ]
        for number, (title, run) in enumerate(runs):
            times = root / f"times {number}"
            times.mkdir()
            store, began = EmbeddingStore(root / f"store {number}"), time.time()
            assert run(Timed(store, start, AS_EVER, root / "none", 0, times=times)) == count
            ended = time.time()
            seen = Seen.of(times, max(path.stat().st_mtime for path in store.folder.iterdir()))  # type: ignore[union-attr]
            features.append(store.load(ids))
            rates.append(seen.per_second)
            rows.append(
                (
                    title,
                    f"{seen.began - began:.1f}",
                    f"{seen.per_second:,.0f}",
                    f"{seen.cpu:.2f}",
                    f"{ended - began:.1f}",
                )
            )
        assert all(np.array_equal(features[0], other) for other in features[1:])
        columns = ("", "s until all have begun", "images per second then", "CPU s per 1,000", "s in all")
        print_table(f"{count:,} images of {SIDE} px in {fastest}, the same bits", columns, rows)
        print(f"\nRay: {rates[1] / np.mean([rates[0], rates[2]]):.2f} × the own process (bar ≥ 0.9)")


if __name__ == "__main__":
    if INSIDE not in os.environ:
        inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"', sys.executable]
        os.execvpe(inside[0], [*inside, "-m", "benchmarks.fan_out", *sys.argv[1:]], os.environ | {INSIDE: "1"})
    main(int(sys.argv[1].replace("_", "")) if len(sys.argv) > 1 else 20_000)
