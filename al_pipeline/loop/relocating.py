"""A home in another place: moved there, or unpacked. It comes to be whole or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from al_pipeline.core.data.places import Root
from al_pipeline.core.errors import InputError
from al_pipeline.core.files import TEMPORARY, FileError, private_folder
from al_pipeline.loop.local import Servers
from al_pipeline.loop.packing import FORMAT, IMAGES, INDEX, LEDGER, PARTS, PUBLISHED
from al_pipeline.settings import Settings
from al_pipeline.settings.kept import rewrite
from al_pipeline.settings.origins import Name

# What an archive may hold. Others would be written into a home and trusted there.
ALLOWED = {*PARTS, LEDGER, IMAGES, PUBLISHED.split("/")[0], INDEX}
CHUNK = 1 << 20


def move(settings: Settings, target: Path) -> None:
    """Move a home whose servers are stopped, to the same disk or another, and mend the paths in it.

    It is linked or copied, mended, and named `target` at last; then the old one goes. Whatever ends it, one of the two
    is whole.

    Raises
    ------
    InputError
        It runs, there is none, or something is in the way.
    FileError
        The operating system refuses; the old home is as it was.
    """
    home, target = settings.home, target.expanduser().resolve()
    if not home.is_dir():
        raise InputError(f"There is no home {home} (--home, AL_HOME): name the one that `al up` made")
    last = Servers.last(settings)
    if last is not None and last.running:
        raise InputError(f"The servers of {home} run (process {last.pid}): stop them with Ctrl-C, then move it")
    if target.is_relative_to(home):
        raise InputError(f"{target} lies in the home {home} itself: name a place outside of it")
    with _new_home(target) as folder:
        shutil.copytree(home, folder, copy_function=_link_or_copy, symlinks=True, dirs_exist_ok=True)
        _mend(folder, home, target)
    # Not a home any more, whatever is left of it.
    left = home.with_name(f".{home.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    home.rename(left)
    shutil.rmtree(left, ignore_errors=True)


def unpack(
    file: Path, target: Path, *, images: Root | None = None, before: Callable[[Path], object] | None = None
) -> dict[str, Any]:
    """Make a home of an archive, and return what the archive says about itself.

    Parameters
    ----------
    file : Path
        As `loop.packing.pack` writes it.
    target : Path
        The new home: not there yet, or empty.
    images : Path or Place, optional
        Where the images lie here; by default those of the archive, or where they were.
    before : callable, optional
        Gets the folder with all that was unpacked before it becomes the home, and may raise.

    Raises
    ------
    InputError
        The archive is damaged, none of ours or not only of what `pack` writes, or the home is not empty.
    FileError
        The operating system refuses. No home is left then.
    """
    target = target.expanduser().resolve()
    if isinstance(images, Path) and not images.is_dir():
        raise InputError(f"{images} (--images) is no folder: name the one that the images lie in here")
    with _new_home(target) as folder:
        index = _extract(file, folder)
        chosen = images.expanduser().resolve() if isinstance(images, Path) else images
        if chosen is None and index["images_packed"]:
            chosen = target / IMAGES
        _mend(folder, Path(index["home"]), target, images=chosen, ledger_inside=True)
        if before is not None:
            before(folder)
    return index


def check_new_home(target: Path) -> None:
    """Check that a folder may become a home: it is not there, or holds no file; a volume may have folders in it.

    Raises
    ------
    InputError
        It holds something, or is none.
    """
    if target.exists() and (not target.is_dir() or any(not path.is_dir() for path in target.rglob("*"))):
        raise InputError(f"{target} is not empty: name a folder that is not there yet, so that nothing is overwritten")


@contextlib.contextmanager
def _new_home(target: Path) -> Iterator[Path]:
    """Give a folder that gets the name `target` if all goes well, and goes if not."""
    check_new_home(target)
    # A volume cannot be renamed to, and what is beside it is another disk: there all is put together within.
    inside = target.exists() and (
        any(target.iterdir()) or target.is_mount() or not os.access(target.parent, os.W_OK | os.X_OK)
    )
    name = f".{target.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}"
    folder = target / name if inside else target.with_name(name)
    try:
        private_folder(folder)
        yield folder
        if inside:
            _put_into(folder, target)
        else:
            if target.exists():
                target.rmdir()
            folder.rename(target)
    except (OSError, shutil.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FileError(f"The home {target} could not be written: {why}. Make room, or name another place") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_into(folder: Path, target: Path) -> None:
    """Move what lies in a folder into another, into the folders that are there, which may be of other disks.

    The settings that a home keeps go last: without them it is none.
    """
    for path in sorted(folder.iterdir(), key=lambda each: (each.name == "settings.toml", each.name)):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _put_into(path, place)
        else:
            shutil.move(path, place)


def _link_or_copy(source: str, target: str) -> None:
    try:
        # Of a file on the same disk it is the move itself, and takes no time.
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _mend(folder: Path, old: Path, new: Path, *, images: Root | None = None, ledger_inside: bool = False) -> None:
    """Let the files in `folder`, which was the home `old`, speak of the home `new`."""

    def change(name: Name, value: Any) -> Any:
        if name == ("database_url",):
            return None if ledger_inside else str(value).replace(f"sqlite:///{old}/", f"sqlite:///{new}/")
        if name == ("images",) and images is not None:
            return str(images)
        inside = isinstance(value, str) and Path(value).is_relative_to(old)
        return str(new / Path(value).relative_to(old)) if inside else value

    kept, dagster = folder / "settings.toml", folder / "dagster" / "dagster.yaml"
    if kept.exists():
        rewrite(kept, change)
    if dagster.exists():
        document = yaml.safe_load(dagster.read_text())
        for storage, place in (("event_log", "history/runs"), ("run", "history"), ("schedule", "schedules")):
            if config := document.get(f"{storage}_storage", {}).get("config", {}):
                config["base_dir"] = str(new / "dagster" / place)
        # Not into the file that the old home has, too; the next `al up` writes it with its comments.
        dagster.unlink()
        dagster.write_text(yaml.safe_dump(document))


def _extract(file: Path, folder: Path) -> dict[str, Any]:
    """Unpack an archive after a look at each name, and compare all of it with what it says about itself."""
    digests: dict[str, str] = {}
    try:
        with tarfile.open(file, "r:*") as tar:
            for member in tar:
                _check_member(member, digests, folder, file)
                source = tar.extractfile(member)
                assert source is not None
                target, digest = folder / member.name, hashlib.sha256()
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with source, target.open("xb") as out:
                    while data := source.read(CHUNK):
                        digest.update(data)
                        out.write(data)
                target.chmod(0o644 if target.is_relative_to(folder / PUBLISHED) else 0o600)
                os.utime(target, (member.mtime, member.mtime))
                digests[member.name] = digest.hexdigest()
    except FileNotFoundError:
        raise InputError(f"There is no archive {file} (FILE): check the path") from None
    except (tarfile.TarError, EOFError, zlib.error, OverflowError) as error:
        raise InputError(f"{file} (FILE) is damaged, or no tar file: {error}. Pack the home again") from error
    index = _read_index(folder / INDEX, file)
    (folder / INDEX).unlink()
    del digests[INDEX]
    wrong = sorted(name for name, digest in index["files"].items() if digests.get(name) != digest)
    if wrong or (wrong := sorted(digests.keys() - index["files"].keys())):
        raise InputError(
            f"{file} (FILE) is damaged: {len(wrong)} files are not as they were packed, for example {wrong[0]}. Copy "
            "or pack it again"
        )
    return index


def _check_member(member: tarfile.TarInfo, seen: dict[str, str], folder: Path, file: Path) -> None:
    name = PurePosixPath(member.name)
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise InputError(f"{file} (FILE) is no archive of a home: {error}. Nothing was unpacked") from error
    if not member.isreg() or ".." in name.parts or not ALLOWED & {*name.parts[:1]} or member.name in seen:
        raise InputError(
            f"{file} (FILE) is no archive of a home: it holds {member.name!r}, which `al home pack` never writes. "
            "Nothing was unpacked"
        )


def _read_index(path: Path, file: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text())
        found = index["format"]
    except FileNotFoundError:
        raise InputError(f"{file} (FILE) is cut off, or was not made by `al home pack`: it has no {INDEX}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} (FILE) was not made by `al home pack`: its {INDEX} cannot be read") from error
    if found != FORMAT:
        raise InputError(
            f"{file} (FILE) has the format {found}, which this version does not know ({FORMAT} is its newest): install "
            f"al_pipeline {index.get('al_pipeline', 'newer')}"
        )
    return index
