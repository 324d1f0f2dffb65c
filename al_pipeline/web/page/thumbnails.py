"""Small pictures of samples by their id alone: made as the rounds read their files, kept while people look at them."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageOps

from al_pipeline.core.data.how_read import AS_EVER
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.errors import ImageError, PlaceError
from al_pipeline.core.files import whole_file
from al_pipeline.labelstudio.images import published
from al_pipeline.loop.copies import Copies
from al_pipeline.loop.how_read import how_of_home
from al_pipeline.loop.presence import exists

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment

# Pixels of the longer side: a tile on a screen of twice the density, and a picture that is looked at by itself.
SIZES = {"small": 360, "large": 1280}
QUALITY = 85
# A picture of 64 megapixels takes 192 MB while it is decoded.
AT_ONCE = 2
# Bytes that are kept: some 15,000 small pictures of photos.
MOST = 500_000_000
# Of them, what is left when there are more: to look for the oldest takes long where there are many files.
LEFT = 0.8


class Thumbnails:
    """The pictures of one home.

    Parameters
    ----------
    deployment : Deployment
    most : int
        Bytes that are kept; beyond them those go that nobody has looked at for longest.
    """

    def __init__(self, deployment: "Deployment", *, most: int = MOST) -> None:
        self._deployment, self._most = deployment, most
        self._folder = deployment.settings.home / "cache" / "thumbnails"
        self._free, self._counting = threading.Semaphore(AT_ONCE), threading.Lock()
        # None: what earlier processes have left is not counted yet.
        self._bytes: int | None = None

    def picture(self, sample: str, size: str) -> Path | None:
        """Return a JPEG of a sample; None if its image is nowhere, or cannot be decoded.

        Parameters
        ----------
        sample : str
            A checked sample id.
        size : str
            A name of `SIZES`.
        """
        how = how_of_home(self._deployment.artifacts)
        path = self._folder / (how.key or "as ever") / sample[:2] / f"{sample}-{SIZES[size]}.jpg"
        if path.exists():
            # Not every file system notes who reads. The time of change is as it was: browsers go by it.
            with suppress(OSError):
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            return path
        settings, side = self._deployment.settings, SIZES[size]
        name = published(sample, settings.published_images)
        # What people see is made already; what nobody was asked about lies where the last scan has found it.
        seen = settings.published_images / name if name else None
        source = seen or self._deployment.ledger.places([sample]).get(sample)
        with self._free:
            try:
                if settings.published is not None and not (source and exists(source)):
                    source = seen = Copies(settings).find(sample)
                if source is None:
                    return None
                image = open_rgb(source, at_least=side, how=AS_EVER if seen else how)
                with whole_file(path, "The thumbnail", error=ImageError, sync=False) as file:
                    small = image if max(image.size) <= side else ImageOps.contain(image, (side, side))
                    small.save(file, "JPEG", quality=QUALITY)
            except (ImageError, PlaceError):
                return None
        self._count(path.stat().st_size)
        return path

    def _count(self, more: int) -> None:
        """Count a new picture, and make room where there are too many bytes."""
        with self._counting:
            self._bytes = None if self._bytes is None else self._bytes + more
            if self._bytes is None or self._bytes > self._most:
                self._bytes = self._make_room()

    def _make_room(self) -> int:
        """Delete the pictures that nobody has looked at for longest, if there are too many; return the bytes left."""
        found: list[tuple[Path, os.stat_result]] = []
        for file in self._folder.rglob("*.*"):
            # Another process makes room as well.
            with suppress(FileNotFoundError):
                found.append((file, file.stat()))
        bytes_left = sum(stat.st_size for _, stat in found)
        if bytes_left <= self._most:
            return bytes_left
        for file, stat in sorted(found, key=lambda each: each[1].st_atime_ns):
            if bytes_left <= LEFT * self._most:
                break
            file.unlink(missing_ok=True)
            bytes_left -= stat.st_size
        return bytes_left
