"""Decode once: squares of pixels on disk, found by sample id, bounded in bytes, safe to share and to kill.

A folder per size, framing and way of reading holds block files of up to 256 images. A block file is written under
another name and renamed when it is whole; after that it is only replaced by its like or deleted. So processes share a
cache without locks, and one that is killed leaves nothing half-written under a name that is read.

Nothing is synced to disk, and nothing read is trusted: every image is checked against its checksum each time, in the
threads that read it (0.06 ms for 224 px, where decoding takes 1.5 ms). What does not agree is deleted, decoded again
and stored again.

Files are read, not mapped: the pixels are copied anyhow, and where a mapped file that shrinks, or a bad disk, ends the
process with SIGBUS, a read ends with an error that can be handled. Files that stay open count against no limit either.
"""

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Collection, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data import block_file
from al_pipeline.core.data.ahead import Ahead
from al_pipeline.core.data.block_file import FILE, DamagedError, Pixels
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.images import ImagePath, decode, decode_next, iter_blocks, read_ahead
from al_pipeline.core.errors import FileError, InputError
from al_pipeline.core.files import TEMPORARY

# Version of what `images.decode` does: raise it whenever the same file would give other pixels.
PREPROCESSING = 3

_log = logging.getLogger(__name__)

# File and row of images that are stored, by their position among those asked for.
Places = dict[int, tuple[str, int]]
_ID = re.compile(r"[0-9a-f]{32}")

# 256 images of 224 px are 38 MB: long enough to read at the disk's speed, short enough to lose.
_IMAGES_PER_FILE = 256
# A block often is one file: several threads share it.
_IMAGES_PER_READ = 32
# Nobody takes an hour to write one block file: whoever left it is dead.
_ABANDONED_SECONDS = 3600.0


class ImageCache:
    """Decoded images of any size, in a folder that may be deleted at any time and used by several processes at once.

    Parameters
    ----------
    folder : Path
        Made when the first image is stored.
    limit_bytes : int
        Size that all of the block files together may have; 0 stores nothing. Room is made by deleting the files that
        have not been used for the longest time. Files that hold an image of the request being served are not deleted
        for its other images: of a request larger than the limit, one part stays stored, instead of each part pushing
        out the one that is needed next.

    Raises
    ------
    InputError
        The limit is negative.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise InputError(f"the image cache {folder} got a limit of {limit_bytes} bytes: give 0 or more")
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._shelves: dict[str, _Shelf] = {}
        self._lock = threading.Lock()
        self._writable = True

    def blocks(
        self,
        sample_ids: Sequence[str],
        paths: Sequence[ImagePath],
        size: int,
        *,
        framing: str,
        how: HowRead = AS_EVER,
        block: int,
        workers: int | None,
    ) -> Generator[tuple[int, Pixels]]:
        """Yield blocks of images; see `CachedImages.blocks`."""
        if not self.limit_bytes:
            self._make_room(0)
            yield from iter_blocks(paths, size, framing=framing, how=how, block=block, workers=workers)
            return
        shelf = self._shelf(size, framing, how)
        shelf.refresh()
        kept = shelf.files_with(sample_ids)
        for path in kept:
            # Used now.
            with contextlib.suppress(OSError):
                os.utime(path)
        self._make_room(0)
        new: dict[str, Pixels] = {}
        begin = partial(shelf.begin, sample_ids, paths)
        try:
            for start, (pixels, places), decoded in read_ahead(len(paths), begin, block=block, workers=workers):
                # Other images of a file that turned out damaged went with it.
                lost = [i for i, (name, _) in places.items() if not shelf.has(name)]
                # Copied before the caller has the block, who may write into it.
                new.update((sample_ids[start + i], pixels[i].copy()) for i in sorted({*chain(*decoded), *lost}))
                while len(new) >= _IMAGES_PER_FILE:
                    self._store(shelf, new, kept)
                yield start, pixels
        finally:
            while new:
                self._store(shelf, new, kept)

    def stored(self, sample_ids: Sequence[str], size: int, framing: str = "crop", how: HowRead = AS_EVER) -> set[str]:
        """Return which of the images are stored as such squares, as far as a look at the files' tables tells."""
        if not self.limit_bytes:
            return set()
        shelf = self._shelf(size, framing, how)
        shelf.refresh()
        return shelf.known(sample_ids)

    def _shelf(self, size: int, framing: str, how: HowRead) -> "_Shelf":
        name = f"{seen_as(size, framing, how)}-v{PREPROCESSING}"
        with self._lock:
            return self._shelves.setdefault(name, _Shelf(self.folder / name, size, framing, how))

    def _store(self, shelf: "_Shelf", new: dict[str, Pixels], kept: set[Path]) -> None:
        """Write the next file of new images, if there is room for it without deleting what is kept."""
        images = {i: new.pop(i) for i in list(new)[:_IMAGES_PER_FILE]}
        if not self._writable or not self._make_room(block_file.file_bytes(len(images), shelf.size), kept):
            return
        try:
            path = block_file.write(shelf.folder, shelf.size, images)
        except FileError as error:
            self._writable = False
            _log.warning(
                "The image cache %s cannot be written (%s): images are decoded again each time. "
                "Free disk space, or make it a folder that this user may write to; it can be deleted at any time",
                self.folder,
                error.__cause__,
            )
            return
        kept.add(path)
        if self._make_room(0, kept):
            shelf.add(path.name, images)
        else:
            # Another process has filled the room in the meantime.
            _delete(path)

    def _make_room(self, needed: int, kept: Collection[Path] = ()) -> bool:
        """Delete the least recently used files, until `needed` bytes are free; return whether they are."""
        files: list[tuple[float, int, Path]] = []
        fixed = 0
        for path, status in _files(self.folder):
            if path.suffix == TEMPORARY and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                _delete(path)
            elif path.suffix == TEMPORARY or path in kept:
                fixed += status.st_size
            else:
                files.append((status.st_mtime, status.st_size, path))
        if needed and fixed + needed > self.limit_bytes:
            return False
        excess = fixed + sum(size for _, size, _ in files) + needed - self.limit_bytes
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            if _delete(path):
                excess -= size
        return excess <= 0


