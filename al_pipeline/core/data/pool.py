"""The image pool: find the files, hash them, set broken ones and copies aside, keep the splits apart."""

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from al_pipeline.core.data.folder import list_files
from al_pipeline.core.data.folder_names import normal
from al_pipeline.core.data.images import default_workers, open_rgb
from al_pipeline.core.errors import ImageError, InputError

COLUMNS = ("sample_id", "uri", "split", "reason", "label", "width", "height", "format", "bytes", "phash")
MIN_CLASSES, MAX_CLASSES = 2, 1000


@dataclass(frozen=True)
class _Found:
    """A file with an image's suffix, or a folder that could not be listed."""

    path: Path
    split: str
    label: str | None
    problem: str | None = None


def scan(
    root: Path,
    *,
    max_excluded_share: float = 0.2,
    follow_links: bool = False,
    workers: int | None = None,
    classes: Collection[str] | None = None,
    known: Collection[str] = (),
    progress: Callable[[int, int], object] | None = None,
) -> pd.DataFrame:
    """Read a folder of images, recursively, into a manifest of one row per file, in the order of the paths.

    Which files are the pool's, the holdout's or left out, and of which class, `arrange` tells by the folders' names.
    Set aside with a reason (split ``excluded``) are files that cannot be decoded; copies of a file with the same label,
    but one; all copies of a file that lies under several labels; pool files that lie in the holdout as well; links that
    lead out of `root`, unless they are to be followed.

    Parameters
    ----------
    root : Path
    max_excluded_share : float
        Share of files that cannot be decoded, 0 to 1, above which something is wrong with the folder itself.
    follow_links : bool
        Read also what symbolic links to places outside of `root` lead to. `root` itself may be a link.
    workers : int, optional
        Threads; the number of cores, at most 8, by default.
    classes, known
        As for `arrange`.
    progress : callable, optional
        Told how many files are read, and how many there are.

    Returns
    -------
    DataFrame
        ``sample_id`` (str, first 32 hex digits of the SHA-256 of the bytes; None if they could not be read; unique
        over the rows that are not excluded), ``uri`` (absolute path), ``split`` (pool, holdout or excluded),
        ``reason`` (str, None unless excluded), ``label`` (str or None), ``width``, ``height`` (int, pixels as shown,
        0 if unknown), ``format`` (str), ``bytes`` (int), ``phash`` (64-bit perceptual hash of the DCT as 16 hex
        digits [1]_, "" if unknown).

    Raises
    ------
    InputError
        The folder is missing, is a file, holds no images or none that can be used, more than `max_excluded_share` of
        them cannot be decoded, or only a person can tell which folders are classes.

    References
    ----------
    .. [1] C. Zauner, Implementation and benchmarking of perceptual image hash functions, 2010 (pHash, as in the
       ImageHash library).
    """
    root = Path(root)
    found, rows = _find(root, follow_links, classes, known), []
    with ThreadPoolExecutor(workers or default_workers()) as pool:
        try:
            for row in pool.map(_read, found):
                rows.append(row)
                if progress is not None:
                    progress(len(rows), len(found))
        finally:
            # Ctrl-C is to end it, not to be waited for until all files are read.
            pool.shutdown(cancel_futures=True)
    manifest = pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"sample_id": object, "reason": object, "label": object}
    )
    _refuse_mostly_broken(manifest, root, max_excluded_share)
    _exclude_copies(manifest)
    return manifest


