"""What the labeled pool tells about the people behind it: disputes, agreement, each annotator's figures."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.labels.consensus import Consensus

# Rows of a table in the UI.
SHOWN = 25


def changed_labels(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """Return the samples whose label is another one than in the last round, or is no label any more."""
    old = before.set_index("sample_id")["label"]
    new = after.set_index("sample_id")["label"].reindex(old.index)
    return old.index[(old != new) | new.isna()].tolist()


def people(
    answers: pd.DataFrame, agreed: Consensus, planned: pd.DataFrame, class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the metadata about annotators.

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
        metadata["disputes"] = _table(agreed.disputed)
    if len(agreed.outside):
        metadata["answers_left_out"] = _table(agreed.outside)
    if answers.empty:
        return metadata
    found = agreement(answers, class_names)
    if found.alpha is not None:
        metadata["krippendorff_alpha"] = found.alpha
    if found.kappa is not None:
        metadata["cohen_kappa"] = found.kappa
    table = annotators(answers, agreed.labels, planned, class_names)
    if agreed.quality:
        table["crowdlab_quality"] = table["annotator"].map(agreed.quality)
    return metadata | {"annotators": _table(table)}


def _table(frame: pd.DataFrame) -> dg.MetadataValue:
    shown = frame.head(SHOWN)
    records = [
        dg.TableRecord(
            {
                name: None if pd.isna(value) else round(value, 3) if isinstance(value, float) else value
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
