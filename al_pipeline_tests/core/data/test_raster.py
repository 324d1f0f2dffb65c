"""Values of any type become a picture of 8 bits between black and white."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from al_pipeline.core.data import raster as subject
from al_pipeline.core.data.raster import Raster, to_image

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(1))
WHOLE = ["u1", "u2", "u4", "i1", "i2", "i4"]


def pixels(raster: Raster) -> npt.NDArray[np.int64]:
    return np.asarray(to_image(raster)).astype(np.int64)


@given(values=st.sampled_from(WHOLE).flatmap(lambda code: hnp.arrays(np.dtype(code), SHAPES)), inverted=st.booleans())
def test_whole_numbers_lie_between_their_white_and_black_to_half_a_level(
    values: npt.NDArray[Any], inverted: bool
) -> None:
    low, high = (0, np.iinfo(values.dtype).max) if values.dtype in ("u1", "u2") else (values.min(), values.max())
    exact = (values[..., 0].astype(float) - float(low)) / (float(high) - float(low) or 1) * 255
    seen = pixels(Raster(values, inverted=inverted))
    assert np.abs(seen - (255 - exact if inverted else exact)).max() <= 0.5 + 1e-9


@given(
    values=st.sampled_from(["f2", "f4", "f8"]).flatmap(lambda code: hnp.arrays(np.dtype(code), SHAPES)),
    inverted=st.booleans(),
)
def test_floats_of_any_kind_have_their_finite_range(values: npt.NDArray[Any], inverted: bool) -> None:
    seen, flat = pixels(Raster(values, inverted=inverted)), values[..., 0]
    assert (seen[np.isnan(flat)] == 0).all()
    finite = np.isfinite(flat)
    if finite.any() and flat[finite].min() < flat[finite].max():
        dark, bright = (255, 0) if inverted else (0, 255)
        assert (seen[flat == flat[finite].min()] == dark).all()
        assert (seen[(flat == flat[finite].max()) | (flat == np.inf)] == bright).all()
        # A brighter value is never darker.
        order = np.argsort(flat[finite])
        assert (np.diff(seen[finite][order]) * (-1 if inverted else 1) >= 0).all()


@pytest.mark.parametrize("code", [*WHOLE, "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_files_own_white_and_black_count_and_what_lies_beyond_is_cut(code: str, inverted: bool) -> None:
    values = np.array([5, 10, 60, 110, 120], code).reshape(1, 5, 1)
    seen = pixels(Raster(values, white=110, black=10, inverted=inverted))[0]
    assert seen.tolist() == ([255, 255, 128, 0, 0] if inverted else [0, 0, 128, 255, 255])


@pytest.mark.parametrize("inverted", [False, True])
def test_what_was_not_measured_is_black_and_not_part_of_the_range(inverted: bool) -> None:
    values = np.array([-9999, 2, 3, 4, np.nan], "f4").reshape(1, 5, 1)
    seen = pixels(Raster(values, nodata=-9999, inverted=inverted))[0]
    assert seen.tolist() == ([0, 255, 128, 0, 0] if inverted else [0, 0, 128, 255, 0])


def test_a_colour_with_one_channel_of_nodata_was_measured() -> None:
    values = np.array([[[255, 255, 0], [255, 255, 255]]], np.uint8)
    assert pixels(Raster(values, nodata=255)).tolist() == [[[255, 255, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("channels", "alpha", "mode"),
    [
        (1, False, "L"),
        (2, False, "L"),
        (2, True, "RGBA"),
        (3, False, "RGB"),
        (4, False, "RGB"),
        (4, True, "RGBA"),
        (5, False, "RGB"),
        (6, True, "RGBA"),
    ],
)
@pytest.mark.parametrize("code", ["u1", "u2", "f4"])
def test_channels_become_a_mode(channels: int, alpha: bool, mode: str, code: str) -> None:
    largest = 1.0 if code == "f4" else float(np.iinfo(code).max)
    shares = np.linspace(0, 1, channels + 1)[1:] * np.array([[[0.0], [1.0]]])
    values = np.round(shares * largest, 6).astype(code)
    image = to_image(Raster(values, alpha=alpha, white=1.0 if code == "f4" else None))
    bright = np.asarray(image)[0, 1]
    assert image.mode == mode
    colours = [0] * 3 if mode == "RGBA" and channels == 2 else [0] if mode == "L" else [0, 1, 2]
    expected = [shares[0, 1, i] for i in colours] + ([1.0] if alpha else [])
    assert np.abs(np.atleast_1d(bright) - np.multiply(expected, 255)).max() <= 1


def test_inks_stay_inks() -> None:
    image = to_image(Raster(np.array([[[0, 65535, 0, 0]]], np.uint16), inks=True))
    assert (image.mode, image.getpixel((0, 0)), image.convert("RGB").getpixel((0, 0))) == (
        "CMYK",
        (0, 255, 0, 0),
        (255, 0, 255),
    )


@pytest.mark.parametrize("code", ["f4", "u4"])
def test_a_large_image_is_scaled_in_parts_as_if_it_were_one(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    values = (np.arange(40 * 30) ** 2).reshape(40, 30, 1).astype(code)
    whole = pixels(Raster(values, nodata=4))
    monkeypatch.setattr(subject, "AT_A_TIME", 64)
    assert (pixels(Raster(values, nodata=4)) == whole).all()
    assert len(np.unique(whole)) > 200
