"""Artifacts in a bucket: what several machines share, of which each has a copy in its AL_HOME.

A file is in the bucket before it has its name in the copy, and leaves the bucket first; so the bucket has all that
somebody has been told is there, whichever machine dies. Each machine takes over what others have written or deleted
when it looks; of networks an empty file, until somebody reads it. Of two that write the same file the later one stays,
as in a folder. A file that somebody has put into a copy by hand is put into the bucket at the next look.

Which version of an object a copy is, is told by the nanoseconds of the file's time, made from the object's etag.
"""

import os
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import AT_A_TIME, Place
from al_pipeline.core.errors import FileError, InputError, PlaceError
from al_pipeline.core.files import TEMPORARY, written_here

# Made by each machine for its own memory.
OWN = "image_pool.arrow"
# Kept in buckets by themselves, read there in parts (`Settings.embedding_store`).
FEATURES = "embedding_store"
# Networks, of which a machine reads few.
LARGE = (".safetensors", ".pt")
# In the bucket: whose artifacts these are; an empty object for each file that was deleted. In the copy: of which bucket
# it is one.
MARK, GONE, COPY_OF = ".al_pipeline_artifacts", ".gone", ".bucket"
TEXT = "al_pipeline keeps here what rounds write, for all machines of one deployment."
# Seconds for which a look holds: as often does the sensor look. Runs of others begin later than what they follow from.
FRESH = 5.0
# As exact as file systems are.
TICK_NS = 100
# By which clocks may differ.
LATE_NS = 30 * 10**9
# What tells versions of a file apart: nanoseconds of its time, and bytes.
Stamp = tuple[int, int]


class _SupersededError(Exception):
    """Nothing is to be taken over."""


