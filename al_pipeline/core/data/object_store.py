"""obstore: the stores of buckets, what they tell of objects, and of failures without what is secret."""

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from al_pipeline.core.errors import InputError, PlaceError

# Where services find their endpoint and keys.
VARIABLES = {
    "s3": "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; AWS_SKIP_SIGNATURE=true for a "
    "bucket that everybody may read",
    "gs": "GOOGLE_SERVICE_ACCOUNT: the file of a service account's key",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
}
INSTALL = "pip install 'al_pipeline[buckets]'"
# What goes wrong for a moment is tried again; who is away is told within half a minute, who says nothing after two.
RETRIES, RETRY_SECONDS, CONNECT_SECONDS, REQUEST_SECONDS = 4, 30, 5, 120
# Said of one object alone: it is archived, or for others to read.
OF_ONE = {"AccessDenied": "permission denied", "InvalidObjectState": "archived: it has to be restored to be read"}
NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
# More of a message may hold the address of the request, and with Azure the signature in it.
_CODE, _MESSAGE = re.compile(r"<Code>([^<]+)</Code>"), re.compile(r"<Message>([^<]+)</Message>")
_STATUS, _KIND = re.compile(r"status code: (\d{3} [A-Za-z ]+)"), re.compile(r'message: "([^"\\]+)"')


class Entry(NamedTuple):
    """An object.

    Attributes
    ----------
    key : str
        Below its place.
    size : int
        Bytes.
    modified_ns : int
        Unix time of the last change, in nanoseconds.
    etag : str
        Another one for other content; "" where the service has none.
    """

    key: str
    size: int
    modified_ns: int
    etag: str

    @property
    def stamp(self) -> int:
        """A number of 64 bits that is another one for other content."""
        # Without an etag: to the second, because answers differ in how exact they are.
        text = self.etag or f"{self.modified_ns // 10**9}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def of_object(url: str, how: str, key: str, error: Exception) -> Exception:
    """Return what is wrong with one object, if it is that, else with the bucket."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such object", f"{url}/{key}")
    if why := OF_ONE.get(code := next(iter(_CODE.findall(str(error))), "")):
        return PermissionError(errno.EACCES, f"{why} ({code})", f"{url}/{key}")
    if isinstance(error, ValueError):
        return OSError(errno.EINVAL, "its key cannot be asked for", f"{url}/{key}")
    return of_place(url, how, error)


def of_place(url: str, how: str, error: Exception) -> PlaceError:
    """Return an error that says why the bucket cannot be used, and nothing that is secret."""
    if isinstance(error, PlaceError):
        return error
    if type(error).__name__ == "InvalidPathError":
        return PlaceError(
            f"{url} cannot be listed, because of one key: {_first_line(error)}. Give that object another key, "
            "without control characters and without empty parts (//)"
        )
    if NO_BUCKET & {*_CODE.findall(str(error))}:
        return PlaceError(f"{url} cannot be {how}: {reason_of(error)}. Make the bucket, or name another one")
    variables = VARIABLES.get(url.partition("://")[0], "")
    return PlaceError(
        f"{url} cannot be {how}: {reason_of(error)}. Is the service there"
        + f", and are its endpoint and keys set in this process's environment ({variables})" * bool(variables)
        + "?"
    )


def reason_of(error: Exception) -> str:
    """Return why the service has refused, in its own words, without addresses and what may be in them."""
    text = str(error)
    code, message = _CODE.search(text), _MESSAGE.search(text)
    if code:
        return f"{code[1]}{f', {message[1].rstrip(chr(46))}' if message else ''}"
    if status := _STATUS.search(text):
        return status[1].strip()
    told = _KIND.findall(text)
    first = re.sub(r"\S+://\S+", "…", _first_line(error)).rpartition(" - ")[2].strip()
    return f"{first} ({told[-1]})" if told else first


def failures() -> tuple[type[Exception], ...]:
    """Return what obstore raises, which looks for nobody's mistakes but the service's and the address's."""
    from obstore.exceptions import BaseError

    return BaseError, OSError, ValueError


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip()


def entry_of(meta: Mapping[str, Any], start: str) -> Entry:
    """Return what is told of an object, its key without `start`."""
    moment = meta["last_modified"]
    ns = int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
    return Entry(meta["path"][len(start) :], meta["size"], ns, _bare(meta["e_tag"]))


def entries_in(table: Any, start: str) -> Iterator[Entry]:
    """Return what a listing, a table of Arrow, tells of the objects whose key begins with `start`, without that."""
    import pyarrow as pa

    batch = pa.record_batch(table)
    keys, sizes, etags = (batch[name].to_pylist() for name in ("path", "size", "e_tag"))
    moments = batch["last_modified"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_pylist()
    if not all(key.startswith(start) for key in keys):
        chosen = [i for i, key in enumerate(keys) if key.startswith(start)]
        keys, sizes, moments, etags = ([column[i] for i in chosen] for column in (keys, sizes, moments, etags))
    return map(Entry, [key[len(start) :] for key in keys], sizes, moments, map(_bare, etags))


def _bare(etag: str | None) -> str:
    """Return an etag without its quotes and without the mark of a weak one; "" where there is none."""
    return (etag or "").removeprefix("W/").strip('"')


def store_and_key(url: str) -> tuple[Any, str]:
    """Return the store of an address's bucket, which a process has once, and the key in it."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return store_of(scheme, bucket), key


@lru_cache(maxsize=64)
def store_of(scheme: str, bucket: str) -> Any:
    """Return the store of a bucket, with the keys and the endpoint that the environment has at the first call.

    Raises
    ------
    InputError
        obstore is not installed.
    PlaceError
        Something is missing that the service needs.
    """
    url = f"{scheme}://{bucket}"
    try:
        from obstore.store import MemoryStore, from_url
    except ImportError as error:
        raise InputError(f"{url} needs the package obstore: {INSTALL}") from error
    if scheme == "memory":
        return MemoryStore()
    if scheme == "file":
        return from_url("file:///")
    # A person who gives an endpoint without TLS means it: a server of their own, or of a test.
    plain = any(os.environ.get(name, "").startswith("http://") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
    client: dict[str, Any] = {"connect_timeout": f"{CONNECT_SECONDS}s", "timeout": f"{REQUEST_SECONDS}s"}
    retry: dict[str, Any] = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
    try:
        return from_url(
            url,
            client_options=client | ({"allow_http": True} if plain else {}),  # type: ignore[arg-type]
            retry_config=retry,  # type: ignore[arg-type]
        )
    except failures() as error:
        raise of_place(url, "used", error) from None
