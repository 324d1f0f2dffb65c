"""TIFF files of every kind: their values, upright or with what turns them, and what is said about them."""

import functools
import io
import logging
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from al_pipeline.core.data.codestreams import CHANNELS, promised_size
from al_pipeline.core.data.how_read import AS_EVER, HowRead, Plane
from al_pipeline.core.data.raster import Raster, Values, shown_channels
from al_pipeline.core.data.stacks import joined, of_planes, position
from al_pipeline.core.data.tiff_colour import LUMA, RANGES, lab_to_rgb, straight, undo_palette, ycbcr_to_rgb
from al_pipeline.core.data.tiff_pages import find_pictures
from al_pipeline.core.data.tiff_segments import lerc_again, second_compression, segment_shape, subsampled, three_bytes
from al_pipeline.core.data.tiff_stack import Place, arrange
from al_pipeline.core.errors import ImageError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

# With the file, the values and two copies of the picture made of them, a thread stays below 1 GB.
MAX_BYTES = 256_000_000
# Tiles reach over the edge; of a picture of few pixels they must not make one of many.
MAX_PADDING = 4

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, INKS, YCBCR = range(7)
LABS = (8, 9, 10)
PHOTOMETRICS = {*range(7), *LABS}
# Samples that the colours have, 1 of others.
COLOURS = {RGB: 3, YCBCR: 3, INKS: 4, **dict.fromkeys(LABS, 3)}
LZW, OLD_JPEG, YCBCR_JPEG_2000, LERC = 5, 6, 33003, 34887
JPEG = {OLD_JPEG, 7, 33007}
# What holds a picture of its own, with its own size.
PICTURES = JPEG | {33003, 33004, 33005, 34712, 34933, 50001, 50002, 52546}
BYTES = {1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 34926, 50000}
READ = PICTURES | BYTES | {LERC}
PREDICTED = BYTES - {1, 2, 3, 4, 32773}
# Strips and tiles that are not there are a saving of these writers' files, and damage in others.
GEOGRAPHIC = {33550, 34735, 42112, 42113}
PROFILE, ORIENTATION, NODATA, EXIF = 34675, 274, 42113, 34665


def read_tiff(data: bytes, *, max_pixels: int, how: HowRead = AS_EVER) -> Raster:
    """Read the picture of a TIFF file: of the pages that are not reduced copies the plane that is asked for.

    Channels that OME or ImageJ have put into pages of their own become those of one picture: the first three, the first
    of two, or those that are asked for; the others are not read.
    Colours other than red, green, blue and inks (palette, YCbCr, CIE L*a*b*) are converted, and premultiplied alpha is
    undone; all else is as stored.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int
        Checked on the header of each page, as are what the values and their tiles take.
    how : HowRead

    Raises
    ------
    ImageError
        The message is a short reason.
    """
    try:
        pages = find_pictures(data)
        tifffile = _library()
        # Of these kinds the library would read other pages too.
        options = {"is_lsm": False, "is_ndpi": False, "is_scanimage": False}
        with tifffile.TiffFile(io.BytesIO(data), **options) as file:
            stack = arrange(_page(file, Place(pages.alike[0])), pages, len(data))

            def read(number: int) -> Raster:
                return _joined(file, data, stack.planes[number], max_pixels, how)

            return of_planes(read, len(stack.planes), how.plane, stack.slices)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # Damaged bytes lead the library, and numpy below it, into errors of any kind.
        raise ImageError(f"damaged: {str(error) or type(error).__name__}") from error


def _joined(file: "TiffFile", data: bytes, channels: Sequence[Place], max_pixels: int, how: HowRead) -> Raster:
    """Return a plane, of several channels those that are shown."""
    rasters = list[Raster]()
    chosen = shown_channels(len(channels), how.channels)
    for number in chosen:
        page = _page(file, channels[number])
        _check_kind(page)
        _check_size(page, max_pixels)
        _check_segments(page, data)
        rasters.append(_raster(page, data, how.plane))
        _check_bytes(rasters[0].values.nbytes * len(chosen))
    return rasters[0] if len(channels) == 1 else joined(rasters, len(channels))


def _page(file: "TiffFile", place: Place) -> "TiffPage":
    page = cast("TiffPage", file.pages.first)
    if page.offset != place.offset or place.shift:
        file.filehandle.seek(place.offset)
        page = cast("TiffPage", _library().TiffPage(file, index=0))
        page.dataoffsets = tuple(offset + place.shift for offset in page.dataoffsets)
    return page


