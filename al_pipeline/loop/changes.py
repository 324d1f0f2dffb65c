"""Whether the images of a home, or their place, are others than when they were scanned."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from al_pipeline.core.data.changes import Changes, Stamp, compare, stamps, stamps_of_objects
from al_pipeline.core.data.folder import list_files
from al_pipeline.core.data.places import Place, Root
from al_pipeline.core.errors import ALError, InputError, PlaceError
from al_pipeline.loop.classes import listing_options
from al_pipeline.loop.deployment import Artifacts

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

T = TypeVar("T")


class AwayError(ALError):
    """A folder of images that cannot be looked at now, for example a share that is not mounted."""


def look(settings: "Settings") -> Changes | None:
    """Return how the folder of images differs from its last scan, by names, sizes and moments; None before the first.

    Raises
    ------
    InputError
        No folder is set.
    AwayError
        It cannot be listed, or more of the known images are missing from it than may be.
    """
    if settings.images is None:
        raise InputError("No folder of images is set: `al up --images DIR`, AL_IMAGES, or `images` in al.toml")
    stored = Artifacts.of(settings).image_pool
    if not stored.exists():
        return None
    import pandas as pd

    try:
        found = _stamps(settings.images, settings)
    except PlaceError as error:
        raise AwayError(
            f"The folder of images {settings.images} (AL_IMAGES) is away: {error} Or name its new place with "
            "`al up --images DIR`"
        ) from error
    changes = compare(pd.read_parquet(stored), settings.images, found)
    # Files that only have other places now went and came.
    missing = changes.went - changes.came
    if not changes.elsewhere and missing > max(settings.max_gone_share * changes.known, 10):
        raise AwayError(
            f"{missing:,} of the {changes.known:,} files of the last scan are not in {settings.images} (AL_IMAGES), "
            f"more than the share of {settings.max_gone_share:.0%} that may be missing (AL_MAX_GONE_SHARE): is a share "
            "not mounted? If they are to be gone, raise it and launch `setup`"
        )
    return changes


def _stamps(images: Root, settings: "Settings") -> Mapping[str, Stamp]:
    """Return what is told of each file that a scan would look at."""
    if not isinstance(images, Place):
        try:
            # A share that is away is not an empty one.
            with os.scandir(images):
                pass
        except OSError as error:
            raise AwayError(
                f"The folder of images {images} (AL_IMAGES) cannot be listed: {error.strerror}. Mount it again, or "
                "name its new place with `al up --images DIR`"
            ) from error
    listing = list_files(images, **listing_options(settings))
    if listing.objects is not None:
        return stamps_of_objects(listing.objects, (each.path for each in listing.files))
    assert isinstance(images, Path)
    return stamps(images, ((each.path, each.problem) for each in listing.files))


def published_places(settings: "Settings") -> list[str]:
    """Return where Label Studio finds published images: a folder as its machine sees it, and the bucket if one is set.

    Tasks from before there was a bucket show files of the folder. Whoever runs Label Studio elsewhere says that it sees
    one, or has a bucket instead.
    """
    folder = settings.seen_folder
    if settings.published is None:
        return [folder]
    sees = settings.label_studio_images or not settings.label_studio_url
    return [folder] * bool(sees) + [settings.published.url]


@dataclass
class Watch(Generic[T]):
    """Something that may take long or hang, done in a thread of its own: nobody waits longer than they want to.

    A share that hangs holds one thread, which no signal ends; so there is one at most, and it keeps no process alive.
    """

    work: Callable[[], T]
    _began: float = 0.0
    _done: "list[T | BaseException]" = field(default_factory=list)
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def result(self, patience: float) -> T:
        """Return what the work gives, begun by an earlier call or by this one.

        Raises
        ------
        TimeoutError
            It goes on after `patience` seconds; the message says for how long. A later call may have its result.
        """
        # A tick and a test of it in the UI may come at the same time.
        with self._lock:
            if self._thread is None:
                self._began, self._thread = time.monotonic(), threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._thread.join(patience)
            if self._thread.is_alive():
                raise TimeoutError(f"{time.monotonic() - self._began:.0f} s")
            self._thread, result = None, self._done.pop()
        if isinstance(result, BaseException):
            raise result
        return result

    def _run(self) -> None:
        try:
            self._done.append(self.work())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asks
            self._done.append(error)


def watch(settings: "Settings") -> Watch[Changes | None]:
    """Return a watch of the folder of images."""
    return Watch(lambda: look(settings))


def is_older(settings: "Settings") -> bool:
    """Say whether the last scan was by a version that did not know pictures by their pixels, nor groups."""
    from pyarrow.parquet import read_schema

    stored = Artifacts.of(settings).image_pool
    return stored.exists() and not {"pixels", "group"} <= set(read_schema(stored).names)


def was_moved(settings: "Settings") -> bool:
    """Say whether Label Studio was shown other places of published images than today's: the home has moved."""
    project = Artifacts.of(settings).labeling_project
    return project.exists() and json.loads(project.read_text()).get("images") != " ".join(published_places(settings))


def is_submitted_otherwise(settings: "Settings") -> bool:
    """Say whether the project was made for other keys to submit: people would be told wrong ones."""
    project = Artifacts.of(settings).labeling_project
    return project.exists() and json.loads(project.read_text()).get("submit", "ctrl+enter") != settings.submits
