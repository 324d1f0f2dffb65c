"""Small pictures that a network can tell apart, as real files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SHADES = {"black": 40, "gray": 120, "white": 210}


def draw(folder: Path, labels: Sequence[str], *, seed: int = 0, side: int = 20) -> list[str]:
    """Write one noisy picture per label, of the label's shade, and return their paths in the labels' order."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, label in enumerate(labels):
        pixels = np.clip(SHADES[label] + rng.normal(0, 20, (side, side, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{seed}-{i:04d}.png"
        Image.fromarray(pixels).save(path)
        paths.append(str(path))
    return paths
