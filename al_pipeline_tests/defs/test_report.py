"""An image in metadata is the image."""

import base64
import re

from al_pipeline.core.evaluation.figures import loss_curve
from al_pipeline.defs.metadata import for_people, picture, png_markdown


def test_an_image_in_markdown_is_the_image() -> None:
    png = loss_curve([1.0, 0.5])
    found = re.fullmatch(r"!\[loss\]\(data:image/png;base64,(.*)\)", png_markdown(png, "loss"))
    assert found is not None
    assert base64.b64decode(found[1]) == png
    assert picture(png, "loss").value == png_markdown(png, "loss")


def test_pictures_come_first_and_numbers_are_rounded() -> None:
    told = for_people({"accuracy": 0.9333333333333333, "labels": 8, "curve": picture(b"png", "a curve"), "note": "x"})
    assert list(told) == ["curve", "accuracy", "labels", "note"]
    assert (told["accuracy"], told["labels"]) == (0.9333, 8)
