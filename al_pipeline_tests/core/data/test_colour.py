"""Colours: what a file says its numbers mean is what the network gets, in sRGB, by arithmetic of its own."""

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from al_pipeline.core.data.colour import note_cicp, profile_problem, to_srgb
from al_pipeline.core.data.display_p3 import by_tables
from al_pipeline.core.data.images import decode, open_rgb
from al_pipeline.core.data.profiles import BT709, D65, colorants, rgb_profile
from al_pipeline_tests.core.data.colours import (
    ADOBE_TO_XYZ,
    P3_CHRM,
    P3_TO_XYZ,
    REC2020_TO_XYZ,
    SPACES,
    SRGB_CHRM,
    SRGB_COLORANTS,
    SRGB_TO_XYZ,
    STEPS,
    Floats,
    chrm,
    cmyk_icc,
    colours,
    converted,
    curve,
    gama,
    gray_icc,
    iccp,
    lab_levels,
    png,
    power,
    printed,
    profile_of,
    rgb_icc,
    srgb_levels,
    srgb_light,
    stored_lab,
    table_curve,
)

# From the exact value: half a level of rounding, and what tables of 16 bits add where colours are dark or far outside.
WITHIN = 1.1
SAVED = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 90}}


def levels(image: Image.Image) -> npt.NDArray[np.int_]:
    return np.asarray(image).astype(int)


def assert_close(seen: Image.Image, expected: Floats) -> None:
    off = np.abs(levels(seen) - expected)
    assert off.max() <= WITHIN, f"{off.max():.2f} levels off"
    # Rounding alone is 0.25 on average, and less where colours are cut off.
    assert off.mean() <= 0.3


def with_profile(pixels: Image.Image, profile: bytes) -> Image.Image:
    pixels.info["icc_profile"] = profile
    return pixels


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    note_cicp(image)
    image.load()
    return image


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", SAVED)
def test_a_profile_of_every_format_gives_the_colours_that_its_primaries_mean(
    tmp_path: Path, space: str, kind: str
) -> None:
    Image.fromarray(colours()).save(tmp_path / "x", format=kind, icc_profile=profile_of(space), **SAVED[kind])
    with Image.open(tmp_path / "x") as stored:
        expected = converted(np.asarray(stored.convert("RGB")), *SPACES[space][2:])
        assert np.abs(expected - levels(stored.convert("RGB"))).max() > 30
    assert_close(open_rgb(tmp_path / "x"), expected)


G = SRGB_TO_XYZ, power(1.0)
PNG_CHUNKS: dict[str, tuple[Mapping[bytes, bytes], Floats, object]] = {
    "gamma 1.0": ({b"gAMA": gama(1.0)}, *G),
    "gamma 1.8": ({b"gAMA": gama(1 / 1.8)}, SRGB_TO_XYZ, power(1.8)),
    "gamma 2.2 and primaries of sRGB": ({b"gAMA": gama(0.45455), b"cHRM": SRGB_CHRM}, SRGB_TO_XYZ, power(2.2)),
    "gamma 2.2 and primaries of P3": ({b"gAMA": gama(0.45455), b"cHRM": P3_CHRM}, P3_TO_XYZ, power(2.2)),
    "P3 by numbers": ({b"cICP": bytes((12, 13, 0, 1))}, P3_TO_XYZ, srgb_light),
    "BT.2020 by numbers": ({b"cICP": bytes((9, 15, 0, 1))}, REC2020_TO_XYZ, power(2.4)),
    "linear light by numbers": ({b"cICP": bytes((1, 8, 0, 1))}, *G),
    "numbers before a profile": (
        {b"cICP": bytes((12, 13, 0, 1)), b"iCCP": iccp(profile_of("ProPhoto"))},
        P3_TO_XYZ,
        srgb_light,
    ),
    "a profile before sRGB": (
        {b"iCCP": iccp(profile_of("Adobe RGB")), b"sRGB": b"\0", b"gAMA": gama(1.0)},
        ADOBE_TO_XYZ,
        power(563 / 256),
    ),
    "half a profile, then gamma": ({b"iCCP": iccp(profile_of("Adobe RGB")[:200]), b"gAMA": gama(1.0)}, *G),
    "unknown numbers, then a profile": (
        {b"cICP": bytes((200, 13, 0, 1)), b"iCCP": iccp(profile_of("Adobe RGB"))},
        ADOBE_TO_XYZ,
        power(563 / 256),
    ),
}


