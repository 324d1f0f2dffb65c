"""HEIC, AVIF, JPEG 2000 and JPEG XL: the pixels are those that were written, by writers and readers of others."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core.data.images import open_rgb, opened
from al_pipeline.core.data.pool import scan
from al_pipeline.core.errors import ImageError
from al_pipeline_tests.core.data.other_kinds import (
    CASES,
    HEIGHT,
    PROFILE,
    RGB,
    WIDTH,
    Pixels,
    avif,
    deep_heif,
    heif,
    jp2,
    jp2_file,
    jxl,
    turned_heif,
)


def seen(data: bytes, tmp_path: Path) -> Pixels:
    path = tmp_path / "picture"
    path.write_bytes(data)
    return np.asarray(open_rgb(path)).astype(int)


def assert_seen(data: bytes, expected: Pixels, tmp_path: Path, within: float) -> None:
    found = seen(data, tmp_path)
    expected = np.broadcast_to(expected if expected.ndim == 3 else expected[..., None], (*expected.shape[:2], 3))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= within


@pytest.mark.parametrize("name", CASES)
def test_the_pixels_are_those_that_were_written(tmp_path: Path, name: str) -> None:
    make, expected, within = CASES[name]
    assert_seen(make(), expected, tmp_path, within)


def test_a_jpeg_that_was_packed_as_jpeg_xl_looks_as_before(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, format="JPEG", quality=95, subsampling=0)
    packed = bytes(imagecodecs.jpegxl_encode_jpeg(buffer.getvalue()))
    assert_seen(packed, np.asarray(Image.open(buffer)), tmp_path, 3)


def test_a_packed_jpeg_keeps_its_profile_and_its_turn(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(RGB)))
    turned.save(buffer, format="JPEG", quality=97, subsampling=0, icc_profile=PROFILE, exif=exif)
    packed = bytes(imagecodecs.jpegxl_encode_jpeg(buffer.getvalue()))
    with opened(io.BytesIO(packed)) as image:
        assert (image.format, image.info["icc_profile"]) == ("JPEG XL", PROFILE)
    assert_seen(packed, RGB, tmp_path, 8)
    with pytest.raises(ImageError, match=r"^too large"), opened(io.BytesIO(packed), max_pixels=1000):
        pass


# Upright pictures as a phone stores them, by EXIF orientation.
TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p),
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_is_turned_once(tmp_path: Path, orientation: int, kind: str) -> None:
    stored = np.ascontiguousarray(TURNS[orientation](RGB))
    exif = Image.Exif()
    exif[274] = orientation
    data = turned_heif(stored, exif) if kind == "HEIF" else avif(stored, exif=exif.tobytes())
    assert_seen(data, RGB, tmp_path, 3)


def test_tiles_of_a_heic_are_painted_in_one_order(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(heif(RGB))
    open_rgb(tmp_path / "x")
    # Of several threads, each time another is the last where damaged tiles overlap.
    assert pillow_heif.options.DECODE_THREADS == 1


def test_when_a_heic_was_taken_and_its_size_as_shown_are_known(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    (tmp_path / "1.heic").write_bytes(turned_heif(np.rot90(RGB), exif))
    (tmp_path / "2.HEIC").write_bytes(heif(255 - RGB))
    manifest = scan(tmp_path).set_index("format")
    assert list(manifest.index) == ["HEIC", "HEIC"]
    assert set(zip(manifest["width"], manifest["height"], strict=True)) == {(WIDTH, HEIGHT)}
    assert "2024-05-06T07:08:09" in set(manifest["taken"])


def test_a_folder_of_every_kind_is_a_pool_without_exclusions(tmp_path: Path) -> None:
    make = {"heic": heif, "HEIF": heif, "avif": avif, "jp2": jp2, "jxl": jxl, "hif": deep_heif}
    for i, (suffix, write) in enumerate(make.items()):
        picture = np.roll(RGB, 9 * i, axis=1)
        (tmp_path / f"a.{suffix}").write_bytes(write(picture.astype(np.uint16) * 257 if suffix == "hif" else picture))
    manifest = scan(tmp_path)
    assert set(manifest["split"]) <= {"pool", "holdout"}, manifest["reason"].dropna().tolist()
    assert manifest["format"].value_counts().to_dict() == {"HEIC": 3, "AVIF": 1, "JPEG 2000": 1, "JPEG XL": 1}


def test_the_thumbnail_is_not_the_picture(tmp_path: Path) -> None:
    # pillow-heif's encoder makes the thumbnail.
    large = np.tile(RGB, (4, 4, 1))
    buffer = io.BytesIO()
    file = pillow_heif.from_pillow(Image.fromarray(large))
    file.info["thumbnails"] = [64]
    file.save(buffer, quality=-1, chroma=444)
    assert pillow_heif.open_heif(buffer.getvalue()).info["thumbnails"]
    (tmp_path / "x").write_bytes(buffer.getvalue())
    assert open_rgb(tmp_path / "x", at_least=32).size == (4 * WIDTH, 4 * HEIGHT)


def test_the_primary_picture_is_taken_of_several(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    file = pillow_heif.from_pillow(Image.fromarray(255 - RGB))
    file.add_from_pillow(Image.fromarray(RGB))
    file.save(buffer, quality=-1, chroma=444, primary_index=1)
    assert_seen(buffer.getvalue(), RGB, tmp_path, 1)


@pytest.mark.parametrize(
    "data",
    [
        heif(RGB, icc_profile=PROFILE),
        avif(RGB, icc_profile=PROFILE),
        jp2_file(jp2(RGB, codecformat="J2K"), bits=8, channels=3, colours=b"\2\0\0" + PROFILE),
    ],
    ids=["HEIC", "AVIF", "JP2"],
)
def test_the_profile_is_handed_on(data: bytes) -> None:
    with opened(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == PROFILE


@pytest.mark.parametrize(("numbers", "told"), [((12, 13), (12, 13, 0, 1)), ((1, 13), None), ((1, 1), None)])
def test_colours_by_number_of_a_heic_are_handed_on(numbers: tuple[int, int], told: tuple[int, ...] | None) -> None:
    data = heif(RGB, color_primaries=numbers[0], transfer_characteristics=numbers[1], save_nclx_profile=True)
    with opened(io.BytesIO(data)) as image:
        assert image.info.get("cicp") == told


LARGE = np.zeros((1100, 1000), dtype=np.uint8)


@pytest.mark.parametrize(
    "write",
    [
        lambda: heif(LARGE, quality=10),
        lambda: avif(LARGE, quality=10),
        lambda: jp2(LARGE),
        lambda: jp2(LARGE, codecformat="J2K"),
        lambda: jxl(LARGE),
    ],
    ids=["HEIC", "AVIF", "JP2", "codestream", "JPEG XL"],
)
def test_what_is_too_large_is_refused(tmp_path: Path, write: Callable[[], bytes]) -> None:
    (tmp_path / "x").write_bytes(write())
    with pytest.raises(ImageError, match=r"^too large: 1000 × 1100 pixels, the limit is 1 megapixels"):
        open_rgb(tmp_path / "x", max_pixels=1_000_000)
    assert open_rgb(tmp_path / "x", max_pixels=1_100_000).size == (1000, 1100)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 600), height=st.integers(1, 600), depth=st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_the_size_in_the_header_of_jpeg_xl_is_the_pictures(width: int, height: int, depth: type) -> None:
    data = jxl(np.zeros((height, width), dtype=depth), effort=1)
    with opened(io.BytesIO(data), max_pixels=width * height) as image:
        assert image.size == (width, height)
    with (
        pytest.raises(ImageError, match=f"^too large: {width} × {height} "),
        opened(io.BytesIO(data), max_pixels=width * height - 1),
    ):
        pass


KEPT = {name: CASES[name][0]() for name in ("HEIC", "HEIC of tiles", "AVIF", "JP2", "codestream", "JPEG XL")}


@pytest.mark.parametrize("name", KEPT)
def test_half_a_file_is_never_taken_for_a_whole_one(tmp_path: Path, name: str) -> None:
    whole = KEPT[name]
    for tenths in range(10):
        (tmp_path / "x").write_bytes(whole[: len(whole) * tenths // 10])
        with pytest.raises(ImageError):
            open_rgb(tmp_path / "x")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(KEPT)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_damaged_bytes_give_a_picture_or_an_image_error(
    tmp_path: Path, name: str, flips: list[tuple[float, int]]
) -> None:
    content = bytearray(KEPT[name])
    for where, value in flips:
        content[int(where * len(content))] = value
    (tmp_path / "x").write_bytes(content)
    with contextlib.suppress(ImageError):
        assert open_rgb(tmp_path / "x", max_pixels=1_000_000).mode == "RGB"
