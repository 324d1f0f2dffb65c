"""JPEG XL: the pixels by libjxl through imagecodecs, which says nothing of their size beforehand or of their colours.

So the header is read here [1]_: it is a stream of bits, the lowest of each byte first.

References
----------
.. [1] ISO/IEC 18181-1:2024, annexes B, D and E; 18181-2 for the file format.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from al_pipeline.core.data.colour import TONE_MAPPED
from al_pipeline.core.data.hdr import HDR, tone_mapped
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.jpeg2000 import MOST_CHANNELS
from al_pipeline.core.data.limits import refuse_large
from al_pipeline.core.data.profiles import Primaries
from al_pipeline.core.data.raster import Raster, to_image
from al_pipeline.core.errors import ImageError

_CODESTREAM = b"\xff\x0a"
# More than any header with names of channels and colours by number takes.
_HEADER_BYTES = 1 << 16

# An enumerated value, and how a size is written, as pairs of offset and number of bits.
_ENUM = ((0, 0), (1, 0), (2, 4), (18, 6))
_SIZES = ((1, 9), (1, 13), (1, 18), (1, 30))
_XY = ((0, 19), (1 << 19, 19), (1 << 20, 20), (1 << 21, 21))
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_RGB, _GRAY, _XYB_SPACE = 0, 1, 2
_CUSTOM = 2
_ALPHA, _SPOT, _BLACK, _CFA = 0, 2, 4, 5
_LINEAR, _SRGB_CURVE = 8, 13
_D65, _E, _DCI = 1, 10, 11
_WHITES = {_D65: (0.3127, 0.3290), _E: (1 / 3, 1 / 3), _DCI: (0.314, 0.351)}
_PRIMARIES = {
    1: (0.639998686, 0.330010138, 0.300003784, 0.600003357, 0.150002046, 0.059997204),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}


@dataclass
class _Header:
    """What is told before the pixels. The colours are those of sRGB where nothing else is said."""

    width: int = 0
    height: int = 0
    bits: int = 8
    is_float: bool = False
    is_gray: bool = False
    extra: tuple[int, ...] = ()
    associated: bool = False
    has_profile: bool = False
    primaries: int = 1
    transfer: int = _SRGB_CURVE
    gamma: float | None = None
    chromaticity: tuple[float, ...] | None = None


def read_jpegxl(data: bytes, max_pixels: int, how: HowRead = AS_EVER) -> Image.Image:
    """Return the picture, or the first of an animation, upright and with 8 bits per channel.

    Parameters
    ----------
    data : bytes
    max_pixels : int
    how : HowRead

    Returns
    -------
    PIL.Image.Image
        Mode L, RGB or RGBA; in ``info`` the colours as ``cicp`` (ITU-T H.273) or ``gamma`` and ``chromaticity``, if
        they are not those of sRGB.

    Raises
    ------
    ImageError
        It is too large, its header is damaged, or its colours are told by an ICC profile, which is compressed in a way
        of its own, and it is no packed JPEG.
    """
    import imagecodecs

    header = _header(_codestream(data))
    refuse_large(header.width, header.height, max_pixels)
    if header.has_profile:
        return _packed_jpeg(data, max_pixels)
    several = len(header.extra) > 1 and (not header.is_gray or _ALPHA in header.extra)
    if _BLACK in header.extra or several or len(header.extra) >= MOST_CHANNELS:
        raise ImageError("a JPEG XL file with CMYK or several extra channels, not read: export it as PNG or TIFF")
    values = imagecodecs.jpegxl_decode(data, index=0, numthreads=1)
    if _ALPHA not in header.extra and values.shape == (1 + len(header.extra), header.height, header.width):
        # Extra channels of gray come as planes.
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(*values.shape[:2], -1)
    alpha = header.extra == (_ALPHA,)
    white = 1.0 if header.is_float else 2.0**header.bits - 1
    in_hdr = header.transfer in HDR and not (alpha and header.associated) and values.shape[2] - alpha in (1, 3)
    if in_hdr:
        # Before there are 8 bits, of which the light half would have few.
        values, white = tone_mapped(values, white, header.transfer, _xy(header), alpha=alpha), 255.0
    if header.transfer == _LINEAR or (alpha and header.associated):
        values, white = _as_shown(values, white, alpha, header), 1.0
    raster = Raster(values, white=white, black=0.0, alpha=alpha)
    image = to_image(raster, how)
    image.info["raster"] = raster
    if in_hdr:
        image.info[TONE_MAPPED] = True
    elif header.gamma is not None or header.chromaticity is not None:
        image.info["gamma"] = header.gamma or 1 / 2.2
        image.info["chromaticity"] = header.chromaticity or (*_WHITES[_D65], *_PRIMARIES[header.primaries])
    elif (header.primaries, header.transfer) not in ((1, _SRGB_CURVE), (1, _LINEAR)):
        transfer = _SRGB_CURVE if header.transfer == _LINEAR else header.transfer
        # What JPEG XL calls P3 is number 11 of H.273 with the white of cinemas, and 12 with that of screens.
        image.info["cicp"] = (12 if header.primaries == 11 else header.primaries, transfer, 0, 1)
    return image


def _xy(header: _Header) -> Primaries:
    """Return x and y of white, red, green and blue."""
    told = header.chromaticity or (*_WHITES[_D65], *_PRIMARIES[header.primaries])
    return cast("Primaries", tuple(zip(told[::2], told[1::2], strict=True)))


def _packed_jpeg(data: bytes, max_pixels: int) -> Image.Image:
    """Return the JPEG that was packed as JPEG XL, bit for bit and with its profile, as photos with one mostly are."""
    import imagecodecs

    try:
        jpeg = imagecodecs.jpegxl_decode_jpeg(data, numthreads=1)
    except (imagecodecs.JpegxlError, ValueError) as error:
        raise ImageError(
            "a JPEG XL file whose colours an ICC profile describes, which is not read: export it as PNG or TIFF"
        ) from error
    image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    refuse_large(*image.size, max_pixels)
    return image


def _as_shown(values: npt.NDArray[np.generic], white: float, alpha: bool, header: _Header) -> npt.NDArray[np.float32]:
    """Return values of 1 for white, not multiplied by opacity, and by the curve of sRGB if they are linear.

    Eight linear bits would leave steps in the shadows.
    """
    shown = values.astype(np.float32) / np.float32(white)
    colours = shown[..., :-1] if alpha else shown
    if alpha and header.associated:
        np.divide(colours, shown[..., -1:], out=colours, where=shown[..., -1:] > 0)
    if header.transfer == _LINEAR:
        low = colours <= 0.0031308
        colours[...] = np.where(low, 12.92 * colours, 1.055 * np.maximum(colours, 0.0031308) ** (1 / 2.4) - 0.055)
    return shown


def _codestream(data: bytes) -> bytes:
    """Return the begin of the codestream: of a file in boxes, from the first that holds a part of it."""
    if data.startswith(_CODESTREAM):
        return data[:_HEADER_BYTES]
    begin = 0
    while begin + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, begin)
        inside = begin + 8
        if length == 1 and begin + 16 <= len(data):
            length, inside = struct.unpack_from(">Q", data, inside)[0], begin + 16
        if name in (b"jxlc", b"jxlp"):
            # A part has its number first.
            inside += 4 * (name == b"jxlp")
            return data[inside : inside + _HEADER_BYTES]
        if length and begin + length < inside:
            break
        begin = begin + length if length else len(data)
    raise ImageError("damaged: no codestream in the JPEG XL file")


class _Bits:
    """Numbers from a stream of bits."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._at, self._end = int.from_bytes(data, "little"), 0, 8 * len(data)

    def take(self, number: int) -> int:
        if self._at + number > self._end:
            raise ImageError("damaged: the header of the JPEG XL file is cut off")
        value = (self._bits >> self._at) & ((1 << number) - 1)
        self._at += number
        return value

    def flag(self) -> bool:
        return bool(self.take(1))

    def one_of(self, kinds: tuple[tuple[int, int], ...]) -> int:
        """Return one of four kinds of numbers, which two bits choose: so many bits, and what is added."""
        offset, bits = kinds[self.take(2)]
        return offset + self.take(bits)

    def enum(self) -> int:
        return self.one_of(_ENUM)


