"""Images with a cache, for the tests of the image cache."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.data.images import iter_blocks
from al_pipeline.core.errors import ImageError

SIZE = 8
BYTES = 3 * SIZE * SIZE
# Header, table and pixels of one image in a block file.
OVERHEAD, PER_IMAGE = 20, 36 + BYTES
MUCH = 1 << 30

Array = npt.NDArray[np.uint8]


def make(folder: Path, count: int, seed: int = 0) -> tuple[list[str], list[Path]]:
    """Write different images; return their sample ids and paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids, paths = [], []
    for i in range(count):
        path = folder / f"{seed}-{i}.png"
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path, compress_level=0)
        ids.append(hashlib.sha256(path.read_bytes()).hexdigest()[:32])
        paths.append(path)
    return ids, paths


def stacked(blocks: Iterator[tuple[int, Array]], count: int, size: int = SIZE) -> Array:
    """Put blocks together, and check that every image comes once and in its place."""
    pixels, following = np.empty((count, size, size, 3), dtype=np.uint8), 0
    for start, block in blocks:
        assert (start, block.dtype) == (following, np.uint8)
        pixels[start : start + len(block)] = block
        following = start + len(block)
    assert following == count
    return pixels


def direct(paths: Sequence[Path], size: int = SIZE) -> Array:
    return stacked(iter_blocks(paths, size, workers=2), len(paths), size)


class Pool:
    """Twelve images and a cache, with what the images truly look like."""

    def __init__(self, folder: Path, count: int = 12) -> None:
        self.folder = folder / "cache"
        self.ids, self.paths = make(folder / "images", count)
        self.truth = direct(self.paths)

    def cache(self, limit_bytes: int = MUCH) -> ImageCache:
        """Return the cache as a new process sees it."""
        return ImageCache(self.folder, limit_bytes)

    def get(self, rows: Sequence[int] | None = None, *, cache: ImageCache | None = None, block: int = 5) -> Array:
        rows = range(len(self.ids)) if rows is None else rows
        images = CachedImages(cache or self.cache(), [self.ids[i] for i in rows], [self.paths[i] for i in rows])
        assert len(images) == len(rows)
        return stacked(images.blocks(SIZE, block=block, workers=2), len(rows))

    def right(self, rows: Sequence[int] | None = None, *, cache: ImageCache | None = None, block: int = 5) -> bool:
        return bool(
            (self.get(rows, cache=cache, block=block) == self.truth[slice(None) if rows is None else rows]).all()
        )

    def lose_sources(self) -> None:
        """Whatever is decoded after this, fails."""
        for path in self.paths:
            path.write_bytes(b"")

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files())

    def stored(self) -> list[bool]:
        """Return which images are in the cache, found out without their sources."""
        present = []
        for sample_id in self.ids:
            images = CachedImages(self.cache(), [sample_id], [self.folder / "nowhere.png"])
            with contextlib.suppress(ImageError):
                list(images.blocks(SIZE))
                present.append(True)
                continue
            present.append(False)
        return present


def flip(path: Path, at: int) -> None:
    """Turn one bit of a byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