def select_split(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of one split (``pool``, ``holdout`` or ``excluded``), with a fresh index."""
    if split not in {"pool", "holdout", "excluded"}:
        raise InputError(f"unknown split {split!r}: choose pool, holdout or excluded")
    return manifest[manifest["split"] == split].reset_index(drop=True)


def glance(
    root: Path, *, follow_links: bool = False, classes: Collection[str] | None = None, known: Collection[str] = ()
) -> pd.DataFrame:
    """Return what the names alone tell of a folder, without opening a file: ``split`` and ``label`` as `scan` has them.

    Raises
    ------
    InputError
        The folder is missing or holds no images, or only a person can tell which folders are classes.
    """
    listing = list_files(root, follow_links=follow_links, classes=classes, known=known)
    listing.settle(root)
    found = [("excluded" if each.problem else each.split, each.label) for each in listing.files]
    return pd.DataFrame(found, columns=["split", "label"])


def class_names(
    manifest: pd.DataFrame, configured: Sequence[str] | None, root: Path | None, *, adopted: bool = False
) -> list[str]:
    """Return the class names: the configured ones in their order, else those of the class folders, sorted.

    Parameters
    ----------
    manifest : DataFrame
        As `scan` returns it.
    configured : sequence of str, optional
        From the setting AL_CLASSES; normalised to Unicode's NFC, as labels are.
    root : Path, optional
        The scanned folder, for the messages.
    adopted : bool
        There is a class set already, so that folders may be missing.

    Raises
    ------
    InputError
        A name is blank or given twice, there are fewer than 2 or more than 1,000, or neither class folders nor
        configured names are there.
    """
    folders = sorted(manifest.loc[manifest["split"] != "excluded", "label"].dropna().unique())
    if not folders and not configured and not adopted:
        raise InputError(
            f"{root} has no class folders, so the class names must be set: AL_CLASSES=muffin,chihuahua, or `classes` "
            "in al.toml"
        )
    names = [normal(name) for name in configured] if configured else folders
    origin = "AL_CLASSES" if configured else f"the folders in {root}"
    if any(not name for name in names):
        raise InputError(f"A class name in {origin} is blank: give it a name, or remove it")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{origin} gives class names twice: {_list(twice)}. Give each once")
    if not (0 if adopted else MIN_CLASSES) <= len(names) <= MAX_CLASSES:
        raise InputError(
            f"{origin} give {len(names)} class{'es' * (len(names) != 1)} ({_list(names)}): {MIN_CLASSES} to "
            f"{MAX_CLASSES} are needed. Name all classes in AL_CLASSES, or put the images into one folder per class"
        )
    return names


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _find(root: Path, follow_links: bool, classes: Collection[str] | None, known: Collection[str]) -> list[_Found]:
    listing = list_files(root, follow_links=follow_links, classes=classes, known=known)
    listing.settle(root)
    root = root.resolve()
    return [_Found(root / path, split, label, problem) for path, split, label, problem in listing.files]


def content_id(path: Path) -> str:
    """Return the sample id of a file: the first 32 hex digits of the SHA-256 of its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _read(found: _Found) -> tuple[object, ...]:
    """Return a manifest row."""
    import imagehash

    path, label = found.path, found.label
    sample_id, size, problem = None, 0, found.problem
    try:
        uri = str(path)
        uri.encode()
    except UnicodeEncodeError:
        # Such a path survives neither a database nor a URL.
        uri, label = os.fsencode(path).decode(errors="backslashreplace"), None
        problem = "the path is not UTF-8: rename the file or its folder"
    try:
        status = path.stat()
        if problem is None and not stat.S_ISREG(status.st_mode):
            problem = "not a regular file"
        if problem is None:
            size = status.st_size
            sample_id = content_id(path)
            image = open_rgb(path)
            phash = str(imagehash.phash(image))
            return sample_id, uri, found.split, None, label, *image.size, image.format, size, phash
    except OSError as error:
        problem = f"unreadable: {error.strerror}"
    except ImageError as error:
        problem = str(error)
    return sample_id, uri, "excluded", problem, label, 0, 0, "", size, ""


def _refuse_mostly_broken(manifest: pd.DataFrame, root: Path, max_share: float) -> None:
    broken = manifest[manifest["split"] == "excluded"]
    if len(broken) <= max_share * len(manifest) and len(broken) < len(manifest):
        return
    first = "\n".join(f"  {uri}: {reason}" for uri, reason in broken[["uri", "reason"]].head(5).itertuples(index=False))
    more = f"\n  … and {len(broken) - 5} more" if len(broken) > 5 else ""
    raise InputError(
        f"{len(broken)} of {len(manifest)} files in {root} cannot be used, more than the share of {max_share:.0%} that "
        f"is set aside silently:\n{first}{more}\nMend or remove them, or raise AL_MAX_EXCLUDED_SHARE"
    )


def _exclude_copies(manifest: pd.DataFrame) -> None:
    """Keep one file per content, in place; content under several labels has no honest one."""
    usable = manifest[manifest["split"] != "excluded"]
    for _, copies in usable[usable["sample_id"].duplicated(keep=False)].groupby("sample_id"):
        labels = sorted(copies["label"].dropna().unique())
        if len(labels) > 1:
            reason = f"the same image under the labels {' and '.join(map(repr, labels))}: keep it under one"
            manifest.loc[copies.index, ["split", "reason"]] = "excluded", reason
            continue
        # The holdout goes first: an image in both splits would be trained on and tested with. Then those with a label.
        ranked = copies.assign(unlabeled=copies["label"].isna()).sort_values(["split", "unlabeled"], kind="stable")
        kept = ranked.iloc[0]
        for index, split in ranked["split"].iloc[1:].items():
            what = "duplicate of" if split == kept["split"] else "also in the holdout:"
            manifest.loc[index, ["split", "reason"]] = "excluded", f"{what} {kept['uri']}"
