"""Class folders, with or without a folder per split above them (ImageFolder, YOLO's classification data)."""

import os
import unicodedata
from pathlib import Path

import pandas as pd

from al_pipeline.core.data.folder import walk
from al_pipeline.core.data.layout import arrange
from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.formats.brought import Brought, filled
from al_pipeline.core.labels.formats.images import place_image

# Of most file systems, in bytes.
LONGEST = 255
# Windows refuses these in names, and blanks and dots at their end.
FORBIDDEN = '<>:"/\\|?*'


def read_folders(root: Path) -> Brought:
    """Read ``<class>/…`` or ``train|val|test/<class>/…``; images in no class folder say nothing."""
    paths = [path.as_posix() for path, problem in walk(root, follow_links=False) if problem is None]
    rows: list[dict[str, object]] = [
        {"place": each.path, "label": each.label, "path": each.path, "file": root / each.path}
        for each in arrange(paths).files
        if each.label is not None
    ]
    return Brought(root.name, filled(rows), content_first=True)


def write_folders(labels: pd.DataFrame, folder: Path) -> None:
    """Write ``train/<class>/`` and ``holdout/<class>/``.

    Raises
    ------
    InputError
        A class cannot be the name of a folder, and another name would be another class.
    """
    names = sorted(set(labels["label"]))
    if bad := [name for name in names if not _is_folder_name(name)]:
        raise InputError(
            f"{', '.join(map(repr, bad[:5]))}{' …' if len(bad) > 5 else ''} cannot be the name of a folder: export "
            "with --format huggingface, where classes are written as text"
        )
    folded: dict[str, str] = {}
    for name in names:
        # Where a file system takes them for the same, two classes would lie in one folder.
        other = folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise InputError(
                f"{other!r} and {name!r} are one folder on file systems that ignore case: export with --format "
                "huggingface, where classes are written as text"
            )
    for split, label, uri, sample in zip(
        labels["split"], labels["label"], labels["uri"], labels["sample_id"], strict=True
    ):
        place_image(uri, folder / split / label, sample)


def _is_folder_name(name: str) -> bool:
    usable = name == name.strip() and name == name.rstrip(".") and not name.startswith(".")
    plain = not any(character in FORBIDDEN or ord(character) < 32 for character in name)
    return bool(name) and usable and plain and len(os.fsencode(name)) <= LONGEST
