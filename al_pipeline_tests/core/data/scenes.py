"""Pictures of scenes, and frames of each that moved a little: what a burst looks like to a scan."""

from typing import Any

import imagehash
import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from al_pipeline.core.data.near_duplicates import Looks, thumbnail

ROOT = "/images"


def scene(seed: int) -> Image.Image:
    """Return a smooth picture of things here and there, 176 pixels wide and high."""
    gray = np.random.default_rng(seed).integers(0, 256, (11, 11), dtype=np.uint8)
    return Image.fromarray(gray).resize((176, 176), Image.Resampling.BICUBIC).convert("RGB")


def frame(seed: int, number: int) -> Image.Image:
    """Return a frame of a scene: moved by up to a twentieth, and a little brighter or darker; 0 is neither."""
    rng = np.random.default_rng([seed, number])
    left, top = (8, 8) if number == 0 else map(int, rng.integers(4, 13, 2))
    shot = scene(seed).crop((left, top, left + 160, top + 160))
    return ImageEnhance.Brightness(shot).enhance(1 if number == 0 else rng.uniform(0.93, 1.07))


def seen(images: list[Image.Image]) -> pd.DataFrame:
    """Return rows of a manifest, one per image; the ids ascend."""
    return manifest([f"{number:03d}.jpg" for number in range(len(images))]).assign(
        phash=[str(imagehash.phash(image)) for image in images], thumbnail=[thumbnail(image) for image in images]
    )


def manifest(paths: list[str], labels: list[str | None] | None = None, **columns: Any) -> pd.DataFrame:
    """Return rows of a manifest of the pool; the ids ascend, and nothing is known of what the pictures look like."""
    return pd.DataFrame(
        {
            "sample_id": [f"{number:032x}" for number in range(len(paths))],
            "uri": [f"{ROOT}/{path}" for path in paths],
            "split": "pool",
            "label": labels or [None] * len(paths),
            "width": 160,
            "height": 160,
            **columns,
        }
    ).astype({"label": object})


def looks(images: list[Image.Image]) -> Looks:
    """Return what images look like."""
    rows = seen(images)
    hashes = np.array([int(digits, 16) for digits in rows["phash"]], dtype=np.uint64)
    return Looks(hashes, np.frombuffer(b"".join(rows["thumbnail"]), np.uint8).reshape(-1, 256))
