"""HEIC, AVIF, JPEG 2000, JPEG XL and rare JPEG by independent writers, and the pixels that were written."""

import io
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import Image, ImageCms

from al_pipeline_tests.core.data.writers import segment

Pixels = npt.NDArray[Any]

HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
# Smooth, with another colour in each corner.
RGB = np.stack([X * 4, Y * 5, 255 - (X + Y) * 2], axis=-1).astype(np.uint8)
GRAY = RGB[..., 0].copy()
ALPHA = np.where(X < 40, 255, 100).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def on_white(colours: Pixels, alpha: Pixels) -> Pixels:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def heif(picture: Image.Image | Pixels, **options: object) -> bytes:
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, **{"quality": -1, "chroma": 444, **options})
    return buffer.getvalue()


def turned_heif(stored: Pixels, exif: Image.Exif) -> bytes:
    """As phones write it: the turn as a property of the file, and in the EXIF too."""
    buffer = io.BytesIO()
    size = stored.shape[1], stored.shape[0]
    pillow_heif.encode("RGB", size, np.ascontiguousarray(stored).tobytes(), buffer, quality=-1, chroma=444,
                       exif=exif.tobytes())  # fmt: skip
    return buffer.getvalue()


def deep_heif(values: Pixels, **options: object) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (WIDTH, HEIGHT), values.astype("<u2").tobytes()).save(
        buffer, quality=-1, chroma=444, **options
    )
    return buffer.getvalue()


def avif(picture: Pixels, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="AVIF", **{"quality": 100, "subsampling": "4:4:4", **options})
    return buffer.getvalue()


def jp2(values: Pixels, **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(values, 0, reversible=True, **options))


def jp2_by_pillow(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG2000", **options)
    return buffer.getvalue()


def jxl(values: Pixels, **options: Any) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(values, **{"lossless": True, **options}))


def box(name: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), name) + content


def jp2_file(codestream: bytes, *, bits: int, channels: int, colours: bytes, more: bytes = b"") -> bytes:
    """A JP2 file around a codestream, by ISO 15444-1, annex I."""
    header = box(b"ihdr", struct.pack(">IIHBBBB", HEIGHT, WIDTH, channels, bits - 1, 7, 0, 0))
    return (
        box(b"jP  ", b"\r\n\x87\n")
        + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
        + box(b"jp2h", header, box(b"colr", colours), more)
        + box(b"jp2c", codestream)
    )


def palette_jp2() -> tuple[bytes, Pixels]:
    """A JP2 file of 16 colours, as aerial photos were stored."""
    indices = (X // 4 % 16).astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 256, (16, 3), dtype=np.uint8)
    palette = box(b"pclr", struct.pack(">HB3B", 16, 3, 7, 7, 7), colours.tobytes())
    mapping = box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, i) for i in range(3)))
    data = jp2_file(
        jp2(indices, codecformat="J2K"), bits=8, channels=1, colours=struct.pack(">BBBI", 1, 0, 0, 16),
        more=palette + mapping,
    )  # fmt: skip
    return data, colours[indices]


