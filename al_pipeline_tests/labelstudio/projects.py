"""A Label Studio project of one test, and its tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import payload

CLASSES = ("dark horse", "grüner Wald & <Wiese>")


@dataclass
class Project:
    """A project of one test."""

    client: LabelStudio
    id: int
    title: str
    class_names: Sequence[str]
    image_name: str

    def payloads(self, samples: Sequence[str], round_key: str = "r0000", **row: Any) -> list[dict[str, Any]]:
        """Return a task for each sample; all show the same image."""
        prediction = "predicted" in row
        row = {"purpose": "query", "predicted": None, "predicted_probability": 0.75, "checkpoint": "c0ffee"} | row
        return [
            payload(row | {"sample_id": sample}, round_key=round_key, image_name=self.image_name, prediction=prediction)
            for sample in samples
        ]

    def add(self, count: int, round_key: str = "r0000", **row: Any) -> dict[str, int]:
        """Import `count` tasks and return sample_id → task id."""
        samples = [f"{round_key}{i:027d}" for i in range(count)]
        ids = self.client.import_tasks(self.id, self.payloads(samples, round_key, **row))
        return dict(zip(samples, ids, strict=True))
