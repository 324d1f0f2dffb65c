"""A block file: pixels of many images, with a checksum of each, written whole and read in parts.

Header (magic and version, number of images, their side), checksum of header and table, table (sample ids, then one
checksum per image), pixels.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from io import BufferedReader
from pathlib import Path

import numpy as np
import numpy.typing as npt

from al_pipeline.core.files import whole_file

Pixels = npt.NDArray[np.uint8]

# Of block files.
FILE = ".pixels"

_HEADER, _CHECKSUM = struct.Struct("<8sII"), struct.Struct("<I")
_MAGIC = b"al-pix\x00\x01"
_ID_BYTES = 32


class DamagedError(Exception):
    """A block file that is not what was written; ``str(error)`` says in what."""


def file_bytes(count: int, size: int) -> int:
    """Return the size of a block file of so many images."""
    return _HEADER.size + _CHECKSUM.size + count * (_ID_BYTES + _CHECKSUM.size + 3 * size * size)


def write(folder: Path, size: int, images: Mapping[str, Pixels]) -> Path:
    """Write a block file, whole or not at all."""
    ids = "".join(images).encode("ascii")
    table = ids + np.array([zlib.crc32(pixels.data) for pixels in images.values()], dtype="<u4").tobytes()
    header = _HEADER.pack(_MAGIC, len(images), size)
    # Who stores the same images once more replaces the file.
    path = folder / (hashlib.sha256(ids).hexdigest() + FILE)
    with whole_file(path, "A file of the image cache", sync=False) as temporary, temporary.open("wb") as file:
        file.write(header + _CHECKSUM.pack(zlib.crc32(header + table)) + table)
        for pixels in images.values():
            file.write(pixels.data)
    return path


def read(file: BufferedReader, size: int, wanted: Iterable[tuple[int, str, Pixels]]) -> None:
    """Read images, each given as its row, its sample id and the array to fill, and check them."""
    stored, checksums, start = read_table(file, size)
    for row, sample_id, pixels in wanted:
        if stored[row : row + 1] != [sample_id]:
            raise DamagedError("other images than before")
        file.seek(start + row * pixels.nbytes)
        if file.readinto(pixels.data) != pixels.nbytes or zlib.crc32(pixels.data) != checksums[row]:
            raise DamagedError(f"wrong checksum of image {sample_id}")


def read_table(file: BufferedReader, size: int) -> tuple[list[str], list[int], int]:
    """Return the sample ids and checksums of a block file, and where its pixels begin."""
    header, checksum = file.read(_HEADER.size), file.read(_CHECKSUM.size)
    if len(checksum) < _CHECKSUM.size:
        raise DamagedError("cut off")
    magic, count, side = _HEADER.unpack(header)
    if magic != _MAGIC or side != size:
        raise DamagedError("not a file of this cache")
    if os.fstat(file.fileno()).st_size != file_bytes(count, size):
        raise DamagedError("of another length than written")
    table = file.read(count * (_ID_BYTES + _CHECKSUM.size))
    if zlib.crc32(header + table) != _CHECKSUM.unpack(checksum)[0]:
        raise DamagedError("wrong checksum of the table")
    ids = table[: count * _ID_BYTES].decode("ascii")
    checksums = np.frombuffer(table, dtype="<u4", offset=count * _ID_BYTES).tolist()
    return [ids[i : i + _ID_BYTES] for i in range(0, len(ids), _ID_BYTES)], checksums, file.tell()
