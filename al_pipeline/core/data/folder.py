"""Which files a folder of images, or a bucket, holds, without opening any."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath

from al_pipeline.core.data.kinds import NAMED
from al_pipeline.core.data.layout import Listing, arrange, is_image, is_unread
from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import Place, Root
from al_pipeline.core.errors import InputError

LEADS_OUT = "a link that leads out of the images' folder: copy its target there, or set AL_FOLLOW_LINKS=true"


def list_files(
    root: Root, *, follow_links: bool = False, classes: Collection[str] | None = None, known: Collection[str] = ()
) -> Listing:
    """Return which images a folder holds, of which split and class, and what is left out.

    Parameters
    ----------
    root : Path or Place
    follow_links : bool
        Look also into what symbolic links to places outside of `root` lead to. `root` itself may be a link.
    classes, known
        As for `arrange`.

    Raises
    ------
    InputError
        The folder is missing, is a file, or holds no images.
    PlaceError
        The bucket is away.
    """
    problems, names = dict[str, str](), [*(classes or ()), *known]

    def unread(name: str) -> bool:
        return is_unread(name, names)

    if isinstance(root, Place):
        objects = _files_of(root.entries())
        found = replace(arrange(_keys(objects, unread), classes=classes, known=known), objects=objects)
    else:
        root = _folder(root)
        found = arrange(_paths(root, follow_links, unread, problems), problems=problems, classes=classes, known=known)
    if not found.files:
        others = ", ".join(f"{number:,} {suffix}" for suffix, number in found.sidecars.most_common(5))
        told = [f"other files ({others})"] if others else []
        told += found.sentences()
        raise InputError(
            f"{root} (AL_IMAGES) holds no images ({NAMED}, in any folder below it; docs/formats.md has all): check the "
            f"path{'. There are ' * bool(told)}{'; '.join(told)}"
        )
    return found


def _folder(root: Path) -> Path:
    if not root.exists():
        raise InputError(f"The folder of images {root} (AL_IMAGES) does not exist: check the path")
    if not root.is_dir():
        raise InputError(f"{root} (AL_IMAGES) is a file: give the folder that holds the images")
    return root.resolve()


def _paths(root: Path, follow_links: bool, unread: Callable[[str], bool], problems: dict[str, str]) -> Iterator[str]:
    """Yield what is to be arranged of a folder, and write down what cannot be read, with why."""
    for path, problem in _entries(root, follow_links, unread):
        if problem is None:
            yield path
        else:
            problems[path] = problem


def _files_of(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Return objects by their keys, without what consoles make of a folder: ``photos/cat/``, of no bytes."""
    folders = {entry.key.rpartition("/")[0] for entry in entries}
    folders |= {str(above) for folder in folders for above in PurePosixPath(folder).parents}

    def stands_for_a_folder(key: str) -> bool:
        return key in folders or "." not in key.rpartition("/")[2]

    return {entry.key: entry for entry in entries if entry.size or not stands_for_a_folder(entry.key)}


def _keys(keys: Iterable[str], unread: Callable[[str], bool]) -> Iterator[str]:
    """Yield keys as paths of a folder are, and of what lies in a folder that is not looked into that folder, once."""
    known, told = dict[str, str | None](), set[str]()
    for key in keys:
        folder = key.rpartition("/")[0]
        if folder not in known:
            parts = folder.split("/") if folder else []
            depth = next((depth for depth, part in enumerate(parts, 1) if unread(part)), None)
            known[folder] = None if depth is None else f"{'/'.join(parts[:depth])}/"
        if (outside := known[folder]) is None:
            yield key
        elif outside not in told:
            told.add(outside)
            yield outside


def walk(root: Root, *, follow_links: bool = True) -> Iterator[tuple[PurePath, str | None]]:
    """Yield the files with an image's suffix, relative to `root`, and what is not to be read, with why.

    That is folders that cannot be listed, and, unless `follow_links`, links to files and folders outside of `root`.
    Hidden files and folders, and folders of the system, are ignored.

    Raises
    ------
    PlaceError
        The bucket is away.
    """
    if isinstance(root, Place):
        found = ((key, None) for key in _keys(_files_of(root.entries()), is_unread) if not key.endswith("/"))
    else:
        found = _entries(root, follow_links, is_unread)
    for path, problem in found:
        name = path.rpartition("/")[2]
        if problem is not None or (is_image(name) and not name.startswith(".")):
            yield PurePath(path), problem


def _entries(root: Path, follow_links: bool, unread: Callable[[str], bool]) -> Iterator[tuple[str, str | None]]:
    """Yield every file, relative to `root`, and with a ``/`` at the end folders that are not looked into."""
    inside = os.path.realpath(root)

    def leads_out(path: str) -> bool:
        return not follow_links and not f"{os.path.realpath(path)}{os.sep}".startswith(inside.rstrip(os.sep) + os.sep)

    # Links to folders are followed, because people link their data sets together; they may form loops, and those end
    # where a folder comes up again. Which one is read first must not depend on the file system: folders are sorted.
    seen: set[str] = set()
    waiting = [("", os.fspath(root), inside)]
    while waiting:
        start, folder, real = waiting.pop()
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            yield start.rstrip("/") or ".", f"unreadable folder: {error.strerror}"
            continue
        below: list[tuple[str, str, str]] = []
        for entry in sorted(found, key=lambda entry: entry.name):
            path, link = f"{start}{entry.name}", entry.is_symlink()
            if not _is_folder(entry):
                out = link and is_image(entry.name) and leads_out(entry.path)
                yield path, LEADS_OUT if out else None
            elif unread(entry.name):
                yield f"{path}/", None
            else:
                target = os.path.realpath(entry.path) if link else os.path.join(real, entry.name)  # noqa: PTH118
                if target in seen:
                    yield f"{path}/", None
                elif link and leads_out(entry.path):
                    yield path, LEADS_OUT
                else:
                    below.append((f"{path}/", entry.path, target))
        waiting += reversed(below)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself.
        return False