def _header(data: bytes) -> _Header:
    if not data.startswith(_CODESTREAM):
        raise ImageError("damaged: no codestream in the JPEG XL file")
    bits = _Bits(data[2:512])
    header = _Header()
    small = bits.flag()
    header.width, header.height = _size(bits, lambda: 8 * (1 + bits.take(5)) if small else bits.one_of(_SIZES))
    # Everything as usual: 8 bits, sRGB.
    if bits.flag():
        return header
    if bits.flag() and _extra_fields(bits) > 4:
        header.width, header.height = header.height, header.width
    header.bits, header.is_float = _depth(bits)
    bits.flag()
    header.extra = tuple(_channel(bits, header) for _ in range(bits.one_of(((0, 0), (1, 0), (2, 4), (1, 12)))))
    bits.flag()
    _colours(bits, header)
    return header


def _size(bits: _Bits, side: Callable[[], int]) -> tuple[int, int]:
    height = side()
    ratio = bits.take(3)
    if not ratio:
        return side(), height
    over, under = _RATIOS[ratio]
    return height * over // under, height


def _extra_fields(bits: _Bits) -> int:
    """Return the orientation, as EXIF numbers it, and go over what is said of size, preview and animation."""
    orientation = 1 + bits.take(3)
    if bits.flag():
        small = bits.flag()
        _size(bits, lambda: 8 * (1 + bits.take(5)) if small else bits.one_of(_SIZES))
    if bits.flag():
        eighths = bits.flag()
        kinds = ((16, 0), (32, 0), (1, 5), (33, 9)) if eighths else ((1, 6), (65, 8), (321, 10), (1345, 12))
        _size(bits, lambda: bits.one_of(kinds))
    if bits.flag():
        bits.one_of(((100, 0), (1000, 0), (1, 10), (1, 30)))
        bits.one_of(((1, 0), (1001, 0), (1, 8), (1, 10)))
        bits.one_of(((0, 0), (0, 3), (0, 16), (0, 32)))
        bits.flag()
    return orientation


