"""COCO's JSON as it is used for classification: a category per image; boxes are not looked at."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from al_pipeline.core.labels.formats.brought import SEVERAL, Brought, beside, filled
from al_pipeline.core.labels.formats.images import place_image

# Images lie beside the file, or in a folder of one of these names.
IMAGES = ("", "images", "data")


def is_coco(content: Any) -> bool:
    """Say whether JSON is COCO's."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content)


def read_coco(files: Sequence[Path], origin: str) -> Brought:
    """Read COCO files; an image without annotations says nothing."""
    rows: list[dict[str, object]] = []
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        names = {each["id"]: str(each["name"]) for each in content["categories"]}
        said: defaultdict[Any, set[str | None]] = defaultdict(set)
        for annotation in content["annotations"]:
            said[annotation["image_id"]].add(names.get(annotation["category_id"]))
        for image in content["images"]:
            if image["id"] not in said:
                continue
            labels = said[image["id"]]
            problem = SEVERAL if len(labels) > 1 else "names a category that the file does not list"
            path = str(image["file_name"])
            rows.append(
                {
                    "place": f"{file.name}, {path}",
                    "label": next(iter(labels)) if len(labels) == 1 else None,
                    "path": path,
                    "sample_id": image.get("sample_id"),
                    "file": beside(path, *(file.parent / name for name in IMAGES)),
                    "problem": problem if len(labels) > 1 or None in labels else None,
                }
            )
    return Brought(origin, filled(rows), content_first=True)


def write_coco(labels: pd.DataFrame, folder: Path, class_names: Sequence[str]) -> None:
    """Write ``images/`` with ``train.json`` and ``holdout.json`` beside it."""
    numbers = {name: number for number, name in enumerate(class_names, start=1)}
    for split, rows in labels.groupby("split"):
        images, annotations = [], []
        for number, row in enumerate(rows.itertuples(index=False), start=1):
            name = place_image(row.uri, folder / "images", row.sample_id)
            with Image.open(folder / "images" / name) as image:
                width, height = image.size
            size = {"width": width, "height": height}
            images.append({"id": number, "file_name": f"images/{name}", "sample_id": row.sample_id} | size)
            annotations.append({"id": number, "image_id": number, "category_id": numbers[row.label]})
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
