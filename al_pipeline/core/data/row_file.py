"""Rows of bytes, one per sample and all as long, with checksums: a file that is written whole and read in parts.

Header (magic and version, number of rows, their width), checksum of header and table, table (sample ids, then one
checksum per block of rows), rows.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from al_pipeline.core.errors import ALError, FileError, InputError
from al_pipeline.core.files import whole_file

# Sample ids as ASCII, 32 bytes each.
Ids = npt.NDArray[np.bytes_]

_HEADER, _CHECKSUM = struct.Struct("<8sII"), struct.Struct("<I")
_HEAD_BYTES = _HEADER.size + _CHECKSUM.size
ID_BYTES = 32


class DamagedError(Exception):
    """A file that is not what was written; ``str(error)`` says in what."""


class ChangedError(DamagedError):
    """Another file than the one whose table was read: it has been replaced since."""


@dataclass(frozen=True, eq=False)
class Table:
    """What a file says about its rows.

    Attributes
    ----------
    head : bytes
        Header and checksum: two files of equal heads hold the same.
    width : int
    ids : bytes array, shape (n,)
    checksums : uint32 array
        One per block of rows.
    start : int
        Where the rows begin.
    """

    head: bytes
    width: int
    ids: Ids
    checksums: npt.NDArray[np.uint32]
    start: int


@dataclass(frozen=True)
class RowFile:
    """Files of one kind.

    Parameters
    ----------
    magic : bytes of length 8
        With the version.
    row_bytes : callable
        Returns how long a row of a width is.
    block : int
        How many rows share a checksum, which is the least that can be read.
    """

    magic: bytes
    row_bytes: Callable[[int], int]
    block: int = 1

    def file_bytes(self, count: int, width: int) -> int:
        """Return the size of a file of so many rows."""
        return _HEAD_BYTES + self._table_bytes(count) + count * self.row_bytes(width)

    def write(
        self,
        path: Path,
        what: str,
        width: int,
        ids: Ids,
        blocks: Sequence[npt.NDArray],
        error: type[ALError] = FileError,
    ) -> None:
        """Write a file, whole or not at all; parameters and errors are those of `whole_file`.

        Nothing is synced: damage is noticed by checksums.
        """
        with whole_file(path, what, error=error, sync=False) as temporary, temporary.open("wb") as file:
            file.writelines(self.pieces(width, ids, blocks))

    def pieces(self, width: int, ids: Ids, blocks: Sequence[npt.NDArray]) -> Iterator[bytes | memoryview]:
        """Yield what a file consists of, one after the other."""
        table = ids.tobytes() + np.array([zlib.crc32(block.data) for block in blocks], dtype="<u4").tobytes()
        header = _HEADER.pack(self.magic, len(ids), width)
        yield header + _CHECKSUM.pack(zlib.crc32(header + table)) + table
        for block in blocks:
            yield block.data

    def read_table(self, file: IO[bytes]) -> Table:
        """Read and check everything but the rows."""
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            raise DamagedError("cut off")
        magic, count, width = _HEADER.unpack_from(head)
        if magic != self.magic:
            raise DamagedError("not a file of this kind")
        if file.seek(0, 2) != self.file_bytes(count, width):
            raise DamagedError("of another length than written")
        file.seek(_HEAD_BYTES)
        table = file.read(self._table_bytes(count))
        if zlib.crc32(table, zlib.crc32(head[: _HEADER.size])) != _CHECKSUM.unpack_from(head, _HEADER.size)[0]:
            raise DamagedError("wrong checksum of the table")
        ids = np.frombuffer(table, dtype=f"S{ID_BYTES}", count=count)
        checksums = np.frombuffer(table, dtype="<u4", offset=ids.nbytes)
        return Table(head, width, ids, checksums, _HEAD_BYTES + len(table))

    def check_same(self, file: IO[bytes], table: Table) -> None:
        """Raise a `ChangedError` if this is not the file of that table."""
        if file.read(_HEAD_BYTES) != table.head:
            raise ChangedError("replaced by another")

    def read(self, file: IO[bytes], table: Table, blocks: range, into: npt.NDArray) -> None:
        """Read a run of blocks into an array, whose first axis is the rows, and check them."""
        size, view = self.row_bytes(table.width), into.data.cast("B")
        file.seek(table.start + blocks.start * self.block * size)
        if file.readinto(view) != len(view):  # pyright: ignore[reportAttributeAccessIssue]
            raise DamagedError("cut off")
        step = self.block * size
        for begin, number in zip(range(0, len(view), step), blocks, strict=True):
            if zlib.crc32(view[begin : begin + step]) != table.checksums[number]:
                rows = table.ids[number * self.block : (number + 1) * self.block]
                raise DamagedError(f"wrong checksum of sample {rows[0].decode()}{' ff.' * (len(rows) > 1)}")

    def read_rows(self, file: IO[bytes], table: Table, rows: npt.NDArray[np.int64], into: npt.NDArray) -> None:
        """Read rows by themselves, which checks nothing: for blocks of which somebody knows that they are right."""
        size = self.row_bytes(table.width)
        for row, place in zip(rows.tolist(), into, strict=True):
            file.seek(table.start + row * size)
            if file.readinto(place.data.cast("B")) != size:  # pyright: ignore[reportAttributeAccessIssue]
                raise DamagedError("cut off")

    def _table_bytes(self, count: int) -> int:
        return count * ID_BYTES + -(-count // self.block) * _CHECKSUM.size


def as_keys(sample_ids: Sequence[str] | npt.NDArray) -> Ids:
    """Return sample ids as they stand in files; those that are bytes already are taken as they are.

    Raises
    ------
    InputError
        An id is not of at most 32 ASCII characters.
    """
    if isinstance(known := getattr(sample_ids, "keys", None), np.ndarray):
        # Of a `known_pool.Subset`.
        return known
    if isinstance(sample_ids, np.ndarray) and sample_ids.dtype == f"S{ID_BYTES}":
        return np.ascontiguousarray(sample_ids)
    try:
        found = np.asarray(sample_ids, dtype="S") if len(sample_ids) else np.empty(0, dtype="S1")
    except UnicodeEncodeError:
        found = np.empty(0, dtype=f"S{ID_BYTES + 1}")
    if found.itemsize > ID_BYTES:
        wrong = next(i for i in map(str, sample_ids) if not (i.isascii() and len(i) <= ID_BYTES))
        raise InputError(
            f"{wrong!r} is no sample id: take those of the image pool's manifest, of 32 lowercase hexadecimal digits"
        )
    return np.ascontiguousarray(found, dtype=f"S{ID_BYTES}")


def keys_of(texts: pa.Array | pa.ChunkedArray) -> Ids:
    """Return what `as_keys` does of Arrow's texts: of 32 letters each they are the same bytes, and no text is made."""
    array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    try:
        fixed = array.cast(pa.large_binary()).cast(pa.binary(ID_BYTES))
    except pa.ArrowInvalid:
        return as_keys(array.to_pylist())
    if fixed.null_count:
        return as_keys(array.to_pylist())
    return np.frombuffer(fixed.buffers()[1], f"S{ID_BYTES}", len(fixed), fixed.offset * ID_BYTES)


def texts_of(keys: Ids) -> pa.Array:
    """Return ids as Arrow's texts."""
    whole = np.ascontiguousarray(keys)
    if len(whole) and not whole.view(np.uint8).reshape(-1, ID_BYTES)[:, -1].all():
        # Shorter ones end with zeros.
        return pa.array(whole.astype(str).tolist(), pa.large_string())
    fixed = pa.Array.from_buffers(pa.binary(ID_BYTES), len(whole), [None, pa.py_buffer(whole)])
    return fixed.cast(pa.large_binary()).cast(pa.large_string())
