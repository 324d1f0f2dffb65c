"""Which image files every browser paints as Pillow decodes them, told from their structure.

Each function knows what is plain; a file with anything else in it is not. Where readers may disagree about a file it is
no loss to call it special: then people are shown the decoded pixels.
"""

import io
import itertools
import re
import struct
import zlib
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import TypeVar

import numpy as np
from PIL import Image

from al_pipeline.core.data.exif import is_scaled, orientation_of
from al_pipeline.core.data.images import opened
from al_pipeline.core.errors import ImageError

Part = TypeVar("Part")

# 64 megapixels, uncompressed, have 192 MB. What is larger is not looked at in one piece, and too large to be sent to
# browsers as it is.
LARGEST = 256_000_000
# A picture of 200 MB in pieces of 8 kB, as libpng makes them, has a quarter of that.
MOST_PARTS = 100_000

XMP, ICC = b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
# As Pillow looks for it, which turns an image whose EXIF says nothing; no browser does.
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
# Screens of high dynamic range show more than the pixels of a photo with a gain map.
GAIN_MAPS = (b"hdrgm", b"urn:iso:std:iso:ts:21496")

# A marker, which may follow bytes that fill; in entropy coded data what is neither a stuffed byte nor a restart.
JPEG_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
JPEG_SCAN_ENDS = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
START_OF_SCAN, END_OF_JPEG = b"\xff\xda", b"\xff\xd9"
BASELINE, PROGRESSIVE, TABLES, SOS, EOI = 0xC0, 0xC2, {0xC4, 0xDB, 0xDD, 0xFE}, 0xDA, 0xD9
# Horizontal and vertical samples of the luma to one of each colour.
SUBSAMPLING = {0x11, 0x21, 0x12, 0x22, 0x41}

PNG_DEPTHS = {(0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8)}
PNG_CHUNKS = set(b"IHDR PLTE IDAT IEND sRGB gAMA cHRM iCCP pHYs tIME bKGD hIST sBIT tEXt zTXt iTXt eXIf".split())
# What programs write for themselves: ImageMagick, its virtual canvas; Apple, where the strips of a screenshot begin.
PNG_CHUNKS |= {b"vpAg", b"caNv", b"iDOT"}
# 1 / 2.2: the only gamma that browsers and Pillow both leave alone.
GAMMA = struct.pack(">I", 45455)