def _depth(bits: _Bits) -> tuple[int, bool]:
    if not bits.flag():
        return bits.one_of(((8, 0), (10, 0), (12, 0), (1, 6))), False
    depth = bits.one_of(((32, 0), (16, 0), (24, 0), (1, 6)))
    bits.take(4)
    return depth, True


def _channel(bits: _Bits, header: _Header) -> int:
    """Return what an extra channel is."""
    if bits.flag():
        return _ALPHA
    kind = bits.enum()
    _depth(bits)
    bits.one_of(((0, 0), (3, 0), (4, 0), (1, 3)))
    for _ in range(bits.one_of(((0, 0), (0, 4), (16, 5), (48, 10)))):
        bits.take(8)
    if kind == _ALPHA:
        header.associated |= bits.flag()
    elif kind == _SPOT:
        bits.take(64)
    elif kind == _CFA:
        bits.one_of(((1, 0), (0, 2), (3, 4), (19, 8)))
    return kind


def _colours(bits: _Bits, header: _Header) -> None:
    if bits.flag():
        return
    header.has_profile = bits.flag()
    space = bits.enum()
    header.is_gray = space == _GRAY
    if header.has_profile or space == _XYB_SPACE:
        return

    def xy(number: int) -> tuple[float, ...]:
        # Zigzag: the lowest bit is the sign.
        coded = [bits.one_of(_XY) for _ in range(2 * number)]
        return tuple((value >> 1 if value % 2 == 0 else -(value >> 1) - 1) / 1e6 for value in coded)

    white = bits.enum()
    white_xy = xy(1) if white == _CUSTOM else _WHITES.get(white, _WHITES[_D65])
    primaries_xy = _PRIMARIES[1]
    if not header.is_gray:
        header.primaries = bits.enum()
        primaries_xy = xy(3) if header.primaries == _CUSTOM else _PRIMARIES.get(header.primaries, primaries_xy)
    if white != _D65 or header.primaries == _CUSTOM:
        header.chromaticity = (*white_xy, *primaries_xy)
    if bits.flag():
        header.gamma = bits.take(24) / 1e7
    else:
        header.transfer = bits.enum()
