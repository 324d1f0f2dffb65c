"""What the header of a JPEG stream says of its pixels (ITU-T T.81 and T.87, B.2.2)."""

import struct
from typing import NamedTuple

# Start-of-frame markers; the others in their range are tables.
_FRAMES = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_JPEG_LS = 0xF7


class JpegFrame(NamedTuple):
    """Size in pixels, bits per channel, and the marker that tells how the pixels are coded."""

    width: int
    height: int
    bits: int
    marker: int

    def sort(self) -> str | None:
        """Return how a sort of JPEG is called that few programs decode, None for the usual ones."""
        if self.marker == _JPEG_LS:
            return "JPEG-LS"
        if self.marker in _LOSSLESS:
            return "lossless JPEG"
        return f"JPEG of {self.bits} bits per channel" if self.bits != 8 else None


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """Return what the first frame header of a JPEG stream says; None if there is none before the pixels."""
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            bits, height, width = struct.unpack_from(">BHH", data, at + 4)
            return JpegFrame(width, height, bits, marker)
        # A fill byte, or a segment.
        at += 1 if marker == 0xFF else 2 + length
    return None
