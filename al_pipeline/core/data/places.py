"""Places in buckets (S3, GCS, Azure, memory), which are listed, read at once by many threads, and written whole.

obstore does the work and is imported when an address asks for it. Keys and endpoint come from the environment that the
service's own tools read (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` …): an address has none, and what is told of a
failure holds nothing but the service's code and message.
"""

import errno
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from al_pipeline.core.data.object_store import Entry, entries_in, entry_of, failures, of_object, of_place, store_and_key
from al_pipeline.core.errors import InputError, PlaceError

SCHEMES = ("s3", "gs", "az", "memory", "file")
# Requests at a time. One costs a millisecond or 50, and of 16 KB each a thread spends 0.2 ms on.
AT_A_TIME = 16
# Of so few objects each is asked about by itself; to list 80,000 takes half a second of a processor.
FEW = 200
# Objects that are listed at a time: as services answer.
AT_A_LOOK = 1_000
# Bytes of a large object that are in memory at a time.
PIECE_BYTES = 1 << 23
# Bytes that are read ahead of what is asked for: the table of a shard of features, and the first rows.
AHEAD_BYTES = 1 << 18
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://([^/]*)/?(.*)", re.DOTALL | re.IGNORECASE)


class Loaded(io.BytesIO):
    """What an object holds, to be read where a file is: no path, because libraries would open that.

    Attributes
    ----------
    uri : str
        Its address.
    entry : Entry
    """

    def __init__(self, uri: str, data: bytes, entry: Entry) -> None:
        super().__init__(data)
        self.uri, self.entry = uri, entry