# Blocks of GIF programs that say nothing about the colours or the orientation.
GIF_PROGRAMS = {b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ImageMagick"}


def plain_suffix(data: bytes) -> str | None:
    """Return the suffix under which every browser paints the pixels that Pillow's plain decoding gives.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    str or None
        ".jpg", ".png", ".webp", ".gif" or ".bmp". None for what moves, is transparent, has colours other than sRGB, is
        turned by what only some readers heed, is cut or is of another kind.
    """
    for head, suffix, is_plain in (
        (b"\xff\xd8\xff", ".jpg", _is_plain_jpeg),
        (b"\x89PNG\r\n\x1a\n", ".png", _is_plain_png),
        (b"RIFF", ".webp", _is_plain_webp),
        (b"GIF8", ".gif", _is_plain_gif),
        (b"BM", ".bmp", _is_plain_bmp),
    ):
        if data.startswith(head):
            try:
                return suffix if is_plain(data) else None
            except (struct.error, LookupError, ValueError, zlib.error, ImageError):
                # It is cut, or built otherwise.
                return None
    return None


def starts_plain(data: bytes) -> bool:
    """Say whether a file is a baseline JPEG that is plain as far as its start and its last bytes tell.

    That takes some microseconds. `plain_suffix` looks for segments among the pixels too, which hardly any file has, and
    takes a sixteenth of the time in which they are decoded.
    """
    scan = data.find(START_OF_SCAN)
    if not data.startswith(b"\xff\xd8\xff") or not data.endswith(END_OF_JPEG) or scan < 0:
        return False
    # Within EXIF there may be a small JPEG, which has a scan as well.
    return _starts_plain(data) if b"Exif" in (start := data[:scan]) else _starts_plain_without_exif(start)


@lru_cache(maxsize=64)
def _starts_plain_without_exif(start: bytes) -> bool:
    """Cached, because all pictures of one size that a program writes begin with the same bytes."""
    return _starts_plain(start + START_OF_SCAN + b"\0\2")


def _starts_plain(data: bytes) -> bool:
    try:
        before = _listed(itertools.takewhile(lambda segment: segment[0] not in (SOS, EOI), _jpeg_segments(data)))
        return all(marker != PROGRESSIVE for marker, _ in before) and _are_plain(before)
    except (struct.error, LookupError, ValueError, ImageError):
        return False


def _is_plain_jpeg(data: bytes) -> bool:
    segments = _listed(_jpeg_segments(data))
    scan = next(i for i, (marker, _) in enumerate(segments) if marker in (SOS, EOI))
    before, after = segments[:scan], segments[scan:]
    if not {marker for marker, _ in after} <= {SOS, EOI} | TABLES or after[0][0] == EOI:
        return False
    return _are_plain(before)


def _are_plain(before: list[tuple[int, bytes]]) -> bool:
    """Say whether what comes before the pixels of a JPEG says nothing that readers disagree about."""
    frames = [body for marker, body in before if marker in (BASELINE, PROGRESSIVE)]
    tags = [(marker - 0xE0, body) for marker, body in before if 0xE0 <= marker <= 0xEF]
    if len(frames) != 1 or len(frames) + len(tags) + sum(marker in TABLES for marker, _ in before) != len(before):
        return False
    exif = [body for number, body in tags if number == 1 and body.startswith(b"Exif")]
    xmp = b"".join(body for number, body in tags if number == 1 and body.startswith(XMP))
    if any(name in body for name in GAIN_MAPS for _, body in tags if body.startswith((XMP, b"urn:"))):
        return False
    profile = sorted(body[len(ICC) :] for number, body in tags if number == 2 and body.startswith(ICC))
    if [part[:2] for part in profile] != [bytes((i + 1, len(profile))) for i in range(len(profile))]:
        return False
    height, width, components = struct.unpack_from(">HHB", frames[0], 1)
    return (
        _has_agreed_colours(frames[0], tags)
        and _is_turned_alike(exif, xmp, allowed=range(9))
        and not any(is_scaled(each, (width, height)) for each in exif)
        and (not profile or (components == 3 and _is_srgb(b"".join(part[2:] for part in profile))))
    )


def _listed(parts: Iterator[Part]) -> list[Part]:
    """Return the parts of a file; ValueError if they are so many that telling them apart would fill the memory."""
    listed = list(itertools.islice(parts, MOST_PARTS + 1))
    if len(listed) > MOST_PARTS:
        raise ValueError("too many parts")
    return listed


def _jpeg_segments(data: bytes) -> Generator[tuple[int, bytes]]:
    """Yield marker and content of each segment up to the end of the image; ValueError if there is none."""
    at = 2
    while found := JPEG_MARKER.match(data, at):
        marker, at = found[1][0], found.end()
        if marker == EOI:
            yield marker, b""
            return
        (length,) = struct.unpack_from(">H", data, at)
        yield marker, data[at + 2 : at + length]
        at += length
        if marker == SOS and (ends := JPEG_SCAN_ENDS.search(data, at)):
            at = ends.start()
    raise ValueError("no end of the image")


def _has_agreed_colours(frame: bytes, tags: list[tuple[int, bytes]]) -> bool:
    """Say whether a frame is 8-bit gray, or YCbCr for every reader."""
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    if bits != 8 or not height or not width or len(frame) != 6 + 3 * components:
        return False
    if components == 1:
        return True
    jfif = any(number == 0 and body.startswith(b"JFIF\0") and len(body) >= 14 for number, body in tags)
    transforms = {body[11] for number, body in tags if number == 14 and body.startswith(b"Adobe")}
    named, sampling = frame[6::3], frame[7::3]
    ycbcr = transforms == {1} or (not transforms and (jfif or named == b"\1\2\3"))
    return components == 3 and ycbcr and sampling[0] in SUBSAMPLING and sampling[1:] == b"\x11\x11"


def _is_plain_png(data: bytes) -> bool:
    chunks = _listed(_png_chunks(data))
    names = [name for name, _ in chunks]
    parts = dict(chunks)
    if names[0] != b"IHDR" or names.count(b"IHDR") != 1 or not set(names) <= PNG_CHUNKS or b"IDAT" not in parts:
        return False
    _, _, bits, colour, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    if (colour, bits) not in PNG_DEPTHS:
        return False
    if colour == 3 and not _all_have_colours(data, len(parts[b"PLTE"]) // 3, 1 << bits):
        return False
    if b"iCCP" in parts:
        if colour == 0 or not _is_srgb(_inflate(parts[b"iCCP"].split(b"\0", 1)[1][1:])):
            return False
    elif parts.get(b"gAMA", GAMMA) != GAMMA or (b"cHRM" in parts and b"sRGB" not in parts):
        return False
    texts = [(name, body.split(b"\0", 1)[0], body) for name, body in chunks if name in (b"tEXt", b"zTXt", b"iTXt")]
    if any(word.startswith(b"Raw profile type") for _, word, _ in texts):
        return False
    xmp = [(name, body) for name, word, body in texts if word == b"XML:com.adobe.xmp"]
    if any(name != b"iTXt" or body.split(b"\0", 1)[1][:1] != b"\0" for name, body in xmp):
        # It is compressed, or where nobody looks for it.
        return False
    exif = [body for name, body in chunks if name == b"eXIf"]
    return _is_turned_alike(exif, b"".join(body for _, body in xmp), allowed=(1,))


def _png_chunks(data: bytes) -> Generator[tuple[bytes, bytes]]:
    """Yield name and content of each chunk up to the end of the image; ValueError for a damaged one."""
    at, name = 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if struct.unpack_from(">I", data, at + 8 + length) != (zlib.crc32(body, zlib.crc32(name)),):
            raise ValueError("damaged chunk")
        yield name, body
        at += 12 + length


def _inflate(data: bytes) -> bytes:
    """Return what a profile's chunk holds; sRGB profiles have some kilobytes."""
    return zlib.decompressobj().decompress(data, 1 << 16)


def _is_plain_webp(data: bytes) -> bool:
    (size,) = struct.unpack_from("<I", data, 4)
    if data[8:12] != b"WEBP" or size + 8 > len(data):
        return False
    chunks = _listed(_riff_chunks(data, size + 8))
    parts = dict(chunks)
    pixels = [(name, body) for name, body in chunks if name in (b"VP8 ", b"VP8L")]
    if len(pixels) != 1 or len(parts) != len(chunks):
        return False
    if not set(parts) <= {b"VP8X", b"VP8 ", b"VP8L", b"ICCP", b"EXIF", b"XMP "}:
        return False
    # Bits of the header: 2 it moves, 16 it is transparent.
    if (parts[b"VP8X"][0] & 0x12 if b"VP8X" in parts else len(parts) != 1) or _has_alpha(*pixels[0]):
        return False
    if b"ICCP" in parts and not _is_srgb(parts[b"ICCP"]):
        return False
    exif = [body for name, body in chunks if name == b"EXIF"]
    return _is_turned_alike(exif, parts.get(b"XMP ", b""), allowed=(1,))


def _riff_chunks(data: bytes, end: int) -> Generator[tuple[bytes, bytes]]:
    """Yield name and content of each chunk; ValueError if they don't fill the file."""
    at = 12
    while at < end:
        name, length = struct.unpack_from("<4sI", data, at)
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    if at != end:
        raise ValueError("cut chunk")


def _has_alpha(name: bytes, body: bytes) -> bool:
    """Say whether the pixels of a lossless WebP are transparent; ValueError if they do not begin as they must."""
    if not (body[3:6] == b"\x9d\x01\x2a" if name == b"VP8 " else body[:1] == b"\x2f"):
        raise ValueError("no such pixels")
    return name == b"VP8L" and bool(body[4] & 0x10)


def _is_plain_gif(data: bytes) -> bool:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, images, colours, coded = 13 + _table(flags), 0, 0, 0
    while (kind := data[at]) != 0x3B:
        if kind == 0x21:
            label, first, end = data[at + 1], data[at + 3 : at + 3 + data[at + 2]], _end_of_blocks(data, at + 2)
            if label == 0xF9:
                if first[0] & 1:
                    return False
            elif label != 0xFE and not (label == 0xFF and first in GIF_PROGRAMS):
                return False
            at = end
        elif kind == 0x2C:
            images += 1
            if struct.unpack_from("<HHHH", data, at + 1) != (0, 0, width, height):
                return False
            own = data[at + 9]
            at += 10 + _table(own)
            colours = (_table(own) or _table(flags)) // 3
            coded = 1 << data[at]
            at = _end_of_blocks(data, at + 1)
        else:
            return False
    return images == 1 and colours > 0 and _all_have_colours(data, colours, coded)


def _table(flags: int) -> int:
    """Return how many bytes the table of colours has."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    """Return where what follows a row of blocks begins; IndexError if it is cut."""
    while length := data[at]:
        at += 1 + length
    return at + 1


def _is_plain_bmp(data: bytes) -> bool:
    (start,) = struct.unpack_from("<I", data, 10)
    header, width, height, planes, bits, compression = struct.unpack_from("<IiiHHI", data, 14)
    (colours,) = struct.unpack_from("<I", data, 46)
    if header != 40 or planes != 1 or compression or bits not in (1, 4, 8, 24) or width <= 0 or not height:
        return False
    colours = 0 if bits == 24 else colours or 1 << bits
    if start < 54 + 4 * colours or start + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        return False
    return bits == 24 or _all_have_colours(data, colours, 1 << bits)


def _all_have_colours(data: bytes, colours: int, coded: int) -> bool:
    """Say whether no pixel is beyond the table of colours: there each reader has another."""
    if colours >= coded:
        return True
    with opened(io.BytesIO(data)) as image:
        return image.mode in ("P", "L") and int(np.asarray(image).max()) < colours


def _is_turned_alike(exif: list[bytes], xmp: bytes, *, allowed: range | tuple[int, ...]) -> bool:
    """Say whether every reader finds the same orientation, one of those allowed or none."""
    if len(exif) > 1:
        return False
    orientation = orientation_of(exif[0]) if exif else None
    if orientation is not None:
        return orientation in allowed
    return set(XMP_ORIENTATION.findall(xmp)) <= {b"1"}


@lru_cache(maxsize=64)
def _is_srgb(profile: bytes) -> bool:
    """Say whether a profile leaves every colour as it is, within one level: there are dozens of sRGB profiles."""
    from PIL import ImageCms

    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        shown = ImageCms.profileToProfile(Image.fromarray(colours), own, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        # It is damaged, or not for red, green and blue.
        return False
    return bool(np.abs(np.asarray(shown, dtype=int) - colours).max() <= 1)
