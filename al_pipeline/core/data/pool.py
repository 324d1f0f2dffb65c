"""The image pool: find the files, read them, set broken ones and copies aside, keep the splits apart."""

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.data.columns import column, column_of, objects
from al_pipeline.core.data.folder import list_files
from al_pipeline.core.data.folder_names import begin_with, normal, quoted
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.identity import KnownPictures, exclude_copies, name_samples
from al_pipeline.core.data.images import default_workers
from al_pipeline.core.data.layout import Listing
from al_pipeline.core.data.many_readings import read_files
from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import Root, load, start_of
from al_pipeline.core.data.reading import Reading, file_stamp
from al_pipeline.core.data.scan_cache import COLUMNS as READ
from al_pipeline.core.data.scan_cache import ScanCache
from al_pipeline.core.errors import InputError

COLUMNS = (
    *("sample_id", "uri", "split", "reason", "label", "width", "height", "format", "bytes", "phash", "thumbnail"),
    *("file_id", "pixels", "mtime_ns", "inode", "taken", "notes", "planes", "levels"),
)
MIN_CLASSES, MAX_CLASSES = 2, 1000
# What was read is kept after so many seconds, or of so many files: an interrupted scan goes on from there.
KEEP_SECONDS, KEEP_FILES = 15.0, 20_000

Objects = npt.NDArray[np.object_]
Progress = Callable[[int, int], None]


def scan(
    root: Root,
    *,
    max_excluded_share: float = 0.2,
    follow_links: bool = False,
    workers: int | None = None,
    classes: Collection[str] | None = None,
    known: Collection[str] = (),
    pictures: KnownPictures | None = None,
    before: pd.DataFrame | None = None,
    cache: ScanCache | None = None,
    progress: Progress | None = None,
    how: HowRead = AS_EVER,
) -> pd.DataFrame:
    """Read a folder of images, recursively, into a manifest of one row per file, in the order of the paths.

    Which files are the pool's, the holdout's or left out, and of which class, `arrange` tells by the folders' names.
    Set aside with a reason (split ``excluded``) are files that cannot be decoded; copies of a picture with the same
    label, but one; all copies of a picture that lies under several labels; pool files that lie in the holdout as well;
    links that lead out of `root`, unless they are to be followed. A picture is the same in other bytes, as after a tag
    was written into its file.

    Parameters
    ----------
    root : Path or Place
    max_excluded_share : float
        Share of files that cannot be decoded, 0 to 1, above which something is wrong with the folder itself.
    follow_links : bool
        Read also what symbolic links to places outside of `root` lead to. `root` itself may be a link.
    workers : int, optional
        Threads; the number of cores, at most 8, by default.
    classes, known
        As for `arrange`.
    pictures : KnownPictures, optional
        Pictures keep the ids that they are known by.
    before : DataFrame, optional
        The last manifest: by it a picture is known that was turned without loss.
    cache : ScanCache, optional
        Files that have not changed since they were read are not read again.
    progress : callable, optional
        Is told how many files are done, and of how many.
    how : HowRead
        Its levels play no part: they are found by what a scan notes.

    Returns
    -------
    DataFrame
        ``sample_id`` (str, the picture's: the ``file_id`` that it was first known by; None if nothing could be read;
        unique over the rows that are not excluded), ``uri`` (absolute path, or an object's address), ``split`` (pool,
        holdout or excluded), ``reason`` (str, None unless excluded), ``label`` (str or None), and of `Reading`
        ``width``, ``height``, ``format``, ``bytes``, ``phash``, ``thumbnail``, ``file_id``, ``pixels``, ``mtime_ns``,
        ``inode``, ``taken``, ``notes``, ``planes``, ``levels``. Of ``pixels`` and ``taken`` NaN stands for None.

    Raises
    ------
    InputError
        The folder is missing, is a file, holds no images or none that can be used, more than `max_excluded_share` of
        them cannot be decoded, or only a person can tell which folders are classes.
    PlaceError
        The bucket is away, or went away meanwhile; what was read is in the cache.
    """
    listing = list_files(root, follow_links=follow_links, classes=classes, known=known)
    listing.settle(root)
    return scan_listed(
        root,
        listing,
        max_excluded_share=max_excluded_share,
        workers=workers,
        pictures=pictures,
        before=before,
        cache=cache,
        progress=progress,
        how=how,
    )