@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_chunks_of_a_png_count_in_the_order_of_its_standard(tmp_path: Path, name: str) -> None:
    chunks, to_xyz, light = PNG_CHUNKS[name]
    (tmp_path / "x.png").write_bytes(png(colours(), chunks))
    assert_close(open_rgb(tmp_path / "x.png"), converted(colours(), to_xyz, light))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "chunks",
    [
        {b"sRGB": b"\0", b"gAMA": gama(1.0), b"cHRM": P3_CHRM},
        {b"gAMA": gama(0.45455)},
        {b"cICP": bytes((1, 13, 0, 1)), b"gAMA": gama(1.0)},
        {b"cHRM": P3_CHRM},
        {},
    ],
)
def test_a_png_that_is_in_srgb_keeps_its_very_pixels(chunks: Mapping[bytes, bytes]) -> None:
    image = opened(png(colours(), chunks))
    assert to_srgb(image) is image
    assert profile_problem(image) is None


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        rgb_icc(table_curve(srgb_light(np.linspace(0, 1, 1024, dtype=np.float64))), SRGB_COLORANTS),
    ],
    ids=["with a formula", "with a table"],
)
def test_a_profile_of_srgb_changes_nothing_whatever_it_is_called(profile: bytes) -> None:
    image = with_profile(Image.fromarray(colours()), profile)
    assert to_srgb(image) is image
    assert profile_problem(image) is None


RAMP = np.arange(256, dtype=np.uint8)[None]


def test_gray_levels_follow_the_curve_of_their_profile() -> None:
    gray = to_srgb(with_profile(Image.fromarray(RAMP), gray_icc(curve((563 / 256,)))))
    assert gray.mode == "L"
    assert np.abs(levels(gray)[0] - srgb_levels((RAMP[0] / 255) ** (563 / 256))).max() <= WITHIN


def test_gray_levels_of_sixteen_bits_follow_it_too() -> None:
    values = np.arange(0, 65536, 7, dtype=np.uint16)[None]
    image = opened(png(Image.fromarray(values), {b"gAMA": gama(1.0)}))
    assert image.mode == "I;16"
    assert np.abs(levels(to_srgb(image))[0] - srgb_levels(values[0] / 65535)).max() <= WITHIN


def test_gray_levels_with_a_profile_of_colours_are_its_neutral_colours() -> None:
    gray = to_srgb(with_profile(Image.fromarray(RAMP), profile_of("ProPhoto")))
    assert np.abs(levels(gray)[0] - srgb_levels((RAMP[0] / 255) ** 1.8)).max() <= WITHIN


def test_transparency_stays_as_it_is() -> None:
    alpha = Image.fromarray(RAMP.repeat(48, axis=0)).resize((48, 48))
    image = with_profile(Image.fromarray(colours()), profile_of("Display P3"))
    image.putalpha(alpha)
    seen = to_srgb(image)
    assert np.array_equal(np.asarray(seen.getchannel("A")), np.asarray(alpha))
    assert_close(seen.convert("RGB"), converted(colours(), *SPACES["Display P3"][2:]))


def test_one_clear_level_of_gray_stays_clear_though_its_level_is_another() -> None:
    seen = to_srgb(opened(png(Image.fromarray(RAMP), {b"gAMA": gama(1.0), b"tRNS": b"\0\x80"})))
    assert (seen.mode, np.flatnonzero(levels(seen)[0, :, 1] == 0).tolist()) == ("LA", [128])


def test_the_colours_of_a_palette_are_converted() -> None:
    image = Image.fromarray(colours()).quantize(64)
    expected = converted(np.asarray(image.convert("RGB")), *SPACES["Adobe RGB"][2:])
    assert_close(to_srgb(with_profile(image, profile_of("Adobe RGB"))), expected)


