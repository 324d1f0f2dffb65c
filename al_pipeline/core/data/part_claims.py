"""Which process computes which part of a pool: several, on one machine or many, share no more than a folder or bucket.

A claim is a small file that only one process can make. Who finds one asks whether its holder lives: of a process of
this machine the operating system knows, and of all others their beat tells, a file that they write anew every few
seconds. No two clocks are compared: a holder is dead once its beat stands still for `DEAD_SECONDS` of who waits.

What a dead process has claimed is not deleted, because who deletes what somebody else has taken over by then would have
two at work. Whoever takes it over makes the file that is called after the claim and its holder, and so on.

A claim saves work and decides nothing: two that hold the same part compute the same, and store it twice.
"""

import os
import platform
import threading
import time
import uuid
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

from al_pipeline.core.data.places import AT_A_TIME, Place
from al_pipeline.core.errors import InputError, PlaceError

# How often a holder tells that it lives, and after how long a silence it does not. Of a process on this machine that
# is known at once.
BEAT_SECONDS, DEAD_SECONDS = 10.0, 60.0
# Holders in this process: one that ended while the bucket was away has left its claims.
_living: set[str] = set()
# Hidden: shards have no such names.
CLAIM, HOLDER = ".claim.", ".holder."


class PartClaims:
    """The claims of this process on parts; a context, at whose end all of them are given back.

    Parameters
    ----------
    folder : Path or Place
        Where what is computed is kept.
    """

    def __init__(self, folder: Path | Place) -> None:
        self._files = _Objects(folder) if isinstance(folder, Place) else _Files(folder)
        self._me, self._machine = uuid.uuid4().hex, _machine()
        #: By part, the file of each claim.
        self._held: dict[str, str] = {}
        # Of others, what their beat was and since when it is that.
        self._beats: dict[str, tuple[bytes | None, float]] = {}
        self._stop, self._beating = threading.Event(), threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "PartClaims":
        _living.add(self._me)
        self._tell(0)
        self._beating.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._beating.join()
        _living.discard(self._me)
        # Whoever cannot tell that it is through is dead soon.
        with suppress(OSError, PlaceError):
            self.give_back(list(self._held))
            self._files.delete(HOLDER + self._me)

    def take(self, parts: Iterable[str]) -> set[str]:
        """Claim parts; return those that are this process's now, the others being somebody else's.

        Raises
        ------
        InputError, PlaceError
            Nothing can be written where the claims are.
        """
        wanted = list(parts)
        if isinstance(self._files, _Objects):
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                taken = list(pool.map(self._take, wanted))
        else:
            taken = list(map(self._take, wanted))
        return {part for part, mine in zip(wanted, taken, strict=True) if mine}

    def give_back(self, parts: Collection[str]) -> None:
        """Let others have them: all of it that was to be stored is."""
        for part in parts:
            name = self._held.pop(part)
            # Who has taken this process for dead goes by the file.
            if self._files.read(f"{name}.{self._me}") is None:
                self._files.delete(name)

    def _take(self, part: str) -> bool:
        name = CLAIM + part
        while True:
            if self._files.create(name, self._me.encode()):
                self._held[part] = name
                return True
            if (found := self._files.read(name)) is None:
                # Given back in between.
                continue
            holder = found.decode()
            if self._files.read(following := f"{name}.{holder}") is None and not self._dead(name, holder):
                return False
            name = following

    def _dead(self, name: str, holder: str) -> bool:
        """Say whether the holder of a claim will do nothing about it any more; for all to know, its beat is deleted."""
        # Of a claim that is being made nobody can read yet whose it is.
        beat, now = (self._files.read(HOLDER + holder) if holder else b""), time.monotonic()
        if beat is None:
            # Given back meanwhile, or what a dead one has left.
            return self._files.read(name) == holder.encode()
        before, since = self._beats.get(holder or name, (None, now))
        if before != beat:
            self._beats[holder or name] = beat, since = beat, now
        if not _ended(beat.decode(), self._machine, holder) and now - since < DEAD_SECONDS:
            return False
        self._files.delete(HOLDER + holder)
        return True

    def _beat(self) -> None:
        number = 0
        while not self._stop.wait(BEAT_SECONDS):
            number += 1
            # A bucket that is away now may be there for the next one.
            with suppress(InputError, PlaceError):
                self._tell(number)

    def _tell(self, number: int) -> None:
        process = psutil.Process()
        self._files.write(HOLDER + self._me, f"{self._machine} {process.pid} {process.create_time()} {number}".encode())


def _machine() -> str:
    """Return what names the machine, or container, that process numbers are of."""
    try:
        processes = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    except OSError:
        processes = 0
    return f"{platform.node().replace(' ', '-')}-{uuid.getnode():x}-{processes}"


def _ended(beat: str, here: str, holder: str) -> bool:
    """Say whether a beat is that of a holder on this machine that has ended; of others it is not known."""
    try:
        machine, pid, created, _ = beat.split(" ")
        if machine != here:
            return False
        process = psutil.Process(int(pid))
        if process.pid == os.getpid() and process.create_time() == float(created):
            return holder not in _living
        return process.create_time() != float(created) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


class _Files:
    """Small files of a folder, which is made with the first one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, name: str, data: bytes) -> bool:
        """Make a file if there is none; say whether it was made."""
        return self._put(name, data, "xb")

    def write(self, name: str, data: bytes) -> None:
        """Write a file, anew if there is one."""
        self._put(name, data, "wb")

    def _put(self, name: str, data: bytes, mode: str) -> bool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / name).open(mode) as file:
                file.write(data)
        except FileExistsError:
            if (self._folder / name).is_file():
                return False
            raise self._refused("a file is in its way") from None
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from error
        return True

    def _refused(self, why: str) -> InputError:
        return InputError(
            f"The embeddings (AL_EMBEDDINGS) in {self._folder.absolute()} could not be written: {why}. Make room, "
            "mend the folder's permissions or name another one"
        )

    def read(self, name: str) -> bytes | None:
        """Return what a file holds; None if there is none."""
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, name: str) -> None:
        """Delete a file, whether there is one or not."""
        (self._folder / name).unlink(missing_ok=True)


class _Objects:
    """Small objects of a place in a bucket; methods are those of `_Files`."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def create(self, name: str, data: bytes) -> bool:
        """Make an object if there is none; say whether it was made."""
        return self._place.put(name, data, create=True) is not None

    def write(self, name: str, data: bytes) -> None:
        """Write an object, anew if there is one."""
        self._place.put(name, data)

    def read(self, name: str) -> bytes | None:
        """Return what an object holds; None if there is none."""
        try:
            return self._place.read(name).getvalue()
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Delete an object, whether there is one or not."""
        self._place.delete(name)