@dataclass(frozen=True)
class CachedImages:
    """Images that are decoded once, and found in a cache after that.

    Parameters
    ----------
    cache : ImageCache
    sample_ids : sequence of str, length n
        32 lowercase hexadecimal digits each: they name the content, so equal ids are equal images.
    paths : sequence of path-like, length n
    how : HowRead
        As files are read unless `blocks` is told otherwise.

    Raises
    ------
    InputError
        Ids and paths differ in number, or an id is of another form.
    """

    cache: ImageCache
    sample_ids: Sequence[str]
    paths: Sequence[ImagePath]
    how: HowRead = AS_EVER

    def __post_init__(self) -> None:
        if len(self.sample_ids) != len(self.paths):
            raise InputError(
                f"cached images got {len(self.sample_ids)} sample ids for {len(self.paths)} paths: give one per image"
            )
        for sample_id in self.sample_ids:
            if not (isinstance(sample_id, str) and _ID.fullmatch(sample_id)):
                raise InputError(
                    f"{sample_id!r} is no sample id: take those of the image pool's manifest, "
                    "of 32 lowercase hexadecimal digits"
                )

    def __len__(self) -> int:
        return len(self.paths)

    def blocks(
        self,
        size: int,
        *,
        framing: str = "crop",
        how: HowRead | None = None,
        block: int = 256,
        workers: int | None = None,
    ) -> Generator[tuple[int, npt.NDArray[np.uint8]]]:
        """Read or decode the images in blocks; parameters, blocks and errors are those of `images.iter_blocks`.

        What is decoded is stored whenever 256 images have come together, and at the end, also if the caller stops
        early or a file cannot be decoded; up to 256 images wait in memory, beside two blocks. If the cache cannot be
        written, a warning is logged once. The pixels are the caller's own.
        """
        how = self.how if how is None else how
        ids, paths = self.sample_ids, self.paths
        return self.cache.blocks(ids, paths, size, framing=framing, how=how, block=block, workers=workers)


def image_blocks(
    images: Sequence[ImagePath] | CachedImages,
    size: int,
    *,
    framing: str = "crop",
    how: HowRead | None = None,
    block: int = 256,
    workers: int | None = None,
) -> Generator[tuple[int, npt.NDArray[np.uint8]]]:
    """Return the blocks of images, from their cache if they have one, else as `images.iter_blocks` decodes them."""
    if isinstance(images, CachedImages):
        return images.blocks(size, framing=framing, how=how, block=block, workers=workers)
    return iter_blocks(images, size, framing=framing, how=how or AS_EVER, block=block, workers=workers)


def how_of(images: Sequence[ImagePath] | CachedImages) -> HowRead:
    """Return how the files of images are read where nobody says otherwise."""
    return images.how if isinstance(images, CachedImages) else AS_EVER


def seen_as(size: int, framing: str, how: HowRead = AS_EVER) -> str:
    """Return what a folder of squares is called after; crops go without their name, as before there were others."""
    return "-".join(filter(None, [f"{size}", "" if framing == "crop" else framing, how.key]))


