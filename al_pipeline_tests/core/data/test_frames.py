"""Of an animation the model gets the first frame on the whole canvas, white where it is not."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.errors import ImageError
from al_pipeline_tests.core.data.kinds_table import KINDS
from al_pipeline_tests.core.data.writers import HEIGHT, PICTURE, RGB, WIDTH, Pixels, saved


def seen(folder: Path, name: str) -> Pixels:
    (folder / "file").write_bytes(KINDS[name].data)
    return np.asarray(open_rgb(folder / "file")).astype(int)


def on_white(frame: Pixels, left: int, upper: int, width: int, height: int) -> Pixels:
    canvas = np.full((height, width, 3), 255)
    canvas[upper : upper + HEIGHT, left : left + WIDTH] = frame
    return canvas


def decoded(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", ["GIF small", "GIF small first frame"])
def test_a_small_first_frame_of_a_gif_lies_on_white(tmp_path: Path, name: str) -> None:
    frame = np.asarray(PICTURE.quantize(64).convert("RGB"))
    assert np.array_equal(seen(tmp_path, name), on_white(frame, 10, 5, WIDTH + 20, HEIGHT + 10))


def test_a_clear_colour_of_a_small_first_frame_is_white_too(tmp_path: Path) -> None:
    indices = np.asarray(PICTURE.quantize(64))
    frame = np.asarray(PICTURE.quantize(64).convert("RGB")).copy()
    frame[indices == indices[3, 3]] = 255
    expected = on_white(frame, 10, 5, WIDTH + 20, HEIGHT + 10)
    assert np.array_equal(seen(tmp_path, "GIF small with a clear colour"), expected)


def test_a_small_first_frame_of_a_webp_lies_on_white_and_is_turned_with_its_canvas(tmp_path: Path) -> None:
    expected = on_white(decoded(saved(PICTURE, "WEBP")), 12, 6, WIDTH + 20, HEIGHT + 10)
    assert np.array_equal(seen(tmp_path, "WebP small first frame"), expected)
    # Orientation 6: the row that is stored first is on the right.
    assert np.array_equal(seen(tmp_path, "WebP small first frame, turned"), np.rot90(expected, -1))


@pytest.mark.parametrize("name", ["WebP animated", "PNG animated", "GIF animated"])
def test_a_first_frame_on_the_whole_canvas_is_the_picture(tmp_path: Path, name: str) -> None:
    # 64 colours and lossy coding cost some levels; the other frame is the negative, about 130 levels away.
    assert np.abs(seen(tmp_path, name) - RGB).mean() < 30


def test_a_promised_height_that_webps_decoder_does_not_believe_is_no_obstacle(tmp_path: Path) -> None:
    data = KINDS["WebP animated"].data
    at = data.index(b"ANMF") + 8 + 9
    assert int.from_bytes(data[at : at + 3], "little") == HEIGHT - 1
    (tmp_path / "file").write_bytes(data[:at] + b"\xff\xff\x7f" + data[at + 3 :])
    assert np.array_equal(np.asarray(open_rgb(tmp_path / "file")), seen(tmp_path, "WebP animated"))


@pytest.mark.parametrize("name", ["WebP animated", "WebP upright"])
def test_a_webp_may_have_half_as_many_pixels(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(KINDS[name].data)
    assert open_rgb(tmp_path / "file", max_pixels=2 * WIDTH * HEIGHT).size == (WIDTH, HEIGHT)
    with pytest.raises(ImageError, match=r"^too large: "):
        open_rgb(tmp_path / "file", max_pixels=2 * WIDTH * HEIGHT - 1)
