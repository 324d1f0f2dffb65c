"""The labeling interface: one image, one choice, a hotkey per class; and the tasks that it shows."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from xml.etree import ElementTree

from al_pipeline.core.labels.annotation import CHOICES

IMAGE = "image"
# Label Studio has no key of its own on these (h pans, u unselects, v moves, x cuts); classes beyond them are chosen by
# mouse or through the filter.
HOTKEYS = "1234567890qwertyiopasdfgjklzcbnm"
MANY = 20
BESIDE = "display: flex; gap: 1em; align-items: flex-start"
COLUMN = "flex: 1; max-height: 80vh; overflow-y: auto"
LOCAL_FILES = "/data/local-files/?d="
# The folder of published images, relative to the root that Label Studio serves files from.
IMAGE_FOLDER = "images"


def hotkeys(class_names: Sequence[str]) -> dict[str, str]:
    """Return the hotkey of each class that has one; a digit keeps its own key."""
    own = {name: name for name in class_names if len(name) == 1 and name.isdigit()}
    left = iter(key for key in HOTKEYS if key not in own.values())
    keys = {name: own.get(name) or next(left, None) for name in class_names}
    return {name: key for name, key in keys.items() if key is not None}


def label_config(class_names: Sequence[str]) -> str:
    """Return Label Studio's XML for these classes.

    The choice is required: with a prediction shown, its hotkey takes the choice away, and an empty answer would be
    stored otherwise.
    """
    left = right = view = ElementTree.Element("View")
    if many := len(class_names) > MANY:
        # Below the image they would be out of sight: they get a column of their own, with a box to filter them.
        beside = ElementTree.SubElement(view, "View", style=BESIDE)
        left = ElementTree.SubElement(beside, "View", style="flex: 3; min-width: 0")
        right = ElementTree.SubElement(beside, "View", style=COLUMN)
        ElementTree.SubElement(right, "Filter", toName=CHOICES, hotkey="shift+f", minlength="0", name="filter")
    ElementTree.SubElement(left, "Image", name=IMAGE, value="$image", zoom="true", zoomControl="true")
    inline = "false" if many else "true"
    choices = ElementTree.SubElement(
        right, "Choices", name=CHOICES, toName=IMAGE, choice="single-radio", required="true", showInline=inline
    )
    keys = hotkeys(class_names)
    for name in class_names:
        attributes = {"value": name} | ({"hotkey": keys[name]} if name in keys else {})
        ElementTree.SubElement(choices, "Choice", attrib=attributes)
    return ElementTree.tostring(view, encoding="unicode")


def classes_in(config: str) -> list[str]:
    """Return the classes of a label config, none if it is not ours."""
    try:
        root = ElementTree.fromstring(config)  # noqa: S314 (our own project's config)
    except ElementTree.ParseError:
        return []
    return [choice.attrib["value"] for choice in root.iter("Choice") if "value" in choice.attrib]


def instructions(class_names: Sequence[str]) -> str:
    """Return the HTML that annotators see before they start."""
    keys = hotkeys(class_names)
    rows = "".join(
        f"<li><b>{escape(name)}</b>{f' – key <code>{keys[name]}</code>' if name in keys else ''}</li>"
        for name in class_names
    )
    return (
        "<p>Choose the one class that the image shows, then press <code>Ctrl+Enter</code> (Submit). "
        "If you cannot tell, press <b>Skip</b>: a skip is never used as a label and you are not asked again.</p>"
        f"<ul>{rows}</ul>"
    )


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
    data = {"image": f"{LOCAL_FILES}{IMAGE_FOLDER}/{image_name}", "sample_id": row["sample_id"], "round": round_key}
    task: dict[str, Any] = {"data": data}
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
