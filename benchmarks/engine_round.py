"""One round by the engine's own parts, from labels to the next batch; and the naive loop that it replaces.

`python -m benchmarks.engine_round PLACE COUNT [fill]` runs one on synthetic embeddings and prints JSON.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.pools import embeddings

if TYPE_CHECKING:
    from al_pipeline.core.learning.arithmetic import Arithmetic
    from benchmarks.engine import Photos


@dataclass
class Parts:
    """Seconds of each part of a round."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())


def cached_round(photos: "Photos", folder: Path, parts: Parts, *, labels: int, way: "Arithmetic | None" = None) -> None:
    """A round as the assets run it, without Dagster: embeddings, head, checkpoint, predictions, selection.

    Its features are computed in the way said, as the options choose without one.
    """
    from al_pipeline.core.data.embeddings import EmbeddingStore
    from al_pipeline.core.learning.predict import embed, predict_features
    from al_pipeline.core.learning.train import train, untrained
    from al_pipeline.core.strategies import select
    from benchmarks.engine import CLASSES
    from benchmarks.precision import computed_by

    options = photos.options(224, mode="head")
    images = photos.cached("round")
    chosen = np.random.default_rng(0).permutation(len(photos.paths))
    known, others = chosen[:labels], chosen[labels:]
    with parts.part("starting weights"):
        start = untrained(CLASSES, options, seed=0, round_number=0).checkpoint
        if way is not None:
            start = computed_by(start, way, images)
    with parts.part("embeddings"):
        place = {sample_id: i for i, sample_id in enumerate(photos.ids)}

        def compute(ids: Sequence[str]) -> np.ndarray:
            rows = [place[i] for i in ids]
            return embed(start, type(images)(images.cache, list(ids), [photos.paths[i] for i in rows]))

        features, _ = EmbeddingStore(folder).get(photos.ids, compute)
    with parts.part("training"):
        paths, answers = [photos.paths[i] for i in known], [photos.labels[i] for i in known]
        result = train(paths, answers, CLASSES, options, seed=0, round_number=1, features=features[known])
    with parts.part("writing the checkpoint"):
        result.checkpoint.save(folder.parent / "r0001.safetensors")
    with parts.part("prediction"):
        probabilities = predict_features(result.checkpoint, features[others])
    with parts.part("selection"):
        select(
            "auto",
            probabilities=probabilities,
            embeddings=features[others],
            labeled_embeddings=features[known],
            batch_size=20,
            rng=np.random.default_rng(0),
        )


def naive_round(photos: "Photos", parts: Parts, *, labels: int) -> None:
    """What a notebook does: decode everything, fine-tune ten epochs, predict everything, take the least certain."""
    import torch
    from PIL import Image
    from torch import nn
    from torchvision.models import resnet18
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    from al_pipeline.core.learning.checkpoint import MEAN, STD
    from benchmarks.engine import CLASSES

    chosen = np.random.default_rng(0).permutation(len(photos.paths))
    prepare = Compose([Resize(224), CenterCrop(224), ToTensor(), Normalize(MEAN, STD)])
    with parts.part("decoding everything"):
        inputs = torch.stack([prepare(Image.open(path).convert("RGB")) for path in photos.paths])
    with parts.part("ten epochs"):
        torch.manual_seed(0)
        model = resnet18(num_classes=2).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        targets = torch.tensor([CLASSES.index(label) for label in photos.labels])
        for _ in range(10):
            for rows in torch.from_numpy(chosen[:labels].copy()).split(16):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
                optimizer.step()
    with parts.part("predicting everything"):
        model.eval()
        with torch.no_grad():
            scores = torch.cat([torch.softmax(model(part), dim=1) for part in inputs.split(64)])
        (scores[:, 1] - 0.5).abs().argsort()[:20]


def fill(folder: Path, count: int) -> None:
    """Write a store of the synthetic embeddings that the strategies are measured on: 20 clusters."""
    from al_pipeline.core.data.embeddings import EmbeddingStore

    vectors = embeddings(count)

    def compute(ids: Sequence[str]) -> np.ndarray:
        first = int(ids[0], 16)
        return vectors[first : first + len(ids)]

    EmbeddingStore(folder).complete([f"{i:032x}" for i in range(count)], compute)


def synthetic_round(folder: Path, count: int) -> None:
    """A round over all embeddings of a store, in this process; print seconds and peak memory as JSON."""
    from al_pipeline.core.data.embeddings import EmbeddingStore
    from al_pipeline.core.learning.head import fit_head
    from al_pipeline.core.strategies import select

    parts, rng = Parts(), np.random.default_rng(1)
    ids = [f"{i:032x}" for i in range(count)]
    chosen = set(rng.choice(count, 200, replace=False).tolist())
    known, others = [ids[i] for i in sorted(chosen)], [i for n, i in enumerate(ids) if n not in chosen]
    del ids
    with parts.part("embeddings"):
        store = EmbeddingStore(folder)
        labeled, features = store.load(known), store.load(others)
    with parts.part("training"):
        # Two classes with a straight border that leaves about half on either side.
        projected = labeled @ np.random.default_rng(2).normal(size=labeled.shape[1])
        head = fit_head(labeled, (projected > np.median(projected)).astype(np.int64), 2, seed=0)
    with parts.part("prediction"):
        probabilities = head.probabilities(features)
    with parts.part("selection"):
        select(
            "auto",
            probabilities=probabilities,
            embeddings=features,
            labeled_embeddings=labeled,
            batch_size=100,
            rng=np.random.default_rng(0),
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"parts": parts.seconds, "total": parts.total, "peak_mib": peak}))


if __name__ == "__main__":
    store = Path(sys.argv[1]) / "embeddings"
    (fill if sys.argv[3:] == ["fill"] else synthetic_round)(store, int(sys.argv[2]))
