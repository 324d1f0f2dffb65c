"""How many images are shown as they are stored, why others are converted, and what is taken of stacks."""

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from al_pipeline.core.data.conversions import IGNORED
from al_pipeline.core.data.folder_names import counted
from al_pipeline.core.data.how_read import Plane
from al_pipeline.core.data.stacks import FORMATS

TAKEN = {"first": "the first is taken", "middle": "the middle one is taken", "max": "the brightest of all is taken"}


@dataclass(frozen=True)
class Shown:
    """How many images are shown and learned from as they are stored, and why others are converted first.

    Attributes
    ----------
    as_stored, converted : int
        Images.
    why : dict of str to int
        Reason → images, the most frequent first; an image may have several.
    ignored : int
        Images that say something about their colours that cannot be used.
    stacks : str
        How many images have several planes, and what is taken of them, in words; "" if none has.
    """

    as_stored: int
    converted: int
    why: dict[str, int]
    ignored: int
    stacks: str = ""


def how_shown(usable: pd.DataFrame, plane: Plane = "first") -> Shown | None:
    """Return how the images of a manifest are shown, None if it is of a version that does not tell.

    Parameters
    ----------
    usable : DataFrame
        Rows of the manifest that are not set aside.
    plane : str or int
        By which stacks were read, as `HowRead.plane`.
    """
    if "notes" not in usable or usable["notes"].isna().any():
        return None
    # Of a million images most say the same.
    why, converted, ignored = Counter[str](), 0, 0
    for notes, images in usable["notes"].value_counts().items():
        reasons = set(filter(None, str(notes).split(",")))
        ignored += int(images) * (IGNORED in reasons)
        converted += int(images) * bool(reasons - {IGNORED})
        why.update(dict.fromkeys(reasons - {IGNORED}, int(images)))
    return Shown(
        as_stored=len(usable) - converted,
        converted=converted,
        why=dict(sorted(why.items(), key=lambda item: (-item[1], item[0]))),
        ignored=ignored,
        stacks=_stacks(usable, plane),
    )


def _stacks(usable: pd.DataFrame, plane: Plane) -> str:
    if "planes" not in usable:
        return ""
    planes = usable.loc[usable["format"].isin(FORMATS) & (usable["planes"] > 1), "planes"]
    if planes.empty:
        return ""
    fewest, most = planes.min(), planes.max()
    number = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    taken = f"that of number {plane}, from 0, is taken" if isinstance(plane, int) else TAKEN[plane]
    return f"{counted(len(planes), 'image')} of {number} planes: {taken} (AL_PLANE)"
