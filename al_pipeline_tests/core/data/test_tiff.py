"""TIFF: every kind gives the values that were written, and what is not read is refused with its reason."""

import contextlib
import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core.data import readers
from al_pipeline.core.data.images import MAX_PIXELS, open_rgb
from al_pipeline.core.data.raster import to_image
from al_pipeline.core.data.reading import read_file
from al_pipeline.core.data.tiff import read_tiff
from al_pipeline.core.errors import ImageError
from al_pipeline_tests.core.data.tiff_kinds import STORED, Kind, by_tifffile, kinds, ramps
from al_pipeline_tests.core.data.tiff_writer import (
    COMPRESSORS,
    U8,
    U16,
    Directory,
    Layout,
    Tags,
    Type,
    file_of,
    page,
    written,
)

KINDS = list(kinds())
GRAY, COLOURS = U8.values(ramps(1)), U8.values(ramps())


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_file_shows_the_values_that_were_written(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "x.tif").write_bytes(kind.data)
    seen = np.asarray(open_rgb(tmp_path / "x.tif"), dtype=np.float64)
    assert seen.shape == kind.picture.shape
    assert np.abs(seen - kind.picture).max() <= kind.within


def test_the_kinds_are_many() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 250


def gray(extra: Tags, photometric: int = 1, sample: Type = U8, layout: Layout | None = None) -> bytes:
    return written(sample.values(ramps(1)), sample, layout, photometric, extra)


