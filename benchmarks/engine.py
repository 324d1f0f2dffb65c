"""The learning engine beside the bare hardware and beside the naive loop; every ratio within one run.

`python -m benchmarks.engine [FOLDER] [--only PART]`: FOLDER holds chi_muf_224.tar and resnet18_tin199.safetensors; what
needs them is skipped without it. Parts: prediction, finetuning, round, scale, accuracy. Bars: prediction ≥ 0.92 of a
bare forward pass with the cache and ≥ 0.8 without; a step of fine-tuning ≥ 0.92 of a bare one; a round of 1,105 images
≤ 5 s and ≥ 50 times faster than the naive loop; 100,000 cached embeddings ≤ 20 s; a million ≤ 90 s and ≤ twice the
embeddings' memory.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.data.images import iter_blocks
from al_pipeline.core.learning.checkpoint import MEAN, STD, Checkpoint, build, device, normalize
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import BATCH, GPU_BATCH, predict
from al_pipeline.core.learning.train import train, untrained
from benchmarks.table import print_table

PARTS = ("prediction", "finetuning", "round", "scale", "accuracy")
CLASSES = ["chihuahua", "muffin"]
REPEATS = 5


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", choices=PARTS)
    arguments = parser.parse_args()
    wanted = PARTS if arguments.only is None else (arguments.only,)
    with tempfile.TemporaryDirectory(prefix="al-engine-") as place:
        photos = Photos.unpacked(arguments.folder, Path(place)) if arguments.folder else None
        for part in wanted:
            if part != "scale" and photos is None:
                print(f"{part}: skipped, since no folder with chi_muf_224.tar was given")
                continue
            if part == "scale":
                scale()
            elif photos is not None:
                {"prediction": prediction, "finetuning": finetuning, "round": round_latency, "accuracy": accuracy}[
                    part
                ](photos)


class Photos:
    """The chihuahua and muffin photos, unpacked."""

    def __init__(self, root: Path, weights: Path) -> None:
        self.weights, self.place = weights, root
        self.paths, self.labels = self._split("train")
        self.test_paths, self.test_labels = self._split("test")
        self.ids = [f"{i:032x}" for i in range(len(self.paths))]

    @classmethod
    def unpacked(cls, folder: Path, place: Path) -> "Photos":
        """Unpack the archive into a temporary folder."""
        with tarfile.open(folder / "chi_muf_224.tar") as tar:
            tar.extractall(place, filter="data")
        return cls(place, folder / "resnet18_tin199.safetensors")

    def _split(self, split: str) -> tuple[list[str], list[str]]:
        root = self.place / "chi_muf_224" / split
        files = [(str(path), name) for name in CLASSES for path in sorted((root / name).iterdir())]
        return [path for path, _ in files], [name for _, name in files]

    def cached(self, name: str) -> CachedImages:
        """Return all training images with a cache of that name."""
        return CachedImages(ImageCache(self.place / "cache" / name, 4 << 30), self.ids, self.paths)

    def options(self, size: int, **more: object) -> TrainingOptions:
        """Return options with the given weights."""
        return TrainingOptions(weights=str(self.weights), image_size=size, **more)  # type: ignore[arg-type]


def in_turns(ways: dict[str, Callable[[], int]], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Return images per second of each way, measured in turns: what slows the machine slows all of them alike."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            count = way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            rates[name].append(count / (time.perf_counter() - began))
    return rates


def ratios(rates: dict[str, list[float]], name: str, base: str = "bare") -> str:
    """Return the median of the ratios of each turn, and their range."""
    found = [a / b for a, b in zip(rates[name], rates[base], strict=True)]
    return f"{statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"


def prediction(photos: Photos) -> None:
    """Predict with and without the cache, beside the bare network on a ready tensor."""
    rows = []
    for size, count, repeats in ((224, 192, 7), (64, 1024, 9)):
        checkpoint = untrained(CLASSES, photos.options(size, mode="finetune"), seed=0, round_number=0).checkpoint
        warm = photos.cached(f"warm-{size}")
        images = CachedImages(warm.cache, warm.sample_ids[:count], warm.paths[:count])
        place, batch = device(), BATCH if device().type == "cpu" else GPU_BATCH
        model = checkpoint.model().to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        pixels = np.concatenate([block for _, block in iter_blocks(images.paths, size)])
        ready = normalize(torch.from_numpy(pixels).to(place), MEAN, STD)

        def bare(model: nn.Module = model, ready: torch.Tensor = ready, batch: int = batch) -> int:
            with torch.inference_mode():
                for part in ready.split(batch):
                    model(part)
            return len(ready)

        def cold(images: CachedImages = images, checkpoint=checkpoint) -> int:
            return len(predict(checkpoint, [str(path) for path in images.paths]))

        def cached(images: CachedImages = images, checkpoint=checkpoint) -> int:
            return len(predict(checkpoint, images))

        cached()
        bare()
        rates = in_turns({"bare": bare, "cached": cached, "cold": cold}, repeats)
        for name, bar in (("bare", ""), ("cached", "≥ 0.92"), ("cold", "≥ 0.8" if size == 224 else "")):
            rows.append((size, name, f"{statistics.median(rates[name]):.1f}", ratios(rates, name), bar))
    print_table("Prediction, images per second", ("px", "way", "images/s", "of the bare forward pass", "bar"), rows)


def finetuning(photos: Photos) -> None:
    """Fine-tune with our loop and with a bare one on ready tensors."""
    rows = []
    place, epochs, batch = device(), 3, 16
    for size, count in ((224, 32), (64, 256)):
        options = photos.options(size, mode="finetune", epochs=epochs, batch_size=batch)
        step = -(-len(photos.paths) // count)
        paths, labels = photos.paths[::step], photos.labels[::step]
        count = len(paths)
        images = CachedImages(ImageCache(photos.place / "cache" / f"warm-{size}", 4 << 30), photos.ids[:count], paths)
        pixels = np.concatenate([block for _, block in iter_blocks(paths, size)])
        inputs = normalize(torch.from_numpy(pixels).to(place), MEAN, STD).contiguous()
        targets = torch.tensor([CLASSES.index(label) for label in labels], device=place)
        model = build("resnet18", 2, weights=str(photos.weights), seed=0).to(place).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        ours = partial(seconds_per_epoch, images, labels, options)
        bare = partial(bare_seconds_per_epoch, model, inputs, targets, optimizer, batch, epochs)
        ours()
        bare()
        rates: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(REPEATS):
            rates["bare"].append(count / bare())
            rates["ours"].append(count / ours())
        for name, bar in (("bare", ""), ("ours", "≥ 0.92")):
            rows.append((size, name, f"{statistics.median(rates[name]):.1f}", ratios(rates, name), bar))
    print_table("Fine-tuning, images per second", ("px", "way", "images/s", "of the bare loop", "bar"), rows)


def seconds_per_epoch(images: CachedImages, labels: list[str], options: TrainingOptions) -> float:
    """Train; return the seconds of an epoch. Decoding, building and hashing are paid once per round, not per step."""
    moments: list[float] = []

    def note(epoch: int, loss: float) -> None:
        moments.append(time.perf_counter())

    train(images, labels, CLASSES, options, seed=0, round_number=1, progress=note)
    return (moments[-1] - moments[0]) / (len(moments) - 1)


def bare_seconds_per_epoch(
    model: nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    batch: int,
    epochs: int,
) -> float:
    """Run forward, backward and step on ready tensors; return the seconds of an epoch after the first."""
    moments = []
    for _ in range(epochs):
        for begin in range(0, len(inputs), batch):
            optimizer.zero_grad(set_to_none=True)
            part = slice(begin, begin + batch)
            nn.functional.cross_entropy(model(inputs[part]), targets[part]).backward()
            optimizer.step()
        if inputs.is_cuda:
            torch.cuda.synchronize()
        moments.append(time.perf_counter())
    return (moments[-1] - moments[0]) / (len(moments) - 1)


def round_latency(photos: Photos) -> None:
    """Labels in → next batch selected, beside the naive loop."""
    from benchmarks.engine_round import Parts, cached_round, naive_round

    store = photos.place / "embeddings"
    first = Parts()
    cached_round(photos, store, first, labels=100)
    runs = []
    for _ in range(REPEATS):
        parts = Parts()
        cached_round(photos, store, parts, labels=100)
        runs.append(parts)
    naive = Parts()
    naive_round(photos, naive, labels=100)
    names = list(runs[0].seconds)
    rows = [(name, f"{first.seconds[name]:.2f}", _median([run.seconds[name] for run in runs]), "") for name in names]
    rows += [(f"naive: {name}", "", "", f"{seconds:.1f}") for name, seconds in naive.seconds.items()]
    total = statistics.median(run.total for run in runs)
    rows.append(("total", f"{first.total:.2f}", f"{total:.2f} (bar: ≤ 5)", f"{naive.total:.1f}"))
    rows.append(("times faster than the naive loop", "", f"{naive.total / total:.0f} (bar: ≥ 50)", ""))
    title = f"A round of {len(photos.paths):,} images, 224 px, 100 labels, B = 20, S = all, seconds"
    print_table(title, ("part", "first round", "later rounds (median)", "naive loop"), rows)


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.2f}"


def scale() -> None:
    """A round on many cached embeddings: seconds, and the memory of its process."""
    rows = []
    for count, seconds_bar in ((100_000, 20), (1_000_000, 90)):
        with tempfile.TemporaryDirectory(prefix="al-scale-") as place:
            command = [sys.executable, "-m", "benchmarks.engine_round", place, str(count)]
            subprocess.run([*command, "fill"], check=True)
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            shutil.rmtree(place, ignore_errors=True)
            Path(place).mkdir()
        found = json.loads(done.stdout.splitlines()[-1])
        embeddings = count * 512 * 4 / 2**20
        limit = "≤ 2" if count == 1_000_000 else ""
        parts = ", ".join(f"{name} {value:.1f}" for name, value in found["parts"].items())
        memory = f"{found['peak_mib'] / embeddings:.2f}"
        rows.append((f"{count:,}", f"{found['total']:.1f}", f"≤ {seconds_bar}", parts, memory, limit))
    header = ("embeddings", "seconds", "bar", "parts", "peak memory / embeddings", "bar")
    print_table("A round on cached embeddings (d = 512, 200 labels, B = 100, S = all)", header, rows)


def accuracy(photos: Photos) -> None:
    """Test accuracy of the head at 160 labels, 20 at a time, beside active-vision's published dog-vs-food figure."""
    from scipy.stats import t

    from al_pipeline.core.learning.predict import embed, predict_features

    rows, seeds = [], 10
    truth = np.array([CLASSES.index(label) for label in photos.test_labels])
    for size in (96, 128, 224):
        options = photos.options(size, mode="head")
        start = untrained(CLASSES, options, seed=0, round_number=0).checkpoint
        features, tests = embed(start, photos.paths), embed(start, photos.test_paths)
        for strategy in ("random", "auto"):
            found = []
            for seed in range(seeds):
                rng, asked = np.random.default_rng(seed), np.empty(0, dtype=np.int64)
                checkpoint = None
                for turn in range(9):
                    if turn:
                        paths, labels = [photos.paths[i] for i in asked], [photos.labels[i] for i in asked]
                        known = features[asked]
                        checkpoint = train(
                            paths, labels, CLASSES, options, seed=seed, round_number=turn, features=known
                        ).checkpoint
                    if len(asked) < 160:
                        others = np.setdiff1d(np.arange(len(features)), asked)
                        asked = np.append(asked, others[_chosen(strategy, checkpoint, features, others, asked, rng)])
                assert checkpoint is not None
                found.append((predict_features(checkpoint, tests).argmax(axis=1) == truth).mean())
            half = t.ppf(0.975, seeds - 1) * np.std(found, ddof=1) / np.sqrt(seeds)
            rows.append((size, strategy, f"{100 * np.mean(found):.1f} ± {100 * half:.1f}", "97.6, one run"))
    title = f"Test accuracy at 160 labels, {seeds} seeds, percent"
    print_table(title, ("px", "strategy", "ours", "active-vision, dog vs food, ImageNet weights"), rows)


def _chosen(
    strategy: str,
    checkpoint: Checkpoint | None,
    features: np.ndarray,
    others: np.ndarray,
    asked: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose 20 of the unlabeled rows."""
    from al_pipeline.core.learning.predict import predict_features
    from al_pipeline.core.strategies import select

    return select(
        strategy,
        probabilities=None if checkpoint is None else predict_features(checkpoint, features[others]),
        embeddings=features[others],
        labeled_embeddings=features[asked] if len(asked) else None,
        batch_size=20,
        rng=rng,
    ).indices


if __name__ == "__main__":
    main()
