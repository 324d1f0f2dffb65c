"""Between rows of the database and data frames: fixed columns, fixed types, also when there is no row."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from al_pipeline.core.errors import InputError

TEXT: Final = "object"
WHOLE: Final = "int64"
WHOLE_OR_NONE: Final = "Int64"
REAL: Final = "float64"
FLAG: Final = "bool"
MOMENT: Final = "datetime64[ns, UTC]"

PLAN = {
    "sample_id": TEXT,
    "purpose": TEXT,
    "rank": WHOLE,
    "strategy": TEXT,
    "score": REAL,
    "propensity": REAL,
    "certainty": REAL,
    "predicted": TEXT,
    "predicted_probability": REAL,
    "seed": WHOLE,
    "checkpoint": TEXT,
}
PLANNED = {
    "round": TEXT,
    **PLAN,
    "planned_at": MOMENT,
    "task_id": WHOLE_OR_NONE,
    "pushed_at": MOMENT,
    "withdrawn_at": MOMENT,
}
ANSWERS = {
    "sample_id": TEXT,
    "purpose": TEXT,
    "round": TEXT,
    "annotation_id": WHOLE,
    "task_id": WHOLE,
    "annotator": TEXT,
    "value": TEXT,
    "cancelled": FLAG,
    "lead_time": REAL,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "pulled_at": MOMENT,
    "source": TEXT,
}
EXPORT = {
    "sample_id": TEXT,
    "uri": TEXT,
    "label": TEXT,
    "purpose": TEXT,
    "round": TEXT,
    "annotator": TEXT,
    "annotation_id": WHOLE,
    "task_id": WHOLE,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "pulled_at": MOMENT,
    "lead_time": REAL,
    "source": TEXT,
    "rank": WHOLE_OR_NONE,
    "strategy": TEXT,
    "score": REAL,
    "propensity": REAL,
    "certainty": REAL,
    "predicted": TEXT,
    "predicted_probability": REAL,
    "seed": WHOLE_OR_NONE,
    "checkpoint": TEXT,
}
SNAPSHOT = {
    "sample_id": TEXT,
    "label": TEXT,
    "votes": WHOLE,
    "n_votes": WHOLE,
    "weight": REAL,
    "annotation_ids": TEXT,
    "first_round": TEXT,
}
LABELS = {"sample_id": TEXT, "label": TEXT, "votes": WHOLE, "n_votes": WHOLE}
SNAPSHOTS = {"round": TEXT, "created_at": MOMENT, "labels_hash": TEXT, "labels": WHOLE}

# What a plan row may leave out; everything else in PLAN is required.
OPTIONAL = {"score", "propensity", "certainty", "predicted", "predicted_probability", "checkpoint"}


def frame(rows: Iterable[Sequence[Any]], types: Mapping[str, str]) -> pd.DataFrame:
    """Return database rows, whose values come in the order of `types`, as a data frame of exactly these types."""
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    arrays = {name: _array(values, kind) for (name, kind), values in zip(types.items(), columns, strict=True)}
    return pd.DataFrame(arrays, copy=False)


def _array(values: Sequence[Any], kind: str) -> Any:
    """Return a column as an array of its type; pandas' own way from a list takes ten times as long for short ones."""
    if kind == MOMENT:
        # The ledger's moments are aware, and in UTC.
        naive = [None if value is None else value.replace(tzinfo=None) for value in values]
        return pd.DatetimeIndex(np.array(naive, dtype="datetime64[ns]")).tz_localize("UTC").array
    if kind == WHOLE_OR_NONE:
        return pd.array(values, dtype=kind)
    if kind == TEXT:
        texts = np.empty(len(values), dtype=object)
        texts[:] = values
        return texts
    return np.array(values, dtype=kind)


def records(rows: pd.DataFrame, types: Mapping[str, str], optional: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of a data frame as dictionaries of plain Python values, NaN and NA as None.

    Raises
    ------
    InputError
        A column that is not optional is missing or empty in some row, or a sample is in it twice.
    """
    required = [name for name in types if name not in set(optional)]
    if missing := [name for name in required if name not in rows.columns]:
        raise InputError(f"the rows lack the columns {missing}; they have {list(rows.columns)}")
    if empty := [name for name in required if rows[name].isna().any()]:
        raise InputError(
            f"the column {empty[0]} has no value in {int(rows[empty[0]].isna().sum())} of {len(rows)} rows"
        )
    if len(twice := rows.loc[rows["sample_id"].duplicated(), "sample_id"]):
        raise InputError(f"{len(twice)} samples are in the rows twice, the first is {twice.iloc[0]}")
    present = [name for name in types if name in rows.columns]
    columns = [_plain(rows[name], types[name]) for name in present]
    absent = {name: None for name in types if name not in rows.columns}
    return [dict(zip(present, values, strict=True)) | absent for values in zip(*columns, strict=True)]


def _plain(column: pd.Series, kind: str) -> list[Any]:
    convert = {WHOLE: int, REAL: float, TEXT: str}[kind]
    return [None if missing else convert(value) for value, missing in zip(column, column.isna(), strict=True)]


def aware(moment: datetime | pd.Timestamp) -> datetime:
    """Return the moment as a plain aware datetime.

    Raises
    ------
    InputError
        It has no time zone.
    """
    if moment.tzinfo is None:
        raise InputError(f"the ledger stores aware datetimes only, not {moment!r}: use datetime.now(UTC)")
    return moment if type(moment) is datetime else pd.Timestamp(moment).to_pydatetime(warn=False)
