"""What the arithmetic of features costs: images per second of each, and what heads learn from each, paired seeds.

`python -m benchmarks.precision FOLDER` reads the archives and the weights that `benchmarks.comparison` reads and runs
all parts; `--only speed`, `cold` or `heads` one of them. `--px`, `--threads`, `--architecture`, `--photos` and
`--repeats` bound `speed` and `cold`, `--images` and `--sets` bound `heads`, `--ways` all of them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import roc_auc_score

from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.data.pool import select_split
from al_pipeline.core.learning.arithmetic import PLAIN, Arithmetic
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.head import fit_head
from al_pipeline.core.learning.int8 import calibrated, drawn
from al_pipeline.core.learning.options import ARCHITECTURES, TrainingOptions
from al_pipeline.core.learning.predict import Images, embed
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.learning.train import chosen, untrained
from benchmarks.data import SIZES, WEIGHTS, load
from benchmarks.pairs import in_turn
from benchmarks.table import print_table

PARTS = ("speed", "cold", "heads")
SEEDS = 10
# Photos by the side of their square: whole batches.
COUNTS = {64: 256, 96: 192, 128: 128, 224: 64}
INT8 = Arithmetic("openvino", "int8")
WAYS = (Arithmetic("openvino"), Arithmetic("pytorch", "bfloat16"), Arithmetic("openvino", "bfloat16"), INT8)
BUDGETS = {"photos": (20, 100), "cifar10": (100, 500), "digits": (50, 200)}
Floats = npt.NDArray[np.float32]


def computed_by(checkpoint: Checkpoint, arithmetic: Arithmetic, pool: Images = ()) -> Checkpoint:
    """Return the checkpoint with another arithmetic; in int8 it is calibrated on images of the pool."""
    one = replace(checkpoint, info=replace(checkpoint.info, arithmetic=arithmetic.key))
    return calibrated(one, chosen(pool, drawn(len(pool), 0))) if arithmetic == INT8 else one


def start(weights: Path, size: int, names: Sequence[str], architecture: str = "resnet18") -> Checkpoint:
    """Return what heads start from; another network than that of the weights is drawn at random."""
    given = str(weights) if architecture == "resnet18" else "none"
    mode = "head" if architecture == "resnet18" else "auto"
    options = TrainingOptions(mode=mode, weights=given, image_size=size, architecture=architecture)  # type: ignore[arg-type]
    return untrained(names, options, seed=0, round_number=0).checkpoint


def speed(arguments: argparse.Namespace) -> None:
    """Compare features of photos in the cache, each way beside float32 of PyTorch in turn, by processor seconds."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        pool = select_split(load("photos", arguments.folder, Path(place)).manifest, "pool")
        cache = ImageCache(Path(place) / "cache", 1 << 30)
        for architecture in arguments.architecture:
            for size in arguments.px:
                part = pool[: min(COUNTS[size], arguments.photos)]
                images = CachedImages(cache, part["sample_id"].tolist(), part["uri"].tolist())
                plain = computed_by(start(arguments.folder / WEIGHTS, size, "01", architecture), PLAIN)
                expected = embed(plain, images)
                for way in arguments.ways:
                    ours = computed_by(plain, way, images)
                    found = embed(ours, images)
                    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
                    alike = f"{((found * expected).sum(axis=1) / norms).min():.6f}"
                    for threads in arguments.threads:
                        with computing_on(threads):
                            both = (partial(embed, plain, images), partial(embed, ours, images))
                            pair = in_turn(*both, arguments.repeats)
                        rate = f"{len(images) / pair.ours:.0f}"
                        rows.append((architecture, size, threads, way.key, rate, f"{pair.ratio:.2f}", alike))
    columns = ("network", "px", "threads", "arithmetic", "images per processor second", f"times {PLAIN.key}", "cosine")
    print_table("Features of photos in the cache, and the smallest cosine", columns, rows)