@pytest.mark.parametrize("table", [b"A2B0", b"A2B1"], ids=["perceptual", "colorimetric"])
def test_inks_become_the_colours_that_their_profile_measured(tmp_path: Path, table: bytes) -> None:
    chosen = STEPS[::41]
    inks = np.rint(np.array(chosen) * 255).astype(np.uint8)[None]
    expected = np.array([lab_levels(stored_lab(printed(one))) for one in chosen])[None]
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "x.tif", icc_profile=cmyk_icc().replace(b"A2B0", table))
    # Steps of the table lie up to half a level beside whole levels of ink.
    assert np.abs(levels(open_rgb(tmp_path / "x.tif")) - expected).max() <= WITHIN + 0.5


P3 = profile_of("Display P3")
BROKEN = {
    "empty": (b"", "damaged"),
    "cut": (P3[:200], "damaged"),
    "of another kind of file": (b"\x89PNG\r\n" * 50, "damaged"),
    "without its mark": (P3.replace(b"acsp", b"ACSP"), "damaged"),
    "of inks": (cmyk_icc(), "one of CMYK, the picture has red, green and blue"),
    "of gray": (gray_icc(curve((1.8,))), "one of GRAY, the picture has red, green and blue"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_profile_of_no_use_is_ignored_and_told(tmp_path: Path, name: str) -> None:
    profile, told = BROKEN[name]
    image = with_profile(Image.fromarray(colours()), profile)
    assert to_srgb(image) is image
    assert told in (profile_problem(image) or "")
    image.save(tmp_path / "x.jpg", icc_profile=profile or b"?")
    with Image.open(tmp_path / "x.jpg") as plain:
        assert np.array_equal(np.asarray(open_rgb(tmp_path / "x.jpg")), np.asarray(plain))


@pytest.mark.parametrize(
    ("chunks", "told"),
    [
        ({b"cICP": bytes((9, 16, 0, 0))}, "9/16/0/0"),
        ({b"cICP": bytes((1, 13, 1, 1))}, "1/13/1/1"),
        ({b"gAMA": gama(0)}, "gamma"),
        ({b"gAMA": gama(42.0)}, "gamma"),
        ({b"gAMA": gama(1.0), b"cHRM": chrm(0, 0, 0, 0, 0, 0, 0, 0)}, "primaries"),
        ({b"gAMA": gama(1.0), b"cHRM": chrm(0.3, 0.3, *3 * (0.6, 0.3))}, "primaries"),
        ({b"iCCP": b"a profile\0\0no zlib"}, "damaged"),
    ],
)
def test_chunks_of_no_use_are_ignored_and_told(chunks: Mapping[bytes, bytes], told: str) -> None:
    image = opened(png(colours(), chunks))
    assert to_srgb(image) is image
    assert told in (profile_problem(image) or "")


def test_a_png_may_have_a_large_profile(tmp_path: Path) -> None:
    numbers, colorants_of_p3, to_xyz, light = SPACES["Display P3"]
    more = {b"more": b"data\0\0\0\0" + np.random.default_rng(0).bytes(2_000_000)}
    profile = rgb_icc(curve(numbers), colorants_of_p3, more)
    Image.fromarray(colours()).save(tmp_path / "x.png", icc_profile=profile)
    assert_close(open_rgb(tmp_path / "x.png"), converted(colours(), to_xyz, light))


def test_what_was_converted_says_nothing_about_its_old_colours(tmp_path: Path) -> None:
    for profile in (P3, P3[:200]):
        Image.fromarray(colours()).save(tmp_path / "x.png", icc_profile=profile)
        open_rgb(tmp_path / "x.png").save(tmp_path / "copy.png")
        with Image.open(tmp_path / "copy.png") as copy:
            assert not copy.info


def test_colours_that_only_exif_names_are_those_of_srgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 2
    exif.get_ifd(0xA005)[1] = "R03"
    picture = Image.fromarray(colours())
    picture.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.asarray(open_rgb(tmp_path / "x.png")), colours())


@pytest.mark.parametrize("gamma", [None, 1.8])
def test_the_tables_of_display_p3_are_taken_for_its_own_curve_alone(tmp_path: Path, gamma: float | None) -> None:
    profile = P3 if gamma is None else rgb_icc(curve((gamma,)), SPACES["Display P3"][1])
    tables = by_tables(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    assert tables is not None
    # Of light behind other curves littleCMS is a little off.
    every = colours() if gamma else np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(every).save(tmp_path / "x.png", icc_profile=profile)
    seen = open_rgb(tmp_path / "x.png")
    assert_close(seen, converted(every, P3_TO_XYZ, srgb_light if gamma is None else power(gamma)))
    assert (tables(Image.fromarray(every)) == seen) is (gamma is None)


def test_blue_of_another_kind_has_no_tables() -> None:
    assert by_tables(ImageCms.ImageCmsProfile(io.BytesIO(profile_of("ProPhoto")))) is None


def test_a_photo_is_turned_and_converted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours()[:, :24]).save(tmp_path / "x.png", exif=exif, icc_profile=P3)
    expected = np.rot90(converted(colours()[:, :24], *SPACES["Display P3"][2:]), -1)
    assert_close(open_rgb(tmp_path / "x.png"), expected)


@pytest.mark.parametrize("size", [(640, 480), (480, 641), (300, 300), (1999, 90)])
def test_a_square_of_a_photo_is_that_of_the_converted_photo(tmp_path: Path, size: tuple[int, int]) -> None:
    small = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(tmp_path / "x.jpg", icc_profile=P3)
    open_rgb(tmp_path / "x.jpg", at_least=64).save(tmp_path / "x.png")
    assert np.abs(decode(tmp_path / "x.jpg", 32).astype(int) - decode(tmp_path / "x.png", 32)).max() <= 1


def test_a_large_picture_that_is_needed_small_is_converted_small(tmp_path: Path) -> None:
    # Blocks of one colour are the same at a third of the size.
    blocks = colours(24).repeat(6, axis=0).repeat(6, axis=1)
    Image.fromarray(blocks).save(tmp_path / "x.png", icc_profile=P3)
    small = open_rgb(tmp_path / "x.png", at_least=48)
    assert small.size == (48, 48)
    assert_close(small, converted(blocks[::3, ::3], *SPACES["Display P3"][2:]))
    assert open_rgb(tmp_path / "x.png", at_least=145).size == (144, 144)


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGBA"])
def test_pictures_of_other_modes_keep_their_size(tmp_path: Path, mode: str) -> None:
    profile = gray_icc(curve((1.0,))) if mode in "L1" else P3
    Image.fromarray(colours()).convert(mode).save(tmp_path / "x.png", icc_profile=profile)
    assert open_rgb(tmp_path / "x.png", at_least=16) == open_rgb(tmp_path / "x.png")


def test_colorants_are_those_of_the_profiles_that_makers_ship() -> None:
    published = {
        "sRGB": (BT709, SRGB_COLORANTS),
        "Display P3": ((D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), SPACES["Display P3"][1]),
        "Adobe RGB": ((D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), SPACES["Adobe RGB"][1]),
    }
    for name, (primaries, wanted) in published.items():
        assert np.abs(colorants(primaries).T - np.array(wanted)).max() <= 2e-4, name


@given(st.tuples(*[st.tuples(st.floats(0, 1), st.floats(0, 1))] * 4), st.floats(min_value=0, allow_nan=False))
def test_any_primaries_give_a_profile_or_an_error(primaries: tuple[tuple[float, float], ...], gamma: float) -> None:
    try:
        profile = rgb_profile(primaries, (gamma,))  # pyright: ignore[reportArgumentType]
    except ValueError:
        return
    seen = to_srgb(with_profile(Image.new("RGB", (2, 2), "gray"), profile))
    assert (seen.mode, seen.size) == ("RGB", (2, 2))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(P3) - 1), st.sampled_from(["L", "RGB", "RGBA", "P", "CMYK", "I;16"]))
def test_any_bytes_as_a_profile_leave_a_picture(data: bytes, at: int, mode: str) -> None:
    profile = P3[:at] + data + P3[at + len(data) :]
    image = with_profile(Image.new(mode, (3, 2)), profile)
    assert to_srgb(image).size == (3, 2)
    if profile_problem(image):
        assert to_srgb(image) is image


def test_threads_share_a_conversion() -> None:
    pictures = [Image.fromarray(np.roll(colours(), i, axis=0)) for i in range(64)]
    whole = levels(to_srgb(with_profile(Image.fromarray(colours()), P3)))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda picture: levels(to_srgb(with_profile(picture, P3))), pictures))
    for i, one in enumerate(found):
        assert np.array_equal(one, np.roll(whole, i, axis=0))
