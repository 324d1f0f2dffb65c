"""What came, went or changed in a folder of images since it was scanned: by names, sizes and moments alone."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import Root, start_of


class Stamp(NamedTuple):
    """What the folder itself tells of a file; all 0 of one that is not to be read.

    Of an object `mtime_ns` is the stamp of its etag, as the manifest has it, and `ctime_ns` when it was written.
    """

    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0


@dataclass(frozen=True)
class Changes:
    """How a folder differs from what was stored of it, in files.

    Attributes
    ----------
    came, went, changed : int
    known, present : int
        How many files were stored, and are there now.
    elsewhere : bool
        None of the files that were stored lies in this folder: it is another one, or has another name.
    touched : float
        Unix time at which the newest of those that came or changed was written; 0 if there is none.
    digest : str
        Of the whole listing: the same for the same names, sizes and moments in the same folder.
    """

    came: int
    went: int
    changed: int
    known: int
    present: int
    elsewhere: bool
    touched: float
    digest: str

    def __bool__(self) -> bool:
        """Say whether there is anything to scan for."""
        return bool(self.came or self.went or self.changed)

    @property
    def sentence(self) -> str:
        """What is told of them."""
        if not self:
            return f"as it was scanned, {_files(self.present)}"
        if self.elsewhere and self.known:
            return f"none of the {_files(self.known)} of the last scan lies in this folder, it holds {self.present}"
        told = {"came": self.came, "went": self.went, "changed": self.changed}
        return "since the last scan " + ", ".join(f"{_files(n)} {verb}" for verb, n in told.items() if n)


def stamps(root: Path, files: Iterable[tuple[str, str | None]]) -> dict[str, Stamp]:
    """Return the stamp of each file by its path, without opening any.

    Parameters
    ----------
    root : Path
    files : iterable of (str, str or None)
        Paths below `root`, and why one is not to be read, if so.
    """
    start, found = f"{root.resolve()}{os.sep}", dict[str, Stamp]()
    for path, problem in files:
        stamp = Stamp()
        if problem is None:
            try:
                status = os.stat(start + path)  # noqa: PTH116 - of 100,000 files
            except OSError:
                # A link to nowhere, or it went a moment ago; the scan tells of it.
                pass
            else:
                stamp = Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        # As the manifest has a name that is not UTF-8.
        found[os.fsencode(path).decode(errors="backslashreplace")] = stamp
    return found


def stamps_of_objects(objects: Mapping[str, Entry], paths: Iterable[str]) -> dict[str, Stamp]:
    """Return the stamp of each of these objects by its path."""
    return {path: Stamp((one := objects[path]).size, one.stamp, one.modified_ns) for path in paths}


def compare(manifest: pd.DataFrame, root: Root, found: Mapping[str, Stamp]) -> Changes:
    """Return what differs between a stored manifest and the files that are there now.

    Parameters
    ----------
    manifest : DataFrame
        As `scan` has returned it, also an older version, which knew no moments.
    root : Path or Place
    found : mapping of str to Stamp
        As `stamps` returns them.
    """
    base = start_of(root)
    moments = manifest["mtime_ns"] if "mtime_ns" in manifest else pd.Series(0, index=manifest.index)
    stored = {
        uri.removeprefix(base): (size, moment)
        for uri, size, moment in zip(manifest["uri"], manifest["bytes"], moments.fillna(0), strict=True)
    }
    came = found.keys() - stored.keys()
    changed = {name for name in found.keys() & stored.keys() if _differs(stored[name], found[name])}
    new = [found[name].ctime_ns for name in came | changed]
    lines = "\n".join(f"{name}\0{found[name].size}\0{found[name].mtime_ns}" for name in sorted(found))
    return Changes(
        came=len(came),
        went=len(stored.keys() - found.keys()),
        changed=len(changed),
        known=len(stored),
        present=len(found),
        elsewhere=not any(uri.startswith(base) for uri in manifest["uri"]),
        touched=max(new, default=0) / 1e9,
        digest=hashlib.sha256(f"{base}\n{lines}".encode()).hexdigest()[:32],
    )


def _differs(stored: tuple[int, int], now: Stamp) -> bool:
    # What was not known of a file when it was scanned is no difference.
    return any(was and was != is_ for was, is_ in zip(stored, now[:2], strict=True))


def _files(number: int) -> str:
    return f"{number:,} file{'s' * (number != 1)}"