@dataclass(frozen=True)
class Place:
    """A bucket, or what lies below a prefix in one.

    Parameters
    ----------
    url : str
        ``s3://bucket/photos``, ``gs://…``, ``az://container/…``, ``memory://name/…`` or ``file:///…``; keys are taken
        as they are, and nothing is escaped.

    Raises
    ------
    InputError
        It is no such address, or holds a key.
    """

    url: str

    def __post_init__(self) -> None:
        found = _ADDRESS.fullmatch(self.url)
        scheme = found[1].lower() if found else ""
        if found is None or ("@" not in found[2] and scheme not in SCHEMES):
            raise InputError(
                f"{self.url} is no address of a bucket: {', '.join(f'{each}://…' for each in SCHEMES[:3])} are"
            )
        # Not shown: what is in it may be a secret.
        if "@" in found[2] or "?" in self.url:
            raise InputError(
                "an address of a bucket with a key, or a query, in it: leave it out, and set keys and endpoint in the "
                "environment, as the service's own tools read them (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY)"
            )
        if not found[2] and scheme != "file":
            raise InputError(f"{self.url} names no bucket: write {scheme}://BUCKET or {scheme}://BUCKET/FOLDER")
        parts = [part for part in found[3].split("/") if part]
        if {".", ".."} & {*parts}:
            raise InputError(f"{self.url} goes by way of . or ..: name the folder itself")
        object.__setattr__(self, "url", f"{scheme}://{'/'.join([found[2], *parts])}")

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Place":
        """Return the place below this one."""
        return Place(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "Place":
        """The place that this one lies in; of a bucket itself."""
        above, _, _ = self.url.rpartition("/")
        return self if above.endswith("/") else Place(above)

    def entries(self) -> list[Entry]:
        """Return all objects below, however deep.

        Raises
        ------
        PlaceError
            The bucket cannot be listed now, or holds a key that cannot be spoken of.
        """
        return [entry for chunk in self._listed() for entry in chunk]

    def first(self) -> Entry | None:
        """Return an object below that holds something, if there is one; errors as of `entries`."""
        return next((entry for chunk in self._listed() for entry in chunk if entry.size), None)

    def _listed(self) -> Iterator[list[Entry]]:
        store, prefix = store_and_key(self.url)
        import obstore

        start = f"{prefix}/" if prefix else ""
        try:
            # As tables: an object of Python for each costs as much as what the service says of it.
            for table in obstore.list(store, prefix=prefix or None, chunk_size=AT_A_LOOK, return_arrow=True):
                yield list(entries_in(table, start))
        except failures() as error:
            raise of_place(self.url, "listed", error) from None

    def read(self, key: str) -> Loaded:
        """Return what an object holds, and as which version.

        Raises
        ------
        OSError
            There is none (FileNotFoundError), or this one alone cannot be read.
        PlaceError
            The bucket is away.
        """
        return load(f"{self.url}/{key}")

    def save(self, key: str, path: Path) -> Entry:
        """Write what an object holds into a file, piece by piece; return as which version, errors as of `read`."""
        store, name = store_and_key(f"{self.url}/{key}")
        import obstore

        try:
            found = obstore.get(store, name)
            with path.open("wb") as file:
                file.writelines(found.stream(PIECE_BYTES))
            return entry_of(found.meta, "")._replace(key=key)
        except failures() as error:
            raise of_object(self.url, "read", key, error) from None

    def open(self, key: str) -> io.BufferedReader:
        """Open an object to read parts of it; errors are those of `read`, of opening and of reading.

        Whoever writes another one meanwhile is noticed: that is a FileNotFoundError.
        """
        return io.BufferedReader(Parts(self, key), AHEAD_BYTES)

    def put(self, key: str, data: bytes, *, create: bool = False) -> Entry | None:
        """Write an object, whole or not at all, and return it; with `create` only if there is none, else None.

        Raises
        ------
        PlaceError
            It cannot be written.
        """
        store, path = store_and_key(f"{self.url}/{key}")
        import obstore

        try:
            # In one piece: parts of an upload that was given up stay in a bucket, unseen and paid for.
            done = obstore.put(store, path, data, mode="create" if create else "overwrite", use_multipart=False)
            # Without an etag its time is its version, which only a look tells.
            made = {"path": key, "size": len(data), "last_modified": datetime.now(UTC), "e_tag": done["e_tag"]}
            return entry_of(made if done["e_tag"] else obstore.head(store, path) | {"path": key}, "")
        except obstore.exceptions.AlreadyExistsError:
            return None
        except failures() as error:
            raise of_place(self.url, "written", error) from None

    def copy(self, key: str, to: str) -> None:
        """Copy an object to another key of this place, which the service does by itself; errors as of `read`."""
        self._moved("copy", key, to)

    def rename(self, key: str, to: str) -> None:
        """Give an object another key; errors as of `read`."""
        self._moved("rename", key, to)

    def _moved(self, how: str, key: str, to: str) -> None:
        import obstore

        store, path = store_and_key(f"{self.url}/{key}")
        try:
            getattr(obstore, how)(store, path, store_and_key(f"{self.url}/{to}")[1])
        except failures() as error:
            raise of_object(self.url, "written", key, error) from None

    def delete(self, key: str) -> None:
        """Delete an object, whether there is one or not; errors as of `read`."""
        import obstore

        store, path = store_and_key(f"{self.url}/{key}")
        try:
            obstore.delete(store, path)
        except FileNotFoundError:
            pass
        except failures() as error:
            raise of_object(self.url, "written", key, error) from None


class Parts(io.RawIOBase):
    """An object that is read in parts, all of the version that was there at first."""

    def __init__(self, place: Place, key: str) -> None:
        self._place, self._key, self._at = place, key, 0
        self.entry, self._data = self._ask(0, AHEAD_BYTES, None)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.entry.size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        many = min(len(view), self.entry.size - self._at)
        if many <= 0:
            return 0
        stop = self._at + many
        # The beginning is there already.
        data = self._data[self._at : stop] if stop <= len(self._data) else self._ask(self._at, stop, self.entry.etag)[1]
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _ask(self, start: int, stop: int, etag: str | None) -> tuple[Entry, bytes]:
        import obstore

        store, path = store_and_key(f"{self._place.url}/{self._key}")
        options: dict[str, Any] = {"range": (start, stop)} | ({"if_match": f'"{etag}"'} if etag else {})
        try:
            found = obstore.get(store, path, options=options)  # type: ignore[arg-type]
            return entry_of(found.meta, ""), bytes(found.bytes())
        except obstore.exceptions.PreconditionError:
            raise FileNotFoundError(errno.ENOENT, "replaced by another", f"{self._place.url}/{self._key}") from None
        except failures() as error:
            if start == 0 and etag is None and re.search("Invalid ?[Rr]ange", str(error)):
                # Nothing can be read of an empty object.
                whole = self._place.read(self._key)
                return whole.entry, whole.getvalue()
            raise of_object(self._place.url, "read", self._key, error) from None


def is_address(path: object) -> bool:
    """Say whether something is the address of a place or object, and no file's path."""
    return isinstance(path, Place) or (isinstance(path, str) and path[:1] != "/" and bool(_ADDRESS.match(path)))


def load(uri: str) -> Loaded:
    """Return what an object holds; errors are those of `Place.read`."""
    store, key = store_and_key(uri)
    import obstore

    try:
        found = obstore.get(store, key)
        return Loaded(uri, bytes(found.bytes()), entry_of(found.meta, ""))
    except failures() as error:
        parent, _, name = uri.rpartition("/")
        raise of_object(parent, "read", name, error) from None


def entries_of(uris: Iterable[str]) -> Mapping[str, Entry]:
    """Return what is known of objects by their addresses, without reading them; those that are not there are left out.

    Raises
    ------
    PlaceError
        Their bucket is away.
    """
    asked = list(dict.fromkeys(uris))
    if len(asked) > FEW:
        scheme = asked[0].partition("://")[0]
        top = Place(f"{scheme}://{os.path.commonpath([uri.partition('://')[2] for uri in asked])}")
        wanted = set(asked)
        return {uri: entry for entry in top.entries() if (uri := f"{top.url}/{entry.key}") in wanted}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = list(pool.map(_head, asked))
    return {uri: entry for uri, entry in zip(asked, found, strict=True) if entry is not None}


def _head(uri: str) -> Entry | None:
    store, key = store_and_key(uri)
    import obstore

    try:
        return entry_of(obstore.head(store, key), "")
    except FileNotFoundError:
        return None
    except failures() as error:
        parent, _, name = uri.rpartition("/")
        problem = of_object(parent, "read", name, error)
        if isinstance(problem, PlaceError):
            raise problem from None
        return None


def place_of(value: str) -> "Place | Path":
    """Return the place or folder that an address or a path names; of ``file:///…`` the folder.

    Raises
    ------
    InputError
        As of `Place`.
    """
    if not is_address(value):
        return Path(value)
    found = Place(value)
    return Path(found.url.removeprefix("file://")) if found.url.startswith("file://") else found


def below(uri: str, root: "Path | Place") -> str:
    """Return a path or address as it lies below a folder."""
    return uri.removeprefix(start_of(root))


def start_of(root: "Path | Place") -> str:
    """Return what the address or path of everything below a folder begins with."""
    return f"{root.url}/" if isinstance(root, Place) else f"{root.resolve()}{os.sep}".replace(os.sep * 2, os.sep)


#: A folder of files, or a place in a bucket.
Root = Path | Place
