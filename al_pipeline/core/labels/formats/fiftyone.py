"""FiftyOne's FiftyOneImageClassificationDataset: a folder of images and a file of labels."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from al_pipeline.core.labels.formats.images import place_image


def write_fiftyone(labels: pd.DataFrame, folder: Path, class_names: Sequence[str]) -> None:
    """Write ``train/`` and ``holdout/``, each a data set with ``data/`` and ``labels.json``."""
    numbers = {name: number for number, name in enumerate(class_names)}
    for split, rows in labels.groupby("split"):
        there = folder / str(split)
        for row in rows.itertuples(index=False):
            place_image(row.uri, there / "data", row.sample_id)
        # Images are named there without their suffix.
        said = {sample: numbers[label] for sample, label in zip(rows["sample_id"], rows["label"], strict=True)}
        content = {"classes": list(class_names), "labels": said}
        (there / "labels.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