def cold(arguments: argparse.Namespace) -> None:
    """Tell what the first batch takes in a fresh process, imports and compilation counted, and what a later one."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for architecture in arguments.architecture:
            for size in arguments.px:
                for way in (PLAIN, *arguments.ways):
                    file = Path(place) / "one.safetensors"
                    pixels = [_written(Path(place), size)]
                    plain = start(arguments.folder / WEIGHTS, size, "01", architecture)
                    computed_by(plain, way, pixels).save(file)
                    command = [sys.executable, "-m", "benchmarks.precision", "--first", str(file), pixels[0]]
                    runs = []
                    for _ in range(arguments.repeats):
                        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
                        runs.append(json.loads(done.stdout.splitlines()[-1]))
                    cells = [f"{statistics.median(column):.2f}" for column in zip(*runs, strict=True)]
                    rows.append((architecture, size, way.key, *cells))
    columns = ("network", "px", "arithmetic", "imports", "first batch", "second batch")
    print_table("A batch of 64 in a fresh process, processor seconds, medians", columns, rows)


def _written(place: Path, size: int) -> str:
    from PIL import Image

    path = place / f"{size}.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)).save(path)
    return str(path)


def first(file: str, image: str) -> None:
    """Print what imports so far, the first batch and a second one take of the processor."""
    checkpoint, moments = Checkpoint.load(Path(file)), [0.0, time.process_time()]
    for _ in range(2):
        embed(checkpoint, [image] * 64)
        moments.append(time.process_time())
    print(json.dumps(np.diff(moments).tolist()))


def heads(arguments: argparse.Namespace) -> None:
    """Print what heads on the features of each arithmetic score on the test images, less those on plain ones."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in arguments.sets:
            images = load(name, arguments.folder, Path(place))
            checkpoint = start(arguments.folder / WEIGHTS, SIZES[name], images.class_names)
            numbers = np.random.default_rng(0)
            parts = [images.manifest[images.manifest["split"] == split] for split in ("pool", "holdout")]
            parts = [part.iloc[numbers.permutation(len(part))[: arguments.images]] for part in parts]
            truth = [part["label"].map(images.class_names.index).to_numpy(np.int64) for part in parts]
            files = [part["uri"].tolist() for part in parts]
            found = {
                way: [embed(computed_by(checkpoint, way, files[0]), part) for part in files]
                for way in (PLAIN, *arguments.ways)
            }
            for budget in BUDGETS[name]:
                scores = {
                    way: np.array([_scores(features, truth, budget, seed) for seed in range(SEEDS)])
                    for way, features in found.items()
                }
                for way in arguments.ways:
                    gains = (scores[way] - scores[PLAIN]).T
                    plain = scores[PLAIN].mean(axis=0)
                    rows.append((images.title, budget, way.key, *map(paired, plain, gains)))
    columns = ("image set", "labels", "arithmetic", "accuracy, and its change", "ROC-AUC, and its change")
    print_table(f"Heads, {SEEDS} paired seeds, points", columns, rows)


def _scores(features: list[Floats], truths: list[npt.NDArray[np.int64]], budget: int, seed: int) -> tuple[float, float]:
    """Return accuracy and ROC-AUC, in points, of a head on labels at random."""
    (pool, tests), (answers, truth) = features, truths
    rows = np.random.default_rng(seed).permutation(len(pool))[:budget]
    return scored(fit_head(pool[rows], answers[rows], int(truth.max()) + 1, seed=seed).probabilities(tests), truth)


def scored(probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return accuracy and ROC-AUC in points."""
    certain = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    area = float(roc_auc_score(truth, certain, multi_class="ovr"))
    return 100 * float((probabilities.argmax(axis=1) == truth).mean()), 100 * area


def paired(plain: float, gains: npt.NDArray[np.float64]) -> str:
    """Return a mean, and that of the paired gains with its 95 % interval."""
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return f"{plain:.2f}; {gains.mean():+.2f} ± {half:.2f}"


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--px", type=int, nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--architecture", nargs="+", choices=ARCHITECTURES, default=["resnet18"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--photos", type=int, default=COUNTS[64], help="to time, at most; whole batches of 64")
    parser.add_argument("--ways", type=Arithmetic.of, nargs="+", default=list(WAYS), help="openvino-int8, for example")
    parser.add_argument("--images", type=int, default=1500, help="of each image set and split, at most")
    parser.add_argument("--sets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    arguments = parser.parse_args()
    parts = {"speed": speed, "cold": cold, "heads": heads}
    for part in PARTS if arguments.only is None else (arguments.only,):
        parts[part](arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--first"]:
        first(*sys.argv[2:])
    else:
        main()
