"""Artifacts in a bucket: what several machines share, of which each has a copy in its AL_HOME.

A file is in the bucket before it has its name in the copy, and leaves the bucket first; so the bucket has all that
somebody has been told is there, whichever machine dies. Each machine takes over what others have written or deleted
when it looks. Of two that write the same file the later one stays, as in a folder.

Which version of an object a copy is, is told by the nanoseconds of the file's time, made from the object's etag.
"""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import AT_A_TIME, Place
from al_pipeline.core.errors import FileError, InputError
from al_pipeline.core.files import TEMPORARY, written_here

# Never in the bucket: the state of a network that is being trained, and a copy for this machine's memory.
OWN = ("refining", "image_pool.arrow")
# Kept in buckets by themselves, read there in parts (`Settings.embedding_store`).
FEATURES = "embedding_store"
# In the bucket: that artifacts lie here. In the copy: of which bucket it is one.
MARK, COPY_OF = ".al_pipeline_artifacts", ".bucket"
TEXT = b"al_pipeline keeps here what rounds write, for all machines of one deployment."
# Seconds for which a look holds: as often does the sensor look. Runs of others begin later than what they follow from.
FRESH = 5.0
# As exact as file systems are.
TICK_NS = 100


@dataclass
class ArtifactBucket:
    """The bucket of a folder of artifacts.

    Parameters
    ----------
    place : Place
    folder : Path
        The copy, absolute.
    """

    place: Place
    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _looked: float = field(default=float("-inf"), repr=False)

    def refresh(self) -> None:
        """Take over what others have written or deleted, if the last look is some seconds old.

        The first look of a machine at an empty place puts there what the folder has.

        Raises
        ------
        PlaceError
            The bucket is away.
        InputError
            Folder and bucket are not of one deployment: nothing was changed.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._looked < FRESH:
                return
            # In this order: what is made here meanwhile is not taken for what others have deleted.
            here = dict(self._here())
            there = {entry.key: entry for entry in self.place.entries()}
            if self._joined(here, there):
                shared = [entry for key, entry in there.items() if _shared(key)]
                with ThreadPoolExecutor(AT_A_TIME) as pool:
                    list(pool.map(self._fetch, (entry for entry in shared if here.get(entry.key) != _stamp(entry))))
                for key in here.keys() - there.keys():
                    self._forget(self.folder / key, here[key])
            self._looked = now

    def put(self, path: Path, content: Path) -> None:
        """Put what `content` holds into the bucket, as the file `path` of the folder; of it that is told then.

        Raises
        ------
        PlaceError
            It cannot be written; the object is as it was.
        """
        if key := self._key(path):
            self._tell(content, self.place.put(key, content.read_bytes()))

    def create(self, path: Path, text: str) -> bool:
        """Make a file that is in nobody's folder yet; return whether there was none. Errors are those of `put`."""
        entry = self.place.put(self._key(path), text.encode(), create=True)
        if entry is None:
            return False
        with written_here(path, "The file") as file:
            file.write_text(text)
            self._tell(file, entry)
        return True

    def delete(self, path: Path) -> None:
        """Delete the object of a file of the folder; errors are those of `put`."""
        if key := self._key(path):
            self.place.delete(key)

    def _key(self, path: Path) -> str:
        """Return the key of a file; "" of one that is not shared."""
        key = path.absolute().relative_to(self.folder).as_posix()
        return key if _shared(key) else ""

    def _here(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield the shared files of the folder, with what tells versions apart."""
        for at, folders, names in os.walk(self.folder):
            folder = Path(at)
            folders[:] = [name for name in folders if _shared((folder / name).relative_to(self.folder).as_posix())]
            for path in map(folder.__truediv__, names):
                key = path.relative_to(self.folder).as_posix()
                # Gone since.
                with suppress(FileNotFoundError):
                    if _shared(key):
                        yield key, _stamp_of(path)

    def _joined(self, here: dict[str, tuple[int, int]], there: dict[str, Entry]) -> bool:
        """Say whether folder and bucket were one before this look; else make them one."""
        mark = self.folder / COPY_OF
        known = mark.read_text().strip() == self.place.url if mark.exists() else False
        if known and MARK in there:
            return True
        if known:
            raise InputError(
                f"{self.place} (AL_ARTIFACTS) has lost what rounds have written, and {self.folder} is a copy of it. "
                f"Put it back; or, to fill the bucket from the copy, delete {mark}"
            )
        if MARK in there and here:
            raise InputError(
                f"{self.folder} has artifacts of its own, {min(here)} for one, and {self.place} (AL_ARTIFACTS) those "
                "of a deployment. Move the folder away, to go on with what the bucket has; or name an empty place"
            )
        if MARK not in there:
            if foreign := [key for key in there if _shared(key) and key not in here]:
                raise InputError(
                    f"{self.place} (AL_ARTIFACTS) holds something else, {min(foreign)} for one: name an empty place, "
                    "which nobody else writes to"
                )
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                list(pool.map(self._move_in, here))
            self.place.put(MARK, TEXT)
        with written_here(mark, "The mark of the bucket's copy") as file:
            file.write_text(self.place.url)
        return MARK in there

    def _move_in(self, key: str) -> None:
        path = self.folder / key
        self.put(path, path)

    def _fetch(self, entry: Entry) -> None:
        try:
            found = self.place.read(entry.key)
        except FileNotFoundError:
            # Deleted since.
            return
        with written_here(self.folder / entry.key, "The copy of an artifact") as file:
            file.write_bytes(found.getvalue())
            self._tell(file, found.entry)

    def _forget(self, path: Path, stamp: tuple[int, int]) -> None:
        with suppress(FileNotFoundError):
            if _stamp_of(path) == stamp:
                path.unlink()

    def _tell(self, file: Path, entry: Entry) -> None:
        """Have a file's time say which version it is."""
        moment = entry.modified_ns // 10**9 * 10**9 + _stamp(entry)[0]
        try:
            os.utime(file, ns=(moment, moment))
        except OSError as error:
            raise FileError(
                f"{file}: its time cannot be set ({error.strerror}); artifacts in a bucket need it"
            ) from error


@lru_cache(maxsize=16)
def bucket_of(place: Place, folder: Path) -> ArtifactBucket:
    """Return the bucket of a folder, which a process has once."""
    return ArtifactBucket(place, folder)


def _shared(key: str) -> bool:
    return not (
        key.partition("/")[0] in (*OWN, FEATURES) or key.rpartition("/")[2][:1] == "." or key.endswith(TEMPORARY)
    )


def _stamp(entry: Entry) -> tuple[int, int]:
    """Return what tells the versions of an object apart: nanoseconds that its copies have, and its size."""
    return entry.stamp % (10**9 // TICK_NS) * TICK_NS, entry.size


def _stamp_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns % 10**9 // TICK_NS * TICK_NS, status.st_size
