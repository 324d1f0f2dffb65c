"""Which files are the same picture: the same bytes, the same pixels in other bytes, the same turned without loss."""

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import pandas as pd

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.reading import turned_hashes
from al_pipeline.core.errors import ImageError

# The first 128 bits of a file's SHA-256, as text.
SAMPLE_ID = re.compile(r"[0-9a-f]{32}")
# Turning without loss cuts at most a few pixels off the edges. Unrelated pictures are 32 bits apart, give or take 4.
TURNED_BITS = 4
PIECE = 10_000


class KnownPictures(Protocol):
    """By what pictures are known: file id → sample id, and hash of the pixels → sample id."""

    @property
    def files(self) -> Mapping[str, str]: ...
    @property
    def pixels(self) -> Mapping[str, str]: ...


def name_samples(
    manifest: pd.DataFrame,
    known: KnownPictures | None = None,
    before: pd.DataFrame | None = None,
    how: HowRead = AS_EVER,
) -> pd.Series:
    """Return the sample id of each file: that of the picture, by which bytes it was known first.

    A file has the id that its bytes are known by; else its pixels, in an earlier scan or in another file of this one;
    else that of the known picture that it has replaced in the same place, if it is that one turned or mirrored; else
    its own file id.

    Parameters
    ----------
    manifest : DataFrame
        ``file_id, pixels, uri, width, height``, in the order of the paths; ids are None where nothing was read.
    known : KnownPictures, optional
    before : DataFrame, optional
        An earlier manifest: ``sample_id, uri, split, width, height, phash``.
    how : HowRead
        How files are read.
    """
    files = manifest["file_id"].to_numpy(dtype=object)
    by_bytes: Mapping[str, str] = {} if known is None else known.files
    by_pixels: Mapping[str, str] = {} if known is None else known.pixels
    named: list[str | None] = [None if file is None else by_bytes.get(file) for file in files]
    # Most pixels are seen once: of a million files a dictionary of them all would be a tenth of the memory.
    hashes = np.fromiter(map(hash, _values(manifest["pixels"])), np.int64, len(manifest))
    seen_again = pd.Series(hashes).duplicated(keep=False).to_numpy()
    of_pixels: dict[str, str] = {}
    for name, pixels, again in zip(named, _values(manifest["pixels"]), seen_again, strict=True):
        if again and name is not None and pixels is not None:
            of_pixels.setdefault(pixels, name)
    turned = {} if known is None or before is None else _turned(manifest, named, before, how)
    for row, (pixels, again) in enumerate(zip(_values(manifest["pixels"]), seen_again, strict=True)):
        if named[row] is not None:
            continue
        name = None if pixels is None else by_pixels.get(pixels) or of_pixels.get(pixels)
        name = name or turned.get(row) or files[row]
        if again and pixels is not None and name is not None:
            name = of_pixels.setdefault(pixels, name)
        named[row] = name
    return pd.Series(named, index=manifest.index, dtype=object)


def _values(column: pd.Series) -> Iterator[str | None]:
    """Yield the texts of a column, which may lie in one block, as Python's: of all at once they would be 100 MB."""
    for first in range(0, len(column), PIECE):
        yield from column.iloc[first : first + PIECE].to_numpy(dtype=object, na_value=None)


def _turned(manifest: pd.DataFrame, named: list[str | None], before: pd.DataFrame, how: HowRead) -> dict[int, str]:
    """Return row → sample id of the files that have replaced a known picture by the same one, turned or mirrored."""
    there = {name for name in named if name is not None}
    gone = before[(before["split"] != "excluded") & ~before["sample_id"].isin(there)]
    places = {row.uri: row for row in gone.itertuples() if row.phash}
    found: dict[int, str] = {}
    for row, (uri, width, height) in enumerate(
        zip(manifest["uri"], manifest["width"], manifest["height"], strict=True)
    ):
        old = places.get(uri) if named[row] is None else None
        if old is None or (old.width, old.height) not in {(width, height), (height, width)}:
            continue
        try:
            hashes = turned_hashes(uri, how)
        except ImageError:
            # It was whole a moment ago, and the next scan looks at it again.
            continue
        if min((int(each, 16) ^ int(str(old.phash), 16)).bit_count() for each in hashes) <= TURNED_BITS:
            found[row] = str(old.sample_id)
    return found


def exclude_copies(manifest: pd.DataFrame) -> None:
    """Keep one file per picture, in place; a picture under several labels has no honest one."""
    used = manifest.loc[manifest["split"] != "excluded", "sample_id"]
    copies = manifest.loc[used.index[used.duplicated(keep=False)]]
    if copies.empty:
        return
    several = copies.groupby("sample_id")["label"].nunique() > 1
    unclear = copies[copies["sample_id"].map(several)]
    said = {
        sample: f"the same image under the labels {' and '.join(map(repr, sorted(labels.dropna().unique())))}: keep it "
        "under one"
        for sample, labels in unclear.groupby("sample_id")["label"]
    }
    manifest.loc[unclear.index, "reason"] = unclear["sample_id"].map(said)
    manifest.loc[unclear.index, "split"] = "excluded"
    copies = copies.drop(unclear.index)
    # The holdout goes first: an image in both splits would be trained on and tested with. Then those with a label.
    ranked = copies.assign(unlabeled=copies["label"].isna()).sort_values(["split", "unlabeled"], kind="stable")
    more = ranked["sample_id"].duplicated()
    kept = {row.sample_id: row for row in ranked[~more].itertuples()}
    others = ranked[more]
    manifest.loc[others.index, "reason"] = [_why(row, kept[row.sample_id]) for row in others.itertuples()]
    manifest.loc[others.index, "split"] = "excluded"


def _why(copy: tuple, kept: tuple) -> str:
    bytes_differ = copy.file_id != kept.file_id  # type: ignore[attr-defined]
    if copy.split != kept.split:  # type: ignore[attr-defined]
        return f"also in the holdout{', in other bytes' * bytes_differ}: {kept.uri}"  # type: ignore[attr-defined]
    return f"the same picture as {kept.uri} in other bytes" if bytes_differ else f"duplicate of {kept.uri}"  # type: ignore[attr-defined]
