"""Conditions on tasks, as the Data Manager of Label Studio has them."""

from typing import Any


def unanswered_ones() -> list[dict[str, Any]]:
    """Return the conditions that nobody has answered or skipped a task."""
    return [condition(f"{kind}_annotations", "equal", "Number", 0) for kind in ("total", "cancelled")]


def of_round(round_key: str) -> dict[str, Any]:
    """Return the condition that a task is of a round."""
    return condition("data.round", "equal", "String", round_key)


def condition(column: str, operator: str, kind: str, value: str | int) -> dict[str, Any]:
    """Return one condition on tasks as Label Studio's JSON."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
