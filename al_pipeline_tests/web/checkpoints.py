"""A home with published images, a ledger that knows them, and tiny checkpoints."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from PIL import Image

from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.train import TrainingOptions, untrained
from al_pipeline.ledger import Ledger
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample

# By what the ledger says about them: asked as a query, asked for the holdout, of the images' own test split, not asked.
QUERY, HOLDOUT, SPLIT, UNASKED = ([sample(n) for n in group] for group in ((0, 1, 2, 3), (4, 5), (10,), (6,)))


def checkpoint(number: int, names: Sequence[str], *, seed: int | None = None, trained: bool = True) -> Checkpoint:
    """Return a checkpoint of a round that counts as trained; it guesses by what its random weights make of images."""
    options = TrainingOptions(image_size=32)
    made = untrained(names, options, seed=number if seed is None else seed, round_number=number).checkpoint
    return replace(made, info=replace(made.info, trained=trained))


def save(made: Checkpoint, home: Path) -> str:
    """Store a checkpoint where the loop does, and return its version."""
    key = f"r{made.info.round:04d}"
    made.save(home / "artifacts" / "checkpoint" / f"{key}.safetensors")
    return f"{key} {made.hash}"


def publish_images(home: Path) -> Path:
    """Publish an image for every sample, each of another shade, and return their folder."""
    folder = home / "published" / "images"
    folder.mkdir(parents=True)
    for number, name in enumerate(QUERY + HOLDOUT + SPLIT + UNASKED):
        Image.new("RGB", (40, 32), (number * 25, 255 - number * 25, 90)).save(folder / f"{name}.png")
    return folder


def open_ledger(home: Path) -> Ledger:
    """Return the ledger of the samples: round 0 asked for the holdout, round 1 asked the queries."""
    home.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(f"sqlite:///{home / 'ledger.sqlite3'}")
    ledger.register(manifest(pool=10, holdout=1))
    ledger.plan("r0000", plan_rows(4, 5, purpose="holdout"))
    ledger.plan("r0001", pd.concat([plan_rows(0, 1, 2, 3), plan_rows(10, purpose="query")]))
    return ledger
