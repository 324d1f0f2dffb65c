"""Strips and tiles of kinds that tifffile does not put together: subsampled YCbCr, and whole numbers of 24 bits."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from al_pipeline.core.data.codestreams import promised_size
from al_pipeline.core.data.raster import Values
from al_pipeline.core.errors import ImageError

if TYPE_CHECKING:
    from tifffile import TiffPage


class Segment(NamedTuple):
    """One strip or tile: its decompressed bytes, and where it lies."""

    data: bytes
    plane: int
    top: int
    left: int
    rows: int
    columns: int


def segment_shape(page: "TiffPage") -> tuple[int, int]:
    """Return rows and columns of the page's strips or tiles, the last ones of which may have fewer rows."""
    return (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)


def three_bytes(page: "TiffPage", data: bytes) -> Values:
    """Return whole numbers of 24 bits, uint32 of shape (height, width, samples).

    They are in the file's byte order, as libtiff writes them; tifffile takes all for big-endian.
    """
    planes, _, height, width, samples = page.shaped
    values = np.zeros((height, width, planes * samples), np.uint32)
    low_to_high = (0, 1, 2) if page.parent.byteorder == "<" else (2, 1, 0)
    for part in _segments(page, data, lambda rows, columns: 3 * rows * columns * samples):
        stored = np.frombuffer(part.data, np.uint8).reshape(part.rows, part.columns, samples, 3).astype(np.uint32)
        numbers = sum(stored[..., place] << 8 * power for power, place in enumerate(low_to_high))
        rows, columns = min(part.rows, height - part.top), min(part.columns, width - part.left)
        values[part.top : part.top + rows, part.left : part.left + columns, part.plane : part.plane + samples] = (
            np.asarray(numbers)[:rows, :columns]
        )
    return values


def subsampled(page: "TiffPage", data: bytes) -> Values:
    """Return brightness and colour differences, uint8 of shape (height, width, 3), of which a few pixels share one.

    TIFF 6.0, section 21: a data unit is the brightness of a block of pixels, then the two differences.
    """
    across, down = page.subsampling or (2, 2)
    if page.planarconfig != 1 or not {across, down} <= {1, 2, 4} or page.samplesperpixel != 3:
        raise ImageError(f"TIFF with YCbCr subsampled {across} × {down} in planes is not read: save it as RGB")
    height, width = page.imagelength, page.imagewidth
    values = np.zeros((height, width, 3), np.uint8)
    unit = across * down + 2

    def units(rows: int, columns: int) -> tuple[int, int]:
        return math.ceil(rows / down), math.ceil(columns / across)

    for part in _segments(page, data, lambda rows, columns: math.prod(units(rows, columns)) * unit):
        y, x = units(part.rows, part.columns)
        stored = np.frombuffer(part.data, np.uint8).reshape(y, x, unit)
        whole = np.empty((y, down, x, across, 3), np.uint8)
        whole[..., 0] = stored[..., :-2].reshape(y, x, down, across).transpose(0, 2, 1, 3)
        whole[..., 1:] = stored[:, None, :, None, -2:]
        rows, columns = min(part.rows, height - part.top), min(part.columns, width - part.left)
        values[part.top : part.top + rows, part.left : part.left + columns] = whole.reshape(y * down, x * across, 3)[
            :rows, :columns
        ]
    return values


def second_compression(page: "TiffPage") -> int:
    """Return what LERC data were compressed with again: 0 for nothing, 1 for Deflate, 2 for ZSTD."""
    stored = page.tags.valueof(50674)
    parameters = cast("tuple[int, ...]", stored) if isinstance(stored, tuple) else ()
    return parameters[1] if len(parameters) > 1 else 0


def lerc_again(page: "TiffPage", data: bytes) -> Values:
    """Return values of LERC data that were compressed again, shape (height, width, samples), as GDAL writes them."""
    import imagecodecs

    planes, _, height, width, samples = page.shaped
    dtype = np.dtype(cast("Any", page.dtype))
    values = np.full((height, width, planes * samples), page.nodata, dtype)
    again = {1: 8, 2: 50000}[second_compression(page)]
    # What LERC cannot make smaller it stores as it is, behind a header and a mask.
    for part in _segments(
        page, data, lambda rows, columns: 2 * rows * columns * samples * dtype.itemsize + 1024, again
    ):
        size = promised_size(part.data)
        if size is None or size[0] > part.columns or size[1] > part.rows or size[2] > samples:
            raise ImageError("damaged: LERC data of another size")
        rows, columns = min(part.rows, height - part.top), min(part.columns, width - part.left)
        decoded = np.asarray(imagecodecs.lerc_decode(part.data)).reshape(size[1], size[0], samples)
        values[part.top : part.top + rows, part.left : part.left + columns, part.plane : part.plane + samples] = (
            decoded[:rows, :columns]
        )
    return values


def _segments(page: "TiffPage", data: bytes, size: Any, compression: int | None = None) -> Iterator[Segment]:
    """Yield the decompressed strips or tiles; `size` tells the bytes of one from its rows and columns.

    With another compression than the page's, as many bytes at most.
    """
    import imagecodecs
    import tifffile

    most, columns = segment_shape(page)
    across, down = math.ceil(page.imagewidth / columns), math.ceil(page.imagelength / most)
    for i, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=False)):
        plane, place = divmod(i, across * down)
        if not (offset and count) or plane >= page.shaped[0]:
            continue
        top, left = place // across * most, place % across * columns
        rows = most if page.is_tiled else min(most, page.imagelength - top)
        stored = data[offset : offset + count]
        if page.fillorder == 2:
            stored = imagecodecs.bitorder_decode(stored)
        needed, scheme = size(rows, columns), compression or page.compression
        if scheme != 1:
            stored = tifffile.TIFF.DECOMPRESSORS[scheme](stored, out=needed)
        if len(stored) < needed and compression is None:
            raise ImageError("image file is truncated")
        yield Segment(bytes(stored[:needed]), plane, top, left, rows, columns)