@dataclass
class ArtifactBucket:
    """The bucket of a folder of artifacts.

    Parameters
    ----------
    place : Place
    folder : Path
        The copy, absolute.
    ours : bool
        Whether somebody has looked whose it is.
    """

    place: Place
    folder: Path
    ours: bool = False
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
            with _told():
                # In this order: what is made here meanwhile is not taken for what others have deleted.
                here = dict(self._here())
                there = {entry.key: entry for entry in self.place.entries()}
                if self._joined(here, there):
                    self._take_over(here, there)
                    self._give(here, here.keys() - there.keys())
            self._looked = now

    def owner(self) -> str | None:
        """Return the identity that `own` has given; None of a bucket that has none yet. Errors are those of `put`."""
        with _told():
            try:
                _, _, identity = self.place.read(MARK).getvalue().decode().partition("\n")
            except FileNotFoundError:
                return None
        return identity.strip() or None

    def own(self, identity: str) -> None:
        """Write down whose artifacts these are; errors are those of `put`."""
        self.place.put(MARK, f"{TEXT}\n{identity}".encode())

    def put(self, path: Path, content: Path) -> None:
        """Put what `content` holds into the bucket, as the file `path` of the folder; of it that is told then.

        Raises
        ------
        PlaceError
            It cannot be written; the object is as it was.
        """
        if key := self._key(path):
            entry = self.place.put(key, content.read_bytes())
            assert entry is not None
            self._tell(content, entry)

    def create(self, path: Path, text: str) -> bool:
        """Make a file that is in nobody's folder yet; return whether there was none. Errors are those of `put`."""
        key = self._key(path)
        entry = self.place.put(key, text.encode(), create=True)
        if entry is None:
            # Who has it is of interest now.
            self._fetch(Entry(key, 0, 0, ""), None)
            return False
        with written_here(path, "The file") as file:
            file.write_text(text)
            self._tell(file, entry)
        return True

    def delete(self, path: Path) -> None:
        """Delete the object of a file of the folder; errors are those of `put`."""
        if key := self._key(path):
            with _told():
                # First: where it is gone others have to know that theirs was not made by hand.
                self.place.put(f"{GONE}/{key}", b"")
                self.place.delete(key)

    def fetch(self, path: Path) -> None:
        """Have the content of a network that is in the bucket; errors are those of `put`."""
        if (key := self._key(path)) and key.endswith(LARGE):
            with suppress(FileNotFoundError):
                if path.stat().st_size == 0:
                    self._fetch(Entry(key, 0, 0, ""), _stamp_of(path), whole=True)

    def _key(self, path: Path) -> str:
        """Return the key of a file; "" of one that is not shared."""
        key = path.absolute().relative_to(self.folder).as_posix()
        return key if _shared(key) else ""

    def _here(self) -> Iterator[tuple[str, Stamp]]:
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

    def _joined(self, here: dict[str, Stamp], there: dict[str, Entry]) -> bool:
        """Say whether folder and bucket were one before this look; else make them one."""
        mark = self.folder / COPY_OF
        known = mark.exists() and mark.read_text().strip() == self.place.url
        if known and MARK in there:
            return True
        if known:
            raise InputError(
                f"{self.place} (AL_ARTIFACTS) has lost what rounds have written, and {self.folder} is a copy of it. "
                f"Put it back; or, to fill the bucket from the copy, delete {mark}"
            )
        if MARK in there and here:
            raise InputError(
                f"{self.folder} has artifacts of its own, such as {min(here)!r}, and {self.place} (AL_ARTIFACTS) those "
                "of a deployment. Move the folder away, to go on with what the bucket has; or name an empty place"
            )
        if MARK not in there:
            if foreign := [key for key in there if _shared(key) and key not in here]:
                raise InputError(
                    f"{self.place} (AL_ARTIFACTS) holds something else, such as {min(foreign)!r}: name an empty place, "
                    "which nobody else writes to"
                )
            if lacking := [key for key in here if _is_empty(key, here[key])]:
                raise InputError(
                    f"{self.folder} lacks the content of networks, such as {min(lacking)!r}, which was never read on "
                    "this machine: copy them there from the bucket of before, or delete these files to go on without"
                )
            self._give(here, here)
            self.place.put(MARK, TEXT.encode(), create=True)
        with written_here(mark, "The mark of the bucket's copy") as file:
            file.write_text(self.place.url)
        return MARK in there

    def _take_over(self, here: dict[str, Stamp], there: dict[str, Entry]) -> None:
        """Have what is new in the bucket."""
        new = [each for key, each in there.items() if _shared(key) and not _is(here.get(key), each)]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(lambda entry: self._fetch(entry, here.get(entry.key)), new))

    def _give(self, here: dict[str, Stamp], keys: Collection[str]) -> None:
        """Put files into the bucket that it lacks; those that others have deleted leave the folder."""
        if not keys:
            return
        # Listed once more: whoever deletes says so first.
        gone = {entry.key: entry.modified_ns for entry in (self.place / GONE).entries()}

        def one(key: str) -> None:
            path = self.folder / key
            with suppress(FileNotFoundError):
                if _stamp_of(path) != here[key]:
                    return
                # A copy is older than what deletes it. Of a network that was never read there is nothing to give.
                old = path.stat().st_mtime_ns <= gone.get(key, -LATE_NS) + LATE_NS
                if old or _is_empty(key, here[key]):
                    path.unlink()
                    return
                entry = self.place.put(key, path.read_bytes(), create=True)
                if entry is not None and _stamp_of(path) == here[key]:
                    self._tell(path, entry)

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(one, keys))

    def _fetch(self, entry: Entry, before: Stamp | None, *, whole: bool = False) -> None:
        """Have a file here as the bucket has it, unless it is not any more what it was here `before`."""
        path = self.folder / entry.key
        with _told(), suppress(_SupersededError), written_here(path, "The copy of an artifact") as file:
            if whole or not entry.key.endswith(LARGE):
                try:
                    entry = self.place.save(entry.key, file)
                except FileNotFoundError:
                    # Deleted since.
                    raise _SupersededError from None
            self._tell(file, entry)
            if (_stamp_of(path) if path.exists() else None) != before:
                # Written here meanwhile, by a process that has put it into the bucket first.
                raise _SupersededError

    def _tell(self, file: Path, entry: Entry) -> None:
        """Have a file's time say which version it is."""
        version, _ = _stamp(entry)
        moment = entry.modified_ns // 10**9 * 10**9 + version
        os.utime(file, ns=(moment, moment))
        if _stamp_of(file)[0] != version:
            raise FileError(
                f"The file system of {self.folder} keeps no times below a second, by which copies of artifacts in a "
                "bucket are told apart: name an AL_HOME elsewhere, or take AL_ARTIFACTS back"
            )


@lru_cache(maxsize=16)
def bucket_of(place: Place, folder: Path) -> ArtifactBucket:
    """Return the bucket of a folder, which a process has once."""
    return ArtifactBucket(place, folder)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what is wrong with an object as what is wrong with the bucket is; of one that is not there, that."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PlaceError(f"{error.filename} (AL_ARTIFACTS) cannot be used: {error.strerror}") from error


def _shared(key: str) -> bool:
    return not (
        key == OWN
        or key.partition("/")[0] == FEATURES
        or any(part[:1] == "." for part in key.split("/"))
        or key.endswith(TEMPORARY)
    )


def _stamp(entry: Entry) -> Stamp:
    return entry.stamp % (10**9 // TICK_NS) * TICK_NS, entry.size


def _stamp_of(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns % 10**9 // TICK_NS * TICK_NS, status.st_size


def _is(here: Stamp | None, entry: Entry) -> bool:
    """Say whether a file is this version; of a network also where its content is not here."""
    version, size = _stamp(entry)
    return here is not None and here[0] == version and (here[1] == size or _is_empty(entry.key, here))


def _is_empty(key: str, here: Stamp) -> bool:
    """Say whether a file is but the place of a network's content."""
    return not here[1] and key.endswith(LARGE)
