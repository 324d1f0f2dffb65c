"""How large a picture its first bytes promise, of formats that are found inside of other files."""

import struct

# Start-of-frame markers of JPEG; the others in their range are tables.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


# What PNG, WebP and JPEG XL have at most; extra channels of JPEG XL are not decoded.
CHANNELS = 4


def promised_size(data: bytes) -> tuple[int, int, int] | None:
    """Return width and height in pixels and the channels that JPEG, JPEG 2000, JPEG XL, WebP, PNG or LERC begin with.

    None if they cannot be found: a decoder that allocates what such data ask for must not see them.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if (begin := data[:4096].find(b"\xff\x4f\xff\x51")) >= 0:
            right, bottom, left, top, channels = struct.unpack_from(">4I16xH", data, begin + 8)
            return right - left, bottom - top, channels
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return *_webp(data), CHANNELS
        if data.startswith(b"\x89PNG"):
            return *struct.unpack_from(">II", data, 16), CHANNELS
        if data.startswith(b"Lerc2 "):
            (version,) = struct.unpack_from("<i", data, 6)
            height, width, channels = struct.unpack_from("<iii", data, 14 if version >= 3 else 10)
            return width, height, channels if version >= 4 else 1
        if data.startswith(b"\xff\x0a"):
            return *_jpeg_xl(data[2:]), CHANNELS
        if data.startswith(b"\0\0\0\x0cJXL ") and (box := data[:65536].find(b"\xff\x0a")) >= 0:
            return *_jpeg_xl(data[box + 2 :]), CHANNELS
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(data: bytes) -> tuple[int, int, int] | None:
    at = 2
    while data[at] == 0xFF:
        if data[at + 1] in FRAMES:
            height, width, channels = struct.unpack_from(">HHB", data, at + 5)
            return width, height, channels
        # Fill bytes, and markers without a length.
        if data[at + 1] == 0xFF:
            at += 1
        elif data[at + 1] == 0x01 or 0xD0 <= data[at + 1] <= 0xD8:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _webp(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":
            return (1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            raise IndexError("no picture")


def _jpeg_xl(data: bytes) -> tuple[int, int]:
    """Read the SizeHeader of ISO/IEC 18181-1."""
    bits, at = int.from_bytes(data[:16], "little"), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    def side(*, small: bool) -> int:
        return 8 * (1 + read(5)) if small else 1 + read((9, 13, 18, 30)[read(2)])

    small = bool(read(1))
    height = side(small=small)
    if ratio := read(3):
        over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        return height * over // under, height
    return side(small=small), height
