"""What the arithmetic of features costs: images per second of each, and what heads learn from each, paired seeds.

`python -m benchmarks.precision FOLDER [IMAGES]` reads the archives and the weights that `benchmarks.comparison` reads;
of each image set at most IMAGES (1,500) are looked at per split. `speed` or `heads` after it measures that alone.
"""

import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.data.pool import select_split
from al_pipeline.core.learning.arithmetic import PLAIN, Arithmetic
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.head import fit_head
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.train import untrained
from benchmarks.data import SIZES, WEIGHTS, load
from benchmarks.pairs import in_turn
from benchmarks.table import print_table

SEEDS, REPEATS = 10, 5
# Photos by their size: whole batches.
COUNTS = {64: 256, 224: 64}
WAYS = (Arithmetic("openvino"), Arithmetic("pytorch", "bfloat16"), Arithmetic("openvino", "bfloat16"))
BUDGETS = {"photos": (20, 100), "cifar10": (100, 500), "digits": (50, 200)}
Floats = npt.NDArray[np.float32]


def computed_by(checkpoint: Checkpoint, arithmetic: Arithmetic) -> Checkpoint:
    """Return the checkpoint with another arithmetic."""
    return replace(checkpoint, info=replace(checkpoint.info, arithmetic=arithmetic.key))


def start(weights: Path, size: int, names: list[str]) -> Checkpoint:
    """Return what heads start from."""
    options = TrainingOptions(mode="head", weights=str(weights), image_size=size)
    return untrained(names, options, seed=0, round_number=0).checkpoint


def speed(folder: Path) -> None:
    """Compare features of photos in the cache, each way beside float32 of PyTorch in turn, by processor seconds."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        pool = select_split(load("photos", folder, Path(place)).manifest, "pool")
        for size, count in COUNTS.items():
            part, cache = pool[:count], ImageCache(Path(place) / "cache", 1 << 30)
            images = CachedImages(cache, part["sample_id"].tolist(), part["uri"].tolist())
            checkpoint = start(folder / WEIGHTS, size, ["0", "1"])
            plain = computed_by(checkpoint, PLAIN)
            expected = embed(plain, images)
            for way in WAYS:
                ours = computed_by(checkpoint, way)
                pair = in_turn(partial(embed, plain, images), partial(embed, ours, images), REPEATS)
                found = embed(ours, images)
                norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
                cosine, most = ((found * expected).sum(axis=1) / norms).min(), np.abs(found - expected).max()
                rates = (f"{count / pair.ours:.0f}", f"{pair.ratio:.2f}", f"{cosine:.6f}", f"{most:.1g}")
                rows.append((size, way.key, *rates))
    columns = ("px", "arithmetic", "images per processor second", f"times {PLAIN.key}", "smallest cosine", "difference")
    print_table(f"Features of photos in the cache, {torch.get_num_threads()} threads", columns, rows)


def heads(folder: Path, most: int) -> None:
    """Print what heads on the features of each arithmetic score on the test images, less those on plain ones."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name, budgets in BUDGETS.items():
            images = load(name, folder, Path(place))
            checkpoint, numbers = start(folder / WEIGHTS, SIZES[name], images.class_names), np.random.default_rng(0)
            parts = [images.manifest[images.manifest["split"] == split] for split in ("pool", "holdout")]
            parts = [part.iloc[numbers.permutation(len(part))[:most]] for part in parts]
            truth = [part["label"].map(images.class_names.index).to_numpy(np.int64) for part in parts]
            found = {
                way: [embed(computed_by(checkpoint, way), part["uri"].tolist()) for part in parts]
                for way in (PLAIN, *WAYS[1:])
            }
            for budget in budgets:
                scores = {
                    way: np.array([_scores(features, truth, budget, seed) for seed in range(SEEDS)])
                    for way, features in found.items()
                }
                for way in WAYS[1:]:
                    gains = (scores[way] - scores[PLAIN]).T
                    plain = scores[PLAIN].mean(axis=0)
                    rows.append((images.title, budget, way.key, *map(_cell, plain, gains)))
    columns = (
        "image set",
        "labels",
        "arithmetic",
        "accuracy, and its change, points",
        "ROC-AUC, and its change, points",
    )
    print_table(f"Heads, {SEEDS} paired seeds", columns, rows)


def _scores(features: list[Floats], truths: list[npt.NDArray[np.int64]], budget: int, seed: int) -> tuple[float, float]:
    """Return accuracy and ROC-AUC, in points, of a head on labels at random."""
    (pool, tests), (answers, truth) = features, truths
    rows = np.random.default_rng(seed).permutation(len(pool))[:budget]
    classes = int(truth.max()) + 1
    found = fit_head(pool[rows], answers[rows], classes, seed=seed).probabilities(tests)
    scored = found[:, 1] if classes == 2 else found
    return 100 * float((found.argmax(axis=1) == truth).mean()), 100 * float(
        roc_auc_score(truth, scored, multi_class="ovr")
    )


def _cell(plain: float, gains: npt.NDArray[np.float64]) -> str:
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return f"{plain:.2f}; {gains.mean():+.2f} ± {half:.2f}"


def main() -> None:
    """Measure what is asked for."""
    words = [word for word in sys.argv[1:] if word in ("speed", "heads")]
    folder, *more = [Path(word) for word in sys.argv[1:] if word not in ("speed", "heads")]
    if "heads" not in words:
        speed(folder)
    if "speed" not in words:
        heads(folder, int(str(more[0])) if more else 1500)


if __name__ == "__main__":
    main()
