"""Which format labels are in, and its reader."""

import json
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.formats import Read
from al_pipeline.core.labels.formats.brought import Brought
from al_pipeline.core.labels.formats.coco import is_coco, read_coco
from al_pipeline.core.labels.formats.folders import read_folders
from al_pipeline.core.labels.formats.huggingface import METADATA, read_huggingface
from al_pipeline.core.labels.formats.tables import read_table
from al_pipeline.core.labels.formats.voc import read_voc

SUFFIXES: dict[str, Read] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".xml": "voc",
}


def read_labels(path: Path, kind: Read | None = None) -> Brought:
    """Read a file or folder of labels.

    Parameters
    ----------
    path : Path
    kind : str, optional
        One of `formats.Read`; by default what the names and the content say.

    Raises
    ------
    InputError
        It cannot be read, or is of no known format. Labels that cannot be used are problems of their rows.
    """
    kind = kind or detect(path)
    name = path.name or str(path)
    if kind in {"folders", "yolo"} and path.is_file():
        raise InputError(f"{path} is a file: the format {kind} is a folder of class folders")
    try:
        if kind in {"folders", "yolo"}:
            found = read_folders(path)
        elif kind == "coco":
            found = read_coco([path] if path.is_file() else _coco_files(path), name)
        elif kind == "voc":
            found = read_voc([path] if path.is_file() else sorted(path.rglob("*.xml")), name)
        elif kind == "huggingface":
            found = read_huggingface([path] if path.is_file() else _metadata(path), name)
        else:
            found = read_table(path, kind)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as {kind}: {error!r}; name its format with --format") from error
    if found.rows.empty:
        raise InputError(f"{path} holds no labels in the format {kind}: check the path, or name its format (--format)")
    return found


def detect(path: Path) -> Read:
    """Return the format that a file or folder is in.

    Raises
    ------
    InputError
        There is nothing, or a file of no known format.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {path}: check the path")
    if path.is_dir():
        if _metadata(path):
            return "huggingface"
        return "voc" if _has_voc(path) else "coco" if _coco_files(path) else "folders"
    suffix = path.suffix.lower()
    if path.name in METADATA:
        return "huggingface"
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path}: labels are read from folders and from {', '.join(SUFFIXES)} files; rename it, or name its format "
            f"(--format {', '.join(get_args(Read))})"
        )
    return "coco" if suffix == ".json" and _is_coco(path) else SUFFIXES[suffix]


def _metadata(folder: Path) -> list[Path]:
    return sorted(file for name in METADATA for file in folder.rglob(name))


def _coco_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*.json")) if _is_coco(file)]


def _is_coco(file: Path) -> bool:
    try:
        return is_coco(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError):
        return False


def _has_voc(folder: Path) -> bool:
    for file in folder.rglob("*.xml"):
        try:
            return ElementTree.parse(file).getroot().tag == "annotation"  # noqa: S314
        except ElementTree.ParseError:
            continue
    return False