def sycc() -> Pixels:
    """The picture as JPEG's luma and chroma (BT.601, full range), computed here."""
    red, green, blue = (RGB[..., i].astype(float) for i in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402
    return np.stack(planes, axis=-1).round().clip(0, 255).astype(np.uint8)


def screen(linear: Pixels) -> Pixels:
    """Levels of a screen for linear light from 0 to 1, by IEC 61966-2-1."""
    light = linear.astype(float)
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def rare(values: Pixels, bits: int, **options: Any) -> bytes:
    """A JPEG of more than 8 bits, or a lossless one."""
    return bytes(imagecodecs.jpeg8_encode(values, 98, bitspersample=bits, **options))


def jpeg_ls_planes(planes: Pixels) -> bytes:
    """A JPEG-LS file with a scan for each colour, as each would have in a file of its own (ITU-T T.87, C.2.3)."""
    data = b"\xff\xd8" + segment(0xF7, struct.pack(">BHHB", 8, HEIGHT, WIDTH, 3) + b"\1\x11\0\2\x11\0\3\x11\0")
    for i in range(3):
        alone = bytes(imagecodecs.jpegls_encode(np.ascontiguousarray(planes[..., i])))
        pixels = alone[alone.index(b"\xff\xda") + 10 : -2]
        data += segment(0xDA, bytes((1, i + 1, 0, 0, 0, 0))) + pixels
    return data + b"\xff\xd9"


GRAY16 = (GRAY.astype(np.uint16) * 257).astype(np.uint16)
RGB16 = RGB.astype(np.uint16) * 257
SIGNED = (GRAY.astype(np.int32) * 257 - 32768).astype(np.int16)

# Name → what makes the file, the pixels that are meant, and the levels that it may be off.
CASES: dict[str, tuple[Callable[[], bytes], Pixels, float]] = {
    "HEIC": (lambda: heif(RGB), RGB, 1),
    "HEIC, lossy": (lambda: heif(RGB, quality=90, chroma=420), RGB, 8),
    "HEIC, gray": (lambda: heif(GRAY), GRAY, 1),
    "HEIC, transparent": (lambda: heif(RGBA), on_white(RGB, ALPHA), 2),
    "HEIC, 10 bits": (lambda: deep_heif(RGB16), RGB, 1),
    "HEIC of tiles": (lambda: heif(np.tile(RGB, (4, 4, 1)), tile_size=64), np.tile(RGB, (4, 4, 1)), 1),
    "AVIF": (lambda: avif(RGB), RGB, 3),
    "AVIF, gray": (lambda: avif(GRAY), GRAY, 3),
    "AVIF, transparent": (lambda: avif(RGBA), on_white(RGB, ALPHA), 3),
    "AVIF by imagecodecs": (lambda: bytes(imagecodecs.avif_encode(RGB, 100, pixelformat="444")), RGB, 3),
    "JP2": (lambda: jp2(RGB), RGB, 0),
    "JP2 by Pillow": (lambda: jp2_by_pillow(Image.fromarray(RGB)), RGB, 0),
    "JP2, lossy": (lambda: jp2_by_pillow(Image.fromarray(RGB), irreversible=True, quality_layers=[4]), RGB, 6),
    "codestream": (lambda: jp2(RGB, codecformat="J2K"), RGB, 0),
    "JP2, gray": (lambda: jp2(GRAY), GRAY, 0),
    "JP2, 16 bits gray": (lambda: jp2(GRAY16), GRAY, 0),
    "JP2, 16 bits": (lambda: jp2(RGB16), RGB, 0),
    "JP2, 12 bits": (lambda: jp2(GRAY16 >> 4, bitspersample=12), GRAY, 1),
    "JP2, 12 bits colour": (lambda: jp2(RGB16 >> 4, bitspersample=12), RGB, 1),
    "JP2, 4 bits": (lambda: jp2(GRAY >> 4, bitspersample=4), (GRAY >> 4).astype(int) * 17, 0),
    "JP2, 1 bit": (lambda: jp2(GRAY >> 7, bitspersample=1), (GRAY >> 7).astype(int) * 255, 0),
    "JP2, signed": (lambda: jp2(SIGNED), GRAY, 1),
    "JP2, transparent": (lambda: jp2_by_pillow(Image.fromarray(RGBA)), on_white(RGB, ALPHA), 1),
    "JP2, near infrared is no opacity": (lambda: jp2(np.dstack([RGB, GRAY]), codecformat="J2K"), RGB, 0),
    "JP2, palette": (lambda: palette_jp2()[0], palette_jp2()[1], 0),
    "JP2, inks": (lambda: jp2_by_pillow(Image.fromarray(RGB).convert("CMYK")), RGB, 0),
    "JP2, luma and chroma": (lambda: jp2(sycc(), colorspace="SYCC", mct=False), RGB, 3),
    "JPEG XL": (lambda: jxl(RGB), RGB, 0),
    "JPEG XL in boxes": (lambda: jxl(RGB, usecontainer=True), RGB, 0),
    "JPEG XL, lossy": (lambda: jxl(RGB, lossless=False, distance=0.1), RGB, 8),
    "JPEG XL, gray": (lambda: jxl(GRAY), GRAY, 0),
    "JPEG XL, transparent": (lambda: jxl(RGBA), on_white(RGB, ALPHA), 1),
    # imagecodecs marks what is not of 8 bits as linear.
    "JPEG XL, 16 bits": (lambda: jxl(RGB16), screen(RGB / 255), 1),
    "JPEG XL, 12 bits": (lambda: jxl(GRAY16 >> 4, bitspersample=12), screen((GRAY16 >> 4) / 4095), 1),
    "JPEG XL, 16-bit float": (lambda: jxl((RGB / 255).astype(np.float16)), screen(RGB / 255), 1),
    "JPEG XL, 32-bit float": (lambda: jxl((RGB / 255).astype(np.float32)), screen(RGB / 255), 1),
    "JPEG XL, gray with other channels": (
        lambda: jxl(np.stack([GRAY, 255 - GRAY, GRAY]), planar=True), np.dstack([GRAY, 255 - GRAY, GRAY]), 0,
    ),
    "JPEG of 12 bits": (lambda: rare(RGB16 >> 4, 12, subsampling="444"), RGB, 2),
    "JPEG of 12 bits, half the colours": (lambda: rare(RGB16 >> 4, 12, subsampling="420"), RGB, 4),
    "JPEG of 12 bits, RGB": (lambda: rare(RGB16 >> 4, 12, colorspace="RGB", outcolorspace="RGB"), RGB, 1),
    "JPEG of 12 bits, gray": (lambda: rare(GRAY16 >> 4, 12), GRAY, 1),
    "lossless JPEG of 12 bits": (lambda: rare(RGB16 >> 4, 12, lossless=True), RGB, 1),
    "lossless JPEG of 16 bits": (lambda: rare(RGB16, 16, lossless=True), RGB, 0),
    "lossless JPEG of 10 bits, any prediction": (lambda: rare(GRAY16 >> 6, 10, lossless=True, predictor=6), GRAY, 1),
    "lossless JPEG by another writer": (
        lambda: bytes(imagecodecs.ljpeg_encode(GRAY16 >> 2, bitspersample=14)), GRAY, 1,
    ),
    "JPEG-LS": (lambda: bytes(imagecodecs.jpegls_encode(RGB)), RGB, 0),
    "JPEG-LS, gray": (lambda: bytes(imagecodecs.jpegls_encode(GRAY)), GRAY, 0),
    "JPEG-LS of 16 bits": (lambda: bytes(imagecodecs.jpegls_encode(RGB16)), RGB, 0),
    "JPEG-LS, nearly lossless": (lambda: bytes(imagecodecs.jpegls_encode(RGB, 2)), RGB, 2),
    "JPEG-LS, a scan for each colour": (lambda: jpeg_ls_planes(RGB), RGB, 0),
    "JPEG XL, animated": (lambda: jxl(np.stack([RGB, 255 - RGB])), RGB, 0),
}  # fmt: skip
