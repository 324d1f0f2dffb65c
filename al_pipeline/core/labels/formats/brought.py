"""What every reader returns: a row per label, with where it stands, and remarks about the whole."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

# place: where it stands, for people. problem: why the row cannot be used. file: the image, if it is there.
COLUMNS = [
    "place",
    "label",
    "path",
    "sample_id",
    "file",
    "annotator",
    "source",
    "annotation_id",
    "updated_at",
    "problem",
]
SEVERAL = "names several classes for one image: one is needed"


@dataclass(frozen=True)
class Brought:
    """Labels that were read, before anybody knows whether they can be used.

    Attributes
    ----------
    origin : str
        Name of the file or folder.
    rows : DataFrame
        The columns `COLUMNS`, all of them objects, None where nothing is said. A row without a label says nothing.
    remarks : tuple of str
        Sentences about how it was read.
    content_first : bool
        The images lie beside the labels: their content says which samples they are, whatever the paths.
    """

    origin: str
    rows: pd.DataFrame
    remarks: tuple[str, ...] = ()
    content_first: bool = False


def filled(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    """Return rows that may leave columns out as `Brought` has them."""
    return pd.DataFrame([{name: row.get(name) for name in COLUMNS} for row in rows], columns=COLUMNS, dtype=object)


def beside(name: str, *folders: Path) -> Path | None:
    """Return the file of this name in the first of the folders that has it."""
    return next((folder / name for folder in folders if name and (folder / name).is_file()), None)
