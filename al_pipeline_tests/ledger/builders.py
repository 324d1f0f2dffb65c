"""Small inputs for the ledger's tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from al_pipeline.core.labels.annotation import Annotation, Kind
from al_pipeline.ledger import Ledger

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


def said(
    annotation_id: int,
    sample_id: str | None,
    value: str | None,
    *,
    round: str | None = "r0000",
    annotator: str = "ann",
    cancelled: bool = False,
    deleted: bool = False,
    updated_at: datetime = START,
    task_id: int = 1,
    lead_time: float | None = 2.5,
    created_at: datetime = START,
    raw: dict[str, Any] | None = None,
    kind: Kind | None = None,
    import_id: int | None = None,
) -> Annotation:
    return Annotation(
        annotation_id=annotation_id,
        task_id=task_id,
        sample_id=sample_id,
        round=round,
        annotator=annotator,
        value=value,
        cancelled=cancelled,
        lead_time=lead_time,
        created_at=created_at,
        updated_at=updated_at,
        raw=raw or {},
        deleted=deleted,
        kind=kind or ("skip" if cancelled else "empty" if value is None else "answer"),
        import_id=import_id,
    )


def asked(ledger: Ledger) -> set[str]:
    """The samples with a task, answered or not."""
    planned = ledger.planned()
    return set(planned.loc[planned["withdrawn_at"].isna(), "sample_id"])
