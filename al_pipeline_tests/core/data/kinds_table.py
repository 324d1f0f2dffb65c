"""Image files of every kind that the field has: small ones, by independent writers or by hand."""

import io
import struct
import zlib
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from al_pipeline_tests.core.data.writers import (
    ALPHA,
    CHRM,
    GRAY,
    HEIGHT,
    OTHER,
    PICTURE,
    RGB,
    RGBA,
    SRGB,
    WIDTH,
    Chunk,
    Pixels,
    adobe,
    bmp,
    density,
    exif,
    exif_segment,
    extended,
    frame,
    gama,
    gif,
    jpeg,
    png,
    profile,
    raw_profile,
    saved,
    segment,
    srgb,
    text,
    xmp,
    xmp_segment,
)


class Kind(NamedTuple):
    """A file, and whether every browser paints it as Pillow decodes it."""

    data: bytes
    plain: bool


def table(format_name: str, plain: dict[str, bytes], special: dict[str, bytes]) -> dict[str, Kind]:
    """Name the kinds of a format."""
    assert not plain.keys() & special.keys()
    return {f"{format_name} {name}": Kind(bytes(data), name in plain) for name, data in (plain | special).items()}


def jpegs() -> dict[str, Kind]:
    """Baseline and progressive photos are plain, and turned ones that say so in EXIF."""
    coded = imagecodecs.jpeg8_encode
    plain = {
        "4:4:4": jpeg(subsampling=0),
        "4:2:2": jpeg(subsampling=1),
        "4:2:0": jpeg(subsampling=2),
        "4:4:0": coded(RGB, 90, subsampling="440"),
        "4:1:1": coded(RGB, 90, subsampling="411"),
        "progressive": jpeg(progressive=True),
        "restart markers": jpeg(restart_marker_blocks=2),
        "gray": saved(Image.fromarray(GRAY), "JPEG"),
        "gray progressive": saved(Image.fromarray(GRAY), "JPEG", progressive=True),
        "Adobe YCbCr": jpeg(adobe(1), jfif=False),
        "neither JFIF nor Adobe": jpeg(jfif=False),
        "comment": jpeg(segment(0xFE, b"holiday")),
        "fill bytes": jpeg(b"\xff\xff"),
        "more after its end": jpeg() + b"\0\0\0\x18ftypmp42 a film",
        "several pictures": saved(PICTURE, "MPO", save_all=True, append_images=[OTHER]),
        "sRGB profile": jpeg(icc_profile=srgb()),
        "big-endian EXIF": jpeg(exif_segment(6, order=">")),
        "resolution of a screen": jpeg(segment(0xE1, b"Exif\0\0" + density(72, WIDTH, HEIGHT))),
        "resolution": jpeg(segment(0xE1, b"Exif\0\0" + density(300, WIDTH, HEIGHT))),
        "made smaller, with the EXIF of the large one": jpeg(segment(0xE1, b"Exif\0\0" + density(300, 6100, 4300))),
        "XMP as EXIF": jpeg(exif_segment(6), xmp_segment(xmp(6))),
        "XMP upright": jpeg(xmp_segment(xmp(1))),
    } | {f"EXIF {i}": jpeg(exif_segment(i)) for i in range(9)}
    special = {
        "CMYK": saved(PICTURE.convert("CMYK"), "JPEG"),
        "YCCK": coded(np.asarray(PICTURE.convert("CMYK")), 90, colorspace="CMYK", outcolorspace="YCCK"),
        "Adobe RGB transform": jpeg(keep_rgb=True),
        "Adobe and JFIF disagree": jpeg(adobe(0)),
        "lossless": coded(GRAY, lossless=True),
        "12 bit": coded(GRAY.astype(np.uint16) * 16, 90, bitspersample=12),
        "12 bit CMYK": coded(
            np.dstack([RGB, GRAY]).astype(np.uint16) * 16, bitspersample=12, colorspace="CMYK", outcolorspace="CMYK"
        ),
        "gain map": jpeg(xmp_segment(b'<x xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>')),
        "orientation as LONG": jpeg(exif_segment(6, kind=4)),
        "damaged EXIF": jpeg(segment(0xE1, b"Exif\0\0garbage")),
        "resolution of half a screen's": jpeg(segment(0xE1, b"Exif\0\0" + density(36, 2 * WIDTH, 2 * HEIGHT))),
        "two EXIF": jpeg(exif_segment(1), exif_segment(6)),
        "gamma 1.8": jpeg(icc_profile=profile(1.8)),
        "swapped colours": jpeg(icc_profile=profile(2.2, swapped=True)),
        "gray with the profile of a screen": saved(Image.fromarray(GRAY), "JPEG", icc_profile=srgb()),
    } | {f"XMP {i}": jpeg(xmp_segment(xmp(i))) for i in range(2, 9)}
    return table("JPEG", plain, special)


