"""Decode once: squares of pixels kept in memory-mapped files that any process may write, lose or damage."""

import contextlib
import hashlib
import logging
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError
from al_pipeline.core.images import ImagePath, decode, default_workers, iter_blocks

Pixels = npt.NDArray[np.uint8]

# Raise it when `images.decode` gives other pixels: what was cached by the old version is then left behind.
PREPROCESSING = 1
# Images per file: what a process that dies loses at most.
FILE_IMAGES = 256
MAGIC = b"ALPIXELS"
# Magic, number of images, side, checksum of the index. The index is ids (32 bytes each) and checksums (4 bytes each).
HEADER = struct.Struct("<8sIII")
ID_BYTES = 32
# Pixels begin at a multiple of it, so that they can be mapped and read without a copy.
ALIGN = 4096
# Temporary files that are older belong to writers that died.
ABANDONED_SECONDS = 3600

log = logging.getLogger(__name__)


class ImageCache:
    """A folder of decoded images, by sample id, size and version of the preprocessing.

    Files are written whole under a temporary name and never changed, so readers and writers of any number of processes
    need no locks. Each image has a checksum, which is verified when it is read first: what is damaged counts as absent,
    and is decoded and stored again. It can be deleted at any time.

    Parameters
    ----------
    folder : Path
        Made when it is first needed.
    limit_bytes : int
        Files that were not used for longest go when they take more together. 0 stores nothing.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise InputError(f"the image cache needs a limit of at least 0 bytes, not {limit_bytes} (AL_CACHE_GB)")
        self.folder, self.limit_bytes = folder, limit_bytes
        self._files: dict[Path, _File] = {}
        self._told = False

    def find(self, sample_ids: Sequence[str], size: int) -> "Found":
        """Look samples up in the files there are now."""
        folder = self._folder(size)
        present = {path for path in _listed(folder) if path.suffix == ".pixels"}
        for path in present - set(self._files):
            file = _File.read(path, size)
            if file is None:
                self._drop(path, "not a whole file of this size")
            else:
                self._files[path] = file
        wanted = set(sample_ids)
        places: dict[str, tuple[_File, int]] = {}
        for path, file in list(self._files.items()):
            if path.parent != folder:
                continue
            if path not in present:
                del self._files[path]
                continue
            rows = [(sample_id, (file, row)) for sample_id, row in file.rows.items() if sample_id in wanted]
            if rows:
                places.update(rows)
                # The last use decides which files go first.
                with contextlib.suppress(OSError):
                    os.utime(path)
        return Found(self, places)

    def store(self, pixels: dict[str, Pixels], size: int) -> None:
        """Keep decoded images, as one file; where that fails it is said once and they are decoded again next time."""
        if not pixels:
            return
        ids = sorted(pixels)
        data = _packed(ids, [pixels[i] for i in ids], size)
        if len(data) > self.limit_bytes:
            return
        folder = self._folder(size)
        name = hashlib.sha256("".join(ids).encode()).hexdigest()[:32]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(data))
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(temporary).replace(folder / f"{name}.pixels")
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            if not self._told:
                reason = error.strerror or error
                log.warning("Decoded images cannot be kept in %s (%s): make room, or lower AL_CACHE_GB", folder, reason)
                self._told = True

    def forget(self, file: "_File") -> None:
        """Remove a file in which an image is damaged."""
        self._files.pop(file.path, None)
        self._drop(file.path, "a checksum differs")

    def _folder(self, size: int) -> Path:
        return self.folder / f"{size}-v{PREPROCESSING}"

    def _drop(self, path: Path, reason: str) -> None:
        log.warning("The cached images in %s are damaged (%s): they are decoded again", path, reason)
        with contextlib.suppress(OSError):
            path.unlink()

    def _make_room(self, needed: int) -> None:
        """Remove what was not used for longest, and what dead writers left."""
        files, now = [], time.time()
        for folder in _listed(self.folder):
            for path in _listed(folder):
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    if path.suffix == ".tmp" and now - stat.st_mtime > ABANDONED_SECONDS:
                        path.unlink()
                    elif path.suffix == ".pixels":
                        files.append((stat.st_mtime_ns, stat.st_size, path))
        total = needed + sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.limit_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


@dataclass(frozen=True)
class Found:
    """Where cached samples are."""

    cache: ImageCache
    places: dict[str, tuple["_File", int]]

    def pixels(self, sample_id: str) -> Pixels | None:
        """Return a sample's pixels, read-only, or None if there are none that can be trusted."""
        place = self.places.get(sample_id)
        if place is None:
            return None
        file, row = place
        pixels = file.verified(row)
        if pixels is None:
            for damaged in [key for key, (other, _) in self.places.items() if other is file]:
                del self.places[damaged]
            self.cache.forget(file)
        return pixels


