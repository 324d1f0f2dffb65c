"""Plain is what is known to be: each kind of the table, and nothing that is cut, damaged or of another coding."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.data.plain import plain_suffix
from al_pipeline_tests.core.data.kinds_table import KINDS
from al_pipeline_tests.core.data.writers import RGB, bmp, chunk, gif, jpeg, png

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
PLAIN = [name for name, kind in KINDS.items() if kind.plain]
# They go on after the end of the image.
LONGER = {"JPEG more after its end", "JPEG several pictures", "PNG more after its end"}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_plain_or_not(name: str) -> None:
    expected = SUFFIXES[name.split()[0]] if KINDS[name].plain else None
    assert plain_suffix(KINDS[name].data) == expected


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from([name for name in PLAIN if name not in LONGER]), share=st.floats(0, 1, exclude_max=True))
def test_what_is_cut_is_not_plain(name: str, share: float) -> None:
    data = KINDS[name].data
    assert plain_suffix(data[: int(share * len(data))]) is None


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(KINDS)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_raise_nothing(name: str, flips: list[tuple[float, int]]) -> None:
    data = bytearray(KINDS[name].data)
    for where, value in flips:
        # Mostly among the headers.
        data[int(where**3 * len(data))] = value
    assert plain_suffix(bytes(data)) in {None, *SUFFIXES.values()}


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing(data: bytes) -> None:
    for head in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF89a", b"BM"):
        assert plain_suffix(head + data) is None


# Extended, lossless, hierarchical and arithmetic coding (ITU T.81, table B.1).
@pytest.mark.parametrize("frame", [0xC1, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_no_other_coding_of_jpeg_is_plain(frame: int) -> None:
    data = jpeg()
    at = data.index(b"\xff\xc0")
    assert plain_suffix(data) == ".jpg"
    assert plain_suffix(data[: at + 1] + bytes([frame]) + data[at + 2 :]) is None


def test_jpeg_of_other_depth_or_odd_sampling_is_not_plain() -> None:
    data = jpeg(subsampling=0)
    at = data.index(b"\xff\xc0")
    assert data[at + 4] == 8
    assert plain_suffix(data[: at + 4] + b"\x0c" + data[at + 5 :]) is None
    # The second component: its number, its sampling, its table.
    assert data[at + 14] == 0x11
    assert plain_suffix(data[: at + 14] + b"\x21" + data[at + 15 :]) is None


@pytest.mark.parametrize("name", [b"acTL", b"fdAT", b"mDCV", b"cLLI", b"teSt", b"ABCD"])
def test_png_with_a_chunk_that_may_change_what_is_seen_is_not_plain(name: bytes) -> None:
    assert plain_suffix(png(RGB, (name, bytes(8)))) is None
    assert plain_suffix(png(RGB, after=[(name, bytes(8))])) is None


def test_png_with_a_damaged_chunk_is_not_plain() -> None:
    data = png(RGB, (b"tEXt", b"Author\0me"))
    assert plain_suffix(data.replace(b"\0me", b"\0us")) is None
    # As Apple's tools strip it: no browser but one shows it.
    assert plain_suffix(data[:8] + chunk(b"CgBI", bytes(4)) + data[8:]) is None


def test_png_with_two_headers_is_not_plain() -> None:
    data = png(RGB)
    assert plain_suffix(data[:33] + data[8:]) is None


@pytest.mark.parametrize("flag", [2, 16])
def test_webp_that_claims_to_move_or_to_be_transparent_is_not_plain(flag: int) -> None:
    data = KINDS["WebP upright"].data
    assert data[20] == 8
    assert plain_suffix(data[:20] + bytes([8 | flag]) + data[21:]) is None


def test_bmp_with_other_headers_is_not_plain() -> None:
    lines = [row.tobytes() for row in RGB[::-1, :, ::-1]]
    data = bmp(lines, 24)
    assert plain_suffix(data) == ".bmp"
    # Version 5 has a profile.
    assert plain_suffix(data[:14] + struct.pack("<I", 124) + data[18:]) is None
    assert plain_suffix(data[:18] + struct.pack("<i", -61) + data[22:]) is None


def test_gif_of_two_images_or_with_text_is_not_plain() -> None:
    from PIL import Image

    data = gif(Image.fromarray(np.zeros((4, 4), np.uint8)))
    image = data[data.index(b",") : -1]
    assert plain_suffix(data) == ".gif"
    assert plain_suffix(data[:-1] + image + b";") is None
    assert plain_suffix(data[:-1] + b"!\x01\x0c" + bytes(12) + b"\0;") is None