class _Shelf:
    """Which block file of its squares holds which image, as far as this process knows: a hint, checked when reading."""

    def __init__(self, folder: Path, size: int, framing: str, how: HowRead) -> None:
        self.folder, self.size, self.how = folder, size, how
        self.framing = framing
        self._places: dict[str, tuple[str, int]] = {}
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Learn of files that others have written or deleted."""
        names = {name for name in _names(self.folder) if name.endswith(FILE)}
        with self._lock:
            gone, come = self._names - names, names - self._names
        self._forget(gone)
        for name in sorted(come):
            with self._absent_if_damaged(name), (self.folder / name).open("rb") as file:
                self.add(name, block_file.read_ids(file, self.size))

    def add(self, name: str, ids: Iterable[str]) -> None:
        with self._lock:
            self._names.add(name)
            self._places.update((sample_id, (name, row)) for row, sample_id in enumerate(ids))

    def files_with(self, ids: Iterable[str]) -> set[Path]:
        return {self.folder / name for name, _ in self._find(ids).values()}

    def known(self, ids: Iterable[str]) -> set[str]:
        with self._lock:
            return self._places.keys() & set(ids)

    def _find(self, ids: Iterable[str]) -> Places:
        with self._lock:
            return {i: self._places[sample_id] for i, sample_id in enumerate(ids) if sample_id in self._places}

    def has(self, name: str) -> bool:
        return name in self._names

    def begin(
        self, all_ids: Sequence[str], all_paths: Sequence[ImagePath], pool: ThreadPoolExecutor, rows: slice
    ) -> tuple[tuple[Pixels, Places], list[Future[Sequence[int]]]]:
        """Have images read and decoded by threads; return pixels to be filled, which are stored, and the tasks.

        A task returns the positions that it has decoded.
        """
        ids, paths = all_ids[rows], all_paths[rows]
        pixels = np.empty((len(ids), self.size, self.size, 3), dtype=np.uint8)
        places = self._find(ids)
        absent = [i for i in range(len(ids)) if i not in places]
        ahead = Ahead([paths[i] for i in absent])

        def decode_absent(row: int) -> Sequence[int]:
            pixels[absent[row]] = decode_next(ahead, row, self.size, self.framing, self.how)
            return [absent[row]]

        def decode_all(positions: Sequence[int]) -> Sequence[int]:
            for i in positions:
                pixels[i] = decode(paths[i], self.size, self.framing, self.how)
            return positions

        def read(name: str, wanted: Sequence[tuple[int, int]]) -> Sequence[int]:
            with self._absent_if_damaged(name), (self.folder / name).open("rb") as file:
                block_file.read(file, self.size, [(row, ids[i], pixels[i]) for row, i in wanted])
                return []
            return decode_all([i for _, i in wanted])

        by_file: dict[str, list[tuple[int, int]]] = {}
        for i, (name, row) in places.items():
            by_file.setdefault(name, []).append((row, i))
        tasks = [pool.submit(decode_absent, row) for row in range(len(absent))]
        for name, wanted in by_file.items():
            wanted.sort()
            starts = range(0, len(wanted), _IMAGES_PER_READ)
            tasks += [pool.submit(read, name, wanted[start : start + _IMAGES_PER_READ]) for start in starts]
        return (pixels, places), tasks

    @contextlib.contextmanager
    def _absent_if_damaged(self, name: str) -> Generator[None]:
        try:
            yield
        except DamagedError as error:
            self._forget({name})
            if _delete(self.folder / name):
                _log.warning("Deleted %s, it was damaged: %s. Its images are decoded again", self.folder / name, error)
        except OSError:
            # Deleted by another process, or on a disk that fails; the latter is told by what is written next.
            self._forget({name})

    def _forget(self, names: Collection[str]) -> None:
        if names:
            with self._lock:
                self._names.difference_update(names)
                self._places = {i: place for i, place in self._places.items() if place[0] not in names}


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        # Not there yet, or not to be read: nothing is stored in it.
        return []


def _files(root: Path) -> Generator[tuple[Path, os.stat_result]]:
    """Yield this cache's files of all sizes and framings, with their status."""
    for folder in _names(root):
        for name in _names(root / folder) if re.fullmatch(r"\d+(-[a-z]+)*(-\d+)?(-r[0-9a-f]+)?-v\d+", folder) else ():
            path = root / folder / name
            if path.suffix in (FILE, TEMPORARY):
                with contextlib.suppress(OSError):
                    yield path, path.stat()


def _delete(path: Path) -> bool:
    """Delete a file; return whether it was there and is gone."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
