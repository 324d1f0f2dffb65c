"""What a scan notes about a file is why people are shown other pixels than it stores."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_pipeline.core.data.conversions import (
    COLOURS,
    DEEP,
    FORMAT,
    GAIN_MAP,
    IGNORED,
    INKS,
    MOVING,
    PAGES,
    RARE,
    TRANSPARENT,
    TURNED,
)
from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.reading import read_file
from al_pipeline.core.data.report import describe
from al_pipeline_tests.core.data import hdr_kinds
from al_pipeline_tests.core.data.colour_kinds import FILES
from al_pipeline_tests.core.data.dicom_kinds import GRAY12, dicom
from al_pipeline_tests.core.data.kinds_table import KINDS
from al_pipeline_tests.core.data.other_kinds import CASES
from al_pipeline_tests.core.data.writers import RGB, jpeg, png

# Decoded pixels are shown of them to be safe: the same ones, in most browsers.
UNTOLD = {
    "JPEG Adobe RGB transform",
    "JPEG Adobe and JFIF disagree",
    "JPEG lossless",
    "JPEG orientation as LONG",
    "JPEG damaged EXIF",
    "JPEG resolution of half a screen's",
    "JPEG two EXIF",
    "JPEG gray with the profile of a screen",
    "PNG palette with pixels beyond",
    "PNG gray with the profile of a screen",
    "WebP one frame",
}


def notes(data: bytes, folder: Path) -> set[str]:
    (folder / "x").write_bytes(data)
    found = read_file(str(folder / "x"), 0)
    assert found.problem is None
    return set(filter(None, found.notes.split(",")))


@pytest.mark.parametrize("name", [name for name in KINDS if name != "JPEG 12 bit CMYK"])
def test_what_is_linked_has_no_reason_and_what_is_converted_has_one(tmp_path: Path, name: str) -> None:
    assert bool(notes(KINDS[name].data, tmp_path)) == (not KINDS[name].plain and name not in UNTOLD)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("JPEG CMYK", {INKS}),
        ("JPEG gain map", {GAIN_MAP}),
        ("JPEG gamma 1.8", {COLOURS}),
        ("JPEG 12 bit", {DEEP, RARE}),
        ("JPEG XMP 6", {TURNED}),
        ("PNG RGBA 16 bit", {TRANSPARENT, DEEP}),
        ("PNG RGB 16 bit", {DEEP}),
        ("PNG gray 16 bit with a clear level", {TRANSPARENT, DEEP}),
        ("PNG RGB 16 bit, linear", {COLOURS, DEEP}),
        ("PNG Display P3 by cICP", {COLOURS}),
        ("PNG turned", {TURNED}),
        ("PNG animated", {MOVING}),
        ("WebP small first frame, turned", {MOVING, TURNED}),
        ("GIF small", {TRANSPARENT}),
        ("GIF animated", {MOVING}),
        ("BMP 16 bit", {RARE}),
        ("TIFF RGB", {FORMAT}),
        ("TIFF pages", {FORMAT, PAGES}),
        ("TIFF gray 16 bit", {FORMAT, DEEP}),
        ("TIFF turned", {FORMAT, TURNED}),
        ("TIFF CMYK", {FORMAT, INKS}),
    ],
)
def test_the_reasons_are_those_of_the_file(tmp_path: Path, name: str, reasons: set[str]) -> None:
    assert notes(KINDS[name].data, tmp_path) == reasons


def test_colours_that_cannot_be_used_are_noted(tmp_path: Path) -> None:
    assert notes(FILES["half a profile"], tmp_path) == {IGNORED}
    assert notes(FILES["half a profile, then gamma"], tmp_path) == {COLOURS, IGNORED}
    assert notes(FILES["Display P3 in PNG"], tmp_path) == {COLOURS}
    assert notes(FILES["sRGB before gamma"], tmp_path) == set()


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_other_formats_have_their_reasons_too(tmp_path: Path) -> None:
    assert notes(CASES["HEIC"][0](), tmp_path) == {FORMAT}
    assert notes(CASES["JP2, 16 bits gray"][0](), tmp_path) == {FORMAT, DEEP}
    assert notes(hdr_kinds.CASES["HEIC, PQ"][0](), tmp_path) == {FORMAT, COLOURS}
    assert notes(hdr_kinds.CASES["PNG, PQ"][0](), tmp_path) == {COLOURS, DEEP}
    assert notes(CASES["AVIF, transparent"][0](), tmp_path) == {FORMAT, TRANSPARENT}
    assert notes(dicom(np.stack([GRAY12, GRAY12]), NumberOfFrames=2), tmp_path) == {FORMAT, DEEP, PAGES}


def test_a_second_frame_that_is_damaged_costs_no_image(tmp_path: Path) -> None:
    data = KINDS["GIF animated"].data
    assert notes(data[: len(data) * 2 // 3], tmp_path) <= {MOVING}


def test_a_scan_counts_them(tmp_path: Path) -> None:
    Image.fromarray(RGB).rotate(90).save(tmp_path / "1.png")
    (tmp_path / "2.jpg").write_bytes(jpeg())
    (tmp_path / "3.png").write_bytes(KINDS["PNG gray and alpha"].data)
    (tmp_path / "4.png").write_bytes(KINDS["PNG RGBA 16 bit"].data)
    (tmp_path / "5.png").write_bytes(FILES["half a profile"])
    (tmp_path / "6.tif").write_bytes(KINDS["TIFF gray 16 bit"].data)
    (tmp_path / "7.png").write_bytes(png(255 - RGB))
    manifest = scan(tmp_path)
    told = dict(describe(manifest, tmp_path).facts())
    assert told["shown"] == f"4 as they are; 3 converted: {DEEP} 2, {TRANSPARENT} 2, {FORMAT} 1"
    assert told["colours"] == f"1 image with {IGNORED}: taken for sRGB"
    assert describe(manifest.drop(columns="notes"), tmp_path).shown is None
    plain = dict(describe(manifest[manifest["notes"] == ""], tmp_path).facts())
    assert not {"shown", "colours"} & plain.keys()
