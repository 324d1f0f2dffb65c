"""HEIC and AVIF, the pictures of phones: HEIF [1]_ with HEVC inside by libheif, with AV1 by Pillow.

How a picture is turned and mirrored is a property of the file there, and what EXIF says of it is for information:
libheif applies the property, and Pillow writes it into the EXIF that it hands on.

References
----------
.. [1] ISO/IEC 23008-12.
"""

import functools
import io
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from al_pipeline.core.data.colour import PRIMARIES, TONE_MAPPED
from al_pipeline.core.data.hdr import HDR, tone_mapped
from al_pipeline.core.data.limits import refuse_large
from al_pipeline.core.errors import ImageError

# ITU-T H.273: the transfer functions of video, which pictures mean as that of sRGB, and browsers take for it.
_VIDEO_CURVES = {1, 6, 14, 15}
_UNSPECIFIED = 2
_BT709, _SRGB_CURVE = 1, 13
# Boxes before the pixels: where the colours are described.
_DESCRIPTION = 1 << 16


def read_heif(data: bytes, max_pixels: int) -> Image.Image:
    """Return the primary picture of a HEIC file, upright and with 8 bits.

    Parameters
    ----------
    data : bytes
    max_pixels : int

    Returns
    -------
    PIL.Image.Image
        Mode L, LA, RGB or RGBA; in ``info`` what is known of ``exif``, ``xmp``, ``icc_profile`` and ``cicp``.

    Raises
    ------
    ImageError
        It is too large, or cut off: libheif leaves the missing tiles of a phone's photo black without an error.
    """
    refuse_cut(data)
    file = _library().open_heif(data)
    width, height = file.size
    refuse_large(width, height, max_pixels)
    if image := _tone_mapped(data, file.info):
        return image
    image = file.to_pillow()
    if image.mode in ("RGBa", "La"):
        info, image = image.info, image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
        image.info = info
    nclx = image.info.get("nclx_profile") or {}
    image.info = _told(image.info)
    if nclx and "icc_profile" not in image.info:
        _note_colours(image, int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    return image


def _told(info: dict[Any, Any]) -> dict[str | tuple[int, int], Any]:
    return {key: value for key in ("exif", "xmp", "icc_profile") if (value := info.get(key))}


def _tone_mapped(data: bytes, info: dict[str, Any]) -> Image.Image | None:
    """Return opaque colours of HDR, from all of their bits: 8 of them show steps; None if it is something else."""
    nclx, bits = info.get("nclx_profile") or {}, info["bit_depth"]
    transfer = int(nclx.get("transfer_characteristics", _UNSPECIFIED))
    primaries = PRIMARIES.get(int(nclx.get("color_primaries", _UNSPECIFIED)))
    if transfer not in HDR or primaries is None or bits <= 8 or info.get("icc_profile"):
        return None
    file = _library().open_heif(data, convert_hdr_to_8bit=False)
    if file.mode != "RGB;16":
        return None
    # The bits are the first ones of 16.
    white = (1 << 16) - (1 << 16 - bits)
    image = Image.fromarray(tone_mapped(np.asarray(file), white, transfer, primaries))
    image.info = {**_told(info), TONE_MAPPED: True}
    return image


@functools.cache
def _library() -> ModuleType:
    import pillow_heif

    # Where a damaged file has tiles over each other, several threads paint them in another order each time. Files are
    # read in threads of ours already.
    pillow_heif.options.DECODE_THREADS = 1
    return pillow_heif


def read_avif(data: bytes, max_pixels: int) -> Image.Image:
    """Return the first picture of an AVIF file, not decoded yet; it is upright after its EXIF was followed.

    Raises
    ------
    ImageError
        It is too large.
    """
    image = Image.open(io.BytesIO(data), formats=("AVIF",))
    refuse_large(*image.size, max_pixels)
    # Pillow tells of ICC profiles alone.
    if "icc_profile" not in image.info and (at := data.find(b"colrnclx", 0, _DESCRIPTION)) > 0:
        primaries, transfer = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (8, 10))
        if (mapped := _tone_mapped_avif(data, image, primaries, transfer)) is not None:
            return mapped
        _note_colours(image, primaries, transfer)
    return image


def _tone_mapped_avif(data: bytes, image: Image.Image, primaries: int, transfer: int) -> Image.Image | None:
    """Return a picture of HDR from all of its bits, as `_tone_mapped` does, where Pillow has 8."""
    import imagecodecs

    at = data.find(b"av1C", 0, _DESCRIPTION)
    # Bits of the configuration (AV1-ISOBMFF, 2.3.3): more than 8, and 12 of them.
    deep = data[at + 6] & 0x60 if at > 0 else 0
    if transfer not in HDR or primaries not in PRIMARIES or not deep:
        return None
    values = imagecodecs.avif_decode(data, index=0, numthreads=1)
    values = values.reshape(*values.shape[:2], -1)
    if values.dtype != np.uint16 or values.shape[:2] != image.size[::-1]:
        return None
    white, alpha = 4095 if deep == 0x60 else 1023, values.shape[2] in (2, 4)
    pixels = tone_mapped(values, white, transfer, PRIMARIES[primaries], alpha=alpha)
    mapped = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
    mapped.info = {**image.info, TONE_MAPPED: True}
    return mapped


def refuse_cut(data: bytes) -> None:
    """Raise ImageError if a box of a file ends after the file does."""
    begin = 0
    while begin + 8 <= len(data):
        length, inside = int.from_bytes(data[begin : begin + 4], "big"), 8
        if length == 1:
            length, inside = int.from_bytes(data[begin + 8 : begin + 16], "big"), 16
        if length == 0:
            return
        begin += max(length, inside)
    if begin != len(data):
        share = int(100 * len(data) / begin) if begin > len(data) else 99
        raise ImageError(f"cut off ({share} % of the file are there): copy or download it again")


def _note_colours(image: Image.Image, primaries: int, transfer: int) -> None:
    """Put into ``info["cicp"]`` which colours the pixels are in, unless those are of sRGB."""
    primaries = _BT709 if primaries == _UNSPECIFIED else primaries
    transfer = _SRGB_CURVE if transfer in _VIDEO_CURVES | {_UNSPECIFIED} else transfer
    if (primaries, transfer) != (_BT709, _SRGB_CURVE):
        # As red, green and blue over the full range.
        image.info["cicp"] = (primaries, transfer, 0, 1)
