"""A block file: pixels of many images, with a checksum of each (`row_file`)."""

import hashlib
from collections.abc import Iterable, Mapping
from io import BufferedReader
from pathlib import Path

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.row_file import DamagedError, RowFile, Table, as_keys

Pixels = npt.NDArray[np.uint8]

# Of block files.
FILE = ".pixels"

_PIXELS = RowFile(b"al-pix\x00\x01", row_bytes=lambda side: 3 * side * side)
file_bytes = _PIXELS.file_bytes


def write(folder: Path, size: int, images: Mapping[str, Pixels]) -> Path:
    """Write a block file, whole or not at all."""
    ids = as_keys(list(images))
    # Who stores the same images once more replaces the file.
    path = folder / (hashlib.sha256(ids.tobytes()).hexdigest() + FILE)
    _PIXELS.write(path, "A file of the image cache", size, ids, list(images.values()))
    return path


def read(file: BufferedReader, size: int, wanted: Iterable[tuple[int, str, Pixels]]) -> None:
    """Read images, each given as its row, its sample id and the array to fill, and check them."""
    table = _table(file, size)
    for row, sample_id, pixels in wanted:
        if table.ids[row : row + 1].tolist() != [sample_id.encode()]:
            raise DamagedError("other images than before")
        _PIXELS.read(file, table, range(row, row + 1), pixels)


def read_ids(file: BufferedReader, size: int) -> list[str]:
    """Return the sample ids of a block file."""
    return _table(file, size).ids.astype("U").tolist()


def _table(file: BufferedReader, size: int) -> Table:
    table = _PIXELS.read_table(file)
    if table.width != size:
        raise DamagedError("not a file of this cache")
    return table
