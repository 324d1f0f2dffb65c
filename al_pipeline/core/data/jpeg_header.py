"""What the header of a JPEG stream says of its pixels (ITU-T T.81 and T.87, B.2.2)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

# Start-of-frame markers; the others in their range are tables.
_FRAMES = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_JPEG_LS, _SCAN = 0xF7, 0xDA


class JpegFrame(NamedTuple):
    """Size in pixels, bits per channel, the marker that tells how the pixels are coded, and how many channels."""

    width: int
    height: int
    bits: int
    marker: int
    channels: int

    def sort(self) -> str | None:
        """Return how a sort of JPEG is called that few programs decode, None for the usual ones."""
        if self.marker == _JPEG_LS:
            return "JPEG-LS"
        if self.marker in _LOSSLESS:
            return "lossless JPEG"
        return f"JPEG of {self.bits} bits per channel" if self.bits != 8 else None


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """Return what the first frame header of a JPEG stream says; None if there is none before the pixels."""
    for marker, body in segments(data):
        if marker in _FRAMES and len(body) >= 6:
            bits, height, width, channels = struct.unpack_from(">BHHB", body)
            return JpegFrame(width, height, bits, marker, channels)
    return None


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment of a JPEG stream up to the begin of its pixels."""
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            # A fill byte.
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        if marker == _SCAN:
            return
        at += 2 + length
