"""Camera RAW: the colours that a sensor's values mean, upright, at half the size where that is enough."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from al_pipeline.core.data import camera_raw, readers
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.reading import read_file
from al_pipeline.core.errors import ImageError
from al_pipeline.labelstudio.images import publish
from al_pipeline_tests.core.data.colours import SRGB_TO_XYZ

# Linear light of six blocks, and pixels of their sides.
LIGHT = np.array([[(0.9, 0.1, 0.1), (0.1, 0.5, 0.1), (0.05, 0.1, 0.7)], [(0.02,) * 3, (0.4,) * 3, (0.6, 0.6, 0.1)]])
SIDE, WHITE, BLACK = 32, 4000, 100
needs_rawpy = pytest.mark.skipif(not readers.READS_RAW, reason="rawpy is not installed (the extra `raw`)")


def dng(orientation: int = 1) -> bytes:
    """Return a photo as a camera stores it whose primaries are those of sRGB."""
    colours = LIGHT.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
    sensor = colours[..., 1].copy()
    sensor[::2, ::2], sensor[1::2, 1::2] = colours[::2, ::2, 0], colours[1::2, 1::2, 2]
    matrix = [part for value in np.linalg.inv(SRGB_TO_XYZ).reshape(-1) for part in (round(value * 10000), 10000)]
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),
        (50708, "s", 0, "Test", True),
        (271, "s", 0, "Test", True),
        (272, "s", 0, "Test", True),
        (274, "H", 1, orientation, True),
        (306, "s", 20, "2026:01:02 03:04:05", True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50714, "H", 1, BLACK, True),
        (50717, "H", 1, WHITE, True),
        (50721, "2i", 9, matrix, True),
        (50728, "2I", 3, (1, 1) * 3, True),
        (50778, "H", 1, 21, True),
    ]
    values = (sensor * (WHITE - BLACK) + BLACK).round().astype(np.uint16)
    tifffile.imwrite(buffer := io.BytesIO(), values, photometric="cfa", extratags=tags, metadata=None)
    return buffer.getvalue()


def middles(image: Image.Image, side: int) -> npt.NDArray[np.float64]:
    """Return the mean colour of each block, away from its edges."""
    blocks = np.asarray(image, dtype=float).reshape(image.height // side, side, image.width // side, side, 3)
    edge = side // 4
    return blocks[:, edge:-edge, :, edge:-edge].mean(axis=(1, 3))


def levels(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@needs_rawpy
def test_colours_are_those_of_srgb_at_any_size(tmp_path: Path) -> None:
    (tmp_path / "x.dng").write_bytes(dng())
    whole = open_rgb(tmp_path / "x.dng")
    assert (whole.size, whole.mode, whole.format) == ((3 * SIDE, 2 * SIDE), "RGB", "camera RAW")
    assert np.abs(middles(whole, SIDE) - levels(LIGHT)).max() <= 2
    half = open_rgb(tmp_path / "x.dng", at_least=SIDE)
    assert half.size == (3 * SIDE // 2, SIDE)
    assert np.abs(middles(half, SIDE // 2) - levels(LIGHT)).max() <= 2
    assert open_rgb(tmp_path / "x.dng", at_least=SIDE + 1).size == whole.size


@needs_rawpy
def test_a_photo_is_upright_and_shown_as_the_same_pixels(tmp_path: Path) -> None:
    (tmp_path / "x.dng").write_bytes(dng(orientation=6))
    image = open_rgb(tmp_path / "x.dng")
    assert np.abs(middles(image, SIDE) - np.rot90(levels(LIGHT), -1)).max() <= 2
    found = read_file(str(tmp_path / "x.dng"), 0)
    assert (found.width, found.height, found.format, found.problem) == (*image.size, "camera RAW", None)
    assert (found.taken, found.notes) == ("2026-01-02T03:04:05", "format that not every browser shows")
    with Image.open(tmp_path / publish(tmp_path / "x.dng", "shown", tmp_path)) as shown:
        assert (shown.format, shown.tobytes()) == ("PNG", image.tobytes())


@needs_rawpy
def test_what_is_too_large_cut_off_or_unknown_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_raw, "MOST_PIXELS", 6 * SIDE**2 - 1)
    (tmp_path / "x.dng").write_bytes(dng())
    with pytest.raises(ImageError, match=r"^too large: 96 × 64 pixels"):
        open_rgb(tmp_path / "x.dng")
    monkeypatch.undo()
    (tmp_path / "x.dng").write_bytes(dng()[:-1000])
    with pytest.raises(ImageError, match=r"^cut off or damaged"):
        open_rgb(tmp_path / "x.dng")
    (tmp_path / "x.raf").write_bytes(b"FUJIFILMCCD-RAW " + bytes(600))
    with pytest.raises(ImageError, match=r"^a camera RAW that LibRaw .* does not know: export it"):
        open_rgb(tmp_path / "x.raf")


def test_without_what_reads_it_a_raw_file_is_set_aside_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "READS_RAW", False)
    for data, kind in ((dng(), "DNG"), (b"FUJIFILMCCD-RAW " + bytes(600), "RAF")):
        (tmp_path / "x.tif").write_bytes(data)
        with pytest.raises(ImageError, match=rf"^a camera RAW \({kind}\): install .*al_pipeline\[raw\].*, or export"):
            open_rgb(tmp_path / "x.tif")
