"""The image pool: find the files, hash them, set the broken ones aside, keep the splits apart."""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from al_pipeline.core.errors import ImageError, InputError
from al_pipeline.core.images import MAX_PIXELS, open_rgb

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
POOL_FOLDERS, HOLDOUT_FOLDERS = {"pool", "train", "unlabeled"}, {"holdout", "test"}
MAX_CLASSES = 1000
COLUMNS = ("sample_id", "uri", "split", "reason", "label", "width", "height", "format", "bytes", "phash")


@dataclass(frozen=True)
class _File:
    path: Path
    split: str
    label: str | None


def scan(
    root: Path,
    *,
    max_excluded_share: float = 0.2,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Read a folder of images, recursively, into a manifest of one row per file.

    Class folders (``root/<class>/…``), split folders (``root/pool/<class>/…`` and ``root/holdout/<class>/…``, also
    ``train`` and ``test``) and flat folders are understood, also mixed.

    Returns
    -------
    DataFrame
        ``sample_id`` (first 32 hex digits of the SHA-256 of the bytes), ``uri``, ``split`` (pool, holdout, excluded),
        ``reason``, ``label`` (folder name or None), ``width``, ``height``, ``format``, ``bytes``, ``phash``. Sample
        ids are unique over the rows that are not excluded.

    Raises
    ------
    InputError
        The folder is missing or holds no images, or more than `max_excluded_share` of them are broken.
    """
    root = Path(root)
    files = _find(root)
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        rows = []
        for row in pool.map(lambda file: _read(file, max_pixels), files):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(files))
    manifest = pd.DataFrame(rows, columns=list(COLUMNS))
    _refuse_mostly_broken(manifest, root, max_excluded_share)
    return _exclude_copies(manifest)


def select_split(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of one split, ``"pool"`` or ``"holdout"``."""
    return manifest[manifest["split"] == split].reset_index(drop=True)


def class_names(manifest: pd.DataFrame, configured: Sequence[str] | None, root: Path | None) -> list[str]:
    """Return the class names: the configured ones, or else the folder names, sorted.

    Raises
    ------
    InputError
        Fewer than 2 or more than 1,000 names, a blank or double one, or folders that are not among the configured.
    """
    folders = sorted(manifest.loc[manifest["split"] != "excluded", "label"].dropna().unique())
    if configured:
        names = [unicodedata.normalize("NFC", name).strip() for name in configured]
        if outside := [name for name in folders if name not in names]:
            raise InputError(
                f"The folders {outside[:5]} in {root} are no classes: AL_CLASSES names {names[:10]}. Add them "
                "there, or move the folders away"
            )
    else:
        names = folders
        if not names:
            raise InputError(
                f"{root} has no class folders, so the classes must be named: set AL_CLASSES, for example "
                'AL_CLASSES="muffin,chihuahua"'
            )
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"The class names {double} are given twice (AL_CLASSES)")
    if any(not name for name in names):
        raise InputError("A class name is blank (AL_CLASSES)")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise InputError(
            f"{len(names)} class in {root} ({', '.join(names[:5])}): there must be 2 to {MAX_CLASSES}. Add a class "
            "folder, or name all classes in AL_CLASSES"
        )
    return names


def _find(root: Path) -> list[_File]:
    if not root.exists():
        raise InputError(f"The folder of images {root} (AL_IMAGES) does not exist: check the path")
    if not root.is_dir():
        raise InputError(f"{root} (AL_IMAGES) is no folder: give the folder that holds the images")
    found = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not found:
        raise InputError(
            f"{root} (AL_IMAGES) holds no image files ({', '.join(sorted(SUFFIXES))}): check the path"
        )
    splits = {path.relative_to(root).parts[0].lower() for path in found if len(path.relative_to(root).parts) > 1}
    split = bool(splits & POOL_FOLDERS) or splits >= HOLDOUT_FOLDERS
    return [_place(path, root, split=split) for path in found]


def _place(path: Path, root: Path, *, split: bool) -> _File:
    folders = path.relative_to(root).parts[:-1]
    name = "pool"
    if split and folders and folders[0].lower() in POOL_FOLDERS | HOLDOUT_FOLDERS:
        name = "holdout" if folders[0].lower() in HOLDOUT_FOLDERS else "pool"
        folders = folders[1:]
    label = unicodedata.normalize("NFC", folders[0]).strip() if folders else None
    return _File(path, name, label)


def _read(file: _File, max_pixels: int) -> tuple[object, ...]:
    import imagehash

    sample_id = None
    size = 0
    try:
        content = file.path.read_bytes()
        size, sample_id = len(content), hashlib.sha256(content).hexdigest()[:32]
        image = open_rgb(file.path, max_pixels=max_pixels)
    except OSError as error:
        reason = f"unreadable: {error.strerror}"
    except ImageError as error:
        reason = str(error)
    else:
        phash = str(imagehash.phash(image))
        kind = file.path.suffix.lstrip(".").upper()
        return sample_id, str(file.path.resolve()), file.split, None, file.label, *image.size, kind, size, phash
    return sample_id, str(file.path.absolute()), "excluded", reason, file.label, 0, 0, "", size, ""


def _refuse_mostly_broken(manifest: pd.DataFrame, root: Path, share: float) -> None:
    broken = manifest[manifest["split"] == "excluded"]
    if len(broken) > share * len(manifest):
        shown = "\n".join(f"  {row.uri}: {row.reason}" for row in broken.head(5).itertuples())
        raise InputError(
            f"{len(broken)} of {len(manifest)} files in {root} are broken, more than the share of {share:.0%} that is "
            f"allowed (AL_MAX_EXCLUDED_SHARE):\n{shown}\nMend or remove them"
        )


def _exclude_copies(manifest: pd.DataFrame) -> pd.DataFrame:
    """Keep one file per content; content under several labels, or in the pool and the holdout, has no honest place."""
    used = manifest[manifest["split"] != "excluded"]
    for _, copies in used[used["sample_id"].duplicated(keep=False)].groupby("sample_id"):
        labels = sorted(copies["label"].dropna().unique())
        if len(labels) > 1:
            manifest.loc[copies.index, "reason"] = f"the same image under the labels {' and '.join(labels)}"
            continue
        first = copies.sort_values("split", kind="stable").index[0]
        rest = copies.index.drop(first)
        kept = manifest.loc[first]
        for index in rest:
            crossing = kept["split"] == "holdout" and manifest.loc[index, "split"] == "pool"
            manifest.loc[index, "reason"] = (
                f"also in the holdout: {kept['uri']}" if crossing else f"duplicate of {kept['uri']}"
            )
    manifest.loc[manifest["reason"].notna(), "split"] = "excluded"
    return manifest
