"""Ways to edit a ledger behind its back: statements for either database; {1} stands for the id of sample 1."""

import json
from typing import Any

import pandas as pd

from al_pipeline.core.labels.consensus import labels_hash

# What is edited, the problems that this makes, and a part of each remark.
Breach = tuple[list[str], list[str], list[str]]


def shown(number: int, *choices: str, skip: bool = False, **more: Any) -> dict[str, Any]:
    """An annotation's JSON, as Label Studio shows it."""
    result = [{"from_name": "label", "origin": "manual", "value": {"choices": list(choices)}}] if choices else []
    return {"id": number, "result": result, "was_cancelled": skip, "lead_time": 2.5} | more


def both(change: str) -> list[str]:
    """The same change of the events and of the current answers."""
    return [f"UPDATE {table} SET {change}" for table in ("annotation_events", "annotations")]


def frozen(change: str, number: int) -> list[str]:
    """A change of a frozen label."""
    return [f"UPDATE snapshot_labels SET {change} WHERE sample_id = '{{{number}}}'"]


def event(number: int, raw: dict[str, Any]) -> str:
    """A change of what Label Studio had shown of an annotation."""
    return f"UPDATE annotation_events SET raw = '{json.dumps(raw)}' WHERE annotation_id = {number}"


def class_set(version: int, action: str, arguments: Any, names: Any, became: Any, made_at: str = "2090-01-01") -> str:
    """A further version of the classes."""
    values = ", ".join(f"'{json.dumps(each)}'" for each in (arguments, names, became))
    return (
        "INSERT INTO class_sets (version, made_at, action, arguments, names, became) "
        f"VALUES ({version}, '{made_at} 00:00:00', '{action}', {values})"
    )


def empty_snapshot(created_at: str, version: int) -> str:
    """A snapshot of r0000 without labels."""
    digest = labels_hash(pd.DataFrame(columns=["sample_id", "label"]))
    columns = "round, created_at, labels_hash, class_set"
    since = f"(SELECT {created_at} FROM label_snapshots)" if created_at == "created_at" else created_at
    return f"INSERT INTO label_snapshots ({columns}) VALUES ('r0000', {since}, '{digest}', {version})"


KITTENS = {"cat": "kitten"}
NO_ORIGIN = {"from_name": "label", "value": {"choices": ["cat"]}}
GUESS = shown(12) | {"result": [NO_ORIGIN], "parent_prediction": 5, "lead_time": None}
