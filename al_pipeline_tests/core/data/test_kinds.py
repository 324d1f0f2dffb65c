"""What a file is, whatever its name says, and a true reason for what is not read."""

import io
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core.data import readers
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.kinds import HEAD, READ, SUFFIXES, kind_of, reason_not_read
from al_pipeline.core.data.layout import arrange
from al_pipeline.core.data.truncated import complete
from al_pipeline.core.errors import ImageError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))


def saved(kind: str, picture: Image.Image = PICTURE, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def media(major: bytes, *brands: bytes) -> bytes:
    """An ISO media file's first box."""
    return struct.pack(">I4s4sI", 16 + 4 * len(brands), b"ftyp", major, 0) + b"".join(brands) + bytes(40)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("1.png", b"x")
    return buffer.getvalue()


KINDS: dict[str, tuple[bytes, str | None]] = {
    "JPEG": (saved("JPEG"), "JPEG"),
    "PNG": (saved("PNG"), "PNG"),
    "WebP": (saved("WEBP"), "WebP"),
    "GIF": (saved("GIF"), "GIF"),
    "BMP": (saved("BMP"), "BMP"),
    "TIFF": (saved("TIFF"), "TIFF"),
    "TIFF of the other order": (b"MM\0*\0\0\0\x08", "TIFF"),
    "BigTIFF": (b"II+\0\x08\0\0\0", "TIFF"),
    "JP2": (saved("JPEG2000"), "JPEG 2000"),
    "codestream": (saved("JPEG2000", no_jp2=True), "JPEG 2000"),
    "AVIF": (saved("AVIF"), "AVIF"),
    "AVIF under a common brand": (media(b"mif1", b"mif1", b"avif", b"miaf"), "AVIF"),
    "phone": (media(b"heic", b"mif1", b"heic"), "HEIC"),
    "HEIF": (media(b"mif1", b"mif1", b"heic", b"miaf"), "HEIC"),
    "burst of a phone": (media(b"msf1", b"hevc"), "HEIC"),
    "JPEG XL": (b"\xff\x0a\x03\x41", "JPEG XL"),
    "DICOM": (bytes(128) + b"DICM\x02\0\0\0", "DICOM"),
    "Canon": (media(b"crx ", b"crx ", b"isom"), "camera RAW (CR3)"),
    "old Canon": (b"II*\0\x10\0\0\0CR\2\0", "camera RAW (CR2)"),
    "film": (media(b"isom", b"isom", b"avc1"), "video (MP4)"),
    "film of an iPhone": (media(b"qt  ", b"qt  "), "video (QuickTime)"),
    "old film": (b"RIFF\0\0\0\0AVI LIST", "video (AVI)"),
    "sound": (b"RIFF\0\0\0\0WAVEfmt ", None),
    "Photoshop": (b"8BPS\0\1" + bytes(20), "Photoshop"),
    "drawing": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "page": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "answer of a bucket": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
    "answer of an API": (b'{"error": "rate limit"}', "JSON"),
    "error": ("Zugriff verweigert für 12.jpg".encode(), "text"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer"),
    "archive": (zipped(), "archive (zip)"),
    "Netpbm": (saved("PPM"), "Netpbm"),
    "macOS": (b"\0\5\x16\7\0\2\0\0Mac OS X", "AppleDouble"),
    "volume": (struct.pack("<i", 348) + bytes(340) + b"n+1\0", "NIfTI"),
    "zeros": (bytes(5000), "zeros"),
    "nothing": (b"", None),
    "noise": (np.random.default_rng(1).bytes(5000), None),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_known_by_its_bytes(name: str) -> None:
    data, kind = KINDS[name]
    assert kind_of(data[:HEAD]) == kind


@pytest.mark.parametrize("name", [name for name, (_, kind) in KINDS.items() if kind not in READ])
def test_the_reason_says_what_it_is_and_what_to_do_whatever_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(readers, "READS_RAW", False)
    data, kind = KINDS[name]
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(ImageError) as caught:
        open_rgb(tmp_path / "x.jpg")
    reason = str(caught.value)
    if kind is None:
        assert reason == ("not an image of a known kind (" + ", ".join(READ) + ")" if data else "empty file")
    else:
        assert not reason.startswith(("not an image of a known kind", "damaged"))
        assert re.search(r"export|download|unpack|run|copy|take|before its name", reason), reason
        assert kind.rpartition("(")[2].rstrip(")") in reason or kind in ("Netpbm", "AppleDouble", "zeros"), reason


@given(st.binary(max_size=600))
def test_any_bytes_have_a_reason(head: bytes) -> None:
    assert reason_not_read(head)
    kind_of(head)


def test_a_header_that_is_damaged_is_called_so_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    with pytest.raises(ImageError, match=r"^damaged: .*JPEG"):
        open_rgb(tmp_path / "x.png")


def test_the_suffixes_of_a_scan_are_those_of_the_kinds_that_are_read() -> None:
    listing = arrange([f"a/{number}{suffix.upper()}" for number, suffix in enumerate(SUFFIXES)])
    assert len(listing.files) == len(SUFFIXES)
    assert {".heic", ".avif", ".jp2", ".jxl", ".dcm", ".tif", ".jpg"} <= SUFFIXES


def test_a_dicom_series_without_suffixes_is_named() -> None:
    listing = arrange(["DICOMDIR", "a/IM000001", "a/1.png"])
    assert any("DICOMDIR" in remark for remark in listing.remarks)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_how_much_of_a_file_is_there_is_told_by_its_rows(kind: str, kept: float) -> None:
    picture = PICTURE.resize((96, 400), Image.Resampling.NEAREST)
    whole = saved(kind, picture, **({"quality": 90} if kind == "JPEG" else {}))
    cut = whole[: int(len(whole) * kept)]
    completed = complete(cut)
    assert completed is not None
    # Noise takes about as many bytes per row everywhere.
    assert abs(completed.share - kept) < 0.1
    before, after = (
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) for data in (whole, completed.data)
    )
    rows = round(completed.share * 400)
    assert (before[:rows] == after[:rows]).all()
    # One more row of pixels, or of blocks, is not whole.
    assert not (before[: rows + 17] == after[: rows + 17]).all()


@pytest.mark.parametrize(
    ("name", "data"),
    {
        "JPEG without its end": saved("JPEG")[:-2],
        "JPEG without its last byte": saved("JPEG")[:-1],
        "progressive JPEG without its end": saved("JPEG", progressive=True)[:-2],
        "PNG without its last rows": saved("PNG", PICTURE.resize((96, 400)))[:-900],
    }.items(),
)
def test_a_file_that_lacks_only_its_last_bytes_is_told_apart(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ImageError, match=r"^lacks its last bytes \((100|9\d) % of the rows are whole\): "):
        open_rgb(tmp_path / "x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_that_is_cut_off_says_how_much_is_there(tmp_path: Path, kind: str) -> None:
    whole = saved(kind)
    (tmp_path / "x").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"^cut off \([2-5]\d % of the rows are whole\): "):
        open_rgb(tmp_path / "x")


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "I;16"])
def test_a_png_of_any_mode_is_completed(mode: str) -> None:
    picture = PICTURE.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    whole = saved("PNG", picture)
    completed = complete(whole[: len(whole) * 2 // 3])
    assert completed is not None
    again = Image.open(io.BytesIO(completed.data))
    assert again.mode == picture.mode
    rows = int(completed.share * picture.height)
    assert 0 < rows < picture.height
    assert np.array_equal(np.asarray(again)[:rows], np.asarray(picture)[:rows])


def test_what_is_no_jpeg_or_png_is_not_completed() -> None:
    assert complete(saved("GIF")[:-10]) is None
    assert complete(b"\xff\xd8 nothing") is None
    assert complete(saved("PNG")[:30]) is None
