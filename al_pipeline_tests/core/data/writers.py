"""Writers of small image files: Pillow's where it has what is wanted, else by hand from the formats' texts."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

Pixels = npt.NDArray[Any]

Chunk = tuple[bytes, bytes]

# Odd sides, no multiple of a JPEG's blocks, and other ones lying than standing.
WIDTH, HEIGHT = 61, 43


def colours() -> Pixels:
    """Slopes with hard edges in strong colours, other in each corner, uint8 of shape (HEIGHT, WIDTH, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.stack([x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), (x * y) % 256], axis=-1).astype(np.uint8)
    picture[:13, :17], picture[30:, 45:], picture[20:23, :] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    return picture


RGB = colours()

ALPHA = np.linspace(0, 255, RGB[..., 0].size).reshape(HEIGHT, WIDTH).astype(np.uint8)

RGBA = np.dstack([RGB, ALPHA])

GRAY = RGB.mean(axis=-1).astype(np.uint8)

PICTURE = Image.fromarray(RGB)

# Another picture, for frames that must not be seen.
OTHER = Image.fromarray(255 - RGB)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A file of Pillow's."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def exif(orientation: int, *, order: str = "<", kind: int = 3) -> bytes:
    """A TIFF directory with the orientation alone (Exif 2.32, tag 274)."""
    value = struct.pack(order + ("Hxx" if kind == 3 else "I"), orientation)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIHHHI", 42, 8, 1, 274, kind, 1)
    return head + value + bytes(4)


def density(per_inch: int, width: int, height: int) -> bytes:
    """A TIFF directory with a resolution, and the size of the picture as the camera gave it (Exif 2.32, 4.6)."""
    own = struct.pack("<H", 2) + b"".join(
        struct.pack("<HHII", tag, 4, 1, side) for tag, side in ((0xA002, width), (0xA003, height))
    )
    after = 8 + 2 + 4 * 12 + 4
    tags = [(0x011A, 5, after), (0x011B, 5, after), (0x0128, 3, 2), (0x8769, 4, after + 8)]
    first = struct.pack("<H", 4) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0\x08\0\0\0" + first + bytes(4) + struct.pack("<II", per_inch, 1) + own + bytes(4)


def xmp(orientation: int) -> bytes:
    """A description by XMP with the orientation alone."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
    ) % orientation


def profile(gamma: float, *, swapped: bool = False) -> bytes:
    """An ICC profile (version 2) of a screen with the primaries of sRGB, or red and green swapped, and a pure gamma."""
    red, green, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    red, green = (green, red) if swapped else (red, green)
    white = (0.9642, 1.0, 0.8249)

    def xyz(values: Sequence[float]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\2x\0" + bytes(82), b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": xyz(white)}
    tags |= {b"rXYZ": xyz(red), b"gXYZ": xyz(green), b"bXYZ": xyz(blue)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, content, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(content), len(value))
        content += value
    head = struct.pack(
        ">I4sI4s4s4s12x4s28x", start + len(content), b"lcms", 2 << 24, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    )
    return head + xyz(white)[8:] + bytes(48) + table + content


def srgb() -> bytes:
    """The sRGB profile of Little CMS."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(*segments: bytes, jfif: bool = True, **options: Any) -> bytes:
    """A JPEG of Pillow's with more segments at its beginning, or without its JFIF header."""
    data = saved(PICTURE, "JPEG", quality=90, **options)
    (length,) = struct.unpack_from(">H", data, 4)
    return data[: 4 + length if jfif else 2] + b"".join(segments) + data[4 + length :]


def exif_segment(orientation: int, **options: Any) -> bytes:
    return segment(0xE1, b"Exif\0\0" + exif(orientation, **options))


def xmp_segment(content: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + content)


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def rows(values: Pixels, bits: int) -> bytes:
    """Lines of a PNG without filter: samples of 1 to 16 bits, packed, big-endian."""
    flat = values.reshape(len(values), -1)
    if bits == 16:
        packed = flat.astype(">u2").view(np.uint8)
    else:
        samples = np.unpackbits(flat.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
        packed = np.packbits(samples.reshape(len(flat), -1), axis=-1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


# First row and column of each pass of Adam7, and the steps.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(
    values: Pixels, *before: Chunk, bits: int = 8, after: Sequence[Chunk] = (), lace: bool = False, palette: int = 0
) -> bytes:
    """A PNG with chunks before and after its pixels; with so many colours in a palette, if any."""
    channels = 1 if values.ndim == 2 else values.shape[-1]
    colour = 3 if palette else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    passes = [values[y::dy, x::dx] for y, x, dy, dx in PASSES] if lace else [values]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, int(lace))
    own = [(b"PLTE", RGB.reshape(-1, 3)[:: RGB[..., 0].size // palette][:palette].tobytes())] if palette else []
    pixels = (b"IDAT", zlib.compress(b"".join(rows(part, bits) for part in passes)))
    # Profiles and gamma stand before the palette, what speaks of its colours behind it.
    early = [each for each in before if each[0] not in (b"tRNS", b"bKGD")]
    late = [each for each in before if each not in early]
    chunks = [(b"IHDR", header), *early, *own, *late, pixels, *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def gama(value: int) -> Chunk:
    return b"gAMA", struct.pack(">I", value)


def text(keyword: bytes, content: bytes) -> Chunk:
    return b"iTXt", keyword + bytes(5) + content


def raw_profile(content: bytes) -> Chunk:
    """What ImageMagick writes."""
    return b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n%8d\n%s\n" % (len(content), content.hex().encode())
    )


CHRM = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))

SRGB = (b"sRGB", b"\0")


def riff(*chunks: Chunk) -> bytes:
    """A WebP of these chunks."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def extended(flags: int, *chunks: Chunk, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """A WebP with the header that tells what it has."""
    width, height = ((side - 1).to_bytes(3, "little") for side in size)
    return riff((b"VP8X", bytes((flags, 0, 0, 0)) + width + height), *chunks)


def frame(picture: Image.Image, left: int = 0, upper: int = 0) -> Chunk:
    """A frame of an animated WebP, for a second."""
    places = (left // 2, upper // 2, picture.width - 1, picture.height - 1, 1000)
    return b"ANMF", b"".join(place.to_bytes(3, "little") for place in places) + b"\0" + saved(picture, "WEBP")[12:]


def gif(picture: Image.Image, *, left: int = 0, upper: int = 0, **options: Any) -> bytes:
    """A GIF of Pillow's, moved on its canvas, which then grows by twice as much."""
    data = bytearray(saved(picture, "GIF", **options))
    struct.pack_into("<HH", data, 6, picture.width + 2 * left, picture.height + 2 * upper)
    at = data.index(b"," + struct.pack("<HHHH", 0, 0, *picture.size))
    struct.pack_into("<HH", data, at + 1, left, upper)
    return bytes(data)


def bmp(lines: Sequence[bytes], bits: int, *, height: int = HEIGHT, coding: int = 0, colours: bytes = b"") -> bytes:
    """A BMP of Windows 3 from its lines, the lowest first."""
    pixels = b"".join(line + bytes(-len(line) % 4) for line in lines)
    start = 54 + len(colours)
    sizes = (len(pixels), 2835, 2835, len(colours) // 4 if bits <= 8 else 0, 0)
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, coding, *sizes)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + colours + pixels
