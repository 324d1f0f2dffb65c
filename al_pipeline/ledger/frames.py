"""Between rows of the database and data frames: fixed columns, fixed types, also when there is no row."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from al_pipeline.core.errors import InputError
from al_pipeline.ledger.schema import annotations, drawn_holdout, planned_tasks, snapshot_labels, task_members

TEXT: Final = "object"
WHOLE: Final = "int64"
WHOLE_OR_NONE: Final = "Int64"
REAL: Final = "float64"
FLAG: Final = "bool"
MOMENT: Final = "datetime64[ns, UTC]"


def _types(table: sa.Table) -> dict[str, str]:
    """Return what each column of a table is in a data frame."""
    kinds = {str: TEXT, int: WHOLE, float: REAL, bool: FLAG, datetime: MOMENT}
    found = {column.name: kinds[column.type.python_type] for column in table.c}
    return found | {name: WHOLE_OR_NONE for name, kind in found.items() if kind == WHOLE and table.c[name].nullable}


PLANNED = _types(planned_tasks)
# What a plan says; the ledger itself adds when it was planned, and what became of it.
_ADDED = {"round", "planned_at", "task_id", "pushed_at", "withdrawn_at", "cell"}
PLAN = {name: kind for name, kind in PLANNED.items() if name not in _ADDED}
PLAN_COLUMNS = tuple(PLAN)
# What a plan row may leave out; everything else in PLAN is required.
OPTIONAL = {column.name for column in planned_tasks.c if column.nullable} - _ADDED
SAMPLE: dict[str, str] = dict.fromkeys(("sample_id", "uri", "split", "label", "pixels", "group_id"), TEXT)
SNAPSHOT = {name: kind for name, kind in _types(snapshot_labels).items() if name != "round"}
MEMBERS = _types(task_members)
DRAWN = _types(drawn_holdout)
LABELS = {"sample_id": TEXT, "label": TEXT, "votes": WHOLE, "n_votes": WHOLE}
# An answer may be to no plan.
_KNOWN = PLAN | _types(annotations) | {"uri": TEXT, "label": TEXT, "rank": WHOLE_OR_NONE, "seed": WHOLE_OR_NONE}
_ANSWERS = """sample_id purpose round annotation_id task_id annotator value cancelled lead_time created_at updated_at
    pulled_at source kind"""
_EXPORT = """sample_id uri label purpose round annotator annotation_id task_id created_at updated_at pulled_at
    lead_time source kind origin parent_prediction rank strategy score propensity certainty predicted
    predicted_probability seed checkpoint"""
ANSWERS, EXPORT = ({name: _KNOWN[name] for name in names.split()} for names in (_ANSWERS, _EXPORT))


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
    """Check the rows of a data frame, as `check` does, and return them, as `unchecked` does."""
    check(rows, types, optional)
    return unchecked(rows, types)


def check(rows: pd.DataFrame, types: Mapping[str, str], optional: Iterable[str] = ()) -> None:
    """Check that rows can be stored.

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


def unchecked(rows: pd.DataFrame, types: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows of a data frame as dictionaries of plain Python values, NaN and NA as None."""
    columns = [_plain(rows[name], kind) if name in rows else [None] * len(rows) for name, kind in types.items()]
    return [dict(zip(types, values, strict=True)) for values in zip(*columns, strict=True)]


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