def scan_listed(
    root: Root,
    listing: Listing,
    *,
    max_excluded_share: float = 0.2,
    workers: int | None = None,
    pictures: KnownPictures | None = None,
    before: pd.DataFrame | None = None,
    cache: ScanCache | None = None,
    progress: Progress | None = None,
    how: HowRead = AS_EVER,
) -> pd.DataFrame:
    """Return the manifest of files that were listed already; all else is as for `scan`."""
    base = start_of(root)
    paths, labels, problems = (
        objects([getattr(found, name) for found in listing.files]) for name in ("path", "label", "problem")
    )
    uris = objects([base + path for path in paths])
    for row in _not_unicode(paths):
        # Such a path survives neither a database nor a URL.
        uris[row], labels[row] = os.fsencode(uris[row]).decode(errors="backslashreplace"), None
        problems[row] = "the path is not UTF-8: rename the file or its folder"
    columns = _read(paths, uris, problems, workers or default_workers(), cache, progress, how, listing.objects)
    columns |= {"uri": uris, "label": labels, "reason": problems}
    columns["split"] = objects(
        [
            "excluded" if problem is not None else found.split
            for problem, found in zip(problems, listing.files, strict=True)
        ]
    )
    # Without copies: of a million images each is as large as what it copies.
    columns["sample_id"] = name_samples(pd.DataFrame(columns, copy=False), pictures, before, how)
    manifest = pd.DataFrame({name: columns[name] for name in COLUMNS}, copy=False)
    _refuse_mostly_broken(manifest, root, max_excluded_share)
    exclude_copies(manifest)
    return manifest


def _not_unicode(paths: Objects) -> list[int]:
    try:
        "".join(paths).encode()
    except UnicodeEncodeError:
        return [row for row, path in enumerate(paths) if any("\ud800" <= letter <= "\udfff" for letter in path)]
    return []


def _read(
    paths: Objects,
    uris: Objects,
    problems: Objects,
    workers: int,
    cache: ScanCache | None,
    progress: Progress | None,
    how: HowRead,
    objects: Mapping[str, Entry] | None,
) -> dict[str, Any]:
    """Return the columns of `Reading`, of files without a problem from what is there or is kept of them.

    Problems that come up are written into `problems`.
    """
    n, now = len(paths), time.time_ns()
    rows = np.full(n, -1) if cache is None else _find(cache, paths, uris, problems, objects)
    found = np.flatnonzero(rows >= 0)
    wanted = np.flatnonzero(_readable(problems) & (rows < 0))
    done, kept, when = n - len(wanted), 0, time.monotonic()
    if progress is not None:
        progress(done, n)
    readings, told = list[Reading](), list[tuple[npt.NDArray[np.int64], dict[str, Any]]]()

    def keep() -> None:
        nonlocal kept
        some = wanted[kept : kept + len(readings)]
        if cache is not None:
            cache.add(paths[some].tolist(), readings)
        told.append((some, {name: column_of(name, readings) for name in READ}))
        problems[some] = [reading.problem for reading in readings]
        kept += len(readings)
        readings.clear()

    try:
        for some in read_files(uris[wanted].tolist(), now, workers=workers, how=how):
            readings += some
            if progress is not None:
                progress(done + kept + len(readings), n)
            if time.monotonic() > when + KEEP_SECONDS or len(readings) >= KEEP_FILES:
                keep()
                when = time.monotonic()
    finally:
        keep()
    columns = dict[str, Any]()
    for name in READ:
        known = cache.column(name, rows[found]) if cache is not None and len(found) else ()
        pieces = itertools.chain(
            ((some, part.pop(name)) for some, part in told), ((found[some], values) for some, values in known)
        )
        columns[name] = column(name, n, pieces)
    if cache is not None:
        cache.tidy(rows)
    return columns


