"""Evaluations as rounds store them, without the rounds."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from al_pipeline.core.evaluation.evaluate import evaluate
from al_pipeline.core.evaluation.metrics import columns, stored_scores
from al_pipeline.loop.deployment import Deployment
from al_pipeline_tests.defs.worlds import CLASSES

HOLDOUT = 40


def store_round(deployment: Deployment, number: int, *, checkpoint: str = "") -> Mapping[str, Any]:
    """Store the evaluation of a round with 8 labels more than the one before, and the curve up to it; return it."""
    key, rng = f"r{number:04d}", np.random.default_rng(number)
    truth = rng.integers(0, 2, HOLDOUT)
    sure = np.clip(truth + rng.normal(0, 0.6 / (number + 1), HOLDOUT), 0.01, 0.99)
    result = evaluate(np.column_stack([1 - sure, sure]), [CLASSES[label] for label in truth], CLASSES, seed=0)
    document = {
        "round": key,
        "checkpoint": checkpoint or f"{number:016x}",
        "trained": True,
        "n_labels": 8 * number + 8,
        "evaluation": result.to_json(),
        "agreement": None if number == 0 else 0.5,
    }
    artifacts = deployment.artifacts
    artifacts.evaluations.mkdir(parents=True, exist_ok=True)
    (artifacts.evaluations / f"{key}.json").write_text(json.dumps(document))
    row = {"round": key, "n_labels": document["n_labels"], "other_classes": False}
    for name, interval in stored_scores(document["evaluation"])[1].items():
        row |= columns(name, interval)
    before = pd.read_parquet(artifacts.curve_table) if artifacts.curve_table.exists() else pd.DataFrame()
    pd.concat([before, pd.DataFrame([row])]).to_parquet(artifacts.curve_table, index=False)
    return document
