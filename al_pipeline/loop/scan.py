"""Scan the folder of images for a home: read what changed, know the pictures again, and tell the ledger."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.data.folder import list_files
from al_pipeline.core.data.groups import check_rule
from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.layout import Listing
from al_pipeline.core.data.places import Place, Root
from al_pipeline.core.data.pool import Progress, scan_listed
from al_pipeline.core.data.scan_cache import ScanCache
from al_pipeline.core.errors import InputError
from al_pipeline.loop.classes import declare, listing_options
from al_pipeline.loop.grouping import group_images, keep_rule
from al_pipeline.loop.how_read import asked_for, keep, settle
from al_pipeline.loop.published import published_as, show_as_read

if TYPE_CHECKING:
    from al_pipeline.core.labels.class_set import ClassSet
    from al_pipeline.ledger.pictures import Registered
    from al_pipeline.loop.deployment import Deployment

# Of the last manifest, by what a turned picture is known again.
BEFORE = ("sample_id", "uri", "split", "width", "height", "phash")
# Of fewer known images any share may go: people try things out with a handful.
FEW = 10
SECONDS = 10.0
# Of the names of files in a message.
NAMED = 3


@dataclass(frozen=True)
class Scanned:
    """What a scan found.

    Attributes
    ----------
    root : Path or Place
        The folder of images, resolved, or the place in a bucket.
    manifest : DataFrame
        As `core.data.pool.scan` returns it.
    registered : Registered
        What it changed in the ledger.
    listing : Listing
        Which files there are, and what was left out.
    places : dict of str to str
        Where the images are that are not found any more.
    classes : ClassSet
        After what folders or AL_CLASSES declare.
    how : HowRead
        How images are read from now on.
    reading : list of str
        What is to be said of that, in sentences.
    """

    root: Root
    manifest: pd.DataFrame
    registered: "Registered"
    listing: Listing
    classes: "ClassSet"
    places: dict[str, str]
    how: HowRead
    reading: list[str]

    def sentences(self) -> list[str]:
        """Tell what is new, gone, back, elsewhere or in other bytes, with names of a few files, and how all is read."""
        uris = self.places | dict(zip(self.manifest["sample_id"], self.manifest["uri"], strict=True))
        told = {
            "new": self.registered.new,
            "gone: their labels stay in the ledger, and count again when the images are back": self.registered.gone,
            "back": self.registered.back,
            "in another place than before": self.registered.moved,
            "known in other bytes (tags written, turned without loss, or saved anew): their labels were carried over": (
                self.registered.changed
            ),
        }
        return [*(f"{_images(ids)} {what}{_some(ids, uris)}" for what, ids in told.items() if ids), *self.reading]


def scan_images(deployment: "Deployment", *, full: bool = False, progress: Progress | None = None) -> Scanned:
    """Scan the folder of images, and register what is there.

    Parameters
    ----------
    deployment : Deployment
    full : bool
        Read every file, also those that look as they did.
    progress : callable, optional
        Is told how many files are done, and of how many.

    Raises
    ------
    InputError
        As of `core.data.pool.scan` and `declare`, or more of the known images are missing than may be. Nothing is
        stored then, but what was read.
    """
    settings, ledger = deployment.settings, deployment.ledger
    if settings.images is None:
        raise InputError("No folder of images is set: set AL_IMAGES (or `images` in al.toml) to your folder")
    asked = asked_for(settings)
    cache = ScanCache(settings.home / "cache" / "scan", asked)
    if full:
        cache.forget()
    check_rule(settings.group)
    listing = list_files(settings.images, **listing_options(settings))
    listing.settle(settings.images)
    stored = deployment.artifacts.image_pool
    manifest = scan_listed(
        settings.images,
        listing,
        max_excluded_share=settings.max_excluded_share,
        pictures=ledger.known_pictures(),
        before=pd.read_parquet(stored, columns=list(BEFORE)) if stored.exists() else None,
        cache=cache,
        progress=progress,
        how=asked,
    )
    refuse_many_gone(deployment, manifest)
    # Before anything is stored: what is declared may be refused.
    classes = declare(ledger, manifest, settings)
    manifest["group"] = group_images(deployment, manifest)
    kept, reading = settle(settings, deployment.artifacts, manifest)
    registered = ledger.register(manifest)
    keep_rule(deployment)
    shown = published_as(deployment.artifacts)
    # First this: what is published meanwhile is read so.
    keep(deployment.artifacts, kept)
    reading += show_as_read(deployment, manifest, shown, kept.how)
    places = {sample: gone.uri for sample, gone in ledger.gone(registered.gone).items()}
    root = settings.images if isinstance(settings.images, Place) else settings.images.resolve()
    return Scanned(root, manifest, registered, listing, classes, places, kept.how, reading)


def refuse_many_gone(deployment: "Deployment", manifest: pd.DataFrame) -> None:
    """Raise InputError if more of the ledger's images are missing from a manifest than `max_gone_share` allows."""
    ledger, most = deployment.ledger, deployment.settings.max_gone_share
    gone = ledger.gone()
    known = {sample: uri for sample, uri in ledger.uris().items() if sample not in gone}
    # What was set aside is there: it is told with its reason.
    missing = sorted(known.keys() - set(manifest["sample_id"]), key=known.__getitem__)
    if len(known) < FEW or len(missing) <= most * len(known):
        return
    raise InputError(
        f"{len(missing):,} of the {len(known):,} known images are not in {deployment.settings.images} (AL_IMAGES), for "
        f"example {known[missing[0]]}: more than the share of {most:.0%} that may be missing (AL_MAX_GONE_SHARE). Is a "
        "share not mounted, or a folder renamed halfway? Nothing was stored. If they are to be gone, set "
        "AL_MAX_GONE_SHARE=1 for one scan; their labels stay in the ledger"
    )


class Pace:
    """A callable for `progress` that says every ten seconds how far a scan is, how fast, and how long it will take.

    Parameters
    ----------
    say : callable
        Takes a sentence.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._first: tuple[float, int] | None = None
        self._told = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Tell if it is time to."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._told = (now, done), now
            if done:
                self._say(f"{done:,} of {total:,} files are as they were read before, {total - done:,} are read now")
        elif now - self._told >= SECONDS:
            self._told, (began, before) = now, self._first
            rate = (done - before) / (now - began)
            left = f", about {_duration((total - done) / rate)} left" if rate else ""
            self._say(f"{done:,} of {total:,} files read, {rate:,.0f} a second{left}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _images(ids: tuple[str, ...]) -> str:
    return f"{len(ids):,} image{'s' * (len(ids) != 1)}"


def _some(ids: tuple[str, ...], uris: dict[str, str]) -> str:
    names = [Path(uri).name for uri in sorted(uris[each] for each in ids if each in uris)[:NAMED]]
    more = ", …" if len(ids) > len(names) else ""
    return f": {', '.join(names)}{more}" if names else ""
