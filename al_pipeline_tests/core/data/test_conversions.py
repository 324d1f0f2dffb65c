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
from al_pipeline.core.data.plain import plain_suffix
from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.reading import read_file
from al_pipeline.core.data.report import describe
from al_pipeline_tests.core.data import hdr_kinds
from al_pipeline_tests.core.data.colour_kinds import FILES
from al_pipeline_tests.core.data.dicom_kinds import GRAY12, dicom
from al_pipeline_tests.core.data.kinds_table import KINDS
from al_pipeline_tests.core.data.other_kinds import CASES
from al_pipeline_tests.core.data.writers import RGB, jpeg, png


def notes(data: bytes, folder: Path) -> set[str] | None:
    """The reasons that a scan notes of a file; None if it cannot be used."""
    (folder / "x").write_bytes(data)
    found = read_file(str(folder / "x"), 0)
    return None if found.problem else set(filter(None, found.notes.split(",")))


def test_a_file_has_a_reason_if_and_only_if_its_decoded_pixels_are_published(tmp_path: Path) -> None:
    # All others are of formats that are always decoded.
    files = {name: kind.data for name, kind in KINDS.items()} | FILES
    told = {name: reasons for name, data in files.items() if (reasons := notes(data, tmp_path)) is not None}
    # As `publish` decides.
    as_they_are = {name for name in told if plain_suffix(files[name]) is not None}
    assert {name for name, reasons in told.items() if reasons <= {IGNORED}} == as_they_are
    assert not any(told[name] for name in as_they_are)
    assert len(told) - 80 >= len(as_they_are) >= 70


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
    assert notes(FILES["half a profile"], tmp_path) == {IGNORED, RARE}
    assert notes(FILES["half a profile, then gamma"], tmp_path) == {COLOURS, IGNORED}
    assert notes(FILES["Display P3 in PNG"], tmp_path) == {COLOURS}
    # Its colours stay, but readers may take the gamma.
    assert notes(FILES["sRGB before gamma"], tmp_path) == {RARE}


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
    found = notes(data[: len(data) * 2 // 3], tmp_path)
    assert found is not None
    assert found <= {MOVING}


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
    assert told["shown"] == f"3 as they are; 4 converted: {DEEP} 2, {TRANSPARENT} 2, {FORMAT} 1, {RARE} 1"
    assert told["colours"] == f"1 image with {IGNORED}: taken for sRGB"
    assert describe(manifest.drop(columns="notes"), tmp_path).shown is None
    plain = dict(describe(manifest[manifest["notes"] == ""], tmp_path).facts())
    assert not {"shown", "colours"} & plain.keys()
