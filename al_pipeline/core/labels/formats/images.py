"""Images of a data set that is written: named by sample id, as hard links where the file system allows."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pandas as pd

from al_pipeline.core.data.places import AT_A_TIME, is_address, load
from al_pipeline.core.data.pool import content_id
from al_pipeline.core.errors import FileError, InputError
from al_pipeline.core.files import TEMPORARY


def place_image(uri: str, folder: Path, sample_id: str) -> str:
    """Put an image into a folder, and return the name that it has there."""
    folder.mkdir(parents=True, exist_ok=True)
    if is_address(uri):
        target = folder / f"{sample_id}{PurePosixPath(uri).suffix.lower()}"
        target.write_bytes(load(uri).getvalue())
        return target.name
    # A hard link to a symbolic one would be another symbolic one.
    source = Path(uri).resolve()
    target = folder / f"{sample_id}{source.suffix.lower()}"
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
    return target.name


def check_images(labels: pd.DataFrame) -> None:
    """Check that every image is still the one that people labeled.

    Parameters
    ----------
    labels : DataFrame
        ``sample_id, uri``, optionally ``file_id``: in which bytes the picture was scanned last, by default those that
        it has its id from.

    Raises
    ------
    InputError
        Some are gone, or have other content by now.
    """
    ids = labels["file_id"] if "file_id" in labels else labels["sample_id"]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = list(pool.map(_content, labels["uri"]))
    wrong = [uri for uri, content, file_id in zip(labels["uri"], found, ids, strict=True) if content != file_id]
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(labels)} labeled images are gone or changed, and nothing was written: "
            f"{', '.join(wrong[:5])}{' …' if len(wrong) > 5 else ''}. Bring them back, or materialize image_pool if "
            "they have moved"
        )


def _content(uri: str) -> str | None:
    try:
        return content_id(uri if is_address(uri) else Path(uri))
    except OSError:
        return None


def check_new(path: Path) -> None:
    """Check that a data set may be written there.

    Raises
    ------
    InputError
        There is a file of that name, or a folder that holds something.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: name a new folder for the data set")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} holds files already: name a new folder for the data set, or empty this one")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`, and rename it there if all went well; else nothing is left.

    Raises
    ------
    InputError
        As of `check_new`.
    FileError
        The operating system refuses.
    """
    check_new(path)
    temporary = path.absolute().with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.is_dir():
            path.rmdir()
        temporary.rename(path)
    except OSError as problem:
        raise FileError(
            f"The data set {path.absolute()} could not be written: {problem.strerror or problem}. Make room, mend the "
            "folder's permissions or name another path"
        ) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