@functools.cache
def _library() -> ModuleType:
    import tifffile

    # It tells what it does not like of a file as it goes on; what matters of that is a file's reason here.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    return tifffile


def _check_kind(page: "TiffPage") -> None:
    compression, photometric, bits = int(page.compression), int(page.photometric), page.bitspersample
    convert = "save it as TIFF with LZW, or as PNG"
    if compression not in READ:
        raise ImageError(f"TIFF with {_name('COMPRESSION', compression)} compression is not read: {convert}")
    if compression == LERC and second_compression(page) not in (0, 1, 2):
        raise ImageError(f"TIFF with LERC and an unknown second compression is not read: {convert}")
    if page.sampleformat in (5, 6):
        raise ImageError("complex numbers are no picture: save their magnitude")
    if page.dtype is None:
        raise ImageError(f"TIFF with samples of {bits} bits, format {page.sampleformat}, is not read: {convert}")
    if photometric not in PHOTOMETRICS:
        raise ImageError(f"TIFF with {_name('PHOTOMETRIC', photometric)} colours is not read: {convert}")
    samples, extra = page.samplesperpixel, len(page.extrasamples)
    least = COLOURS.get(photometric, 1)
    if samples - (extra if photometric != INKS else 0) < least:
        raise ImageError(f"damaged: {samples} samples per pixel, of which {extra} are extra, for {least} colours")
    if photometric == INKS and page.tags.valueof(332, 1) != 1:
        raise ImageError("TIFF of other inks than cyan, magenta, yellow and black is not read: save it as RGB")
    if photometric == PALETTE and (page.colormap is None or page.dtype.kind not in "bu" or page.dtype.itemsize > 2):
        raise ImageError("damaged: a palette image without a palette")
    if photometric in LABS and page.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"TIFF with L*a*b* of {bits} bits and that format is not read: save it as RGB")
    converted = compression in BYTES or page.planarconfig == 2
    if photometric == YCBCR and converted and (bits != 8 or page.dtype != np.uint8):
        raise ImageError(f"TIFF with YCbCr of {bits} bits is not read: save it as RGB")
    if extra and photometric == YCBCR and compression in JPEG:
        raise ImageError("TIFF with JPEG compression and extra samples is not read: save it as RGB")
    if page.predictor != 1 and compression in BYTES - PREDICTED:
        # libtiff takes no notice of it, tifffile does.
        raise ImageError(f"TIFF with a predictor but neither LZW nor Deflate means different things: {convert}")
    if page.predictor != 1 and bits not in (8, 16, 32, 64) and compression in BYTES:
        raise ImageError(f"TIFF with a predictor on samples of {bits} bits is not read: {convert}")


def _name(kind: str, number: int) -> str:
    try:
        return getattr(_library(), kind)(number).name
    except ValueError:
        return f"unknown ({number})"


def _check_size(page: "TiffPage", max_pixels: int) -> None:
    width, height = page.imagewidth, page.imagelength
    limit = f"the limit is {max_pixels / 1e6:g} megapixels"
    if width * height > max_pixels:
        raise ImageError(f"too large: {width} × {height} pixels, {limit}")
    if not math.prod(page.shaped):
        raise ImageError("damaged: an image of no pixels")
    size = np.dtype(page.dtype).itemsize
    _check_bytes(math.prod(page.shaped) * size)
    if page.is_tiled:
        columns, rows = page.tilewidth, page.tilelength
        if columns < 1 or rows < 1 or page.tiledepth != 1:
            raise ImageError(f"damaged: tiles of {columns} × {rows} × {page.tiledepth} pixels")
        padded = math.ceil(width / columns) * columns * math.ceil(height / rows) * rows
        if padded > MAX_PADDING * max_pixels or columns * rows * page.shaped[4] * size > MAX_BYTES:
            raise ImageError(f"too large: tiles of {columns} × {rows} pixels, {limit}")


def _check_bytes(needed: int) -> None:
    if needed > MAX_BYTES:
        raise ImageError(f"too large: its values take {needed / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB")