def _readable(problems: Objects) -> npt.NDArray[np.bool_]:
    return np.fromiter((problem is None for problem in problems), bool, len(problems))


def _find(
    cache: ScanCache, paths: Objects, uris: Objects, problems: Objects, objects: Mapping[str, Entry] | None
) -> npt.NDArray[np.int64]:
    """Return in which rows of the cache the readings of files are, −1 where a file is to be read."""
    stamps = np.zeros((3, len(paths)), dtype=np.int64)
    if objects is not None:
        stamps[:2] = np.array([(objects[path].size, objects[path].stamp) for path in paths], dtype=np.int64).T
    for row, (uri, problem) in enumerate(zip(uris, problems, strict=True)):
        if problem is None and objects is None:
            try:
                stamps[:, row] = file_stamp(uri)
            except OSError:
                # Reading it will tell why.
                continue
    asked = np.where(_readable(problems), paths, "")
    return cache.find(asked, (stamps[0], stamps[1], stamps[2]))


def select_split(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of one split (``pool``, ``holdout`` or ``excluded``), with a fresh index."""
    if split not in {"pool", "holdout", "excluded"}:
        raise InputError(f"unknown split {split!r}: choose pool, holdout or excluded")
    return manifest[manifest["split"] == split].reset_index(drop=True)


def glance(
    root: Root, *, follow_links: bool = False, classes: Collection[str] | None = None, known: Collection[str] = ()
) -> pd.DataFrame:
    """Return what names alone tell of a folder, without opening a file: ``split, label, uri`` as `scan` has them.

    Raises
    ------
    InputError
        The folder is missing or holds no images, or only a person can tell which folders are classes.
    """
    listing = list_files(root, follow_links=follow_links, classes=classes, known=known)
    listing.settle(root)
    found = [
        ("excluded" if each.problem else each.split, each.label, f"{root}{os.sep}{each.path}") for each in listing.files
    ]
    return pd.DataFrame(found, columns=["split", "label", "uri"])


def class_names(
    manifest: pd.DataFrame, configured: Sequence[str] | None, root: Root | None, *, adopted: bool = False
) -> list[str]:
    """Return the class names: the configured ones in their order, else those of the class folders, sorted.

    Parameters
    ----------
    manifest : DataFrame
        As `scan` returns it.
    configured : sequence of str, optional
        From the setting AL_CLASSES; normalised to Unicode's NFC, as labels are.
    root : Path or Place, optional
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
        uris = manifest.loc[manifest["split"] != "excluded", "uri"] if "uri" in manifest else ()
        told = begin_with(Path(uri).name for uri in uris)
        raise InputError(
            f"{root} has no class folders, so the class names must be set: AL_CLASSES="
            f"{','.join(told[:10]) or 'muffin,chihuahua'}{',…' * (len(told) > 10)}, or the same after `al up "
            "--classes`, or `classes` in al.toml"
            + bool(told)
            * f". The names of its files begin with {quoted(told)}: if those are their labels, take them "
            "over with `al ledger import`, or put the files into a folder per class"
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


def content_id(path: Path | str) -> str:
    """Return the sample id of a file or object: the first 32 hex digits of the SHA-256 of its bytes."""
    if isinstance(path, str):
        return hashlib.sha256(load(path).getvalue()).hexdigest()[:32]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _refuse_mostly_broken(manifest: pd.DataFrame, root: Root, max_share: float) -> None:
    broken = manifest[manifest["split"] == "excluded"]
    if len(broken) <= max_share * len(manifest) and len(broken) < len(manifest):
        return
    first = "\n".join(f"  {uri}: {reason}" for uri, reason in broken[["uri", "reason"]].head(5).itertuples(index=False))
    more = f"\n  … and {len(broken) - 5} more" if len(broken) > 5 else ""
    raise InputError(
        f"{len(broken)} of {len(manifest)} files in {root} cannot be used, more than the share of {max_share:.0%} that "
        f"is set aside silently:\n{first}{more}\nMend or remove them, or raise AL_MAX_EXCLUDED_SHARE"
    )
