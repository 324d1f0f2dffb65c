"""Whose image is there, and why the others' is not: the one place that answers for training, testing and asking.

People delete, move and overwrite files while the loop runs. What the last scan has found is the rule: who is gone since
it, is gone. Between two scans, and within a round, a file may vanish too: whoever has to read it learns so here.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.known_pool import Subset, known_pool
from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import Place, entries_of, is_address
from al_pipeline.core.data.reading import read_file
from al_pipeline.core.errors import ALError, ImageError, PlaceError
from al_pipeline.loop.copies import Copies
from al_pipeline.loop.how_read import how_of_home

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment
    from al_pipeline.settings import Settings

Result = TypeVar("Result")
# Files of which some share may be away before that is taken for a disk that is: of fewer it says nothing.
FEW = 10
# Why a label is not trained on although its image is there.
MATE = "it belongs to a group of the holdout (AL_GROUP): whoever has seen it knows what is tested with"
NEVER_SCANNED = "no scan has found it in the folder of images"
DELETED = "its file is gone"
REPLACED = "its file is another picture by now"
SCAN = "put it back, or launch the job `setup`, which scans the images again"


class ImagesAwayError(ALError):
    """So many images are away that it is their folder that is: nothing is wrong with the labels."""


@dataclass(frozen=True)
class Presence:
    """Samples whose image is there, in the order they were asked for, and of the others where it was and why not."""

    there: Sequence[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def sentence(self, what: str) -> str:
        """Return who is absent in a sentence: how many, and the first of them with the reason."""
        first = "; ".join(list(self.absent.values())[:3])
        more = f" and {len(self.absent) - 3} more" if len(self.absent) > 3 else ""
        return f"{len(self.absent)} {what} without an image that can be used: {first}{more}"


class Files:
    """The files of the samples, as the last scan has found them.

    Parameters
    ----------
    manifest : DataFrame
        The image pool. One of an older version has no sizes and times; then a file that is there is taken for itself.
    deployment : Deployment, optional
        Its ledger knows where those were that the scan has not found, and its settings how many files may be away.
    """

    def __init__(self, manifest: pd.DataFrame, deployment: "Deployment | None" = None) -> None:
        self._pool = known_pool(manifest)
        self.uris: Mapping[str, str] = self._pool.column("uri")
        rows = self._pool.aside
        self._aside = {sample: (uri, str(reason)) for sample, uri, reason in rows if isinstance(sample, str)}
        # Of what could not be read nobody knows which picture it is.
        self._unread = {uri: str(reason) for sample, uri, reason in rows if not isinstance(sample, str)}
        self._deployment = deployment
        # Found out while reading.
        self._broken: dict[str, str] = {}

    @cached_property
    def _stored(self) -> dict[str, Mapping[str, Any]]:
        """What each file was when it was scanned; only whoever looks at files needs it."""
        return {name: self._pool.column(name) for name in ("bytes", "mtime_ns", "file_id", "pixels")}

    @cached_property
    def _how(self) -> HowRead:
        return AS_EVER if self._deployment is None else how_of_home(self._deployment.artifacts)

    def known(self, sample_ids: Iterable[str]) -> Presence:
        """Tell who was there at the last scan, without looking at any file."""
        ids = sample_ids if isinstance(sample_ids, Subset) else list(sample_ids)
        if not self._broken and (self._pool.places(ids) >= 0).all():
            return Presence(ids)
        there = self._pool.place
        absent = [i for i in ids if i not in there or i in self._broken]
        gone = set(absent)
        return Presence([i for i in ids if i not in gone] if gone else ids, self._why(absent))

    def look(self, sample_ids: Iterable[str], *, readable: Iterable[str] = ()) -> Presence:
        """Tell whose file is there now.

        Parameters
        ----------
        sample_ids : iterable of str
        readable : iterable of str
            Samples whose file need not be looked at: what is wanted of them is stored.

        Raises
        ------
        ImagesAwayError
            So many files are away that their folder must be.
        """
        found, stored = self.known(sample_ids), readable if isinstance(readable, Set) else set(readable)
        asked = [i for i in found.there if i not in stored]
        objects = self._objects(asked)
        wrong, looked_at = {i: why for i in asked if (why := self._wrong(i, objects)) is not None}, len(asked)
        if wrong and self._deployment is not None and self._away(len(wrong), looked_at, self._deployment.settings):
            raise ImagesAwayError(
                f"{len(wrong)} of {looked_at} images cannot be read, the first is {next(iter(wrong.values()))}: is "
                "their folder mounted? Nothing is stored; run this again when it is there. If they were deleted, "
                "launch the job `setup`, which scans the images again (AL_MAX_GONE_SHARE allows for more)"
            )
        return Presence([i for i in found.there if i not in wrong] if wrong else found.there, found.absent | wrong)

    def askable(self, sample_ids: Iterable[str]) -> Presence:
        """Tell who can be asked about: whose file is there, or is published already and needs no original.

        Raises
        ------
        ImagesAwayError
            As of `look`.
        """
        from al_pipeline.labelstudio.images import published

        ids = list(sample_ids)
        if self._deployment is None:
            return self.look(ids)
        folder = self._deployment.settings.published_images
        kept = {i for i in ids if published(i, folder) is not None}
        found = self.look(ids, readable=kept)
        if found.absent.keys() - kept:
            kept |= Copies(self._deployment.settings).samples
        absent = {i: why for i, why in found.absent.items() if i not in kept}
        return Presence([i for i in ids if i not in absent], absent)

    def work(
        self, sample_ids: Sequence[str], work: Callable[[Sequence[str]], Result], *, stored: Callable[[], Iterable[str]]
    ) -> tuple[Result, Presence]:
        """Do something with those whose image is there; if a file vanishes meanwhile, anew with the others.

        Parameters
        ----------
        sample_ids : sequence of str
        work : callable
            Is given those who are there.
        stored : callable
            Returns the samples of which everything that is wanted is stored.
        """
        while True:
            found = self.look(sample_ids, readable=stored())
            try:
                return work(found.there), found
            except ImageError:
                kept = set(stored())
                broken = {i: why for i in found.there if i not in kept and (why := self.damage(i)) is not None}
                if not broken:
                    raise
                self._broken |= broken

    @staticmethod
    def _away(wrong: int, looked_at: int, settings: "Settings") -> bool:
        """Say whether it is the folder that is away: a share that is not mounted is none, or an empty one."""
        return (looked_at >= FEW and wrong > settings.max_gone_share * looked_at) or is_away(settings)

    def _objects(self, samples: Sequence[str]) -> Mapping[str, Entry]:
        """Return what buckets tell of those samples that lie in one, by their addresses."""
        uris = [uri for uri in map(self.uris.__getitem__, samples) if is_address(uri)]
        try:
            return entries_of(uris) if uris else {}
        except PlaceError as error:
            raise ImagesAwayError(f"The images are away: {error} Nothing is stored; run this again then") from error

    def _wrong(self, sample: str, objects: Mapping[str, Entry] | None = None) -> str | None:
        """Return what is wrong with a sample's file, as far as its size and time tell; None if nothing is."""
        path = self.uris[sample]
        try:
            known = self._stored["bytes"].get(sample), self._stored["mtime_ns"].get(sample)
            if is_address(path):
                if (entry := (self._objects([sample]) if objects is None else objects).get(path)) is None:
                    return f"{path}: {DELETED}; {SCAN}"
                now = entry.size, entry.stamp
            else:
                status = Path(path).stat()
                now = status.st_size, status.st_mtime_ns
            if known[1] is None or now == known:
                return None
            # Touched, copied back, or with a tag written into it: only the bytes tell, or the pixels.
            found = read_file(path, time.time_ns(), self._how)
            same = found.file_id == self._stored["file_id"].get(sample, sample)
            same = same or (found.pixels is not None and found.pixels == self._stored["pixels"].get(sample))
            why = REPLACED if found.problem is None else found.problem
            return None if same else f"{path}: {why}; {SCAN}"
        except OSError as error:
            why = DELETED if isinstance(error, FileNotFoundError) else f"unreadable ({error.strerror})"
            return f"{path}: {why}; {SCAN}"

    def damage(self, sample: str) -> str | None:
        """Return why a sample's file cannot be read; None if it can."""
        if (wrong := self._wrong(sample)) is not None:
            return wrong
        try:
            open_rgb(self.uris[sample], at_least=64, how=self._how)
        except ImageError as error:
            return f"{self.uris[sample]}: {error}; {SCAN}"
        return None

    def _why(self, absent: Sequence[str]) -> dict[str, str]:
        """Return where the images of samples were that are none of the pool's, and why they are not."""
        unknown = [i for i in absent if i not in self._broken]
        if not unknown:
            return {i: self._broken[i] for i in absent}
        ledger = None if self._deployment is None else self._deployment.ledger
        gone = {} if ledger is None else ledger.gone(unknown)
        places = {} if ledger is None else ledger.uris()

        def why(sample: str) -> str:
            if sample in self._broken:
                return self._broken[sample]
            if sample in self._aside:
                return ": ".join(self._aside[sample])
            if (place := places.get(sample)) in self._unread:
                return f"{place}: {self._unread[place]}"
            if sample in gone:
                return f"{gone[sample].uri}: gone since {gone[sample].since:%Y-%m-%d} ({gone[sample].why}); {SCAN}"
            return f"{places.get(sample, sample)}: {NEVER_SCANNED}; {SCAN}"

        return {sample: why(sample) for sample in absent}


def is_away(settings: "Settings") -> bool:
    """Say whether the folder of images is not there, or empty as the place where a share is not mounted."""
    images = settings.images
    try:
        if isinstance(images, Place):
            return images.first() is None
        return images is not None and next(images.iterdir(), None) is None
    except (OSError, PlaceError):
        return True


def exists(path: str | os.PathLike[str]) -> bool:
    """Say whether there is such a file or object, also where its folder cannot be read."""
    try:
        return bool(entries_of([str(path)])) if is_address(path) else Path(path).is_file()
    except (OSError, PlaceError):
        return False
