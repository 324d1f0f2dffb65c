"""Tables of labels: CSV however a spreadsheet has saved it, Parquet, JSON."""

import csv
import io
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.formats.brought import COLUMNS, Brought, beside, filled

SEPARATORS = ",;\t|"
# What other tools call the image's path; the first that is there is read.
PATHS = ("path", "uri", "file_name", "filename", "file", "image")
NOT_UTF8 = (
    "{name} is not UTF-8 and was read as cp1252, as Excel saves it in Western Europe; if names look wrong, save it as "
    "UTF-8"
)


def read_table(path: Path, kind: str = "csv") -> Brought:
    """Read a table with the columns ``label`` and ``path`` or ``sample_id``, in any order, among others.

    Parameters
    ----------
    path : Path
    kind : str
        ``csv``, ``parquet`` or ``json`` (a list of records, or one per line).

    Raises
    ------
    InputError
        It cannot be read, or lacks the columns.
    """
    remarks: list[str] = []
    try:
        if kind == "parquet":
            table = pd.read_parquet(path)
        elif kind == "json":
            table = _json(path.read_text(encoding="utf-8-sig"))
        else:
            table = _csv(_decoded(path, remarks))
    # pyarrow's errors, JSON's and those of encodings are ValueErrors.
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    # The first line of a CSV file has the names of the columns.
    rows = table_rows(table, path.name, first=2 if kind == "csv" else 1, folder=path.parent)
    return Brought(path.name, rows, tuple(remarks))


def table_rows(table: pd.DataFrame, origin: str, *, first: int = 1, folder: Path | None = None) -> pd.DataFrame:
    """Return the rows of a data frame that have a label, as `Brought` has them.

    Parameters
    ----------
    table : DataFrame
    origin : str
        Its name in messages.
    first : int
        Number of its first row in messages.
    folder : Path, optional
        What relative paths start from, if they are not the pool's.

    Raises
    ------
    InputError
        A column is missing.
    """
    named: dict[str, Hashable] = {}
    for column in table.columns:
        named.setdefault(str(column).strip().lower(), column)
    where = next((name for name in PATHS if name in named), None)
    if "label" not in named or (where is None and "sample_id" not in named):
        raise InputError(
            f"{origin} has the columns {', '.join(map(str, table.columns))}: name one `label`, and one `path` or "
            "`sample_id`"
        )
    taken = {name: named[name] for name in COLUMNS if name in named} | ({"path": named[where]} if where else {})
    taken = {name: taken[name] for name in taken if name not in {"place", "file", "problem"}}
    rows = []
    for number, values in enumerate(zip(*(table[column] for column in taken.values()), strict=True), start=first):
        row: dict[str, object] = dict(zip(taken, map(_text, values), strict=True))
        if row["label"] is not None:
            row["file"] = beside(str(row.get("path") or ""), folder) if folder is not None else None
            rows.append(row | {"place": f"row {number}"})
    return filled(rows)


def _text(value: Any) -> str | None:
    """Return a cell as text, None if it is empty."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    return str(value).strip() or None


def _json(text: str) -> pd.DataFrame:
    try:
        records = json.loads(text)
    except json.JSONDecodeError:
        records = [json.loads(line) for line in text.split("\n") if line.strip()]
    if isinstance(records, dict):
        records = [records]
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("it is no list of records")
    # As objects, for otherwise a missing number makes floats of all the others.
    return pd.DataFrame(records, dtype=object)


def _decoded(path: Path, remarks: list[str]) -> str:
    """Return the text of a file; if its encoding is a guess, a remark says so."""
    content = path.read_bytes()
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        remarks.append(NOT_UTF8.format(name=path.name))
        return content.decode("cp1252", errors="replace")


def _csv(text: str) -> pd.DataFrame:
    head = next((line for line in text.splitlines() if line.strip()), "")

    def columns(separator: str) -> list[str]:
        return [name.strip().lower() for name in next(csv.reader([head], delimiter=separator), [])]

    separator = next((each for each in SEPARATORS if "label" in columns(each)), ",")
    # Class names such as "007" or "NA" stay what they are.
    return pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, na_values=[""])
