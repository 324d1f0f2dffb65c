"""bfloat16 where a network itself is trained: what its features and answers lose in it, and what steps gain by it.

`python -m benchmarks.trained_precision FOLDER` reads what `benchmarks.precision` reads. Parts, one alone by `--only`:
`networks` trains on the same labels from the same start in float32 and in bfloat16, and once more in float32 on two
threads, which does nothing but round sums otherwise: what that changes is chance. Images that nobody labeled are looked
at in float32, and through the first network in bfloat16, too, by itself and by heads on its features. With `--out`
what is finished is kept there. `steps` times steps of 16 images by precision, and beside them those of PyTorch with
channels first and without `small_maps`.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.learning.arithmetic import Arithmetic
from al_pipeline.core.learning.checkpoint import Checkpoint, build
from al_pipeline.core.learning.head import fit_head
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict_features
from al_pipeline.core.learning.small_maps import use_small_maps
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.learning.train import train
from benchmarks.data import WEIGHTS, load
from benchmarks.pairs import in_turn
from benchmarks.precision import computed_by, paired, scored
from benchmarks.table import print_table

PARTS = ("networks", "steps")
FLOAT32, BFLOAT16 = Arithmetic("openvino"), Arithmetic("openvino", "bfloat16")
PLAIN = "trained in float32"
TRAINED: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "trained in bfloat16": {"precision": "bfloat16"},
    "trained on two threads": {"threads": 2},
}


class Set(NamedTuple):
    """An archive, the classes that are taken of it, and how many images are labeled."""

    archive: str
    labels: int
    classes: tuple[str, ...] = ()


SETS = {
    "photos": Set("photos", 60),
    "digits": Set("digits", 60),
    "pair": Set("cifar10", 60, ("automobile", "truck")),
    "cifar10": Set("cifar10", 200),
}
Scores = dict[str, tuple[float, float]]


class Images:
    """Labeled images of a set at random, and others to test with."""

    def __init__(self, frame: pd.DataFrame, labels: int, tests: int, seed: int, cache: ImageCache) -> None:
        numbers, self.names = np.random.default_rng(seed), sorted(frame["label"].unique())
        known = frame[frame["split"] == "pool"].sample(labels, random_state=numbers)
        # Those that are not labeled test, too: more of them tell smaller differences.
        others = frame.drop(known.index)
        others = others.sample(min(tests, len(others)), random_state=numbers)
        (self.known, self.labels), (self.tests, tested) = (self._read(part, cache) for part in (known, others))
        self.targets, self.truth = ([self.names.index(name) for name in one] for one in (self.labels, tested))

    @staticmethod
    def _read(part: pd.DataFrame, cache: ImageCache) -> tuple[CachedImages, list[str]]:
        return CachedImages(cache, part["sample_id"].tolist(), part["uri"].tolist()), part["label"].tolist()

    def trained(self, options: TrainingOptions, seed: int) -> Checkpoint:
        """Return a network that was fine-tuned on the labels."""
        return train(self.known, self.labels, self.names, options, seed=seed, round_number=1).checkpoint

    def add_scores(self, found: Scores, way: str, options: TrainingOptions, seed: int) -> None:
        """Add accuracy and ROC-AUC, in points, of a network that is trained in some way."""
        truth, targets = np.array(self.truth), np.array(self.targets)
        network = self.trained(options.but(**TRAINED[way]), seed)
        for seen in (FLOAT32, BFLOAT16) if way == PLAIN else (FLOAT32,):
            one = computed_by(network, seen)
            tests = embed(one, self.tests)
            name = f"{way}, features in {seen.precision}"
            found[name] = scored(predict_features(one, tests), truth)
            if way == PLAIN:
                head = fit_head(embed(one, self.known), targets, len(self.names), seed=seed)
                found[f"{name}, a head"] = scored(head.probabilities(tests), truth)


def networks(arguments: argparse.Namespace) -> None:
    """Print what each of them scores, less what float32 does."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in arguments.sets:
            one = SETS[name]
            frame = load(one.archive, arguments.folder, Path(place)).manifest
            frame = frame[frame["label"].isin(one.classes)] if one.classes else frame
            cache = ImageCache(Path(place) / "cache", 4 << 30)
            weights = str(arguments.folder / WEIGHTS) if arguments.weights else "none"
            options = TrainingOptions(mode="finetune", weights=weights, image_size=arguments.px, precision="float32")
            options = options.but(epochs=arguments.epochs, learning_rate=arguments.learning_rate)
            labels = arguments.labels or one.labels
            start = "" if arguments.weights else "-none"
            kept = (arguments.out or Path(place)) / f"{name}-{arguments.px}-{labels}{start}.json"
            found: dict[str, Scores] = json.loads(kept.read_text()) if kept.exists() else {}
            for seed in range(arguments.seeds):
                images = Images(frame, labels, arguments.images, seed, cache)
                scores = found.setdefault(str(seed), {})
                for way in arguments.trained:
                    if f"{way}, features in float32" not in scores:
                        images.add_scores(scores, way, options, seed)
                        kept.write_text(json.dumps(found))
            rows += [(name, arguments.px, labels, *row) for row in _compared(list(found.values()))]
    columns = ("set", "px", "labels", "way", "seeds", "accuracy, and its change", "ROC-AUC, and its change")
    print_table(f"Networks trained for {arguments.epochs} epochs, paired seeds, points", columns, rows)


