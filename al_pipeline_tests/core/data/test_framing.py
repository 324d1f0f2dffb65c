"""Squares show what their framing says, to the value; which one suits a pool is told by its shapes."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from al_pipeline.core.data.framing import BORDER, FRAMINGS, Framing, by_shapes, frame, share_seen
from al_pipeline.core.data.images import decode
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.checkpoint import MEAN
from al_pipeline.core.learning.options import TrainingOptions

SIDES = st.integers(1, 70)


def picture(columns: list[int], height: int) -> Image.Image:
    """Return a gray picture in RGB, of columns of these values."""
    return Image.fromarray(np.repeat(np.tile(np.array(columns, dtype=np.uint8), (height, 1))[..., None], 3, axis=2))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_crop_is_the_middle() -> None:
    assert (frame(picture([10, 20, 30, 40], 2), 2, "crop") == np.array([20, 30])[None, :, None]).all()


def test_squeezed_is_all_of_it_narrower() -> None:
    # The antialiased filter of two pixels at a time weighs the columns 3 : 3 : 1, and 1 : 3 : 3.
    assert (frame(picture([0, 0, 175, 175], 2), 2, "squeeze") == np.array([25, 150])[None, :, None]).all()


@pytest.mark.parametrize(("height", "top"), [(2, 1), (1, 1), (3, 0), (4, 0)])
def test_padded_is_all_of_it_between_two_borders(height: int, top: int) -> None:
    wide = picture([10, 20, 30, 40], height)
    expected = np.full((4, 4, 3), BORDER, dtype=np.uint8)
    expected[top : top + height] = np.array([10, 20, 30, 40])[None, :, None]
    assert np.array_equal(frame(wide, 4, "pad"), expected)
    tall = wide.transpose(Image.Transpose.TRANSPOSE)
    assert np.array_equal(frame(tall, 4, "pad"), expected.transpose(1, 0, 2))


def test_padded_is_made_smaller_by_its_longer_side() -> None:
    square = frame(picture([0, 0, 175, 175], 2), 2, "pad")
    assert square[0, :, 0].tolist() == [25, 150]
    assert square[1].tolist() == [list(BORDER)] * 2


@given(width=SIDES, height=SIDES, size=SIDES)
def test_crops_are_those_of_pillow_bit_for_bit(width: int, height: int, size: int) -> None:
    """As they were before there was a choice: what is cached and learned stays right."""
    image = noise(width, height)
    fitted = ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)
    assert np.array_equal(frame(image, size, "crop"), np.asarray(fitted))


@given(width=SIDES, height=SIDES, size=SIDES)
def test_every_part_of_a_padded_picture_is_there_and_nothing_else(width: int, height: int, size: int) -> None:
    square = frame(Image.new("RGB", (width, height), (1, 2, 3)), size, "pad")
    assert (square.shape, square.dtype) == ((size, size, 3), np.uint8)
    shown = (square == (1, 2, 3)).all(axis=2)
    assert (square[~shown] == BORDER).all()
    rows, columns = shown.any(axis=1).sum(), shown.any(axis=0).sum()
    assert shown.sum() == rows * columns
    assert max(rows, columns) == size
    assert abs(min(rows, columns) - max(1, size * min(width, height) / max(width, height))) <= 0.5


@given(side=SIDES, size=SIDES)
def test_a_square_picture_is_the_same_in_every_framing(side: int, size: int) -> None:
    crop, squeezed, padded = (frame(noise(side, side), size, framing) for framing in FRAMINGS)
    assert np.array_equal(crop, squeezed)
    assert np.array_equal(crop, padded)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shape", [(3000, 1), (1, 3000)])
def test_a_picture_thinner_than_a_pixel_is_still_seen(framing: Framing, shape: tuple[int, int]) -> None:
    assert (frame(Image.new("RGB", shape, "red"), 16, framing) == (255, 0, 0)).all(axis=2).any()


def test_a_file_is_decoded_in_its_framing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "tall.png")
    expected = np.full((24, 24, 3), BORDER, dtype=np.uint8)
    expected[:, 8:16] = pixels
    assert np.array_equal(decode(tmp_path / "tall.png", 24, "pad"), expected)
    assert np.array_equal(decode(tmp_path / "tall.png", 8), pixels[8:16])


def test_a_photo_is_padded_from_its_smaller_scale(tmp_path: Path) -> None:
    """A JPEG that is decoded at a part of its size gives nearly what the whole one does."""
    ramp = np.linspace(0, 255, 900)[None, :, None] * np.linspace(0.4, 1, 300)[:, None, None] * np.ones(3)
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "wide.jpg", quality=95)
    whole = frame(Image.open(tmp_path / "wide.jpg").convert("RGB"), 48, "pad").astype(int)
    assert np.abs(decode(tmp_path / "wide.jpg", 48, "pad") - whole).max() <= 3


def test_an_unknown_framing_is_refused() -> None:
    with pytest.raises(InputError, match="unknown framing 'tiles'; choose one of crop, squeeze, pad"):
        frame(noise(2, 2), 2, "tiles")  # type: ignore[arg-type]


def test_the_border_is_the_mean_that_networks_subtract_and_the_setting_offers_every_framing() -> None:
    assert tuple(round(255 * mean) for mean in MEAN) == BORDER
    assert get_args(TrainingOptions.model_fields["framing"].annotation) == ("auto", *FRAMINGS)


def test_the_share_that_a_crop_shows() -> None:
    assert share_seen([1920, 300, 3000, 7], [1080, 400, 1000, 7]).tolist() == [0.5625, 0.75, 1 / 3, 1.0]


@pytest.mark.parametrize(
    ("shapes", "suits", "share"),
    [
        ([(10, 7)], "crop", 0.7),
        ([(7, 10)], "crop", 0.7),
        ([(1000, 699)], "pad", 0.699),
        ([(1, 1), (1, 1), (9, 1)], "crop", 1.0),
        ([(1, 1), (1, 9), (9, 1)], "pad", 1 / 9),
        ([(1, 1), (2, 1)], "crop", 0.75),
        ([], "crop", 1.0),
    ],
)
def test_pools_are_padded_where_the_median_picture_would_lose_more_than_30_percent(
    shapes: list[tuple[int, int]], suits: str, share: float
) -> None:
    width, height = [shape[0] for shape in shapes], [shape[1] for shape in shapes]
    assert by_shapes(width, height) == (suits, share)