def _check_segments(page: "TiffPage", data: bytes) -> None:
    """Refuse a file whose strips or tiles are missing, cut off, or larger than they should be."""
    rows, columns = segment_shape(page)
    offsets, counts = page.dataoffsets, page.databytecounts
    if page.is_contiguous:
        if offsets[0] + math.prod(page.shaped) * np.dtype(page.dtype).itemsize > len(data):
            raise ImageError("image file is truncated")
        return
    needed = math.ceil(page.imagelength / rows) * math.ceil(page.imagewidth / columns) * page.shaped[0] * page.shaped[1]
    present = [(o, c) for o, c in zip(offsets, counts, strict=False) if o and c][:needed]
    if not present or (len(present) < needed and not any(tag in page.tags for tag in GEOGRAPHIC)):
        raise ImageError(f"damaged: {len(present)} of {needed} strips or tiles are there")
    if any(offset + count > len(data) for offset, count in present):
        raise ImageError("image file is truncated")
    if page.compression == OLD_JPEG and not _holds_pictures(present, data):
        return
    if page.compression in PICTURES or (page.compression == LERC and not second_compression(page)):
        for offset, count in present:
            size = promised_size(data[offset : offset + count])
            # What has a size that is not understood must not be decoded either.
            if size is None or size[0] > columns or size[1] > rows or size[2] > max(page.shaped[4], CHANNELS):
                raise ImageError(f"damaged: a strip or tile of {columns} × {rows} pixels holds {size or 'no picture'}")


def _holds_pictures(segments: Sequence[tuple[int, int]], data: bytes) -> bool:
    return all(data[offset : offset + 2] == b"\xff\xd8" for offset, _ in segments)


def _raster(page: "TiffPage", data: bytes, plane: Plane) -> Raster:
    photometric = int(page.photometric)
    values, opaque = _values(page, data, plane), page.samplesperpixel - len(page.extrasamples)
    white, black = _said(page, values)
    values, alpha = _alpha(page, values, opaque, white)
    if photometric == PALETTE:
        colours = undo_palette(values[..., :1], cast("Any", page.colormap))
        with_alpha = alpha and values.dtype == np.uint8
        values, white, alpha = (np.dstack([colours, values[..., -1]]) if with_alpha else colours), None, with_alpha
    elif photometric in LABS:
        colours = lab_to_rgb(values[..., :3], photometric, page.tags.valueof(433))
        opacity = values[..., -1:].astype(np.uint16) * (257 if values.dtype == np.uint8 else 1)
        values, white = (np.dstack([colours, opacity]) if alpha else colours), None
    profile = page.iccprofile
    exif = page.tags.valueof(EXIF)
    return Raster(
        values=values,
        white=white,
        black=black,
        nodata=_nodata(page),
        inverted=photometric == WHITE_IS_ZERO,
        alpha=alpha,
        profile=profile if isinstance(profile, bytes) and photometric not in LABS else None,
        planes=page.imagedepth,
        inks=photometric == INKS,
        orientation=_orientation(page),
        taken=str(cast("dict[str, Any]", exif).get("DateTimeOriginal", "")) if isinstance(exif, dict) else "",
    )


def _values(page: "TiffPage", data: bytes, plane: Plane) -> Values:
    """Return values of shape (height, width, samples), of YCbCr those of red, green and blue."""
    photometric, compression, bits = page.photometric, page.compression, page.bitspersample
    if compression == OLD_JPEG and not _holds_pictures([(offset, 0) for offset in page.dataoffsets], data):
        return _old_jpeg(page, data)
    if _is_plain_lzw(page):
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            return np.asarray(image).reshape(page.imagelength, page.imagewidth, -1)
    if photometric == YCBCR and compression in BYTES and page.subsampling != (1, 1):
        values = subsampled(page, data)
    elif compression == LERC and second_compression(page):
        values = lerc_again(page, data)
    elif bits == 24 and np.dtype(page.dtype).kind == "u":
        values = three_bytes(page, data)
    else:
        values = _slice(page.asarray(squeeze=False, maxworkers=1), plane, inverted=photometric == WHITE_IS_ZERO)
        if compression == LERC and (page.parent.byteorder == "<") != (sys.byteorder == "little"):
            # The library takes for the file's byte order what its codec returns in the machine's.
            values = values.byteswap()
    separate = compression in JPEG and page.planarconfig == 2
    if (photometric == YCBCR and (compression in BYTES or separate)) or compression == YCBCR_JPEG_2000:
        luma = _numbers(page, 529) or LUMA
        ranges = _numbers(page, 532) or RANGES
        values = np.dstack([ycbcr_to_rgb(values[..., :3], luma, ranges), values[..., 3:]])
    return values


