"""JPEG files for tests: small smooth pictures, and tags that are written into them without touching the pixels."""

import os
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed: int, size: tuple[int, int] = (300, 200)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    """Write a JPEG that looks as if it were a minute old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="JPEG", **options)
    return aged(path)


def aged(path: Path, seconds: float = 60) -> Path:
    """Set the time of a file's last change back: of what was written just now a scan keeps nothing."""
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))
    return path


def tag(path: Path, tags: dict[int, object], seconds: float = 30) -> None:
    """Write EXIF into a JPEG; its pixels stay as they are, to the bit."""
    exif = Image.Exif()
    exif.update(tags)
    segment, data = exif.tobytes(), path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:])
    aged(path, seconds)