def pngs() -> dict[str, Kind]:
    """Opaque ones of up to 8 bits are plain, if nothing says that they have other colours or are turned."""

    def iccp(content: bytes) -> Chunk:
        return b"iCCP", b"x\0\0" + zlib.compress(content)

    xmp_key = b"XML:com.adobe.xmp"
    plain = {
        "RGB": png(RGB),
        "RGB interlaced": png(RGB, lace=True),
        "gray interlaced": png(GRAY, lace=True),
        "palette with few colours": png(GRAY % 100, palette=100),
        "palette interlaced": png(GRAY, palette=256, lace=True),
        "gamma of sRGB": png(RGB, gama(45455)),
        "sRGB": png(RGB, SRGB),
        "sRGB, gamma and primaries": png(RGB, SRGB, gama(45455), CHRM),
        "sRGB profile": png(RGB, iccp(srgb())),
        "upright": png(RGB, (b"eXIf", exif(1))),
        "XMP upright": png(RGB, text(xmp_key, xmp(1))),
        "text": png(RGB, (b"tEXt", b"Author\0me"), after=[text(b"Title", b"holiday")]),
        "background": png(RGB, (b"bKGD", bytes((0, 255, 0, 0, 0, 255)))),
        "oblong pixels": png(RGB, (b"pHYs", struct.pack(">IIB", 2000, 1000, 1))),
        "more after its end": png(RGB) + b"more",
    }
    plain |= {f"gray {bits} bit": png(GRAY >> 8 - bits, bits=bits) for bits in (1, 2, 4, 8)}
    plain |= {f"palette {bits} bit": png(GRAY >> 8 - bits, bits=bits, palette=1 << bits) for bits in (1, 2, 4, 8)}
    gray16, rgb16 = GRAY.astype(np.uint16) * 257, RGB.astype(np.uint16) * 257
    special = {
        "gray 16 bit": png(gray16, bits=16),
        "RGB 16 bit": png(rgb16, bits=16),
        "gray and alpha": png(np.dstack([GRAY, ALPHA])),
        "RGBA": png(RGBA),
        "RGBA interlaced": png(RGBA, lace=True),
        "RGB 16 bit interlaced": png(rgb16, bits=16, lace=True),
        "RGB 16 bit, linear": png(rgb16, gama(100000), bits=16),
        "RGB 16 bit with a clear colour": png(rgb16, (b"tRNS", struct.pack(">3H", 65535, 0, 0)), bits=16),
        "RGB 16 bit, turned, told after the pixels": png(rgb16, bits=16, after=[(b"eXIf", exif(6))]),
        "gray 16 bit with a clear level": png(gray16, (b"tRNS", struct.pack(">H", int(gray16[3, 3]))), bits=16),
        "RGBA 16 bit": png(RGBA.astype(np.uint16) * 257, bits=16),
        "gray and alpha 16 bit": png(np.dstack([GRAY, ALPHA]).astype(np.uint16) * 257, bits=16),
        "gray with a clear level": png(GRAY >> 4, (b"tRNS", b"\0\7"), bits=4),
        "RGB with a clear colour": png(RGB, (b"tRNS", bytes((0, 0, 0, 255, 0, 0)))),
        "palette with clear colours": png(GRAY >> 4, (b"tRNS", bytes(range(0, 256, 17))), bits=4, palette=16),
        "palette with pixels beyond": png(GRAY, palette=100),
        "gamma 1": png(RGB, gama(100000)),
        "gamma and primaries": png(RGB, gama(45455), CHRM),
        "gamma 1.8 profile": png(RGB, iccp(profile(1.8))),
        "swapped colours": png(RGB, iccp(profile(2.2, swapped=True))),
        "gray with the profile of a screen": png(GRAY, iccp(srgb())),
        "Display P3 by cICP": png(RGB, (b"cICP", bytes((12, 13, 0, 1)))),
        "animated": saved(PICTURE, "PNG", save_all=True, append_images=[OTHER]),
        "turned": png(RGB, (b"eXIf", exif(6))),
        "turned, told after the pixels": png(RGB, after=[(b"eXIf", exif(6))]),
        "turned by a raw profile": png(RGB, raw_profile(b"Exif\0\0" + exif(6))),
        "turned by XMP": png(RGB, text(xmp_key, xmp(6))),
    }
    return table("PNG", plain, special)