def with_sensor_below() -> bytes:
    """Write a preview, and the values of a sensor as its SubIFD."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(COLOURS.astype("u1"), photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(U16.values(ramps(1))[..., 0].astype("u2"), photometric=32803, metadata=None)
    return buffer.getvalue()


# What nobody reads here, or nobody should, and what is said of it.
REFUSED: dict[str, tuple[bytes, str]] = {
    "complex numbers": (by_tifffile(ramps(1)[..., 0].astype("c8")), "complex numbers are no picture"),
    "DNG": (gray({50706: ("B", [1, 4, 0, 0])}), r"RAW \(DNG\): .*export it"),
    "colour filter array": (gray({}, 32803, U16), "RAW .*sensor"),
    "linear RAW": (written(COLOURS, U8, photometric=34892), "RAW .*sensor"),
    "RAW below a preview": (with_sensor_below(), "RAW .*sensor"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), r"RAW \(CR2\)"),
    "LogL": (gray({259: ("H", [34676])}, 32844, U16), "SGILOG compression is not read"),
    "LogL without compression": (gray({}, 32844, U16), "LOGL colours"),
    "unknown compression": (gray({259: ("H", [999])}), r"unknown \(999\) compression"),
    "unknown photometric": (gray({}, 999), r"unknown \(999\) colours"),
    "other inks": (written(U8.values(ramps(4)), U8, None, 5, {332: ("H", [2])}), "other inks"),
    "uneven bits": (written(COLOURS, U8, extra={258: ("H", [8, 8, 4])}), "8, 8, 4"),
    "mixed formats": (written(COLOURS, U8, extra={339: ("H", [1, 1, 2])}), "damaged"),
    "signed 12 bits": (gray({339: ("H", [2])}, sample=Type("u", 12, 4095)), "12 bits"),
    "predictor on 12 bits": (
        gray({317: ("H", [2])}, sample=Type("u", 12, 4095), layout=Layout(compression=8)),
        "predictor",
    ),
    "predictor on 24 bits": (
        gray({317: ("H", [2])}, sample=Type("u", 24, None), layout=Layout(compression=8)),
        "predictor",
    ),
    "predictor without compression": (gray({317: ("H", [2])}), "means different things"),
    "predictor on runs": (gray({317: ("H", [2])}, layout=Layout(compression=32773)), "means different things"),
    "YCbCr of 16 bits": (written(U16.values(ramps()), U16, None, 6, {530: ("H", [1, 1])}), "YCbCr of 16 bits"),
    "YCbCr in planes": (written(COLOURS, U8, Layout(planar=True), 6, {530: ("H", [2, 2])}), "subsampled"),
    "palette without colours": (gray({}, 3), "without a palette"),
    "too few samples": (gray({}, 2), "1 samples per pixel"),
    "LERC within deflate": (gray({259: ("H", [34887]), 50674: ("I", [4, 9])}), "LERC"),
    "old JPEG": (gray({259: ("H", [6])}), "old-style JPEG"),
    "no picture in JPEG": (gray({259: ("H", [7])}), "holds no picture"),
    "no page": (struct.pack("<2sHI", b"II", 42, 0), "without a page"),
    "no header": (b"II*\0", "without its header"),
    "no pixels": (gray({256: ("I", [0])}), "no pixels"),
    "tiles of nothing": (gray({322: ("I", [0])}, layout=Layout(tile=16)), "damaged"),
    "no strips": (gray({279: ("I", [0])}, layout=Layout(compression=8)), "0 of 1 strips"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(readers, "READS_RAW", False)
    data, reason = REFUSED[name]
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(ImageError, match=reason):
        open_rgb(tmp_path / "x.tif")


def test_old_style_jpeg_is_read_from_where_its_own_tag_says() -> None:
    picture = Image.fromarray(COLOURS.astype(np.uint8))
    picture.save(buffer := io.BytesIO(), "JPEG", quality=98, subsampling=0)
    jpeg = buffer.getvalue()
    # A strip that begins with the scan: behind the header, which ends after the length of its last part.
    scan = jpeg.index(b"\xff\xda") + 2 + struct.unpack(">H", jpeg[jpeg.index(b"\xff\xda") + 2 :][:2])[0]
    tags: Tags = {513: ("I", [8]), 514: ("I", [len(jpeg)]), 273: ("I", [8 + scan]), 279: ("I", [len(jpeg) - scan])}
    directory = page(COLOURS, U8, Layout(), 6, {259: ("H", [6]), 530: ("H", [1, 1])} | tags)
    directory.segments = [jpeg]
    raster = read_tiff(file_of([directory]), max_pixels=MAX_PIXELS)
    assert np.abs(raster.values - COLOURS.astype(float)).max() <= 6


# What a stack lacks at its end may be another page's.
OF_ONE_PAGE = [kind for kind in KINDS[::5] if kind.name != "OME"]


@pytest.mark.parametrize("kind", OF_ONE_PAGE, ids=[kind.name for kind in OF_ONE_PAGE])
def test_a_part_of_a_file_is_never_taken_for_the_whole(kind: Kind) -> None:
    for length in (8, len(kind.data) // 3, len(kind.data) * 6 // 10, len(kind.data) - 5):
        with pytest.raises(ImageError, match=r"truncated|damaged"):
            read_tiff(kind.data[:length], max_pixels=MAX_PIXELS)


def jpeg(values: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg_encode(values.astype(np.uint8)[..., 0], level=95))


WHOLE = {
    **{code: compress(GRAY.astype(np.uint8).tobytes()) for code, compress in COMPRESSORS.items()},
    7: jpeg(GRAY),
    34712: bytes(imagecodecs.jpeg2k_encode(GRAY.astype(np.uint8)[..., 0])),
    34887: bytes(imagecodecs.lerc_encode(GRAY.astype(np.uint8)[..., 0])),
    34933: bytes(imagecodecs.png_encode(GRAY.astype(np.uint8)[..., 0])),
    50002: bytes(imagecodecs.jpegxl_encode(GRAY.astype(np.uint8)[..., 0])),
}


@pytest.mark.parametrize("compression", WHOLE)
def test_a_strip_that_ends_early_is_damage_even_if_the_tags_agree(compression: int) -> None:
    directory = page(GRAY, U8, Layout(), 1, {259: ("H", [compression])})
    directory.segments = [WHOLE[compression]]
    read_tiff(file_of([directory]), max_pixels=MAX_PIXELS)
    directory.segments = [WHOLE[compression][: len(WHOLE[compression]) * 6 // 10]]
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        read_tiff(file_of([directory]), max_pixels=MAX_PIXELS)


def test_strips_that_were_never_written_are_damage_but_in_a_geographic_file() -> None:
    directory = page(GRAY, U8, Layout(rows=9), 1, {273: ("I", [8, 0]), 279: ("I", [9 * 27, 0]), 259: ("H", [1])})
    with pytest.raises(ImageError, match="1 of 2 strips"):
        read_tiff(file_of([directory]), max_pixels=MAX_PIXELS)
    directory.tags[42113] = ("s", b"7")
    raster = read_tiff(file_of([directory]), max_pixels=MAX_PIXELS)
    assert (raster.values[:9] == GRAY[:9]).all()
    assert (raster.values[9:] == 7).all()
    assert raster.nodata == 7


def claims(tags: Tags, layout: Layout | None = None) -> bytes:
    return gray(tags, layout=layout)


@pytest.mark.parametrize(
    "data",
    [
        claims({256: ("I", [100_000]), 257: ("I", [100_000])}),
        claims({256: ("I", [8_000]), 257: ("I", [8_001])}),
        # Few pixels of many samples, and few pixels in large tiles.
        claims({256: ("I", [8_000]), 257: ("I", [7_000]), 277: ("H", [64]), 258: ("H", [8] * 64)}),
        claims({322: ("I", [2**31 - 16]), 323: ("I", [16])}, Layout(tile=16)),
        claims({322: ("I", [65_536]), 323: ("I", [65_536])}, Layout(compression=8, tile=16)),
        claims({256: ("I", [1]), 257: ("I", [60_000_000]), 322: ("I", [64])}, Layout(tile=16)),
    ],
)
def test_what_would_not_fit_into_memory_is_refused_by_its_header(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^too large: "):
        read_tiff(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("compression", [7, 34712, 34887, 34933, 50001, 50002])
def test_a_strip_must_not_hold_a_larger_picture_than_the_file_says(compression: int) -> None:
    larger = np.zeros((300, 400, 3), np.uint8)
    encode = {
        7: imagecodecs.jpeg_encode,
        34712: imagecodecs.jpeg2k_encode,
        34887: imagecodecs.lerc_encode,
        34933: imagecodecs.png_encode,
        50001: imagecodecs.webp_encode,
        50002: imagecodecs.jpegxl_encode,
    }[compression]
    directory = page(COLOURS, U8, Layout(), 2, {259: ("H", [compression])})
    directory.segments = [bytes(encode(larger))]
    with pytest.raises(ImageError, match=r"27 × 18 pixels holds \(400, 300, \d\)"):
        read_tiff(file_of([directory]), max_pixels=MAX_PIXELS)


def test_pages_in_a_circle_are_told() -> None:
    data = bytearray(gray({}))
    (first,) = struct.unpack_from("<I", data, 4)
    data[-4:] = struct.pack("<I", first)
    with pytest.raises(ImageError, match="in a circle"):
        read_tiff(bytes(data), max_pixels=MAX_PIXELS)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_give_values_or_an_image_error_and_nothing_else(
    kind: Kind, flips: list[tuple[float, int]]
) -> None:
    content = bytearray(kind.data)
    for where, value in flips:
        content[int(where * len(content))] = value
    with contextlib.suppress(ImageError):
        assert to_image(read_tiff(bytes(content), max_pixels=1_000_000)).mode in {"L", "RGB", "RGBA", "CMYK"}


def test_pages_are_counted_and_reduced_copies_and_masks_are_none() -> None:
    def one(value: int, kind: int = 0, size: int = 8) -> Directory:
        return page(np.full((size, size, 1), value), U8, Layout(), 1, {254: ("I", [kind])})

    first_is_small = file_of([one(1, 1, 4), one(2), one(3), one(4, 4), one(5, 1, 4), one(6)])
    raster = read_tiff(first_is_small, max_pixels=MAX_PIXELS)
    assert (raster.values.shape, raster.values[0, 0, 0], raster.planes) == ((8, 8, 1), 2, 3)
    only_small = read_tiff(file_of([one(9, 1, 4)]), max_pixels=MAX_PIXELS)
    assert (only_small.values[0, 0, 0], only_small.planes) == (9, 1)


def test_the_picture_may_hang_below_its_preview() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(COLOURS.astype("u1")[::2, ::2], photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(COLOURS.astype("u1"), photometric="rgb", metadata=None)
    raster = read_tiff(buffer.getvalue(), max_pixels=MAX_PIXELS)
    assert (raster.values == COLOURS).all()
    assert raster.planes == 1


def test_stacks_of_microscopes_are_counted() -> None:
    stack = np.stack([GRAY[..., 0], GRAY[..., 0] // 2, GRAY[..., 0] // 3]).astype("u2")
    for data in (
        by_tifffile(stack, imagej=True, metadata={"axes": "ZYX"}),
        by_tifffile(stack, metadata={"axes": "ZYX"}, photometric="minisblack"),
    ):
        raster = read_tiff(data, max_pixels=MAX_PIXELS)
        assert raster.planes == 3
        assert (raster.values[..., 0] == stack[0]).all()


def test_a_profile_is_kept_for_those_who_convert_by_it() -> None:
    raster = read_tiff(written(COLOURS, U8, extra={34675: ("B", list(b"a profile"))}), max_pixels=MAX_PIXELS)
    assert raster.profile == to_image(raster).info["icc_profile"] == b"a profile"


def read(folder: Path, data: bytes) -> tuple[str | None, int, int, str | None]:
    (folder / "x.tif").write_bytes(data)
    reading = read_file(str(folder / "x.tif"), 0)
    assert reading.problem is None
    assert reading.format == "TIFF"
    return reading.pixels, reading.width, reading.height, reading.taken


def test_a_written_tag_is_no_other_image_and_turns_it(tmp_path: Path) -> None:
    plain = read(tmp_path, written(COLOURS, U8))
    turned = read(tmp_path, written(COLOURS, U8, extra={274: ("H", [6]), 270: ("s", b"a note")}))
    assert (plain[0], plain[1], plain[2]) == (turned[0], turned[2], turned[1])
    assert plain[1:3] == (27, 18)


def test_images_that_look_alike_in_8_bits_are_told_apart_by_their_values(tmp_path: Path) -> None:
    dark = np.round(ramps(1) * 100)
    brightest = [written(values, U16) for values in (dark, dark[:, ::-1])]
    assert all((np.asarray(to_image(read_tiff(data, max_pixels=999))) == 0).all() for data in brightest)
    assert len({read(tmp_path, data)[0] for data in brightest}) == 2


def test_images_that_differ_in_a_band_that_is_not_shown_are_told_apart(tmp_path: Path) -> None:
    bands = U8.values(ramps(4))
    other = bands.copy()
    other[..., 3] = 0
    assert len({read(tmp_path, written(values, U8, extra={338: ("H", [0])}))[0] for values in (bands, other)}) == 2


def test_when_it_was_taken_is_read(tmp_path: Path) -> None:
    at = len(written(COLOURS, U8, extra={34665: ("I", [0])}))
    below = struct.pack("<HHHIII", 1, 36867, 2, 20, at + 18, 0) + b"2024:02:29 10:11:12\0"
    data = written(COLOURS, U8, extra={34665: ("I", [at])}) + below
    assert read(tmp_path, data)[3] == "2024-02-29T10:11:12"


@pytest.mark.parametrize("orientation", STORED)
def test_the_name_of_a_file_that_is_read_by_path_does_not_matter(tmp_path: Path, orientation: int) -> None:
    stored = np.ascontiguousarray(STORED[orientation](COLOURS))
    (tmp_path / "photo.jpg").write_bytes(written(stored, U8, extra={274: ("H", [orientation])}))
    image = open_rgb(tmp_path / "photo.jpg")
    assert (np.asarray(image) == COLOURS).all()
    assert (image.format, image.info.get("raster")) == ("TIFF", None)
