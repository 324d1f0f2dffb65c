"""Self-supervised training on the pool as the start of heads and of refining, beside the given weights.

`python -m benchmarks.self_supervised FOLDER OUT` needs lightly==1.6.0 and lightning-utilities, which are not among this
project's packages; what is finished is found in OUT. SimCLR (Chen et al. 2020) goes on from the given weights with the
images of the pool, their labels unseen, once per set: what one pretraining has from chance is in no interval. Then
heads, and networks by the recipe of refining, learn from the same random labels on either start, seed by seed. They
are tested with the holdout, which nothing has seen, and with the rest of the pool, which was seen without labels.

The recipe was fixed before anything was run: lightly's transform for SimCLR as for small images (colours at half
strength, no blur, crops from a fifth of the image on), its projection head 512-512-128, NT-Xent at a temperature of
0.5, 30 epochs, batches of 128, AdamW with one cycle up to 3e-4, bfloat16, one thread; the last weights are taken.
Heads on given weights whose norms have the means and variances of the pool, which costs one look at it, were added
once the other figures were there: they tell how much of a gain is that alone.
"""

# It is not in this project's environment.
# pyright: reportMissingImports=false

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image

from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.learning.checkpoint import build, normalize
from al_pipeline.core.learning.head import fit_head
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict_features
from al_pipeline.core.learning.preparation import MEAN, STD
from al_pipeline.core.learning.refine import refine
from al_pipeline.core.learning.train import chosen, decoded, untrained
from benchmarks.data import WEIGHTS, load
from benchmarks.precision import computed_by, paired, scored
from benchmarks.table import print_table
from benchmarks.trained_precision import FLOAT32, SETS

PX, BATCH, EPOCHS, RATE, TEMPERATURE = 64, 128, 30, 3e-4, 0.5
LABELS, SEEDS = (60, 20, 120), 10
GIVEN, NORMS, PRETRAINED = "given", "norms", "pretrained"
HEAD, REFINED = "head", "refined"
STARTS = {HEAD: (GIVEN, NORMS, PRETRAINED), REFINED: (GIVEN, PRETRAINED)}
CHANGES = "accuracy, and its change", "ROC-AUC, and its change"
TESTS = HOLDOUT, REST = "holdout", "rest of the pool"
Scores = dict[str, tuple[float, float]]


