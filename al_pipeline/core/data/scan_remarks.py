"""What is to be thought of before anybody labels, in sentences: what may be meant otherwise than it is taken."""

import os
from collections.abc import Iterator, Sequence

import pandas as pd

from al_pipeline.core.data.conversions import CHANNELS
from al_pipeline.core.data.folder_names import PLACES, counted, quoted
from al_pipeline.core.data.groups import NEAR_DUPLICATES, NONE, places, torn_groups, without_group
from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.kinds import HEAD, READ, kind_of
from al_pipeline.core.data.layout import MOST_UNKNOWN
from al_pipeline.core.data.levels import FEW_LEVELS, Levels, Note, pool_levels
from al_pipeline.core.data.patients import about_patients
from al_pipeline.core.data.places import Place, Root, below
from al_pipeline.core.data.reading import TO_READ
from al_pipeline.core.data.shown import Shown

# Pixels of a side below which nobody sees anything.
SMALL = 8
# What a link leads to may lie outside of the folder.
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


def remarks(
    usable: pd.DataFrame, root: Root, rule: str, unknown: Sequence[str], shown: Shown | None, how: HowRead | None
) -> Iterator[str]:
    """Yield what is to be said of a scan.

    Parameters
    ----------
    usable : DataFrame
        Rows of the manifest that are not set aside.
    root, rule, how
        As for `report.describe`.
    unknown : sequence of str
        Files, below `root`, of whose kind their names tell nothing.
    shown : Shown, optional
        How the images are shown.
    """
    yield from _about_names(root, unknown)
    yield from _about_groups(usable, root, rule)
    yield from _about_levels(usable, root, how.levels if how else None)
    yield from _about_small(usable, root)
    yield from _about_channels(shown, how.channels if how else ())


def _about_names(root: Root, unknown: Sequence[str]) -> Iterator[str]:
    """Yield which files are pictures by their first bytes, whatever their names say: they are not in the pool."""
    kinds = dict[str, list[str]]()
    for path in unknown:
        try:
            kind = kind_of(_head(root, path))
        except OSError:
            continue
        if kind in READ:
            kinds.setdefault(kind, []).append(path)
    for kind, paths in kinds.items():
        number = f"{len(paths):,} or more files are" if len(unknown) == MOST_UNKNOWN else _are(len(paths), "file")
        yield (
            f"{number} {kind} by content, and not by name, so that nobody reads them, for example {paths[0]}: give "
            f"them a suffix ({READ[kind][0]})"
        )


def _head(root: Root, path: str) -> bytes:
    """Return the first bytes of a file; OSError if it cannot be read, or is a link."""
    if isinstance(root, Place):
        with root.open(path) as object_:
            return object_.read(HEAD)
    file = os.open(root / path, TO_READ | NO_LINKS)
    try:
        return os.read(file, HEAD)
    finally:
        os.close(file)


def _are(number: int, what: str) -> str:
    return f"{counted(number, what)} {'is' if number == 1 else 'are'}"


def _about_groups(usable: pd.DataFrame, root: Root, rule: str) -> Iterator[str]:
    if "group" not in usable:
        return
    if rule not in {NEAR_DUPLICATES, NONE} and len(usable) > 1 and usable["group"].is_unique:
        yield f"AL_GROUP {rule!r} puts no two of the {len(usable):,} images together: does it match their paths?"
    elif rule == NEAR_DUPLICATES and (found := places(usable, root)) is not None:
        better, names = found
        yield (
            f"The folders {quoted(names)} look like {PLACES}. What the images of one share teaches the network what is "
            f"tested with its others, unless they are held out together: AL_GROUP='{better}'"
        )
    elif rule == NEAR_DUPLICATES:
        yield from about_patients(usable)
    elif alone := without_group(usable, root, rule):
        yield (
            f"AL_GROUP {rule!r} gives {len(alone):,} of the {len(usable):,} images no group, for example "
            f"{below(alone[0], root)}: each is taken for a group of its own"
        )
    if torn := torn_groups(usable):
        tests = (usable["split"] == "holdout").sum()
        # The split that the images bring is theirs: it is told, and not repaired.
        yield (
            f"{len(torn):,} of the {tests:,} images in the test split share a group with images of the pool, as "
            f"{torn[0]} does: what is measured on them flatters. Move whole groups, or remove the test split to have "
            "one drawn"
        )


def few_levels(usable: pd.DataFrame, levels: Levels | None = None) -> pd.DataFrame:
    """Return the rows of pictures with fewer than `FEW_LEVELS` gray levels, and how many as ``gray_levels``.

    Those of files with more than 8 bits: with so few they lie in a part of the range, and look black, white or plain.
    """
    if "levels" not in usable:
        return usable.assign(gray_levels=0).head(0)
    noted = usable[usable["levels"].map(bool).to_numpy(dtype=bool)]
    notes = [Note.unpacked(packed) for packed in noted["levels"]]
    levels = pool_levels(notes) if levels is None else levels
    noted = noted.assign(gray_levels=[each.gray_levels(levels) for each in notes])
    return noted[noted["gray_levels"] < FEW_LEVELS]


def _about_levels(usable: pd.DataFrame, root: Root, levels: Levels | None) -> Iterator[str]:
    if len(few := few_levels(usable, levels)):
        first = few.iloc[0]
        yield (
            f"{counted(len(few), 'image')} of more than 8 bits {'has' if len(few) == 1 else 'have'} fewer than "
            f"{FEW_LEVELS} gray levels, for example {below(first['uri'], root)} with {first['gray_levels']}: if they "
            "look black, AL_WHITE=percentile leaves out hot pixels, and a number says what is white"
        )


def _about_small(usable: pd.DataFrame, root: Root) -> Iterator[str]:
    small = usable[usable[["width", "height"]].min(axis=1) < SMALL]
    if len(small):
        yield (
            f"{_are(len(small), 'image')} less than {SMALL} pixels wide or high, "
            f"for example {below(small['uri'].iloc[0], root)}: if they are no pictures (a page's tracking pixels, "
            "separators), remove them"
        )


def _about_channels(shown: Shown | None, chosen: tuple[int, ...]) -> Iterator[str]:
    if shown and not chosen and (number := shown.why.get(CHANNELS)):
        yield (
            f"{counted(number, 'image')} {'has' if number == 1 else 'have'} more channels than colours and opacity: "
            "the first three are shown as red, green and blue, of two the first as gray. AL_CHANNELS chooses others"
        )
