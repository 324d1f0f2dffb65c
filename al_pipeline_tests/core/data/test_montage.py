"""A picture of several images shows each whole, in order, and large enough."""

from pathlib import Path

import pytest
from PIL import Image

from al_pipeline.core.data.montage import GAP, SIDE, montage
from al_pipeline.core.errors import ImageError

COLOURS = ["red", "lime", "blue", "yellow", "cyan", "magenta", "maroon", "navy", "olive"]


def pictures(folder: Path, count: int, size: tuple[int, int] = (64, 48)) -> list[Path]:
    for number, colour in enumerate(COLOURS[:count]):
        Image.new("RGB", size, colour).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(count)]


@pytest.mark.parametrize(("count", "columns", "rows"), [(2, 2, 1), (4, 2, 2), (5, 3, 2), (9, 3, 3)])
def test_every_image_has_its_place_and_fills_it(tmp_path: Path, count: int, columns: int, rows: int) -> None:
    sheet = montage(pictures(tmp_path, count))
    tile = SIDE // columns
    assert sheet.size == (columns * (tile + GAP) - GAP, rows * (tile + GAP) - GAP)
    centres = [
        (number % columns * (tile + GAP) + tile // 2, number // columns * (tile + GAP) + tile // 2)
        for number in range(count)
    ]
    shown = [sheet.getpixel(centre) for centre in centres]
    assert shown == [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in COLOURS[:count]]
    # As wide as its place, and as high as that makes it: nothing is cut off.
    x, y = centres[-1]
    assert sheet.getpixel((x + tile // 2 - 2, y)) == shown[-1]
    assert sheet.getpixel((x, y + tile // 2 - 2)) == (255, 255, 255)


def test_the_number_is_dark_in_a_corner_and_each_image_has_another(tmp_path: Path) -> None:
    sheet = montage(pictures(tmp_path, 2, size=(64, 64)))
    tile = SIDE // 2
    corners = [sheet.crop((x, 0, x + 30, 30)) for x in (0, tile + GAP)]
    assert all(corner.getpixel((0, 0)) == (0x22, 0x22, 0x22) for corner in corners)
    assert corners[0].tobytes() != corners[1].tobytes()


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    paths = pictures(tmp_path, 3)
    paths[1].write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"1\.png: .*scan the image pool again"):
        montage(paths)