def pretrained(pixels: npt.NDArray[np.uint8], weights: str) -> dict[str, torch.Tensor]:
    """Return the weights after SimCLR on images, uint8 (n, h, w, 3); the classifier is as it was."""
    torch.manual_seed(0)
    model = build("resnet18", 2, weights=weights, seed=0)
    classifier, model.fc = model.fc, SimCLRProjectionHead(512, 512, 128)
    model = model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = SimCLRTransform(input_size=PX, cj_strength=0.5, gaussian_blur=0.0, min_scale=0.2)
    steps, alike = len(pixels) // BATCH, NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(pixels))[: steps * BATCH].split(BATCH):
            both = zip(*(views(Image.fromarray(pixels[row])) for row in rows.tolist()), strict=True)
            inputs = torch.cat([torch.stack(view) for view in both]).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                projected = model(inputs)
            optimizer.zero_grad(set_to_none=True)
            loss = alike(*projected.float().chunk(2))
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: {np.mean(losses):.3f}, {time.process_time():.0f} s of the processor", flush=True)
    model.fc = classifier
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def with_norms(pixels: npt.NDArray[np.uint8], weights: str) -> dict[str, torch.Tensor]:
    """Return the weights, but with the means and variances of batch normalisation of some images."""
    model = build("resnet18", 2, weights=weights, seed=0).train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        # The mean of all batches.
        norm.momentum = None
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for rows in order[: len(pixels) // BATCH * BATCH].split(BATCH):
            model(normalize(torch.from_numpy(pixels)[rows], MEAN, STD))
    return {name: value.contiguous() for name, value in model.state_dict().items()}


class Set:
    """A set's images, and the networks to start from with their features of all of them."""

    def __init__(self, name: str, folder: Path, out: Path) -> None:
        archive, _, names = SETS[name]
        frame = load(archive, folder, out).manifest
        self.frame = frame = frame[frame["label"].isin(names)].reset_index(drop=True) if names else frame
        self.names = sorted(frame["label"].unique())
        self.truth = frame["label"].map(self.names.index).to_numpy(np.int64)
        self.held, self.pool = (np.flatnonzero(frame["split"] == split) for split in ("holdout", "pool"))
        cache = ImageCache(out / "cache", 4 << 30)
        self.images = CachedImages(cache, frame["sample_id"].tolist(), frame["uri"].tolist())
        paths = {GIVEN: folder / WEIGHTS} | {way: out / f"{name}-{way}.safetensors" for way in (NORMS, PRETRAINED)}
        self.options = {way: TrainingOptions(weights=str(path), image_size=PX) for way, path in paths.items()}
        pixels, given = decoded(chosen(self.images, self.pool), self.options[GIVEN]), str(paths[GIVEN])
        for way, work in ((NORMS, with_norms), (PRETRAINED, pretrained)):
            began = time.process_time()
            if not paths[way].exists():
                state = work(pixels, given)
                told = {"seconds": f"{time.process_time() - began:.0f}"}
                safetensors.torch.save_file(state, paths[way], told)
            with safetensors.safe_open(paths[way], "pt") as file:
                print(f"{name}: {len(pixels)} images, {way} in {file.metadata()['seconds']} s of the processor")
        starts = {way: untrained(self.names, one, seed=0, round_number=0) for way, one in self.options.items()}
        self.features = {way: embed(start.checkpoint, self.images) for way, start in starts.items()}

    def add_scores(self, found: Scores, seed: int, labels: int, start: str, way: str) -> None:
        """Add accuracy and ROC-AUC, in points, of a head or a refined network, and the processor's seconds of it."""
        rows = np.random.default_rng(seed).choice(self.pool, labels, replace=False)
        known, features, began = self.truth[rows], self.features[start], time.process_time()
        tests = {HOLDOUT: self.held, REST: np.setdiff1d(self.pool, rows)}
        if way == HEAD:
            head = fit_head(features[rows], known, len(self.names), seed=seed)
            taken, predicted = time.process_time() - began, head.probabilities(features)
        else:
            images, own = chosen(self.images, rows), self.options[start]
            network = refine(images, known, self.names, own, features=features[rows], seed=seed, number=1).checkpoint
            taken = time.process_time() - began
            # The same numbers as PyTorch's, up to rounding, in less time.
            predicted = predict_features(network, embed(computed_by(network, FLOAT32), self.images))
        for name, part in tests.items():
            found[f"{start}, {way}, {labels}, {name}"] = scored(predicted[part], self.truth[part])
        found[f"{start}, {way}, {labels}, seconds"] = taken, taken


def report(name: str, found: list[Scores]) -> list[tuple[object, ...]]:
    """Return what the other starts have more than the given one, over the seeds that have both."""
    rows = []
    for way, labels, start, test in product(STARTS, sorted(LABELS), (NORMS, PRETRAINED), TESTS):
        keys = [f"{one}, {way}, {labels}, {test}" for one in (GIVEN, start)]
        done = [one for one in found if all(key in one for key in keys)]
        if len(done) > 1:
            given, more = (np.array([one[key] for one in done]) for key in keys)
            seconds = np.mean([one[f"{start}, {way}, {labels}, seconds"] for one in done])
            cells = map(paired, given.mean(axis=0), (more - given).T)
            rows.append((name, way, labels, start, test, len(done), *cells, f"{seconds:.2f}"))
    return rows


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the archives and weights")
    parser.add_argument("out", type=Path, help="where images are unpacked, and what is finished is kept")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["photos", "pair"])
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS, help="that networks are refined on")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in arguments.sets:
        one, kept = Set(name, arguments.folder, arguments.out), arguments.out / f"{name}.json"
        found: dict[str, Scores] = json.loads(kept.read_text()) if kept.exists() else {}
        work = [(HEAD, n, seed) for n in LABELS for seed in range(arguments.seeds)]
        work += [(REFINED, n, seed) for n in arguments.labels for seed in range(arguments.seeds)]
        for way, labels, seed in work:
            scores = found.setdefault(str(seed), {})
            for start in STARTS[way]:
                if f"{start}, {way}, {labels}, seconds" not in scores:
                    one.add_scores(scores, seed, labels, start, way)
                    kept.write_text(json.dumps(found))
        rows += report(name, list(found.values()))
    columns = ("set", "way", "labels", "start", "tested with", "seeds", *CHANGES, "seconds")
    print_table("Self-supervised training on the pool beside the given weights, points", columns, rows)


if __name__ == "__main__":
    main()
