"""TIFF files of many kinds, written by hand and by other programs, and the pictures that they mean."""

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms

from al_pipeline_tests.core.data.tiff_writer import (
    COMPRESSORS,
    F32,
    TYPES,
    U8,
    U16,
    Array,
    Directory,
    Layout,
    Tags,
    Type,
    file_of,
    page,
    shown,
    written,
)

# Neither side is a multiple of a tile, a JPEG block or a chroma block.
HEIGHT, WIDTH, TILE, ROWS = 18, 27, 16, 5


@dataclass
class Kind:
    """A file, and the 8-bit picture that it means: float64 of shape (height, width, 3), 0 to 255."""

    name: str
    data: bytes
    picture: Array
    within: float = 1.0


def ramps(channels: int = 3) -> Array:
    """Smooth values from 0 to 1, other ones in each channel, shape (HEIGHT, WIDTH, channels)."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    return np.stack([x, y, 1 - (x + y) / 2, (x + 1 - y) / 2][:channels], axis=-1)


def kinds() -> Iterator[Kind]:
    """Yield every kind that is read."""
    for part in (
        _types,
        _compressed,
        _by_tifffile,
        _codestreams,
        _by_pillow,
        _photometrics,
        _subsampled,
        _with_opacity,
        _turned,
        _with_words,
    ):
        yield from part()


def _types() -> Iterator[Kind]:
    for sample, order in itertools.product(TYPES, "<>"):
        layouts = [
            (1, Layout(order)),
            (1, Layout(order, 8, rows=ROWS)),
            (1, Layout(order, fill=2)),
            (3, Layout(order, tile=TILE)),
            (3, Layout(order, planar=True)),
            (3, Layout(order, 32773, rows=ROWS, planar=True)),
        ]
        for channels, layout in layouts:
            values = sample.values(ramps(channels))
            yield Kind(
                f"{sample.name} × {channels}: {layout.name}", written(values, sample, layout), sample.picture(values)
            )


def _compressed() -> Iterator[Kind]:
    for compression, order in itertools.product(COMPRESSORS, "<>"):
        for sample in (U8, U16, F32):
            values = sample.values(ramps())
            layouts = [
                Layout(order, compression, rows=ROWS),
                Layout(order, compression, tile=TILE, planar=True, big=True),
            ]
            if sample.kind == "u" and compression not in (1, 32773):
                layouts.append(Layout(order, compression, tile=TILE, predictor=2))
            for layout in layouts:
                yield Kind(f"{sample.name}: {layout.name}", written(values, sample, layout), sample.picture(values))

    for channels, predictor, order, tile in itertools.product((1, 3), (1, 2), "<>", (0, TILE)):
        values, layout = U8.values(ramps(channels)), Layout(order, 5, rows=ROWS, tile=tile, predictor=predictor)
        yield Kind(f"plain LZW × {channels}: {layout.name}", written(values, U8, layout), U8.picture(values))


def by_tifffile(values: Array, order: str = "<", *, imagej: bool = False, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=order, imagej=imagej) as writer:  # pyright: ignore[reportArgumentType]
        options.setdefault("metadata", None)
        writer.write(values, **options)
    return buffer.getvalue()


PLACES: list[dict[str, Any]] = [{"rowsperstrip": 8}, {"tile": (16, 16)}]


def _by_tifffile() -> Iterator[Kind]:
    lossy = {"jpeg": 6, "webp": 8, "jpeg2000": 1, "jpegxl": 1, "lerc": 1, "png": 1}
    dtypes = {
        "jpeg": "u1",
        "webp": "u1",
        "jpeg2000": "u1 u2",
        "jpegxl": "u1 u2 f4",
        "lerc": "u1 i2 u2 u4 f4 f8",
        "png": "u1 u2",
    }
    for compression, channels, place in itertools.product(lossy, (1, 3), PLACES):
        for code in dtypes[compression].split() if (compression, channels) != ("webp", 1) else ():
            sample = next(s for s in TYPES if (s.kind, s.bits) == (code[0], 8 * int(code[1])))
            values = sample.values(ramps(channels)).astype(code)
            options = dict[str, Any]()
            if compression == "jpeg":
                # The writer fills tiles up with black, which a JPEG smears over its blocks.
                values, options = values[:16, :16], {"subsampling": (1, 1), "compressionargs": {"level": 98}}
            data = by_tifffile(
                values if channels == 3 else values[..., 0],
                compression=compression,
                photometric="rgb" if channels == 3 else "minisblack",
                **place,
                **options,
            )
            yield Kind(
                f"tifffile {compression} {code} × {channels} {place}", data, sample.picture(values), lossy[compression]
            )
    for again, code, channels, place in itertools.product(("deflate", "zstd"), ("u1", "i2", "f4"), (1, 3), PLACES):
        sample = next(s for s in TYPES if (s.kind, s.bits) == (code[0], 8 * int(code[1])))
        values = sample.values(ramps(channels)).astype(code)
        data = by_tifffile(
            values if channels == 3 else values[..., 0],
            compression="lerc",
            compressionargs={"compression": again},
            photometric="rgb" if channels == 3 else "minisblack",
            **place,
        )
        yield Kind(f"LERC within {again} {code} × {channels} {place}", data, sample.picture(values))
    for order, code in itertools.product("<>", ("f2", "f4", "f8")):
        values = ramps().astype(code)
        data = by_tifffile(values, order, photometric="rgb", compression="deflate", predictor=3)
        yield Kind(f"float predictor {order}{code}", data, shown(values, 0, 1))
    yield Kind(
        "ImageJ",
        by_tifffile(values := U16.values(ramps(1))[..., 0].astype("u2"), ">", imagej=True, metadata={}),
        U16.picture(values[..., None]),
    )
    stack = np.stack([values, values[::-1]])
    yield Kind("OME", by_tifffile(stack, metadata={"axes": "ZYX"}, description=None), U16.picture(values[..., None]))


def _codestreams() -> Iterator[Kind]:
    """Yield pictures in a file of either byte order, which says nothing about their own."""
    codecs: dict[str, tuple[int, Callable[[Array], Any], str]] = {
        "LERC": (34887, imagecodecs.lerc_encode, "u1 i2 u2 i4 u4 f4 f8"),
        "PNG": (34933, imagecodecs.png_encode, "u1 u2"),
        "JPEG 2000": (34712, lambda values: imagecodecs.jpeg2k_encode(values, level=0, reversible=True), "u1 u2"),
        "JPEG XL": (50002, lambda values: imagecodecs.jpegxl_encode(values, lossless=True), "u1 u2 f4"),
    }
    for (name, (compression, encode, codes)), order, channels in itertools.product(codecs.items(), "<>", (1, 3)):
        for code in codes.split():
            sample = next(s for s in TYPES if (s.kind, s.bits) == (code[0], 8 * int(code[1])))
            values = sample.values(ramps(channels))
            native = np.ascontiguousarray(values.astype(code)[..., 0] if channels == 1 else values.astype(code))
            directory = page(values, sample, Layout(order), 2 if channels == 3 else 1, {259: ("H", [compression])})
            directory.segments = [bytes(encode(native))]
            yield Kind(f"{name} {code} × {channels} in {order}", file_of([directory], order), sample.picture(values))


def _by_pillow() -> Iterator[Kind]:
    picture = Image.fromarray(U8.values(ramps()).astype(np.uint8))
    for mode, compressions in {
        "1": ("group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw", None),
        "L": ("jpeg", "tiff_adobe_deflate", "tiff_lzw", "zstd", "lzma", None),
        "P": ("tiff_lzw", None),
        "RGB": ("jpeg", "tiff_adobe_deflate", None),
        "RGBX": ("tiff_lzw", None),
        "YCbCr": (None, "jpeg", "tiff_lzw"),
    }.items():
        for compression in compressions:
            stored = picture.convert(mode)
            buffer = io.BytesIO()
            stored.save(buffer, "TIFF", compression=compression, **({"quality": 98} if compression == "jpeg" else {}))
            within = 8 if compression in ("jpeg", "webp") else 1
            expected = np.asarray(stored.convert("RGB"), dtype=np.float64)
            yield Kind(f"Pillow {mode} {compression}", buffer.getvalue(), expected, within)


def _photometrics() -> Iterator[Kind]:
    for sample, order in itertools.product(TYPES, "<>"):
        values = sample.values(ramps(1))
        name = f"WhiteIsZero {sample.name} {order}"
        yield Kind(name, written(values, sample, Layout(order), 0), 255 - sample.picture(values))
    random = np.random.default_rng(0)
    for bits, order in itertools.product((1, 2, 4, 8, 16), "<>"):
        colours = random.integers(0, 65536, (3, 2**bits))
        indices = random.integers(0, 2**bits, (HEIGHT, WIDTH, 1))
        data = written(indices, Type("u", bits, None), Layout(order), 3, {320: ("H", colours.ravel().tolist())})
        yield Kind(f"palette {bits} {order}", data, colours.T[indices[..., 0]] / 257)
    for sample, planar in itertools.product((U8, U16), (False, True)):
        inks = ramps(4)
        picture = 255 * (1 - inks[..., :3]) * (1 - inks[..., 3:])
        yield Kind(
            f"inks {sample.name} {planar}", written(sample.values(inks), sample, Layout(planar=planar), 5), picture, 2
        )
    yield from _labs()


# L*, a*, b* for D50 and their sRGB, from the tables of Lindbloom's calculator (Bradford).
LAB_COLOURS = {
    (100.0, 0.0, 0.0): (255, 255, 255),
    (0.0, 0.0, 0.0): (0, 0, 0),
    (54.29, 80.81, 69.89): (255, 0, 0),
    (87.82, -79.29, 80.99): (0, 255, 0),
    (29.57, 68.30, -112.03): (0, 0, 255),
    (53.39, 0.0, 0.0): (127, 127, 127),
}


def _labs() -> Iterator[Kind]:
    lab = np.array(list(LAB_COLOURS)).reshape(2, 3, 3)
    picture = np.array(list(LAB_COLOURS.values()), dtype=np.float64).reshape(2, 3, 3)
    eight = np.round(lab * (2.55, 1, 1)).astype(np.int64).astype(np.uint8)
    # What 8 bits say is another colour than was meant: littlecms is the judge.
    judge = ImageCms.profileToProfile(
        Image.frombytes("LAB", (3, 2), eight.tobytes()),
        ImageCms.createProfile("LAB"),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.NOOPTIMIZE,
    )
    sixteen = picture
    for sample, order in itertools.product((U8, U16), "<>"):
        unit, most = 2 ** (sample.bits - 8), 2**sample.bits
        picture, within = (np.asarray(judge, np.float64), 2) if sample is U8 else (sixteen, 1.5)
        stored = np.round(lab * (most - 1) / 100 * (1, 0, 0) + lab * unit * (0, 1, 1)) % most
        yield Kind(f"CIELab {sample.name} {order}", written(stored, sample, Layout(order), 8), picture, within)
        stored = np.round(lab * (2.55 * unit, unit, unit) + (0, 128 * unit, 128 * unit))
        yield Kind(f"ICCLab {sample.name} {order}", written(stored, sample, Layout(order), 9), picture, within)


def _subsampled() -> Iterator[Kind]:
    """Yield YCbCr whose differences are the same within a block, so that every way to spread them is right."""
    for (across, down), tile, compression in itertools.product(
        [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2), (4, 4)], (0, TILE), (1, 5, 8)
    ):
        y = np.round(64 + 100 * ramps(1)[..., 0])
        blocks = ramps()[::down, ::across]
        cb, cr = (
            np.round(110 + 40 * blocks[..., i]).repeat(down, 0).repeat(across, 1)[:HEIGHT, :WIDTH] for i in (0, 1)
        )
        # JFIF 1.02, from Rec. 601.
        picture = np.stack(
            [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)], axis=-1
        )
        rows, columns = (tile, tile) if tile else (8, WIDTH)
        padded = [np.pad(plane, ((0, -HEIGHT % 16), (0, -WIDTH % 16)), mode="edge") for plane in (y, cb, cr)]
        segments = list[bytes]()
        for top, left in itertools.product(range(0, HEIGHT, rows), range(0, WIDTH, columns)):
            bottom, right = (top + rows, left + columns) if tile else (min(top + rows, HEIGHT), WIDTH)
            stored = bytearray()
            for i, j in itertools.product(range(top, bottom, down), range(left, right, across)):
                stored += bytes(padded[0][i : i + down, j : j + across].astype(np.uint8).ravel())
                stored += bytes([int(padded[1][i, j]), int(padded[2][i, j])])
            segments.append(COMPRESSORS[compression](bytes(stored)))
        tags: Tags = {
            256: ("H", [WIDTH]),
            257: ("H", [HEIGHT]),
            258: ("H", [8, 8, 8]),
            259: ("H", [compression]),
            262: ("H", [6]),
            277: ("H", [3]),
            530: ("H", [across, down]),
            **({322: ("H", [tile]), 323: ("H", [tile])} if tile else {278: ("H", [rows])}),
        }
        data = file_of([Directory(tags, segments, tiled=bool(tile))])
        yield Kind(f"YCbCr {across} × {down} tile {tile} compression {compression}", data, picture, 1.6)


def _with_opacity() -> Iterator[Kind]:
    for sample, colours, order in itertools.product((U8, U16), (1, 3), "<>"):
        most = 2**sample.bits - 1
        shares, alpha = ramps(4)[..., :colours], ramps(4)[..., 3:]
        on_white = np.broadcast_to(255 * (shares * alpha + 1 - alpha), (HEIGHT, WIDTH, 3))
        for kind, stored in {1: shares * alpha, 2: shares}.items():
            values = np.round(np.concatenate([stored, alpha], axis=-1) * most)
            name = f"opacity {kind} {sample.name} × {colours} {order}"
            yield Kind(name, written(values, sample, Layout(order), extra={338: ("H", [kind])}), on_white, 2)
        values = np.round(np.concatenate([shares, alpha], axis=-1) * most)
        name = f"unspecified sample {sample.name} × {colours} {order}"
        yield Kind(
            name,
            written(values, sample, Layout(order), extra={338: ("H", [0])}),
            np.broadcast_to(255 * shares, (HEIGHT, WIDTH, 3)),
        )
    alpha = ramps(4)[..., 3:]
    opacity: Tags = {338: ("H", [2])}
    random = np.random.default_rng(1)
    colours, indices = random.integers(0, 65536, (3, 256)), random.integers(0, 256, (HEIGHT, WIDTH, 1))
    data = written(
        np.concatenate([indices, U8.values(alpha)], axis=-1),
        U8,
        None,
        3,
        opacity | {320: ("H", colours.ravel().tolist())},
    )
    yield Kind("palette with opacity", data, colours.T[indices[..., 0]] / 257 * alpha + 255 * (1 - alpha), 2)
    for sample in (U8, U16):
        gray = np.full((HEIGHT, WIDTH, 3), (100.0, 0, 0)) * ramps(1)
        stored = np.round(gray * (2**sample.bits - 1) / 100)
        # L* of gray to sRGB: CIE 15 and IEC 61966-2-1.
        y = np.where(gray > 8, ((gray + 16) / 116) ** 3, gray / 903.2963)[..., :1]
        srgb = np.where(y > 0.0031308, 1.055 * y ** (1 / 2.4) - 0.055, 12.92 * y) * 255
        data = written(np.concatenate([stored, sample.values(alpha)], axis=-1), sample, None, 8, opacity)
        yield Kind(
            f"CIELab with opacity {sample.name}", data, np.broadcast_to(srgb * alpha + 255 * (1 - alpha), gray.shape), 3
        )
        inks = np.concatenate([ramps(4), alpha], axis=-1)
        picture = 255 * (1 - inks[..., :3]) * (1 - inks[..., 3:4])
        yield Kind(
            f"inks and a spot {sample.name}",
            written(sample.values(inks), sample, None, 5, {338: ("H", [0])}),
            picture,
            2,
        )
        mixed = np.concatenate([ramps(3), 1 - alpha, alpha], axis=-1)
        picture = 255 * (mixed[..., :3] * alpha + 1 - alpha)
        yield Kind(
            f"opacity behind another sample {sample.name}",
            written(sample.values(mixed), sample, None, 2, {338: ("H", [0, 2])}),
            picture,
            2,
        )
    for channels in (4, 7):
        values = U16.values(np.concatenate([ramps(3), ramps(4)], axis=-1)[..., :channels])
        extra: Tags = {338: ("H", [0] * (channels - 3))}
        for planar in (False, True):
            data = written(values, U16, Layout(planar=planar), 2, extra)
            yield Kind(f"{channels} bands planar {planar}", data, shown(values[..., :3], 0, 65535))


# What a camera does to the upright picture before it stores it, by orientation (TIFF 6.0, tag 274).
STORED: dict[int, Callable[[Array], Array]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def _turned() -> Iterator[Kind]:
    for orientation, sample, channels in itertools.product(STORED, (U8, U16, F32), (1, 3)):
        values = sample.values(ramps(channels))
        stored = np.ascontiguousarray(STORED[orientation](values))
        data = written(stored, sample, extra={274: ("H", [orientation])})
        yield Kind(f"orientation {orientation} {sample.name} × {channels}", data, sample.picture(values))


def _with_words() -> Iterator[Kind]:
    twelve = np.round(ramps(1) * 4095)
    yield Kind("MaxSampleValue", written(twelve, U16, extra={281: ("H", [4095])}), shown(twelve, 0, 4095))
    between = np.round(ramps(1) * 1000) + 500
    words: Tags = {280: ("H", [500]), 281: ("H", [1500])}
    yield Kind("MinSampleValue", written(between, U16, extra=words), shown(between, 500, 1500))
    halves = ramps(1) / 2
    yield Kind("SMaxSampleValue", written(halves, F32, extra={340: ("f", [0]), 341: ("f", [1])}), shown(halves, 0, 1))
    for order, (text, missing) in itertools.product(
        "<>", {"-9999": -9999.0, "nan": np.nan, "-3.4028234663852886e+38": -3.4028234663852886e38}.items()
    ):
        values = ramps(1).copy()
        picture = shown(values, values.min(), values[3:].max()).copy()
        values[1:3, 4:9] = missing
        picture[1:3, 4:9] = 0
        data = written(values, F32, Layout(order), extra={42113: ("s", text.encode())})
        yield Kind(f"GDAL_NODATA {text} {order}", data, picture)
