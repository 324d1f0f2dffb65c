"""A pool of small images whose features Ray computes: `python -m … FOLDER ADDRESS WORKERS` is one that drives it."""

import hashlib
import logging
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from al_pipeline.core.data.embeddings import EmbeddingStore
from al_pipeline.core.data.how_read import AS_EVER
from al_pipeline.core.data.image_cache import CachedImages
from al_pipeline.core.learning.arithmetic import Arithmetic, possible
from al_pipeline.core.learning.checkpoint import Checkpoint, device
from al_pipeline.core.learning.compute import ComputeOptions
from al_pipeline.core.learning.on_ray import FeatureWork, complete_on_ray
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.train import untrained

MOST = 128


def make_images(folder: Path, count: int) -> None:
    """Write PNG files called after their sample ids."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for pixels in rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8):
        name = hashlib.sha256(pixels.tobytes()).hexdigest()[:32]
        Image.fromarray(pixels).save(folder / f"{name}.png", compress_level=0)


def pool_of(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sample ids and where the images are."""
    paths = sorted(folder.glob("*.png"))
    return [path.stem for path in paths], list(map(str, paths))


def checkpoint() -> Checkpoint:
    """Return a network whose features are computed in what is fastest here, by OpenVINO."""
    drawn = untrained(("0", "1"), TrainingOptions(image_size=32), seed=1, round_number=0).checkpoint
    fastest = possible(Arithmetic("openvino", "bfloat16"), device(), drawn.info.architecture)
    return Checkpoint(replace(drawn.info, arithmetic=fastest.key), drawn.state)


@dataclass(frozen=True)
class Gated(FeatureWork):
    """Work that tells which process is at it, and goes on when it is told to."""

    gate: Path

    def features(self, images: CachedImages) -> np.ndarray:
        """Wait, while a file `hold` is there and there is a shard, or another worker has told itself too."""
        (self.gate / f"at {os.getpid()}").touch()
        while (self.gate / "hold").exists():
            time.sleep(0.02)
        return super().features(images)


def main(folder: Path, address: str, workers: int) -> None:
    """Compute what is missing, and print how many that were."""
    ids, uris = pool_of(folder / "images")
    options = ComputeOptions(engine="ray", address=address, workers=workers)
    work = Gated(EmbeddingStore(folder / "store"), checkpoint(), AS_EVER, folder / "cache", 0, gate=folder / "gate")
    log = logging.getLogger(__name__)
    missing = set(work.store.missing(ids))
    rows = [row for row, i in enumerate(ids) if i in missing]
    computed = complete_on_ray(work, [ids[i] for i in rows], [uris[i] for i in rows], options, log, most=MOST)
    print(f"computed {computed}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