def _compared(found: list[Scores]) -> list[tuple[object, ...]]:
    rows, plain = [], f"{PLAIN}, features in float32"
    for name in dict.fromkeys(name for one in found for name in one):
        base = f"{plain}, a head" if name.endswith("head") else plain
        both = np.array([(one[base], one[name]) for one in found if name in one])
        if name != base and len(both) > 1:
            gains = (both[:, 1] - both[:, 0]).T
            rows.append((name, len(both), *map(paired, both[:, 0].mean(axis=0), gains)))
    return rows


class Steps:
    """Steps of training on ready tensors: as fine-tuning makes them, or with PyTorch's own order and convolutions."""

    def __init__(self, size: int, precision: torch.dtype, *, ours: bool) -> None:
        layout = torch.channels_last if ours else torch.contiguous_format
        self.precision = precision
        self.model = build("resnet18", 2, seed=0).train().to(memory_format=layout)  # type: ignore[call-overload]
        if ours:
            use_small_maps(self.model)
        self.images = torch.rand(16, 3, size, size).contiguous(memory_format=layout)
        self.targets = torch.arange(16) % 2
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", self.precision, enabled=self.precision != torch.float32):
            logits = self.model(self.images)
        nn.functional.cross_entropy(logits.float(), self.targets).backward()
        self.optimizer.step()


def steps(arguments: argparse.Namespace) -> None:
    """Print how many times as fast steps are as in float32 with PyTorch's own order and convolutions."""
    rows = []
    for size in arguments.sizes:
        for precision, ours in ((torch.float32, True), (torch.bfloat16, False), (torch.bfloat16, True)):
            for threads in (1, 2):
                with computing_on(threads):
                    both = Steps(size, torch.float32, ours=False), Steps(size, precision, ours=ours)
                    pair = in_turn(*both, arguments.repeats)
                way = f"{str(precision).removeprefix('torch.')}{'' if ours else ', channels first'}"
                rows.append((size, threads, way, f"{1000 * pair.ours:.0f}", f"{pair.ratio:.2f}"))
    columns = ("px", "threads", "way", "ms of the processor", "times float32, channels first")
    print_table("A step of 16 images, ResNet-18, Adam", columns, rows)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--out", type=Path, help="where finished seeds are kept")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--trained", nargs="+", choices=TRAINED, default=list(TRAINED))
    parser.add_argument("--untrained", dest="weights", action="store_false", help="start from no weights")
    parser.add_argument("--labels", type=int, help="of each set; by default a number for each")
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128, 224], help="of steps, in pixels")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=TrainingOptions().learning_rate)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--images", type=int, default=1000, help="to test with, at most")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    parts = {"networks": networks, "steps": steps}
    for part in PARTS if arguments.only is None else (arguments.only,):
        parts[part](arguments)


if __name__ == "__main__":
    main()
