"""Hugging Face's ImageFolder: images, and beside them a table of their names and labels."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from al_pipeline.core.labels.formats.brought import Brought, filled
from al_pipeline.core.labels.formats.images import place_image
from al_pipeline.core.labels.formats.tables import read_table

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
TABLES = {".csv": "csv", ".parquet": "parquet"}
# The library knows no split of the name holdout, and would leave such a folder out.
SPLITS = {"train": "train", "holdout": "test"}


def read_huggingface(files: Sequence[Path], origin: str) -> Brought:
    """Read metadata files: columns ``file_name`` (relative to the file) and ``label``."""
    if not files:
        return Brought(origin, filled([]))
    parts = [read_table(file, TABLES.get(file.suffix.lower(), "json")) for file in files]
    for file, part in zip(files, parts, strict=True):
        part.rows["place"] = f"{file.parent.name}/{file.name}, " + part.rows["place"]
    rows = pd.concat([part.rows for part in parts], ignore_index=True)
    remarks = tuple(remark for part in parts for remark in part.remarks)
    return Brought(origin, rows, remarks, content_first=True)


def write_huggingface(labels: pd.DataFrame, folder: Path) -> None:
    """Write ``train/`` and ``test/`` (the holdout), each with a ``metadata.jsonl``."""
    for split, rows in labels.groupby("split"):
        there, lines = folder / SPLITS[str(split)], []
        for row in rows.itertuples(index=False):
            name = place_image(row.uri, there, row.sample_id)
            lines.append({"file_name": name, "label": row.label, "sample_id": row.sample_id})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (there / "metadata.jsonl").write_text(text, encoding="utf-8")