def webps() -> dict[str, Kind]:
    """Still and opaque ones are plain, if nothing says that they have other colours or are turned."""
    still = saved(PICTURE, "WEBP", quality=90)
    pixels = (b"VP8 ", still[20 : 20 + struct.unpack_from("<I", still, 16)[0]])
    animation, small = (b"ANIM", bytes(6)), (WIDTH + 20, HEIGHT + 10)
    plain = {
        "lossy": still,
        "lossless": saved(PICTURE, "WEBP", lossless=True),
        "upright": extended(8, pixels, (b"EXIF", exif(1))),
        "XMP upright": extended(4, pixels, (b"XMP ", xmp(1))),
        "sRGB profile": extended(32, (b"ICCP", srgb()), pixels),
    }
    special = {
        "lossy with alpha": saved(Image.fromarray(RGBA), "WEBP", quality=90),
        "lossless with alpha": saved(Image.fromarray(RGBA), "WEBP", lossless=True),
        "turned": extended(8, pixels, (b"EXIF", exif(6))),
        "turned by XMP": extended(4, pixels, (b"XMP ", xmp(6))),
        "gamma 1.8 profile": extended(32, (b"ICCP", profile(1.8)), pixels),
        "animated": extended(2, animation, frame(PICTURE), frame(OTHER)),
        "one frame": extended(2, animation, frame(PICTURE)),
        "small first frame": extended(2, animation, frame(PICTURE, 12, 6), frame(OTHER), size=small),
        "small first frame, turned": extended(
            10, animation, frame(PICTURE, 12, 6), frame(OTHER), (b"EXIF", exif(6)), size=small
        ),
    }
    return table("WebP", plain, special)


def gifs() -> dict[str, Kind]:
    """One opaque image on all of the canvas is plain."""
    picture, other = PICTURE.quantize(64), OTHER.quantize(64)
    plain = {
        "still": gif(picture, interlace=False),
        "interlaced": gif(picture, interlace=True),
        "256 colours": gif(PICTURE.quantize(256)),
        "gray": gif(Image.fromarray(GRAY)),
        "black and white": gif(Image.fromarray(GRAY).convert("1")),
        "comment": gif(picture, comment=b"holiday"),
        "loop of one": gif(picture, loop=0, duration=100),
    }
    special = {
        "animated": saved(picture, "GIF", save_all=True, append_images=[other], duration=1000),
        "clear colour": gif(picture, transparency=picture.getpixel((3, 3))),
        "small": gif(picture, left=10, upper=5),
        "small with a clear colour": gif(picture, left=10, upper=5, transparency=picture.getpixel((3, 3))),
        "small first frame": gif(picture, left=10, upper=5, save_all=True, append_images=[other], duration=1000),
    }
    return table("GIF", plain, special)


def bmps() -> dict[str, Kind]:
    """Uncompressed ones of up to 24 bits are plain, but for the 16 of which nobody knows how they grow to 24."""
    lines = RGB[::-1, :, ::-1]
    grays = np.arange(256, dtype=np.uint8)[:, None].repeat(4, axis=1)
    many = np.column_stack([RGB.reshape(-1, 3)[::10][:256], np.zeros(256, np.uint8)])
    nibbles = (GRAY[::-1, :-1:2] >> 4 << 4 | GRAY[::-1, 1::2] >> 4).astype(np.uint8)
    nibbles = np.column_stack([nibbles, GRAY[::-1, -1] & 0xF0])
    runs = [b"".join(bytes((1, value)) for value in row) + b"\0\0" for row in GRAY[::-1]]
    masks = struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    sixteen = (RGB[::-1].astype(np.uint16) >> 3) @ np.array([1 << 10, 1 << 5, 1], np.uint16)
    plain = {
        "24 bit": bmp([row.tobytes() for row in lines], 24),
        "24 bit, from above": bmp([row.tobytes() for row in lines[::-1]], 24, height=-HEIGHT),
        "8 bit": bmp([row.tobytes() for row in GRAY[::-1]], 8, colours=many.tobytes()),
        "8 bit gray": bmp([row.tobytes() for row in GRAY[::-1]], 8, colours=grays.tobytes()),
        "4 bit": bmp([row.tobytes() for row in nibbles], 4, colours=many[::16].tobytes()),
        "1 bit": saved(Image.fromarray(GRAY).convert("1"), "BMP"),
        "8 bit, few colours": saved(PICTURE.quantize(40), "BMP"),
    }
    special = {
        "32 bit": bmp([row.tobytes() for row in RGBA[::-1, :, [2, 1, 0, 3]]], 32),
        "16 bit": bmp([row.tobytes() for row in sixteen], 16),
        "16 bit, 6 of them green": bmp([row.tobytes() for row in sixteen], 16, coding=3, colours=masks),
        "run lengths": bmp([b"".join(runs) + b"\0\1"], 8, coding=1, colours=grays.tobytes()),
    }
    return table("BMP", plain, special)


def tiffs() -> dict[str, Kind]:
    """No browser knows it."""

    def written(values: Pixels, **options: Any) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, values, **options)
        return buffer.getvalue()

    special = {
        "RGB": written(RGB, photometric="rgb"),
        "deflated": written(RGB, photometric="rgb", compression="zlib"),
        "gray 16 bit": written(GRAY.astype(np.uint16) * 257),
        "inverted": written(GRAY, photometric="miniswhite"),
        "CMYK": saved(PICTURE.convert("CMYK"), "TIFF"),
        "pages": written(np.stack([RGB, 255 - RGB]), photometric="rgb"),
        "turned": saved(PICTURE, "TIFF", tiffinfo={274: 6}),
    }
    return table("TIFF", {}, special)


KINDS: dict[str, Kind] = jpegs() | pngs() | webps() | gifs() | bmps() | tiffs()
