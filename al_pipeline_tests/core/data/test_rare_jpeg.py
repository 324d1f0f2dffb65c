"""JPEG that few programs decode: read whole, with what its file says, or refused with the true reason."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.levels import Levels, Note
from al_pipeline.core.data.pool import scan
from al_pipeline.core.errors import ImageError
from al_pipeline_tests.core.data.colours import SPACES, converted, profile_of
from al_pipeline_tests.core.data.other_kinds import CASES, GRAY, RGB, RGB16, Pixels, rare
from al_pipeline_tests.core.data.writers import adobe, exif_segment, jpeg, segment

TWELVE = rare(RGB16 >> 4, 12, lossless=True)
LS = bytes(imagecodecs.jpegls_encode(RGB))


def seen(folder: Path, data: bytes, how: HowRead | None = None) -> Pixels:
    (folder / "x").write_bytes(data)
    return np.asarray(open_rgb(folder / "x", how=how or HowRead())).astype(float)


def after_begin(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def unmarked(data: bytes) -> bytes:
    """A lossless JPEG of imagecodecs without the mark of Adobe that says which colours it has."""
    assert data[2:4] == b"\xff\xee"
    return data[:2] + data[18:]


@pytest.mark.parametrize("data", [TWELVE, LS], ids=["lossless", "JPEG-LS"])
def test_a_turn_and_a_profile_count(tmp_path: Path, data: bytes) -> None:
    profile = profile_of("Adobe RGB")
    parts = (profile[:200], profile[200:])
    icc = [segment(0xE2, b"ICC_PROFILE\0" + bytes((i + 1, 2)) + part) for i, part in enumerate(parts)]
    found = seen(tmp_path, after_begin(data, exif_segment(6), *reversed(icc)))
    expected = np.rot90(converted(RGB, *SPACES["Adobe RGB"][2:]), -1)
    assert np.abs(found - expected).max() <= 1.6


def test_the_white_of_16_bits_is_the_pools_and_that_of_fewer_the_files(tmp_path: Path) -> None:
    twelve_in_sixteen = rare(RGB16 >> 4, 16, lossless=True)
    assert seen(tmp_path, twelve_in_sixteen).max() <= 16
    for data in (twelve_in_sixteen, bytes(imagecodecs.jpegls_encode(RGB16 >> 4))):
        assert np.abs(seen(tmp_path, data, HowRead(Levels(white=4095))) - RGB).max() <= 1
    assert (seen(tmp_path, TWELVE, HowRead(Levels(white=100))) == seen(tmp_path, TWELVE)).all()


def test_a_scan_finds_them_and_notes_their_values(tmp_path: Path) -> None:
    (tmp_path / "a.jls").write_bytes(bytes(imagecodecs.jpegls_encode(RGB16 >> 4)))
    (tmp_path / "b.jpg").write_bytes(rare(GRAY.astype(np.uint16) * 16, 12))
    found = scan(tmp_path).sort_values("uri")
    assert found["format"].tolist() == ["JPEG", "JPEG"]
    notes = [Note.unpacked(packed) for packed in found["levels"]]
    # The second says itself what is white.
    assert [note.ends[-1] if note.ends else None for note in notes] == [float((RGB16 >> 4).max()), None]


SPIFF = LS.index(b"SPIFF\0") + 18
REFUSED = {
    "CMYK": (
        rare(np.dstack([RGB16, RGB16[..., 0]]) >> 4, 12, colorspace="CMYK", outcolorspace="CMYK"),
        "a JPEG of 12 bits per channel with 4 channels",
    ),
    "palette": (after_begin(LS, segment(0xF8, bytes((2, 1, 3)) + bytes(768))), "a JPEG-LS with a palette"),
    "luma and chroma": (LS[:SPIFF] + b"\3" + LS[SPIFF + 1 :], "a JPEG-LS with other colours than"),
    "lossless, by JFIF": (after_begin(unmarked(TWELVE), jpeg()[2:20]), "a lossless JPEG, which is not read"),
    "lossless, by Adobe": (after_begin(unmarked(TWELVE), adobe(1)), "a lossless JPEG, which is not read"),
    "frames that build on each other": (TWELVE.replace(b"\xff\xc3", b"\xff\xc7", 1), "a lossless JPEG, which is not"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_reads_rightly_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(ImageError, match=f"^{reason}.*: export it as PNG or TIFF$"):
        seen(tmp_path, data)


def test_colours_without_a_mark_are_red_green_and_blue(tmp_path: Path) -> None:
    assert (seen(tmp_path, unmarked(TWELVE)) == RGB).all()


@pytest.mark.parametrize("name", ["JPEG of 12 bits", "lossless JPEG of 12 bits", "JPEG-LS", "JPEG-LS of 16 bits"])
def test_what_is_cut_off_is_never_made_up(tmp_path: Path, name: str) -> None:
    data = CASES[name][0]()
    for tenths in range(3, 10):
        with pytest.raises(ImageError, match=r"cut off|damaged"):
            seen(tmp_path, data[: len(data) * tenths // 10])
    with pytest.raises(ImageError, match=r"^cut off: copy or download it again$"):
        seen(tmp_path, data[:-300])


def test_what_is_too_large_is_refused_by_its_header(tmp_path: Path) -> None:
    at = LS.index(b"\xff\xf7") + 5
    (tmp_path / "x").write_bytes(LS[:at] + struct.pack(">HH", 60_000, 50_000) + LS[at + 4 :])
    with pytest.raises(ImageError, match=r"^too large: 50000 × 60000 pixels"):
        open_rgb(tmp_path / "x")