@dataclass(frozen=True)
class CachedImages:
    """Images by id, decoded once; usable wherever a sequence of paths is.

    Attributes
    ----------
    cache : ImageCache
    sample_ids : sequence of str, length n
        32 hex digits each, of the content: another image is another id.
    paths : sequence of path-like, length n
    """

    cache: ImageCache
    sample_ids: Sequence[str]
    paths: Sequence[ImagePath]

    def __post_init__(self) -> None:
        if len(self.sample_ids) != len(self.paths):
            raise InputError(f"there are {len(self.sample_ids)} sample ids but {len(self.paths)} paths")
        for sample_id in self.sample_ids:
            if len(sample_id) != ID_BYTES or set(sample_id) - set("0123456789abcdef"):
                raise InputError(f"{sample_id!r} is no sample id: it must be 32 hex digits, as `pool.scan` gives them")

    def __len__(self) -> int:
        return len(self.paths)

    def blocks(
        self, size: int, *, block: int = FILE_IMAGES, workers: int | None = None
    ) -> Generator[tuple[int, Pixels]]:
        """Yield the images in blocks, as `images.iter_blocks` does, decoding only those that are not cached."""
        found = self.cache.find(self.sample_ids, size)
        decoded: dict[str, Pixels] = {}
        with ThreadPoolExecutor(workers or default_workers()) as pool:
            try:
                following = self._begin(found, pool, 0, block, size)
                for start in range(0, len(self), block):
                    pixels, missing = following
                    for row, future in missing:
                        pixels[row] = future.result()
                        decoded[self.sample_ids[start + row]] = pixels[row]
                    following = self._begin(found, pool, start + block, block, size)
                    if len(decoded) >= FILE_IMAGES:
                        self.cache.store(decoded, size)
                        decoded = {}
                    yield start, pixels
            finally:
                # A caller that stops early, or a damaged image, must not wait for the rest of the block.
                pool.shutdown(wait=False, cancel_futures=True)
                self.cache.store(decoded, size)

    def _begin(
        self, found: Found, pool: ThreadPoolExecutor, start: int, block: int, size: int
    ) -> tuple[Pixels, list[tuple[int, Future[Pixels]]]]:
        """Copy what is cached, and let threads decode the rest."""
        ids = self.sample_ids[start : start + block]
        pixels, missing = np.empty((len(ids), size, size, 3), dtype=np.uint8), []
        for row, sample_id in enumerate(ids):
            cached = found.pixels(sample_id)
            if cached is None:
                missing.append((row, pool.submit(decode, self.paths[start + row], size)))
            else:
                pixels[row] = cached
        return pixels, missing


def image_blocks(
    images: Sequence[ImagePath] | CachedImages, size: int, *, block: int = FILE_IMAGES, workers: int | None = None
) -> Generator[tuple[int, Pixels]]:
    """Yield images in blocks: see `images.iter_blocks`, whose contract this is, with or without a cache."""
    if isinstance(images, CachedImages):
        return images.blocks(size, block=block, workers=workers)
    return iter_blocks(images, size, block=block, workers=workers)


@dataclass
class _File:
    """The index of one file, and its pixels as they lie on the disk."""

    path: Path
    rows: dict[str, int]
    checksums: npt.NDArray[np.uint32]
    pixels: Pixels
    trusted: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path, size: int) -> "_File | None":
        """Return None unless the file is whole and its index sound; its pixels are looked at later."""
        try:
            with path.open("rb") as file:
                magic, count, side, expected = HEADER.unpack(file.read(HEADER.size))
                index = file.read(count * (ID_BYTES + 4)) if side == size and magic == MAGIC else b""
            if not count or zlib.crc32(index) != expected:
                return None
            ids = [index[i * ID_BYTES : (i + 1) * ID_BYTES].decode() for i in range(count)]
            shape = (count, size, size, 3)
            pixels = np.memmap(path, np.uint8, "r", offset=_pixels_at(count), shape=shape)
        except (OSError, struct.error, ValueError):
            return None
        checksums = np.frombuffer(index, "<u4", offset=count * ID_BYTES)
        return cls(path, {sample_id: row for row, sample_id in enumerate(ids)}, checksums, pixels)

    def verified(self, row: int) -> Pixels | None:
        """Return an image, or None if its checksum differs; looked at once per process."""
        pixels = self.pixels[row]
        if row not in self.trusted:
            if zlib.crc32(pixels.data) != self.checksums[row]:
                return None
            self.trusted.add(row)
        return pixels


def _pixels_at(count: int) -> int:
    used = HEADER.size + count * (ID_BYTES + 4)
    return -(-used // ALIGN) * ALIGN


def _packed(ids: Sequence[str], pixels: Sequence[Pixels], size: int) -> bytes:
    """Return a file's content."""
    checksums = np.array([zlib.crc32(image.data) for image in pixels], dtype="<u4")
    index = "".join(ids).encode() + checksums.tobytes()
    head = HEADER.pack(MAGIC, len(ids), size, zlib.crc32(index)) + index
    return head.ljust(_pixels_at(len(ids)), b"\0") + b"".join(image.tobytes() for image in pixels)


def _listed(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing if it is not there, or a file."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []
