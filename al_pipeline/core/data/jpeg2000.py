"""JPEG 2000, as a file (JP2) and as a bare codestream [1]_.

OpenJPEG through imagecodecs gives the values as they are stored. Pillow makes them 8 bits by shifting, which turns the
white of 1 and 4 bits into gray.

References
----------
.. [1] ISO/IEC 15444-1, annexes A and I.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from al_pipeline.core.data.limits import refuse_large
from al_pipeline.core.data.raster import Raster
from al_pipeline.core.errors import ImageError

_CODESTREAM = b"\xff\x4f\xff\x51"
_CMYK = 12
# Red, green, blue, infrared and opacity; all of them are decoded to be looked at, with four bytes a value.
MOST_CHANNELS = 5


class _Header(NamedTuple):
    """What is told before the pixels."""

    width: int
    height: int
    bits: int
    signed: bool
    alpha: bool = False
    palette_bits: int | None = None
    colours: int | None = None
    profile: bytes | None = None


def read_jpeg2000(data: bytes, max_pixels: int) -> Raster:
    """Return the values, with white by the bits that they have.

    Parameters
    ----------
    data : bytes
    max_pixels : int

    Returns
    -------
    Raster
        All channels; the last is opacity if the file calls it so.

    Raises
    ------
    ImageError
        It is too large, or the header is damaged.
    """
    import imagecodecs

    header = _header(data)
    refuse_large(header.width, header.height, max_pixels)
    values = imagecodecs.jpeg2k_decode(data, numthreads=1)
    values = values.reshape(*values.shape[:2], -1)
    inks = header.colours == _CMYK and values.shape[2] >= 4
    alpha = header.alpha and values.shape[2] in (2, 4) and not inks
    white, black = _range(header)
    return Raster(values, white=white, black=black, alpha=alpha, inks=inks, profile=header.profile)


def _range(header: _Header) -> tuple[float, float]:
    """Return white and black."""
    if header.palette_bits is not None:
        return 2.0**header.palette_bits - 1, 0.0
    if header.signed:
        return 2.0 ** (header.bits - 1) - 1, -(2.0 ** (header.bits - 1))
    return 2.0**header.bits - 1, 0.0


def _header(data: bytes) -> _Header:
    start = 0
    boxes: dict[bytes, bytes] = {}
    if not data.startswith(_CODESTREAM):
        for name, begin, end in _boxes(data, 0, len(data)):
            if name == b"jp2h":
                # Of several the first counts.
                for inner, inner_begin, inner_end in _boxes(data, begin, end):
                    boxes.setdefault(inner, data[inner_begin:inner_end])
            elif name == b"jp2c":
                start = begin
                break
    if data[start : start + 4] != _CODESTREAM or len(data) < start + 43:
        raise ImageError("damaged: no codestream in the JPEG 2000 file")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    channels = struct.unpack_from(">H", data, start + 40)[0]
    depths = {data[at] for at in range(start + 42, min(start + 42 + 3 * channels, len(data)), 3)}
    if len(depths) != 1 or channels > MOST_CHANNELS:
        what = f"{channels} channels" if len(depths) == 1 else "channels of different bit depths"
        raise ImageError(f"a JPEG 2000 file with {what}, which are not read: export it as PNG or TIFF")
    depth = depths.pop()
    meant = boxes.get(b"colr", b"")
    return _Header(
        width=right - left,
        height=bottom - top,
        bits=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        alpha=_has_alpha(boxes.get(b"cdef", b"")),
        palette_bits=(boxes[b"pclr"][3] & 0x7F) + 1 if len(boxes.get(b"pclr", b"")) > 3 else None,
        colours=int.from_bytes(meant[3:7], "big") if meant[:1] == b"\1" else None,
        profile=meant[3:] if meant[:1] in (b"\2", b"\3") else None,
    )


def _boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and end of what each box holds."""
    while begin + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, begin)
        inside = begin + 8
        if length == 1 and begin + 16 <= end:
            length, inside = struct.unpack_from(">Q", data, inside)[0], begin + 16
        last = end if length == 0 else min(end, begin + length)
        if last < inside:
            return
        yield name, inside, last
        begin = last


def _has_alpha(definitions: bytes) -> bool:
    """Say whether the last channel is opacity, of all colours."""
    found = [struct.unpack_from(">3H", definitions, at) for at in range(2, len(definitions) - 5, 6)]
    return any(kind == 1 and channel == max(found)[0] for channel, kind, _ in found)
