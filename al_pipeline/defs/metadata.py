"""What the UI shows of values: pictures, tables, names, and the people behind the labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.labels.consensus import Consensus
from al_pipeline.core.study.page import data_address
from al_pipeline.loop.local import page_address
from al_pipeline.loop.presence import Presence
from al_pipeline.settings import Settings

# Rows of a table in the UI.
SHOWN = 25
# What a figure is told to: more digits than any of them is sure of.
DIGITS = 4


def png_markdown(png: bytes, alt: str) -> str:
    """Return an image as markdown that carries it along."""
    return f"![{alt}]({data_address(png)})"


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """Return an image as metadata that Dagster's UI shows."""
    return dg.MetadataValue.md(png_markdown(png, alt))


def for_people(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as the UI is to show it: pictures first, numbers rounded.

    Dagster shows metadata in their order, and a picture as a link that is easily overlooked.
    """
    pictures = [name for name, value in metadata.items() if _is_picture(value)]
    order = [*pictures, *(name for name in metadata if name not in pictures)]
    return {name: round(value, DIGITS) if isinstance(value := metadata[name], float) else value for name in order}


def _is_picture(value: Any) -> bool:
    return isinstance(value, dg.MarkdownMetadataValue) and (value.md_str or "").startswith("![")


def round_page(settings: Settings, key: str) -> dict[str, Any]:
    """Return the address of a round's page as metadata; nothing where no page was ever served."""
    address = page_address(settings)
    return {} if address is None else {"round_page": dg.MetadataValue.url(f"{address.rstrip('/')}/rounds/{key}")}


def some(names: Sequence[str]) -> str:
    """Return the first ten, for a check's metadata."""
    return ", ".join(names[:10]) or "none"


def absent(found: Presence, name: str) -> dict[str, Any]:
    """Return who has no image that can be used, with the reasons, as metadata of this name; nothing if nobody is."""
    if not found.absent:
        return {}
    rows = pd.DataFrame({"sample": list(found.absent), "why": list(found.absent.values())})
    return {name: len(rows), f"{name}_why": table(rows)}


def table(frame: pd.DataFrame, *, rows: int | None = SHOWN, digits: int = 3) -> dg.TableMetadataValue:
    """Return a table, or its first rows, with numbers of so many digits."""
    shown = frame.head(len(frame) if rows is None else rows)
    records = [
        dg.TableRecord(
            {
                name: None if pd.isna(value) else round(value, digits) if isinstance(value, float) else value
                for name, value in row.items()
            }
        )
        for row in shown.astype(object).to_dict("records")
    ]
    columns = [
        dg.TableColumn(str(name), "float" if kind.kind == "f" else "int" if kind.kind == "i" else "string")
        for name, kind in shown.dtypes.items()
    ]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema(columns=columns))


def people(
    answers: pd.DataFrame, agreed: Consensus, planned: pd.DataFrame, class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the metadata about annotators: disputes, agreement, each annotator's figures.

    Parameters
    ----------
    answers : DataFrame
        Of the query batches, from the ledger.
    agreed : Consensus
        What became of them.
    planned : DataFrame
        All planned tasks.
    class_names : sequence of str
    """
    from al_pipeline.core.labels.annotators import agreement, annotators

    metadata: dict[str, Any] = {"disputed": len(agreed.disputed), "outside_class_set": len(agreed.outside)}
    if len(agreed.disputed):
        metadata["disputes"] = table(agreed.disputed)
    if len(agreed.outside):
        metadata["answers_left_out"] = table(agreed.outside)
    if answers.empty:
        return metadata
    found = agreement(answers, class_names)
    if found.alpha is not None:
        metadata["krippendorff_alpha"] = found.alpha
    if found.kappa is not None:
        metadata["cohen_kappa"] = found.kappa
    figures = annotators(answers, agreed.labels, planned, class_names)
    if agreed.quality:
        figures["crowdlab_quality"] = figures["annotator"].map(agreed.quality)
    return metadata | {"annotators": table(figures)}
