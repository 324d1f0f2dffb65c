"""What a task says: which sample, which round, where its image is; a prediction only where it is asked for."""

from collections.abc import Mapping
from typing import Any

from al_pipeline.labelstudio.config import CHOICES, IMAGE

LOCAL_FILES = "/data/local-files/?d="
# The folder of published images, relative to the root that Label Studio serves files from.
IMAGE_FOLDER = "images"


def payload(row: Mapping[str, Any], *, round_key: str, image_name: str, prediction: bool) -> dict[str, Any]:
    """Return the task of one plan row as Label Studio's JSON.

    Parameters
    ----------
    row : mapping
        ``sample_id, purpose, predicted, predicted_probability, checkpoint``.
    round_key : str
    image_name : str
        File name within the published images.
    prediction : bool
        Show the model's guess. Never done for the holdout, whose labels must be blind.
    """
    task: dict[str, Any] = {
        "data": {
            "image": f"{LOCAL_FILES}{IMAGE_FOLDER}/{image_name}",
            "sample_id": row["sample_id"],
            "round": round_key,
        }
    }
    if prediction and row["purpose"] == "query" and isinstance(row.get("predicted"), str):
        task["predictions"] = [
            {
                "model_version": f"{round_key} {row['checkpoint']}",
                "score": float(row["predicted_probability"]),
                "result": [choice(row["predicted"])],
            }
        ]
    return task


def choice(name: str) -> dict[str, Any]:
    """Return Label Studio's JSON for one chosen class."""
    return {"from_name": CHOICES, "to_name": IMAGE, "type": "choices", "value": {"choices": [name]}}
