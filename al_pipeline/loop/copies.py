"""Published images in a bucket: what lies in AL_HOME, under the same names, from where Label Studio streams it.

Pictures are made, and looked at, in AL_HOME, as they are without a bucket. Each is in the bucket before a task names
it, written once, in one piece. A home that has lost its folder, as a pod has, takes from the bucket what is there.
"""

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from al_pipeline.core.data.identity import SAMPLE_ID
from al_pipeline.core.data.places import AT_A_TIME, Place, entries_of
from al_pipeline.core.errors import ImageError, PlaceError
from al_pipeline.core.files import whole_file
from al_pipeline.labelstudio.config import IMAGE_FOLDER
from al_pipeline.labelstudio.images import SUFFIXES, published
from al_pipeline.labelstudio.serving import in_guideline

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

# Label Studio connects no place that holds nothing. Whoever lists pictures, or features, passes over it.
MARK, TEXT = ".al_pipeline", b"al_pipeline writes here. What people are shown is named by its content."


class Copies:
    """The copies of one home. Without a bucket nothing is done, and nothing found.

    What is in the bucket is listed once: an object of this class is for one piece of work.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: "Settings") -> None:
        self.place, self.folder = settings.published, settings.published_images

    @property
    def shown_at(self) -> str:
        """What the address of an image in a task begins with."""
        return IMAGE_FOLDER if self.place is None else self.place.url

    def in_guideline(self, name: str) -> str:
        """Return where a project's pages find an image."""
        return f"{IMAGE_FOLDER}/{name}" if self.place is None else in_guideline(self.place, name)

    @cached_property
    def names(self) -> set[str]:
        """What the bucket has.

        Raises
        ------
        PlaceError
            It cannot be listed.
        """
        return set() if self.place is None else {entry.key for entry in self.place.entries()}

    @property
    def samples(self) -> set[str]:
        """The samples of which the bucket has an image of their own."""
        return {path.stem for path in map(Path, self.names) if SAMPLE_ID.fullmatch(path.stem)}

    def mark(self) -> None:
        """Have something in the bucket, as Label Studio wants it; errors as of `mark`, with the setting's name."""
        try:
            if self.place is not None:
                mark(self.place)
        except PlaceError as error:
            raise PlaceError(f"What people are shown (AL_PUBLISHED): {error}") from None

    def put(self, names: Iterable[str], *, anew: bool = False) -> int:
        """Put images of the folder into the bucket; return how many were not there.

        Parameters
        ----------
        names : iterable of str
        anew : bool
            Write over those that are there: they were made anew under their names, which tasks know.

        Raises
        ------
        PlaceError
            One cannot be written. The others may be there, and are not written again.
        """
        if (place := self.place) is None:
            return 0
        # Where nothing is asked the bucket may be away.
        if not (asked := {*names}):
            return 0
        wanted = sorted(asked if anew else asked - self.names)

        def one(name: str) -> bool:
            return place.put(name, (self.folder / name).read_bytes(), create=not anew) is not None

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            written = sum(pool.map(one, wanted))
        self.names.update(wanted)
        return written

    def put_all(self) -> int:
        """Put all images of the folder into the bucket that are not there; errors are those of `put`."""
        if self.place is None or not self.folder.is_dir():
            return 0
        return self.put(path.name for path in self.folder.iterdir() if _is_image(path.name))

    def fetch(self, samples: Collection[str]) -> None:
        """Have in the folder what the bucket has of these samples, by themselves or with others.

        Raises
        ------
        PlaceError
            The bucket is away.
        """
        if self.place is None or not samples:
            return
        wanted = {*samples}
        there = [name for name in self.names if _is_image(name) and name.partition(".")[0].partition("-")[0] in wanted]
        missing = [name for name in there if not (self.folder / name).exists()]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(self._fetch, missing))

    def find(self, sample: str) -> Path | None:
        """Return the published image of a checked sample id, wherever it is; errors as of `fetch`."""
        name = published(sample, self.folder)
        if name is None and self.place is not None:
            found = entries_of(f"{self.place}/{sample}{suffix}" for suffix in SUFFIXES)
            name = next((uri.rpartition("/")[2] for uri in found), None)
            if name is not None:
                self._fetch(name)
        return None if name is None else self.folder / name

    @contextmanager
    def following(self, samples: Collection[str]) -> Iterator[None]:
        """Have the images of these samples in the folder, and write over those in the bucket that the body makes anew.

        If it fails nothing is written over; errors as of `fetch` and `put`.
        """
        if self.place is None:
            yield
            return
        self.fetch(samples)
        before = self._stamps()
        yield
        self.put((name for name, stamp in self._stamps().items() if before.get(name) != stamp), anew=True)

    def _stamps(self) -> dict[str, tuple[int, int]]:
        files = [path for path in self.folder.glob("*") if _is_image(path.name)]
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def _fetch(self, name: str) -> None:
        assert self.place is not None
        data = self.place.read(name).getvalue()
        with whole_file(self.folder / name, "The image", error=ImageError, sync=False) as file:
            file.write_bytes(data)


def _is_image(name: str) -> bool:
    return name[0] != "." and "/" not in name and name.endswith(SUFFIXES)


def mark(place: Place) -> None:
    """Have an object in a place that is written to: whether that can be is known then.

    Raises
    ------
    PlaceError
        It cannot be written.
    """
    place.put(MARK, TEXT, create=True)
