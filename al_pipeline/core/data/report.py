"""What a folder of images holds, in facts and in words: the same for the terminal, for Dagster and for a page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pandas as pd

from al_pipeline.core.data.conversions import IGNORED
from al_pipeline.core.data.folder_names import counted
from al_pipeline.core.data.groups import NEAR_DUPLICATES
from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.places import Root, below, start_of
from al_pipeline.core.data.scan_remarks import remarks
from al_pipeline.core.data.shown import Shown, how_shown

UNLABELED = "no class"
# Names of a kind that are told; how many more there are follows.
SHOWN = 5
MOST_REASONS = 12
# Begins a reason of `pool.scan`.
SEVERAL_LABELS = "the same image under the labels"


class Listed(Protocol):
    """What is known of the files that are not in the manifest.

    Attributes
    ----------
    left_out : mapping
        Reason → folder → number of image files there, 0 for a folder that was not looked into.
    sidecars : mapping
        Suffix → number of files that are no images.
    remarks : sequence of str
        What may be meant otherwise, in sentences.
    unknown : sequence of str
        Some of the files, below the folder of images, that are no images by their names and may be some.
    """

    @property
    def left_out(self) -> Mapping[str, Mapping[str, int]]: ...
    @property
    def sidecars(self) -> Mapping[str, int]: ...
    @property
    def remarks(self) -> Sequence[str]: ...
    @property
    def unknown(self) -> Sequence[str]: ...


class SetAside(NamedTuple):
    """Files that are not used for one reason, and the first of them, below the folder of images, with its details."""

    reason: str
    files: int
    example: str


class LeftOut(NamedTuple):
    """Folders that are left out for one reason, the largest first, with how many images there were seen in them."""

    reason: str
    images: int
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Groups:
    """How images belong together; an image that is alone is a group too.

    Attributes
    ----------
    rule : str
        As the setting `group` has it.
    groups : int
    several : int
        Groups of more than one image.
    images : int
        Images in those.
    largest : int
        Images in the largest.
    """

    rule: str
    groups: int
    several: int
    images: int
    largest: int


@dataclass(frozen=True)
class Report:
    """What a scan found.

    Attributes
    ----------
    root : Path or Place
    counts : DataFrame
        Columns ``pool``, ``holdout`` and ``total``, images by class, the largest first; images without one come last,
        as `UNLABELED`.
    unlabeled : bool
        Whether there are such.
    formats : dict of str to int
        The most frequent first.
    shown : Shown, optional
        None if the manifest does not know.
    sizes : str
        Width × height of the smallest, the usual and the largest image, in words; "" without images.
    bytes : int
    set_aside : list of SetAside
        The most frequent reason first.
    groups : Groups, optional
        None if the manifest knows no groups.
    same_look : int
        Images whose perceptual hash another image has too; of any of them all but one.
    taken : tuple of str
        Day of the first and the last photo whose file tells it; empty if none does.
    left_out : list of LeftOut
    sidecars : dict of str to int
    remarks : list of str
    """

    root: Root
    counts: pd.DataFrame
    unlabeled: bool
    formats: dict[str, int]
    shown: Shown | None
    sizes: str
    bytes: int
    set_aside: list[SetAside]
    groups: Groups | None
    same_look: int
    taken: tuple[str, ...]
    left_out: list[LeftOut]
    sidecars: dict[str, int]
    remarks: list[str]

    @property
    def pool(self) -> int:
        """Images that may be labeled."""
        return int(self.counts["pool"].sum())

    @property
    def holdout(self) -> int:
        """Images of the test split that the folder brings."""
        return int(self.counts["holdout"].sum())

    @property
    def classes(self) -> list[str]:
        """Names of the class folders, the largest first."""
        return self.counts.index[: len(self.counts) - self.unlabeled].tolist()

    @property
    def excluded(self) -> int:
        """Files that are set aside."""
        return sum(each.files for each in self.set_aside)

    @property
    def title(self) -> str:
        """How many images there are, and where."""
        return f"{counted(self.pool + self.holdout, 'image')} in {self.root}"

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what is told beside the counts, as a subject and its words."""
        if names := self.classes:
            numbers = self.counts["total"].iloc[: len(names)]
            fewest, most = int(numbers.min()), int(numbers.max())
            each = f"{counted(most, 'image')} each" if fewest == most else f"{fewest:,} to {most:,} images"
            yield "classes", f"{len(names):,}, with {each}"
        if self.sizes:
            yield "sizes", f"{self.sizes}; {self.bytes / 1e6:,.1f} MB"
            yield "formats", _numbers(self.formats)
        if self.shown and self.shown.converted:
            told = f"{self.shown.as_stored:,} as they are; {self.shown.converted:,} converted"
            yield "shown", f"{told}: {_numbers(self.shown.why)}"
        if self.shown and self.shown.ignored:
            yield "colours", f"{counted(self.shown.ignored, 'image')} with {IGNORED}: taken for sRGB"
        if self.shown and self.shown.stacks:
            yield "stacks", self.shown.stacks
        if self.taken:
            yield "taken", " to ".join(dict.fromkeys(self.taken))
        if found := self.groups:
            told = f"{counted(found.groups, 'group')} by {found.rule}"
            if found.several:
                told += (
                    f"; {found.several:,} of several images, {found.images:,} in all, the largest of {found.largest:,}"
                )
            yield "groups", told
        if self.same_look and (self.groups is None or self.groups.rule != NEAR_DUPLICATES):
            yield "near-duplicates", f"{counted(self.same_look, 'image')} with the look of another (perceptual hash)"
        for each in self.left_out:
            number = f"{counted(each.images, 'image')}, " if each.images else ""
            yield "left out", f"{number}{each.reason}: {some(each.folders)}"
        if self.sidecars:
            kinds = [f"{suffix} {number:,}" for suffix, number in self.sidecars.items()]
            yield "other files", some(kinds)


