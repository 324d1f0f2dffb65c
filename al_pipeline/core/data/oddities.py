"""Images that are worth a look before anybody labels: look-alikes, the smallest, the longest, of rare kinds."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pandas as pd

from al_pipeline.core.data.folder_names import counted
from al_pipeline.core.data.levels import FEW_LEVELS, Levels
from al_pipeline.core.data.places import Root, below, start_of
from al_pipeline.core.data.report import SEVERAL_LABELS
from al_pipeline.core.data.scan_remarks import few_levels

# Of each kind; a page shows them as thumbnails.
MOST_ROWS, MOST_IN_GROUP = 8, 6
LONG = 3.0
# Of the usual number of pixels, whatever lies within this factor is as large as the others.
USUAL = 2
# A format of fewer than this share of the images is rare.
RARE = 0.05


@dataclass(frozen=True)
class Odd:
    """Images to be shown side by side, and what is to be said of them."""

    uris: list[str]
    text: str


@dataclass(frozen=True)
class Oddity:
    """A kind of what is odd.

    Attributes
    ----------
    title : str
    why : str
        A sentence for whoever looks at it.
    rows : list of Odd
        At most `MOST_ROWS`.
    """

    title: str
    why: str
    rows: list[Odd]


def oddities(manifest: pd.DataFrame, root: Root, levels: Levels | None = None) -> Iterator[Oddity]:
    """Yield the kinds that a manifest has, with the images that show them best.

    Parameters
    ----------
    manifest : DataFrame
        As `pool.scan` returns it.
    root : Path or Place
        The scanned folder.
    levels : Levels, optional
        Of the pool; what `pool_levels` finds by default.
    """
    usable, excluded = manifest[manifest["split"] != "excluded"], manifest[manifest["split"] == "excluded"]
    found = [
        _under_several_labels(excluded, root),
        _look_alikes(usable, root),
        _set_aside(excluded, root),
        _by_size(usable, root, smallest=True),
        _by_size(usable, root, smallest=False),
        _long(usable, root),
        _rare_formats(usable, root),
        _of_few_levels(usable, root, levels),
    ]
    yield from (oddity for oddity in found if oddity.rows)


def _under_several_labels(excluded: pd.DataFrame, root: Root) -> Oddity:
    rows = excluded[excluded["reason"].str.startswith(SEVERAL_LABELS)]
    return Oddity(
        "The same image under several labels",
        "None of them is used: nobody but you knows which label is right.",
        [
            Odd(copies["uri"].head(1).tolist(), _list(copies["uri"], root))
            for _, copies in islice(rows.groupby("sample_id", sort=False), MOST_ROWS)
        ],
    )


def _look_alikes(usable: pd.DataFrame, root: Root) -> Oddity:
    by = "group" if "group" in usable and usable["group"].notna().any() else "phash"
    known = usable[usable[by].notna() & (usable[by] != "")]
    sizes = known[by].value_counts()
    # The largest first, and of two alike the one whose files come first.
    largest = sizes[sizes > 1].sort_values(ascending=False, kind="stable").head(MOST_ROWS)
    rows = []
    for name, size in largest.items():
        uris = known.loc[known[by] == name, "uri"]
        more = f" and {size - MOST_IN_GROUP:,} more" if size > MOST_IN_GROUP else ""
        rows.append(Odd(uris.head(MOST_IN_GROUP).tolist(), f"{size:,} images: {_list(uris, root)}{more}"))
    return Oddity(
        "The largest groups" if by == "group" else "Images that look alike",
        "What belongs together is held out together, so that the test says what new images will bring."
        if by == "group"
        else "Their perceptual hashes are the same: frames of a burst, copies in another size, or plain pictures.",
        rows,
    )


def _set_aside(excluded: pd.DataFrame, root: Root) -> Oddity:
    shown = excluded[(excluded["width"] > 0) & ~excluded["reason"].str.startswith(SEVERAL_LABELS)]
    # One by one through the reasons, so that a frequent one does not hide the others.
    turns = shown.assign(turn=shown.groupby(shown["reason"].str[:12]).cumcount()).sort_values("turn", kind="stable")
    return Oddity(
        "Set aside, though they can be read",
        "They are copies of images that are used.",
        [_one(row, root, row.reason.replace(start_of(root), "")) for row in turns.head(MOST_ROWS).itertuples()],
    )


def _by_size(usable: pd.DataFrame, root: Root, *, smallest: bool) -> Oddity:
    pixels = usable["width"] * usable["height"]
    title = "The smallest images" if smallest else "The largest images"
    usual = pixels.median()
    rows = usable.assign(pixels=pixels)[pixels < usual / USUAL if smallest else pixels > usual * USUAL]
    rows = rows.sort_values("pixels", ascending=smallest, kind="stable").head(MOST_ROWS)
    why = (
        "Thumbnails and icons among photos?" if smallest else "They take longest to read; the network sees them small."
    )
    return Oddity(title, why, [_one(row, root) for row in rows.itertuples()])


def _long(usable: pd.DataFrame, root: Root) -> Oddity:
    sides = usable[["width", "height"]]
    ratio = sides.max(axis=1) / sides.min(axis=1).clip(lower=1)
    rows = usable.assign(ratio=ratio)[ratio >= LONG].sort_values("ratio", ascending=False, kind="stable")
    return Oddity(
        "The longest images",
        f"One side is {LONG:g} times the other or more: panoramas, strips, screenshots. The network sees a square.",
        [_one(row, root) for row in rows.head(MOST_ROWS).itertuples()],
    )


def _rare_formats(usable: pd.DataFrame, root: Root) -> Oddity:
    numbers = usable["format"].map(usable["format"].value_counts())
    rows = usable.assign(number=numbers)[numbers < RARE * len(usable)].sort_values("number", kind="stable")
    return Oddity(
        "Rare formats",
        f"Of a format that fewer than {RARE:.0%} of the images have: exports of another tool, screenshots?",
        [_one(row, root, row.format) for row in rows.head(MOST_ROWS).itertuples()],
    )


def _of_few_levels(usable: pd.DataFrame, root: Root, levels: Levels | None) -> Oddity:
    rows = few_levels(usable, levels).sort_values("gray_levels", kind="stable")
    return Oddity(
        "Few gray levels",
        f"Of more than 8 bits, and fewer than {FEW_LEVELS} shades are left: dark, or with a hot pixel. AL_WHITE "
        "says what is white.",
        [_one(row, root, counted(row.gray_levels, "gray level")) for row in rows.head(MOST_ROWS).itertuples()],
    )


def _one(row: Any, root: Root, said: str = "") -> Odd:
    size = f"{row.width} × {row.height} px" if row.width else ""
    return Odd([row.uri], " · ".join(filter(None, [below(row.uri, root), size, said])))


def _list(uris: pd.Series, root: Root) -> str:
    return ", ".join(below(uri, root) for uri in uris.head(MOST_IN_GROUP))
