"""The files that shards of vectors lie in: of a folder, or objects of a place in a bucket."""

import contextlib
import io
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy.typing as npt

from al_pipeline.core.data.places import Parts, Place
from al_pipeline.core.data.row_file import Ids, RowFile
from al_pipeline.core.errors import InputError, PlaceError

WHAT = "The embeddings (AL_EMBEDDINGS)"
# A file may change twice within what its time of change tells apart: only of older ones it is known.
_SETTLED_NS = 10**9


class InFolder:
    """Files of a local folder, which need not be there.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of all files, but for hidden ones."""
        try:
            # Not as paths: that takes longer than all else, and streaming lists for every block.
            return [entry.name for entry in os.scandir(self._folder) if entry.name[0] != "."]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read parts of it."""
        return (self._folder / name).open("rb")

    def write(self, kind: RowFile, name: str, width: int, ids: Ids, blocks: Sequence[npt.NDArray]) -> None:
        """Write a file, whole or not at all; InputError if that cannot be."""
        kind.write(self._folder / name, WHAT, width, ids, blocks, InputError)

    def rename(self, name: str, to: str) -> None:
        """Give a file another name."""
        (self._folder / name).rename(self._folder / to)

    def delete(self, name: str) -> None:
        """Delete a file."""
        (self._folder / name).unlink()

    def version(self, file: IO[bytes]) -> tuple[object, ...] | None:
        """Return what is another once an open file's content has changed; None while nobody can know."""
        status = os.fstat(file.fileno())
        if time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


class InBucket:
    """Objects of a place in a bucket; methods are those of `InFolder`, and a bucket that is away is a PlaceError.

    Parameters
    ----------
    place : Place
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def names(self) -> list[str]:
        """Return the names of all objects."""
        with self._named():
            return [entry.key for entry in self._place.entries() if entry.key[0] != "." and "/" not in entry.key]

    def open(self, name: str) -> IO[bytes]:
        """Open an object to read parts of it."""
        with self._named():
            return self._place.open(name)

    def write(self, kind: RowFile, name: str, width: int, ids: Ids, blocks: Sequence[npt.NDArray]) -> None:
        """Write an object, whole or not at all."""
        with self._named():
            self._place.put(name, b"".join(kind.pieces(width, ids, blocks)))

    def rename(self, name: str, to: str) -> None:
        """Give an object another name."""
        self._place.rename(name, to)

    def delete(self, name: str) -> None:
        """Delete an object."""
        self._place.delete(name)

    def version(self, file: IO[bytes]) -> tuple[object, ...] | None:
        """Return what is another once an open object's content has changed; None where nobody can know."""
        assert isinstance(file, io.BufferedReader)
        assert isinstance(file.raw, Parts)
        entry = file.raw.entry
        return (entry.etag, entry.size) if entry.etag else None

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except PlaceError as error:
            raise PlaceError(
                f"The embeddings cannot be kept in {self._place} ({error}). Mend that, or set AL_EMBEDDINGS to a folder"
            ) from None
