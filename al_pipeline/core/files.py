"""Files that are written whole or not at all, secrets for their owner's eyes alone, and the folder they lie in.

What is in a folder may be kept elsewhere too (`keep_also`): then it is there first.
"""

import contextlib
import os
import secrets
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from al_pipeline.core.errors import ALError, FileError

# Ends the names of files that are being written; what a killed process leaves is told from everything else by it.
TEMPORARY = ".part"


class Keeper(Protocol):
    """What keeps the files of a folder elsewhere too; where it cannot, it raises, and nothing is done here either."""

    def put(self, path: Path, content: Path) -> None:
        """Keep what the file `content` holds, which gets the name `path` then."""

    def create(self, path: Path, text: str) -> bool:
        """Make a file, elsewhere and here, if nobody has; return whether nobody had."""
        ...

    def delete(self, path: Path) -> None:
        """Keep a file no longer."""

    def fetch(self, path: Path) -> None:
        """Have the content of a file here, of which there may be but an empty one."""


_KEEPERS = dict[Path, Keeper]()


def keep_also(folder: Path, keeper: Keeper) -> None:
    """Have what this process writes into a folder, or deletes there, kept elsewhere too."""
    _KEEPERS[folder.absolute()] = keeper


def _keeper(path: Path) -> Keeper | None:
    if not _KEEPERS:
        return None
    whole = path.absolute()
    return next((keeper for folder, keeper in _KEEPERS.items() if whole.is_relative_to(folder)), None)


@contextlib.contextmanager
def whole_file(
    path: Path, what: str, *, error: type[ALError] = FileError, mode: int = 0o666, sync: bool = True
) -> Iterator[Path]:
    """Give a temporary file beside `path`, which gets its name if all went well: first where it is kept elsewhere.

    Parameters and errors are those of `written_here`, and those of the keeper.
    """
    with written_here(path, what, error=error, mode=mode, sync=sync) as temporary:
        yield temporary
        if keeper := _keeper(path):
            keeper.put(path, temporary)


def create_file(path: Path, text: str) -> bool:
    """Make a file if there is none, whoever tries it at once; return whether there was none."""
    if keeper := _keeper(path):
        return keeper.create(path, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def content(path: Path) -> Path:
    """Return a path that is about to be read, once what is kept elsewhere is in its file."""
    if keeper := _keeper(path):
        keeper.fetch(path)
    return path


def delete_file(path: Path) -> None:
    """Delete a file, whether there is one or not; where it is kept elsewhere, there first."""
    if keeper := _keeper(path):
        keeper.delete(path)
    path.unlink(missing_ok=True)


def delete_folder(folder: Path) -> None:
    """Delete a folder as far as that can be done, its files as by `delete_file`."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        delete_file(path)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def written_here(
    path: Path, what: str, *, error: type[ALError] = FileError, mode: int = 0o666, sync: bool = True
) -> Iterator[Path]:
    """Give a temporary file beside `path`, and rename it there if all went well; else it goes and an old one stays.

    What cannot be written is known at the start, before any work that the file is to hold. Readers see the old file or
    the new one, and of a process that is killed a hidden file stays at most.

    Parameters
    ----------
    path : Path
        Its folder is made if there is none.
    what : str
        Begins the sentence of an error: "The model".
    error : type, optional
        What is raised.
    mode : int
        Permissions that the file has from its first byte on, less what the umask takes away.
    sync : bool
        Have the file on the disk before it gets its name: then it is whole after a power failure too.

    Raises
    ------
    FileError, or `error`
        The operating system refuses, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(mode, exist_ok=False)
        yield temporary
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as problem:
        raise error(
            f"{what} {path.absolute()} could not be written: {problem.strerror or problem}. Make room, mend the "
            "folder's permissions or name another path; an earlier file of that name is unchanged"
        ) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def private_folder(path: Path) -> None:
    """Make a folder that its owner alone may look into; one that is there stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file whole, readable by its owner alone from its first byte on."""
    with whole_file(path, "The private file", mode=0o600) as file:
        file.write_text(text)


def kept_secret(path: Path) -> str:
    """Return the secret that the file keeps, drawn at random at the first call."""
    if path.exists() and (known := path.read_text().strip()):
        return known
    drawn = secrets.token_urlsafe(32)
    write_private(path, drawn)
    return drawn
