"""bfloat16 where a network itself is trained: what its features and answers lose in it, and what steps gain by it.

`python -m benchmarks.trained_precision FOLDER` reads what `benchmarks.precision` reads. Parts, one alone by `--only`:
`features` trains a network per seed in float32 and looks at the test images through it in either precision, itself and
with a head on its features; `training` trains on the same labels from the same start in either precision; `steps` times
steps of 16 images by precision and order in memory, 1 and 2 threads.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from al_pipeline.core.learning.arithmetic import PLAIN, Arithmetic
from al_pipeline.core.learning.checkpoint import Checkpoint, build
from al_pipeline.core.learning.finetune import use_small_maps
from al_pipeline.core.learning.head import fit_head
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict_features
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.learning.train import train
from benchmarks.data import WEIGHTS, ImageSet, load
from benchmarks.pairs import in_turn
from benchmarks.precision import computed_by, paired, scored
from benchmarks.table import print_table

PARTS = ("features", "training", "steps")
LABELS = {"photos": 60, "cifar10": 200, "digits": 100}
BFLOAT16 = Arithmetic("openvino", "bfloat16")
Integers = npt.NDArray[np.int64]


class Images:
    """Labeled images of a set at random, and others to test with: paths and class numbers."""

    def __init__(self, images: ImageSet, labels: int, tests: int, seed: int) -> None:
        numbers, self.names = np.random.default_rng(seed), images.class_names
        self.known, self.targets = self._some(images, "pool", labels, numbers)
        self.tests, self.truth = self._some(images, "holdout", tests, numbers)

    def _some(
        self, images: ImageSet, split: str, most: int, numbers: np.random.Generator
    ) -> tuple[list[str], Integers]:
        part = images.manifest[images.manifest["split"] == split]
        part = part.iloc[numbers.permutation(len(part))[:most]]
        return part["uri"].tolist(), part["label"].map(self.names.index).to_numpy(np.int64)

    def trained(self, weights: Path, size: int, epochs: int, precision: str, seed: int) -> Checkpoint:
        """Return a network that was fine-tuned on the labels."""
        options = TrainingOptions(mode="finetune", weights=str(weights), image_size=size, epochs=epochs)
        options = options.but(precision=precision)
        labels = [self.names[int(i)] for i in self.targets]
        return train(self.known, labels, self.names, options, seed=seed, round_number=1).checkpoint


def features(arguments: argparse.Namespace) -> None:
    """Print what a fine-tuned network and heads on its features score in bfloat16, less what they do in float32."""

    def scores(images: Images, seed: int) -> list[list[tuple[float, float]]]:
        network = images.trained(arguments.folder / WEIGHTS, arguments.px, arguments.epochs, "float32", seed)
        found = []
        for way in (PLAIN, BFLOAT16):
            one = computed_by(network, way)
            learned, tests = embed(one, images.known), embed(one, images.tests)
            head = fit_head(learned, images.targets, len(images.names), seed=seed).probabilities(tests)
            found.append([scored(predict_features(one, tests), images.truth), scored(head, images.truth)])
        return found

    _compare(arguments, scores, "Features of fine-tuned networks", ("itself", "head on its features"))


def training(arguments: argparse.Namespace) -> None:
    """Print what networks that are trained in bfloat16 score, less what those that are trained in float32 do."""

    def scores(images: Images, seed: int) -> list[list[tuple[float, float]]]:
        found = []
        for precision in ("float32", "bfloat16"):
            network = images.trained(arguments.folder / WEIGHTS, arguments.px, arguments.epochs, precision, seed)
            found.append([scored(predict_features(network, embed(network, images.tests)), images.truth)])
        return found

    _compare(arguments, scores, "Training", ("itself",))


def _compare(arguments: argparse.Namespace, scores, title: str, who: tuple[str, ...]) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in arguments.sets:
            images = load(name, arguments.folder, Path(place))
            # Shape: seeds, precisions, who, metrics.
            found = np.array(
                [scores(Images(images, LABELS[name], arguments.images, seed), seed) for seed in range(arguments.seeds)]
            )
            for i, one in enumerate(who):
                gains, plain = (found[:, 1, i] - found[:, 0, i]).T, found[:, 0, i].mean(axis=0)
                rows.append((images.title, LABELS[name], one, *map(paired, plain, gains)))
    columns = ("image set", "labels", "who", "accuracy, and its change in bfloat16", "ROC-AUC, and its change")
    print_table(
        f"{title}: {arguments.px} px, {arguments.epochs} epochs, {arguments.seeds} paired seeds, points", columns, rows
    )


class Steps:
    """Steps of training on ready tensors, as fine-tuning makes them."""

    def __init__(self, size: int, precision: torch.dtype, *, channels_last: bool) -> None:
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.precision = precision
        self.model = build("resnet18", 2, seed=0).train().to(memory_format=self.layout)  # type: ignore[call-overload]
        if not channels_last:
            use_small_maps(self.model)
        self.images = torch.rand(16, 3, size, size).contiguous(memory_format=self.layout)
        self.targets = torch.arange(16) % 2
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", self.precision, enabled=self.precision != torch.float32):
            logits = self.model(self.images)
        nn.functional.cross_entropy(logits.float(), self.targets).backward()
        self.optimizer.step()


def steps(arguments: argparse.Namespace) -> None:
    """Print how many times as fast steps are as in float32 with channels first, which fine-tuning had at first."""
    rows = []
    for size in (64, 96, 224):
        for precision in (torch.float32, torch.bfloat16):
            for last in (False, True):
                if precision == torch.float32 and not last:
                    continue
                for threads in (1, 2):
                    with computing_on(threads):
                        both = (
                            Steps(size, torch.float32, channels_last=False),
                            Steps(size, precision, channels_last=last),
                        )
                        pair = in_turn(*both, arguments.repeats)
                    way = f"{str(precision).removeprefix('torch.')}, channels {'last' if last else 'first'}"
                    rows.append((size, threads, way, f"{1000 * pair.ours:.0f}", f"{pair.ratio:.2f}"))
    columns = ("px", "threads", "way", "ms of the processor", "times float32, channels first")
    print_table("A step of 16 images, ResNet-18, Adam", columns, rows)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--sets", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--images", type=int, default=1000, help="to test with, at most")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    parts = {"features": features, "training": training, "steps": steps}
    for part in PARTS if arguments.only is None else (arguments.only,):
        parts[part](arguments)


if __name__ == "__main__":
    main()
