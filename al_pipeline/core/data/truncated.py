"""How much of a JPEG or PNG file that is cut off is there, and the file made whole with what is missing left plain."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

# With so much of its rows an image lacks its last bytes; with less it is cut off. A download that stopped at a block of
# the network or of the disk loses up to 64 kB, which is this share of a photo of 1.3 MB.
NEARLY_ALL = 0.95
# Above this height a JPEG is looked at in an eighth of its size.
_LARGE = 1024

PNG = b"\x89PNG\r\n\x1a\n"
END_OF_JPEG = b"\xff\xd9"
# Behind the end some programs leave zeros; with more bytes a file is looked at as if it had none.
_TAIL = 4096
# Coefficients that nobody meant, without a byte that begins a marker.
NOISE = bytes(np.random.default_rng(0).integers(1, 255, 2048, dtype=np.uint8))
# Colour type → channels.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class Completed(NamedTuple):
    """A file that was cut off, made whole.

    Attributes
    ----------
    data : bytes
        What decoders read without an error: the missing rows are of one colour.
    share : float
        Of the rows (of an interlaced PNG the bytes) that are as they were, 0 to 1.
    """

    data: bytes
    share: float


def ends(file: IO[bytes]) -> bool:
    """Say whether a JPEG or PNG file has its end, but for zeros behind it; the position is the begin afterwards."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read().rstrip(b"\0")
    file.seek(0)
    return tail.endswith((END_OF_JPEG, b"IEND\xaeB`\x82"))


def complete(data: bytes) -> Completed | None:
    """Return a JPEG or PNG file that is cut off, made whole; None if it isn't one of them or has no pixels.

    Parameters
    ----------
    data : bytes
        Its header has been checked: it is decoded.
    """
    try:
        if data.startswith(PNG):
            return _complete_png(data)
        if data.startswith(b"\xff\xd8"):
            return _complete_jpeg(data)
    except Exception:  # noqa: BLE001 - damaged bytes lead into errors of any kind; then it is not just cut off
        return None
    return None


def reason_truncated(data: bytes) -> str | None:
    """Return how much is missing of a JPEG or PNG file that cannot be decoded to its end; None if nobody knows."""
    completed = complete(data)
    if completed is None:
        return None
    what = "lacks its last bytes" if completed.share >= NEARLY_ALL else "cut off"
    # In brackets, so that a report counts them together. Not all of the rows, if any is missing.
    return f"{what} ({int(100 * completed.share)} % of the rows are whole): copy or download it again"


def _complete_jpeg(data: bytes) -> Completed | None:
    """Decode it twice, with an end and with noise before the end: rows that are the same come from the file."""
    whole = data.removesuffix(b"\xff") + END_OF_JPEG
    plain, noisy = _decoded(whole), _decoded(data.removesuffix(b"\xff") + NOISE + END_OF_JPEG)
    same = (plain == noisy).reshape(len(plain), -1).all(axis=1)
    rows = len(same) if same.all() else int(same.argmin())
    return Completed(whole, rows / len(same))


def _decoded(data: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if image.height > _LARGE:
            image.draft(None, (image.width // 8, image.height // 8))
        return np.asarray(image)


def _complete_png(data: bytes) -> Completed | None:
    found = list(chunks(data))
    if not found or found[0][0] != b"IHDR":
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", found[0][1])
    bits = depth * _CHANNELS[colour]
    # Each row of each pass has a byte for its filter.
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    expected = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
    unpacked = zlib.decompressobj()
    pixels = unpacked.decompress(b"".join(content for name, content in found if name == b"IDAT"), expected)
    if not pixels:
        return None
    row = expected // height
    share = len(pixels) / expected if interlaced else len(pixels) // row / height
    # Rows of filter 0 and value 0.
    packed = zlib.compress(pixels + bytes(expected - len(pixels)), 1)
    before = [(name, content) for name, content in found if name not in (b"IDAT", b"IEND")]
    written = b"".join(chunk(name, content) for name, content in [*before, (b"IDAT", packed), (b"IEND", b"")])
    return Completed(PNG + written, share)


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of every chunk of a PNG, of the last as much as there is."""
    at = len(PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, data[at + 8 : at + 8 + length]
        at += 12 + length


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