def describe(
    manifest: pd.DataFrame,
    root: Root,
    listed: Listed | None = None,
    *,
    rule: str = NEAR_DUPLICATES,
    how: HowRead | None = None,
) -> Report:
    """Return what a scan found.

    Parameters
    ----------
    manifest : DataFrame
        As `pool.scan` returns it, also of an older version: then ``group`` and ``taken`` may be missing.
    root : Path or Place
        The scanned folder.
    listed : Listed, optional
        What is known of the files that are not in the manifest.
    rule : str
        By which ``group`` was made.
    how : HowRead, optional
        How files are read; by default as ever, with the levels that `pool_levels` finds.
    """
    usable = manifest[manifest["split"] != "excluded"]
    shown = how_shown(usable, how.plane if how else "first")
    counts = _counts(usable)
    left_out = [
        LeftOut(reason, sum(places.values()), tuple(sorted(places, key=lambda place: (-places[place], place))))
        for reason, places in (listed.left_out if listed else {}).items()
    ]
    sidecars = dict(listed.sidecars) if listed else {}
    return Report(
        root=root,
        counts=counts,
        unlabeled=bool(usable["label"].isna().any()),
        formats=usable["format"].value_counts().to_dict(),
        shown=shown,
        sizes=_sizes(usable),
        bytes=int(usable["bytes"].sum()),
        set_aside=_set_aside(manifest[manifest["split"] == "excluded"], root),
        groups=_groups(usable, rule),
        same_look=int(usable.loc[usable["phash"] != "", "phash"].duplicated().sum()),
        taken=_taken(usable),
        left_out=sorted(left_out, key=lambda each: (-each.images, each.reason)),
        sidecars=dict(sorted(sidecars.items(), key=lambda item: (-item[1], item[0]))),
        remarks=[
            *(listed.remarks if listed else []),
            *remarks(usable, root, rule, listed.unknown if listed else [], shown, how),
        ],
    )


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def _counts(usable: pd.DataFrame) -> pd.DataFrame:
    labeled = usable.dropna(subset="label")
    counts = pd.crosstab(labeled["label"], labeled["split"]).reindex(columns=["pool", "holdout"], fill_value=0)
    counts["total"] = counts.sum(axis=1)
    # A stable sort of what is sorted by name.
    counts = counts.sort_values("total", ascending=False, kind="stable")
    rest = usable.loc[usable["label"].isna(), "split"].value_counts()
    if len(rest):
        row = [int(rest.get("pool", 0)), int(rest.get("holdout", 0)), int(rest.sum())]
        # A class may have this very name: then there are two rows of it, and the last is that of no class.
        counts = pd.concat([counts, pd.DataFrame([row], index=[UNLABELED], columns=counts.columns)])
    return counts.astype(int)


def _numbers(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _sizes(usable: pd.DataFrame) -> str:
    if usable.empty:
        return ""
    sizes = usable[["width", "height"]].value_counts()
    (width, height), number = sizes.index[0], int(sizes.iloc[0])
    if len(sizes) == 1:
        return f"all {width} × {height} px"
    pixels = usable["width"] * usable["height"]
    ends = [usable.loc[row, ["width", "height"]].tolist() for row in (pixels.idxmin(), pixels.idxmax())]
    told = " to ".join(f"{w} × {h}" for w, h in ends)
    # Where most sizes are different, the most frequent one says nothing.
    often = f", {number:,} of {width} × {height}" if number > len(usable) / 10 else f", {len(sizes):,} different ones"
    return f"{told} px{often}"


def _set_aside(excluded: pd.DataFrame, root: Root) -> list[SetAside]:
    start = start_of(root)
    kinds = excluded["reason"].map(lambda reason: _kind(reason, start)[0])
    found = excluded.groupby(kinds, sort=True)[["uri", "reason"]].agg(["size", "first"])
    rows = [
        SetAside(kind, int(files), f"{below(uri, root)}{_kind(reason, start)[1]}")
        for kind, files, uri, _, reason in found.itertuples()
    ]
    rows.sort(key=lambda each: -each.files)
    # Damaged files have as many reasons as there are ways to be damaged.
    kept, rest = rows[:MOST_REASONS], rows[MOST_REASONS:]
    return kept + [SetAside("other reasons", sum(each.files for each in rest), first.example) for first in rest[:1]]


def _kind(reason: str, root: str) -> tuple[str, str]:
    """Return a reason without what differs from file to file, and that, to stand behind a file's name."""
    told, other, path = reason.partition(root)
    if other:
        name = path.removesuffix(" in other bytes")
        return f"{told}another file{' in other bytes' * (name != path)}", f" ({name})"
    if told.startswith(SEVERAL_LABELS):
        return "the same image under several labels: keep it under one", ""
    # "too large: 9000 × 9000 pixels, the limit is …", "cut off (43 % of the rows are whole): …"
    parts = re.compile(r"(\d+ × \d+ pixels), | \((\d+[^)]*)\)")
    details = "; ".join(one or other for one, other in parts.findall(told))
    return parts.sub("", told), f" ({details})" if details else ""


def _groups(usable: pd.DataFrame, rule: str) -> Groups | None:
    if "group" not in usable or usable["group"].isna().all():
        return None
    sizes = usable["group"].value_counts()
    several = sizes[sizes > 1]
    return Groups(rule, len(sizes), len(several), int(several.sum()), int(sizes.max()))


def _taken(usable: pd.DataFrame) -> tuple[str, ...]:
    if "taken" not in usable or usable["taken"].isna().all():
        return ()
    days = usable["taken"].dropna().str[:10]
    return days.min(), days.max()
