"""Grids: several images in one task, each with its own answer and its own keys."""

from collections.abc import Sequence
from math import isqrt
from typing import Any

from al_pipeline.core.labels.annotation import control
from al_pipeline.labelstudio.events import SAMPLES

# Label Studio has no key of its own on these (h pans, u unselects, v moves, x cuts).
ROWS = ("1234567890", "qwertyiop", "asdfgjkl", "zcbnm")
KEYS = "".join(ROWS)
# The pixels of a page that are no picture's: of its bars, and of the line of choices below each row, whose margin is
# made smaller.
BARS, CHOICES_LINE, MARGIN = 130, 52, 16


def layout(grid: int) -> str:
    """Return CSS by which a grid fits the page, whatever shapes its pictures have.

    Nothing in it depends on what has loaded: Label Studio measures each picture once. Places without one, which a task
    leaves empty, keep their room. It takes no ">".
    """
    side = isqrt(grid)
    return f"""
.cells {{ display: grid; gap: 0 8px; grid-template-columns: repeat({side}, minmax(0, 1fr)) }}
.cells {{ --height: calc((100vh - {BARS + CHOICES_LINE * side}px) / {side}) }}
.cell {{ margin-bottom: -{MARGIN}px }} .cell .lsf-toolbar {{ display: none }}
.cell:not(:has(img)) {{ visibility: hidden }}
"""


def cell_keys(count: int, grid: int) -> list[str]:
    """Return the keys of each image of a grid.

    A row of images has a row of the keyboard, or else the keys follow one another.

    Parameters
    ----------
    count : int
        Keys that each image needs.
    grid : int
        How many images there are: 4 or 9.
    """
    side = isqrt(grid)
    rows = ROWS[:side]
    if count * side <= min(map(len, rows)):
        return [row[place * count : (place + 1) * count] for row in rows for place in range(side)]
    return [KEYS[place * count : (place + 1) * count] for place in range(grid)]


def as_grids(tasks: Sequence[dict[str, Any]], grid: int, cells: int) -> list[dict[str, Any]]:
    """Return tasks about one image each as tasks about several, in their order.

    Parameters
    ----------
    tasks : sequence of dict
        As of `config.payload`.
    grid : int
        How many images a task shows; the last one shows the rest.
    cells : int
        How many the project's labeling interface has place for.
    """
    if cells == 1:
        return list(tasks)
    size = min(grid, cells)
    parts = [tasks[begin : begin + size] for begin in range(0, len(tasks), size)]
    return [_together(part, cells) for part in parts]


def _together(tasks: Sequence[dict[str, Any]], cells: int) -> dict[str, Any]:
    """Return one task of several; a single one stays as it is, but for the places that it leaves empty.

    Label Studio takes no task that leaves out a key of its interface.
    """
    data = [task["data"] for task in tasks]
    images = [one["image"] for one in data] + [""] * (cells - len(data))
    places = {control("image", cell): image for cell, image in enumerate(images, 1)}
    if len(tasks) == 1:
        return tasks[0] | {"data": data[0] | places}
    return {"data": places | {SAMPLES: [one["sample_id"] for one in data], "round": data[0]["round"]}}
