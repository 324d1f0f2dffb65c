"""HEIC and AVIF, the pictures of phones: HEIF [1]_ with HEVC inside by libheif, with AV1 by Pillow.

How a picture is turned and mirrored is a property of the file there, and what EXIF says of it is for information:
libheif applies the property, and Pillow writes it into the EXIF that it hands on.

References
----------
.. [1] ISO/IEC 23008-12.
"""

import io

from PIL import Image

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
    import pillow_heif

    refuse_cut(data)
    file = pillow_heif.open_heif(data)
    refuse_large(*file.size, max_pixels)
    image = file.to_pillow()
    if image.mode in ("RGBa", "La"):
        info, image = image.info, image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
        image.info = info
    nclx = image.info.get("nclx_profile") or {}
    image.info = {key: value for key in ("exif", "xmp", "icc_profile") if (value := image.info.get(key))}
    if nclx and "icc_profile" not in image.info:
        _note_colours(image, int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    return image


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
        _note_colours(image, primaries, transfer)
    return image


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
