"""A small writer of TIFF and BigTIFF files that shares no code with the readers: from TIFF 6.0 alone."""

import itertools
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Tags = dict[int, tuple[str, Sequence[Any]]]


def shown(values: Array, black: float, white: float) -> Array:
    """Return the picture of 1 or 3 channels between black and white."""
    scaled = (values.astype(np.float64) - black) / (white - black) * 255
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3))


@dataclass
class Type:
    """How a sample is stored: kind of number, bits, and the values that mean black and white (None: own range)."""

    kind: str
    bits: int
    white: float | None

    @property
    def name(self) -> str:
        return f"{self.kind}{self.bits}"

    def values(self, ramp: Array) -> Array:
        match self.kind:
            case "f":
                return np.round(ramp * 1000).astype(np.float64) / 4 - 20
            case "i":
                most = 2 ** min(self.bits - 1, 40)
                return np.round(ramp * (most - 1) - most // 2).astype(np.int64)
            case _:
                return np.round(ramp * (2 ** min(self.bits, 40) - 1)).astype(np.uint64)

    def picture(self, values: Array) -> Array:
        return shown(values, *((0, self.white) if self.white else (values.min(), values.max())))


TYPES = [
    *(Type("u", bits, 2**bits - 1) for bits in (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 24)),
    *(Type("u", bits, None) for bits in (32, 64)),
    *(Type("i", bits, None) for bits in (8, 16, 32, 64)),
    *(Type("f", bits, None) for bits in (16, 24, 32, 64)),
]


def packed(values: Array, kind: str, bits: int, order: str) -> bytes:
    """Return rows of samples, shape (rows, samples), as TIFF stores them: each row begins with a byte."""
    if kind == "f" and bits == 24:
        # 1 bit of sign, 7 of exponent, 16 of fraction (TIFF technical note 3).
        fraction, exponent = np.frexp(np.abs(values.astype(np.float64)))
        word = ((exponent - 1 + 63).astype(np.int64) << 16) | np.round((fraction * 2 - 1) * 65536).astype(np.int64)
        values = np.where(values == 0, 0, word | (np.signbit(values).astype(np.int64) << 23))
        kind = "u"
    if bits in (8, 16, 32, 64):
        return values.astype(f"{order}{kind}{bits // 8}").tobytes()
    if bits == 24:
        stored = values.astype(">u4")[..., None].view(np.uint8)[..., 1:]
        return (stored if order == ">" else stored[..., ::-1]).tobytes()
    places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    flags = (values.astype(np.uint64)[..., None] >> places & np.uint64(1)).astype(np.uint8)
    return np.packbits(flags.reshape(len(values), -1), axis=1).tobytes()


def packbits(data: bytes) -> bytes:
    """Compress with runs of literal bytes only."""
    return b"".join(bytes([len(part) - 1]) + part for part in (data[i : i + 128] for i in range(0, len(data), 128)))


COMPRESSORS: dict[int, Callable[[bytes], bytes]] = {
    1: lambda data: data,
    5: lambda data: bytes(imagecodecs.lzw_encode(data)),
    8: zlib.compress,
    32773: packbits,
    34925: lambda data: bytes(imagecodecs.lzma_encode(data)),
    50000: lambda data: bytes(imagecodecs.zstd_encode(data)),
}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class Layout:
    """Where samples lie in the file, and what is done with their bytes."""

    order: str = "<"
    compression: int = 1
    rows: int = 0
    tile: int = 0
    planar: bool = False
    fill: int = 1
    big: bool = False
    predictor: int = 1

    @property
    def name(self) -> str:
        place = f"tiles {self.tile}" if self.tile else f"strips {self.rows or 'one'}"
        return (
            f"{'II' if self.order == '<' else 'MM'}{' big' * self.big} compression {self.compression} {place}"
            f"{' planar' * self.planar}{f' fill {self.fill}' * (self.fill != 1)}"
            f"{f' predictor {self.predictor}' * (self.predictor != 1)}"
        )


@dataclass
class Directory:
    """The tags of one page, and the strips or tiles it points to."""

    tags: Tags = field(default_factory=Tags)
    segments: list[bytes] = field(default_factory=list[bytes])
    tiled: bool = False


CODES = {"B": 1, "s": 2, "H": 3, "I": 4, "r": 5, "b": 6, "h": 8, "i": 9, "f": 11, "d": 12, "Q": 16}


def file_of(directories: Sequence[Directory], order: str = "<", *, big: bool = False) -> bytes:
    """Write a TIFF or BigTIFF file: the segments, then each directory behind its values."""
    data = bytearray(struct.pack(f"{order}2sH", b"II" if order == "<" else b"MM", 43 if big else 42))
    data += struct.pack(f"{order}HHQ", 8, 0, 0) if big else struct.pack(f"{order}I", 0)
    pointer, word = (8, "Q") if big else (4, "I")
    for directory in directories:
        places = list[int]()
        for segment in directory.segments:
            data += b"\0" * (len(data) % 2)
            places.append(len(data))
            data += segment
        tags = dict(directory.tags)
        if directory.segments:
            at, count = (324, 325) if directory.tiled else (273, 279)
            tags.setdefault(at, (word, places))
            tags.setdefault(count, (word, [len(segment) for segment in directory.segments]))
        entries = bytearray()
        for tag, (kind, values) in sorted(tags.items()):
            if kind == "s":
                stored, count = bytes(values) + b"\0", len(values) + 1
            else:
                stored = struct.pack(f"{order}{len(values)}{'I' if kind == 'r' else kind}", *values)
                count = len(values) // 2 if kind == "r" else len(values)
            if len(stored) > (8 if big else 4):
                data += b"\0" * (len(data) % 2)
                data += stored
                stored = struct.pack(order + word, len(data) - len(stored))
            entries += struct.pack(f"{order}HH{word}", tag, CODES[kind], count) + stored.ljust(8 if big else 4, b"\0")
        data += b"\0" * (len(data) % 2)
        data[pointer : pointer + (8 if big else 4)] = struct.pack(order + word, len(data))
        data += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries
        pointer = len(data)
        data += struct.pack(order + word, 0)
    return bytes(data)


def page(values: Array, sample: Type, layout: Layout, photometric: int, extra: Tags) -> Directory:
    """Lay out values of shape (height, width, samples)."""
    height, width, samples = values.shape
    formats = {"u": 1, "i": 2, "f": 3}
    tags: Tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [sample.bits] * samples),
        259: ("H", [layout.compression]),
        262: ("H", [photometric]),
        266: ("H", [layout.fill]),
        277: ("H", [samples]),
        284: ("H", [2 if layout.planar else 1]),
        339: ("H", [formats[sample.kind]] * samples),
    }
    if layout.predictor != 1:
        tags[317] = ("H", [layout.predictor])
    rows = layout.tile or layout.rows or height
    tags |= {322: ("I", [rows]), 323: ("I", [rows])} if layout.tile else {278: ("I", [rows])}
    segments = list[bytes]()
    for plane in np.moveaxis(values, -1, 0)[..., None] if layout.planar else [values]:
        if layout.tile:
            plane = np.pad(plane, ((0, -height % rows), (0, -width % rows), (0, 0)), mode="edge")
        columns = layout.tile or width
        for top, left in itertools.product(range(0, height, rows), range(0, width, columns)):
            block = plane[top : top + rows, left : left + columns]
            if layout.predictor == 2:
                block = np.concatenate([block[:, :1], np.diff(block.astype(np.int64), axis=1)], axis=1)
                block = block % 2**sample.bits
            stored = packed(
                block.reshape(len(block), -1), "u" if layout.predictor == 2 else sample.kind, sample.bits, layout.order
            )
            stored = COMPRESSORS[layout.compression](stored)
            segments.append(stored.translate(REVERSED) if layout.fill == 2 else stored)
    return Directory(tags | extra, segments, tiled=bool(layout.tile))


def written(
    values: Array, sample: Type, layout: Layout | None = None, photometric: int | None = None, extra: Tags | None = None
) -> bytes:
    """Write one page by hand."""
    layout = layout or Layout()
    chosen = (2 if values.shape[2] >= 3 else 1) if photometric is None else photometric
    return file_of([page(values, sample, layout, chosen, extra or {})], layout.order, big=layout.big)


U8, U16, F32 = (next(sample for sample in TYPES if sample.name == name) for name in ("u8", "u16", "f32"))
