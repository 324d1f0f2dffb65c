"""A task shows the image and says nothing that biases the answer."""

import json
from typing import Any

import pytest

from al_pipeline.labelstudio.config import guess, payload

ROW: dict[str, Any] = {
    "sample_id": "5e" * 16,
    "purpose": "query",
    "rank": 3,
    "strategy": "low_certainty",
    "score": -0.01,
    "certainty": 0.01,
    "predicted": "chihuahua",
    "predicted_probability": 0.51,
    "checkpoint": "c0ffee",
    "label": "muffin",
}


def test_a_task_says_which_sample_and_round_it_is_and_where_the_image_lies() -> None:
    task = payload(ROW, round_key="r0003", image_name="5e5e.png", prediction=False)
    assert task == {"data": {"sample_id": "5e" * 16, "round": "r0003", "image": "/data/local-files/?d=images/5e5e.png"}}


@pytest.mark.parametrize("purpose", ["query", "holdout"])
def test_nothing_in_a_task_tells_the_purpose_the_score_or_the_truth(purpose: str) -> None:
    said = json.dumps(payload(ROW | {"purpose": purpose}, round_key="r0003", image_name="x.png", prediction=False))
    for hint in ("holdout", "query", "chihuahua", "muffin", "certainty", "score"):
        assert hint not in said


def test_a_prediction_comes_with_score_and_model_version_where_it_is_asked_for() -> None:
    (prediction,) = payload(ROW, round_key="r0003", image_name="x.png", prediction=True)["predictions"]
    assert prediction["score"] == 0.51
    assert prediction["model_version"] == "al_pipeline"
    assert prediction["result"] == [guess("chihuahua")]


def test_the_holdout_never_carries_a_prediction() -> None:
    task = payload(ROW | {"purpose": "holdout"}, round_key="r0000", image_name="x.png", prediction=True)
    assert "predictions" not in task


@pytest.mark.parametrize("predicted", [None, float("nan")])
def test_a_sample_that_no_model_has_scored_carries_no_prediction(predicted: float | None) -> None:
    task = payload(ROW | {"predicted": predicted}, round_key="r0000", image_name="x.png", prediction=True)
    assert "predictions" not in task
    json.dumps(task, allow_nan=False)