def _is_plain_lzw(page: "TiffPage") -> bool:
    """Return whether Pillow reads the page, the file's first, as it is: its LZW takes 0.6 × as long as imagecodecs'."""
    return (
        page.compression == LZW
        and page is page.parent.pages.first
        and (page.photometric, page.samplesperpixel) in ((BLACK_IS_ZERO, 1), (RGB, 3))
        and (page.bitspersample, page.sampleformat, page.planarconfig, page.fillorder) == (8, 1, 1, 1)
        and _orientation(page) == 1
        and not any(tag in page.tags for tag in GEOGRAPHIC)
    )


def _slice(values: Values, plane: Plane, *, inverted: bool) -> Values:
    """Return the slice that is asked for of an array of shape (separate samples, slices, height, width, samples)."""
    if plane == "max" and values.shape[1] > 1:
        one = (values.min if inverted else values.max)(axis=1)
    else:
        one = values[:, position(plane, values.shape[1])]
    return np.moveaxis(one[..., 0], 0, -1) if len(one) > 1 else one[0]


def _numbers(page: "TiffPage", tag: int) -> tuple[float, ...]:
    """Return a tag's fractions."""
    stored = page.tags.valueof(tag)
    if not isinstance(stored, tuple):
        return ()
    numbers = cast("tuple[float, ...]", stored)
    return tuple(a / (b or 1) for a, b in zip(numbers[::2], numbers[1::2], strict=False))


def _old_jpeg(page: "TiffPage", data: bytes) -> Values:
    """Decode a JPEG file whose place another tag tells than that of strips (TIFF 6.0, section 22)."""
    begin, length = int(_most(page, 513) or 0), int(_most(page, 514) or 0)
    stream = data[begin : begin + length]
    if (page.imagewidth, page.imagelength, page.samplesperpixel) != promised_size(stream):
        raise ImageError("TIFF with old-style JPEG compression is not read: save it as TIFF with LZW, or as JPEG")
    with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB" if page.samplesperpixel == 3 else "L")).reshape(
            page.imagelength, page.imagewidth, -1
        )


def _said(page: "TiffPage", values: Values) -> tuple[float | None, float | None]:
    """Return what the file calls white and black."""
    bits, dtype = page.bitspersample, values.dtype
    if dtype.kind in "if":
        high, low = _most(page, 341), _most(page, 340)
        return (high, low or 0.0) if high is not None and high > (low or 0.0) else (None, None)
    if (dtype.itemsize == 1 and bits in (1, 8)) or not isinstance(bits, int):
        return None, None
    white = None if bits in (16, 32, 64) else float((1 << bits) - 1)
    high, low = _most(page, 281), _most(page, 280)
    if bits > 8 and high is not None and (low or 0) < high <= np.iinfo(dtype).max:
        return high, low or 0.0
    return white, None


def _most(page: "TiffPage", tag: int) -> float | None:
    """Return the largest of a tag's numbers."""
    value = page.tags.valueof(tag)
    try:
        number = float(np.max(value)) if value is not None else math.nan
    except (TypeError, ValueError):
        number = math.nan
    return number if math.isfinite(number) else None


def _alpha(page: "TiffPage", values: Values, opaque: int, white: float | None) -> tuple[Values, bool]:
    """Return values without extra samples but one of opacity, which comes last, and whether there is one."""
    kinds = [int(kind) for kind in page.extrasamples]
    if page.photometric == INKS:
        return values[..., :4], False
    if (at := next((i for i, kind in enumerate(kinds) if kind in (1, 2)), None)) is None:
        return values, False
    if len(kinds) > 1:
        values = values[..., [*range(opaque), opaque + at]]
    return (straight(values, white) if kinds[at] == 1 else values), True


def _nodata(page: "TiffPage") -> float | None:
    text = page.tags.valueof(NODATA)
    try:
        return float(text.strip("\0 ").replace(",", ".")) if isinstance(text, str) else None
    except ValueError:
        return None


def _orientation(page: "TiffPage") -> int:
    value = page.tags.valueof(ORIENTATION)
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1
