"""Small inputs for the ledger's tests."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

START = datetime(2025, 3, 1, 12, tzinfo=UTC)


def moment(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def sample(number: int) -> str:
    return f"{number:032x}"


def manifest(pool: int = 20, holdout: int = 2) -> pd.DataFrame:
    """Samples 0 … pool − 1 in the pool, then the holdout, and one file that is excluded."""
    splits = ["pool"] * pool + ["holdout"] * holdout
    return pd.DataFrame(
        {
            "sample_id": [*map(sample, range(len(splits))), None],
            "uri": [*(f"/images/{number}.png" for number in range(len(splits))), "/images/broken.png"],
            "split": [*splits, "excluded"],
            "label": "cat",
        }
    )


def plan_rows(*numbers: int, purpose: str = "query") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": [sample(number) for number in numbers],
            "purpose": purpose,
            "rank": range(len(numbers)),
            "strategy": "low_certainty",
            "score": [-0.1 * number / 3 for number in numbers],
            "propensity": float("nan"),
            "certainty": [0.1 * number / 3 for number in numbers],
            "predicted": ["cat" if number % 2 else None for number in numbers],
            "predicted_probability": [0.5 + 0.1 * number / 3 for number in numbers],
            "seed": 7,
            "checkpoint": "0123456789abcdef",
        }
    )


@dataclass(frozen=True)
class Event:
    """An annotation event with the attributes that the Label Studio client gives it."""

    annotation_id: int
    sample_id: str | None
    value: str | None
    round: str | None = "r0000"
    annotator: str = "ann"
    cancelled: bool = False
    deleted: bool = False
    updated_at: datetime = START
    task_id: int = 1
    lead_time: float | None = 2.5
    created_at: datetime = START
    raw: dict[str, Any] = field(default_factory=dict)
