"""Decoding: every common kind of file as a person sees it, and a plain reason for every file that is none."""

import contextlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core.data.contact_sheet import GAP, LINE, contact_sheet
from al_pipeline.core.data.images import decode, iter_blocks, open_rgb
from al_pipeline.core.errors import ImageError, InputError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def halves(left: tuple[int, ...] = RED, right: tuple[int, ...] = BLUE, size: tuple[int, int] = (32, 16)) -> Image.Image:
    """A picture of two colours, with an upright and a lying side."""
    mode = "RGB" if len(left) == 3 else "RGBA"
    picture = Image.new(mode, size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


def noise(size: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind)
    return buffer.getvalue()


def assert_halves(picture: Image.Image, left: tuple[int, int, int], right: tuple[int, int, int], within: int) -> None:
    assert (picture.mode, picture.size) == ("RGB", (32, 16))
    for x, colour in ((5, left), (26, right)):
        seen = picture.getpixel((x, 8))
        assert isinstance(seen, tuple)
        assert np.abs(np.subtract(seen, colour)).max() <= within, f"{seen} at x = {x}, not {colour}"


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises pixels and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_common_format_gives_the_picture_in_rgb(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a picture"
    halves().save(path, format=kind)
    picture = open_rgb(path)
    assert_halves(picture, RED, BLUE, within=12)
    assert picture.format == kind


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_taken(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "frames"
    halves().save(path, format=kind, save_all=True, append_images=[halves(BLUE, RED), halves(WHITE, WHITE)])
    assert_halves(open_rgb(path), RED, BLUE, within=12)


def save_palette_with_transparency(path: Path) -> None:
    # Entry 0 is drawn, entry 1 is clear: the colour below it must not show.
    picture = Image.new("P", (32, 16), 0)
    picture.putpalette([*RED, *BLUE])
    picture.paste(1, (16, 0, 32, 16))
    picture.save(path, format="PNG", transparency=1)


SAVERS: dict[str, tuple[Callable[[Path], None], tuple[int, int, int], tuple[int, int, int]]] = {
    "gray": (lambda path: halves().convert("L").save(path, "PNG"), (76, 76, 76), (29, 29, 29)),
    "gray JPEG": (lambda path: halves().convert("L").save(path, "JPEG"), (76, 76, 76), (29, 29, 29)),
    "black and white": (lambda path: halves(WHITE, (0, 0, 0)).convert("1").save(path, "PNG"), WHITE, (0, 0, 0)),
    "clear": (lambda path: halves((*RED, 255), (*BLUE, 0)).save(path, "PNG"), RED, WHITE),
    "half clear": (lambda path: halves((*RED, 255), (*BLUE, 128)).save(path, "PNG"), RED, (127, 127, 255)),
    "clear WebP": (lambda path: halves((*RED, 255), (*BLUE, 0)).save(path, "WEBP"), RED, WHITE),
    "clear gray": (lambda path: halves((*RED, 255), (*BLUE, 0)).convert("LA").save(path, "PNG"), (76, 76, 76), WHITE),
    "palette": (lambda path: halves().convert("P").save(path, "PNG"), RED, BLUE),
    "clear palette": (save_palette_with_transparency, RED, WHITE),
    "CMYK JPEG": (lambda path: halves().convert("CMYK").save(path, "JPEG"), RED, BLUE),
    "CMYK TIFF": (lambda path: halves().convert("CMYK").save(path, "TIFF"), RED, BLUE),
    "YCbCr TIFF": (lambda path: halves().convert("YCbCr").save(path, "TIFF"), RED, BLUE),
}


@pytest.mark.parametrize("name", SAVERS)
def test_every_colour_mode_looks_as_a_person_sees_it_on_white(tmp_path: Path, name: str) -> None:
    save, left, right = SAVERS[name]
    save(tmp_path / "picture")
    assert_halves(open_rgb(tmp_path / "picture"), left, right, within=12)


@pytest.mark.parametrize(("dtype", "kind"), [(np.uint16, "PNG"), (np.uint16, "TIFF")])
def test_sixteen_bit_gray_keeps_its_scale(tmp_path: Path, dtype: type, kind: str) -> None:
    values = np.full((16, 32), 65535, dtype=dtype)
    values[:, 16:] = 200 * 257
    Image.fromarray(values).save(tmp_path / "picture", format=kind)
    assert_halves(open_rgb(tmp_path / "picture"), WHITE, (200, 200, 200), within=0)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_gray_without_an_agreed_white_is_stretched_over_its_own_range(tmp_path: Path, dtype: type) -> None:
    values = np.full((16, 32), -5, dtype=dtype)
    values[:, 16:] = 100_000
    Image.fromarray(values).save(tmp_path / "picture", format="TIFF")
    assert_halves(open_rgb(tmp_path / "picture"), (0, 0, 0), WHITE, within=0)


def test_missing_values_in_a_float_image_are_no_colour_and_no_error(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0], values[0, 1] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "picture", format="TIFF")
    seen = np.asarray(open_rgb(tmp_path / "picture"))[..., 0]
    # The finite values are 2 to 63 of 63, and that of row 3 is 24: (24 − 2) / 61 of 255.
    assert (seen[7, 7], seen[0, 0], seen[0, 1], seen[3, 0]) == (255, 0, 255, 92)


def test_a_flat_float_image_is_one_colour(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 7.5, dtype=np.float32)).save(tmp_path / "picture", format="TIFF")
    assert len(open_rgb(tmp_path / "picture").getcolors() or []) == 1


# What a camera does to the upright picture before it stores it, by EXIF orientation (Exif 2.32, tag 274).
STORED: dict[int, list[Image.Transpose]] = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_rotation_is_undone(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = halves()
    upright.paste(WHITE, (0, 0, 16, 8))
    stored = upright
    for step in STORED[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "photo", format=kind, exif=exif, quality=95)
    seen = np.asarray(open_rgb(tmp_path / "photo"), dtype=int)
    expected = np.asarray(upright, dtype=int)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected)[2:6, 2:14].max() < 30, "the white corner is elsewhere"


@pytest.mark.parametrize("exif", [b"garbage.....", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_image(tmp_path: Path, exif: bytes) -> None:
    halves().save(tmp_path / "photo", format="PNG", exif=exif)
    assert_halves(open_rgb(tmp_path / "photo"), RED, BLUE, within=0)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str) -> None:
    whole = encoded(noise(64), kind)
    path = tmp_path / "cut"
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(ImageError, match=r"truncated|damaged|cut off|lacks its last bytes"):
        open_rgb(path)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    with pytest.raises(ImageError, match=r"^empty file$"):
        open_rgb(tmp_path / "x.jpg")


def test_a_folder_and_a_dangling_link_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match=r"^unreadable: Is a directory"):
        open_rgb(tmp_path / "folder.jpg")
    with pytest.raises(ImageError, match=r"^unreadable: No such file"):
        open_rgb(tmp_path / "link.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    halves().save(path)
    path.chmod(0)
    with pytest.raises(ImageError, match=r"^unreadable: Permission denied"):
        open_rgb(path)


def test_a_bomb_of_100_megapixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (10_000, 10_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(ImageError, match=r"^too large: .*the limit is 64 megapixels"):
        open_rgb(path)


@pytest.mark.parametrize("megapixels", [65, 100, 1000])
@pytest.mark.parametrize("warning", ["error", "ignore"])
def test_the_pixel_limit_is_checked_before_anything_is_decoded(tmp_path: Path, megapixels: int, warning: str) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(1000, megapixels * 1000))
    with warnings.catch_warnings():
        warnings.simplefilter(warning)  # type: ignore[arg-type]
        with pytest.raises(ImageError, match=r"^too large"):
            open_rgb(path)


def test_the_pixel_limit_is_the_callers(tmp_path: Path) -> None:
    halves().save(tmp_path / "x.png")
    open_rgb(tmp_path / "x.png", max_pixels=32 * 16)
    with pytest.raises(ImageError, match="32 × 16 pixels"):
        open_rgb(tmp_path / "x.png", max_pixels=32 * 16 - 1)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(FORMATS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    cut=st.floats(0, 1),
)
def test_damaged_bytes_give_a_picture_or_an_image_error_and_nothing_else(
    tmp_path: Path, kind: str, flips: list[tuple[float, int]], cut: float
) -> None:
    content = bytearray(encoded(noise(8), kind))
    for where, value in flips:
        content[int(where * len(content))] = value
    path = tmp_path / "damaged"
    path.write_bytes(content[: round(cut * len(content))])
    with contextlib.suppress(ImageError):
        assert open_rgb(path, max_pixels=1_000_000).mode == "RGB"


@pytest.mark.parametrize("kind", FORMATS)
def test_half_a_file_is_never_taken_for_a_whole_one(tmp_path: Path, kind: str) -> None:
    whole = encoded(noise(32), kind)
    for length in range(0, len(whole) // 2, max(1, len(whole) // 40)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ImageError):
            open_rgb(tmp_path / "cut")


def test_decode_shows_the_centre_of_the_shorter_side(tmp_path: Path) -> None:
    picture = Image.new("RGB", (300, 100), RED)
    picture.paste(BLUE, (100, 0, 200, 100))
    picture.save(tmp_path / "wide.png")
    picture.rotate(90, expand=True).save(tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        pixels = decode(tmp_path / name, 20)
        assert (pixels.shape, pixels.dtype) == ((20, 20, 3), np.uint8)
        # The resampling filter reaches one pixel over the edge of the crop.
        assert (pixels[1:-1, 1:-1] == BLUE).all()


def test_an_image_smaller_than_the_square_is_enlarged(tmp_path: Path) -> None:
    halves(size=(4, 4)).save(tmp_path / "x.png")
    pixels = decode(tmp_path / "x.png", 32)
    assert pixels.shape == (32, 32, 3)
    assert (pixels[16, 0] == RED).all()
    assert (pixels[16, 31] == BLUE).all()


def test_a_large_jpeg_decoded_small_looks_like_the_large_one_made_small(tmp_path: Path) -> None:
    y, x = np.mgrid[0:1200, 0:1600]
    waves = np.stack([128 + 100 * np.sin(x / 90), 128 + 100 * np.cos(y / 70), (x + y) / 11], axis=-1)
    Image.fromarray(waves.astype(np.uint8)).save(tmp_path / "photo.jpg", quality=95)
    full = open_rgb(tmp_path / "photo.jpg").crop((200, 0, 1400, 1200)).resize((64, 64), Image.Resampling.BILINEAR)
    assert open_rgb(tmp_path / "photo.jpg", at_least=128).size == (200, 150)
    difference = decode(tmp_path / "photo.jpg", 64).astype(int) - np.asarray(full, dtype=int)
    assert np.abs(difference).mean() < 1.5


def test_decode_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: unreadable: No such file.* scan the image pool again"):
        decode(tmp_path / "gone.png", 8)


@pytest.fixture
def ten(tmp_path: Path) -> list[Path]:
    """Ten different images."""
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for i, path in enumerate(paths):
        noise(8, seed=i).save(path)
    return paths


@pytest.mark.parametrize("block", [1, 3, 10, 256])
def test_blocks_hold_every_image_once_and_in_order(ten: list[Path], block: int) -> None:
    blocks = list(iter_blocks(ten, 8, block=block, workers=3))
    assert [start for start, _ in blocks] == list(range(0, 10, block))
    assert (np.concatenate([pixels for _, pixels in blocks]) == np.stack([decode(path, 8) for path in ten])).all()


def test_no_paths_give_no_blocks() -> None:
    assert list(iter_blocks([], 8)) == []


def test_a_broken_file_in_a_block_is_named(ten: list[Path]) -> None:
    ten[7].write_bytes(b"")
    with pytest.raises(ImageError, match=r"7\.png: empty file"):
        list(iter_blocks(ten, 8, block=4))


class Watched(os.PathLike[str]):
    """A path that knows when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path, self.opened = path, threading.Event()

    def __fspath__(self) -> str:
        self.opened.set()
        return str(self.path)


def test_the_next_block_is_decoded_while_the_caller_works_and_no_more_than_that(ten: list[Path]) -> None:
    watched = [Watched(path) for path in ten]
    blocks = iter_blocks(watched, 8, block=2, workers=1)
    next(blocks)
    assert watched[3].opened.wait(10), "the second block is not begun while the caller has the first"
    assert not watched[4].opened.is_set(), "the third block is begun while the caller has the first"
    next(blocks)
    assert watched[5].opened.wait(10)
    blocks.close()


def test_a_caller_that_stops_early_leaves_no_thread(ten: list[Path]) -> None:
    before = threading.active_count()
    blocks = iter_blocks(ten, 8, block=2, workers=2)
    next(blocks)
    assert threading.active_count() > before
    blocks.close()
    assert threading.active_count() == before


def sheet_of(paths: list[Path], captions: list[str] | None = None, **options: Any) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(contact_sheet(paths, captions, **options))).convert("RGB"))


def test_a_contact_sheet_shows_the_images_in_rows(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, colour in zip(paths, (RED, BLUE, (0, 255, 0)), strict=True):
        Image.new("RGB", (50, 50), colour).save(path)
    sheet = sheet_of(paths, columns=2, tile=40)
    gap = GAP
    assert sheet.shape == (2 * 40 + 3 * gap, 2 * 40 + 3 * gap, 3)
    for (row, column), colour in {(0, 0): RED, (0, 1): BLUE, (1, 0): (0, 255, 0), (1, 1): WHITE}.items():
        assert (sheet[gap + row * (40 + gap) + 20, gap + column * (40 + gap) + 20] == colour).all()


def test_captions_stand_below_their_tile_and_stay_within_its_width(ten: list[Path]) -> None:
    captions = ["grüner Wald, a very long class name\nσ 0.51"] + [""] * 9
    sheet = sheet_of(ten, captions, columns=10, tile=60)
    gap = GAP
    below = sheet[gap + 60 :]
    assert below[:, gap : gap + 60].min() < 100, "nothing is written"
    assert (below[:, gap + 60 :] == 255).all(), "the caption runs into the next tile"
    assert below[LINE + 1 : 2 * LINE].min() < 100, "the second line is missing"


def test_captions_are_whole_however_narrow_the_tile(ten: list[Path]) -> None:
    long = sheet_of(ten[:1], ["a class name of many words"], tile=60)
    parts = sheet_of(ten[:1], ["a class\nname of\nmany words"], tile=60)
    assert np.array_equal(long, parts)
    # A word that is wider than a tile is broken.
    assert sheet_of(ten[:1], ["W" * 30], tile=60).shape[0] > 60 + 2 * GAP + 3 * LINE


@pytest.mark.parametrize("text", ["ü", "é", "ł", "σ", "Л"])
def test_captions_have_the_letters_of_europe(ten: list[Path], text: str) -> None:
    # A font without a letter draws the same box for it as for any other unknown one.
    assert not np.array_equal(sheet_of(ten[:1], [text]), sheet_of(ten[:1], ["\U000e0fff"]))


def test_a_contact_sheet_of_any_content_keeps_below_its_size(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(45)]
    for i, path in enumerate(paths):
        noise(100, seed=i).save(path)
    assert len(contact_sheet(paths, [f"{i}" for i in range(45)])) <= 100_000
    assert len(contact_sheet(paths[:4], max_bytes=3000)) <= 3000
    with pytest.raises(InputError, match="max_bytes = 10"):
        contact_sheet(paths[:4], max_bytes=10)


def test_a_contact_sheet_shows_no_more_than_it_is_asked_for(ten: list[Path]) -> None:
    two_rows = 2 * (72 + GAP) + GAP
    assert sheet_of(ten, columns=4, max_images=8).shape[0] == two_rows


def test_a_contact_sheet_of_nothing_is_an_empty_picture() -> None:
    assert (sheet_of([]) == 255).all()


def test_a_caption_too_few_is_refused(ten: list[Path]) -> None:
    with pytest.raises(InputError, match="9 captions for 10 images"):
        contact_sheet(ten, ["x"] * 9)


def test_a_large_picture_is_converted_as_a_small_one(tmp_path: Path) -> None:
    # It is done some rows at a time.
    random = np.random.default_rng(0)
    rgba = random.integers(0, 256, (2500, 900, 4), dtype=np.uint8)
    rgba[..., 3] = random.integers(0, 2, (2500, 900)) * 255
    gray = random.integers(0, 65536, (2500, 900), dtype=np.uint16)
    for name, picture, expected in (
        ("rgba.png", rgba, np.where(rgba[..., 3:] > 0, rgba[..., :3], 255)),
        ("gray.png", gray, (gray / 257).round()[..., None].repeat(3, axis=2)),
    ):
        Image.fromarray(picture).save(tmp_path / name)
        assert np.array_equal(np.asarray(open_rgb(tmp_path / name)), expected)
