"""Files that leave a choice are read by the levels of their pool, the channels that are asked for, and as they are."""

import dataclasses
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.image_cache import CachedImages, ImageCache, seen_as
from al_pipeline.core.data.images import decode, open_rgb
from al_pipeline.core.data.levels import Levels, Note, pool_levels
from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.reading import turned_hashes
from al_pipeline.core.data.report import describe
from al_pipeline.core.errors import ImageError
from al_pipeline_tests.core.data.writers import png

TWELVE = HowRead(Levels(white=4095))
RAMP = np.linspace(0, 4095, 64 * 64).round().astype(np.uint16).reshape(64, 64)


def gray(path: Path, how: HowRead = AS_EVER) -> npt.NDArray[np.int64]:
    return np.asarray(open_rgb(path, how=how))[..., 0].astype(np.int64)


def exact(values: npt.NDArray[Any], white: float) -> npt.NDArray[np.float64]:
    return values / white * 255


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """Return a PNG with a chunk behind its header, which ends at byte 33."""
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return png[:33] + chunk + png[33:]


def write(path: Path, values: npt.NDArray[Any]) -> Path:
    if path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_twelve_bits_in_sixteen_have_all_gray_levels_by_the_white_of_their_pool(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, RAMP)
    assert np.abs(gray(path) - exact(RAMP, 65535)).max() <= 0.5 + 1e-9
    assert len(np.unique(gray(path))) == 17
    assert np.abs(gray(path, TWELVE) - exact(RAMP, 4095)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_so_have_colours_and_opacity_of_a_png(tmp_path: Path, channels: int) -> None:
    values = np.stack([RAMP, RAMP[::-1], RAMP.T, np.full_like(RAMP, 4095)][-channels:], axis=-1)
    path, colours = tmp_path / "a.png", values[..., : channels - 1 if channels % 2 == 0 else channels]
    path.write_bytes(png(values, bits=16))
    shown = np.asarray(open_rgb(path, how=TWELVE)).astype(float)
    assert np.abs(shown - exact(colours, 4095)).max() <= 0.5 + 1e-9
    path.write_bytes(png(values * 16, bits=16, lace=True))
    assert np.abs(np.asarray(open_rgb(path)) - exact(colours, 4095)).max() <= 1
    path.write_bytes(png(values, (b"sBIT", bytes([12] * channels)), bits=16, after=[(b"tEXt", b"Title\0x")]))
    assert (np.asarray(open_rgb(path)) == shown).all()
    assert (np.asarray(open_rgb(path, how=HowRead(Levels(white=100)))) == shown).all()


def test_one_clear_colour_of_16_bits_is_white(tmp_path: Path) -> None:
    path, colours = tmp_path / "a.png", np.stack([RAMP, RAMP.T, RAMP], axis=-1) * 16
    for values in (RAMP * 16, colours):
        clear = np.atleast_1d(values[5, 9]).astype(">u2").tobytes()
        path.write_bytes(png(values, (b"tRNS", clear), bits=16))
        shown, at = np.asarray(open_rgb(path)), (values == values[5, 9]).reshape(*RAMP.shape, -1).all(axis=-1)
        assert (shown[at] == 255).all()
        expected = np.broadcast_to(exact(values, 65535).reshape(*RAMP.shape, -1), (*RAMP.shape, 3))
        assert np.abs(shown - expected)[~at].max() <= 1


def test_a_gamma_counts_behind_the_levels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", RAMP)
    plain = gray(path, TWELVE)
    # Linear light.
    path.write_bytes(with_chunk(path.read_bytes(), b"gAMA", struct.pack(">I", 100_000)))
    shown, linear = gray(path, TWELVE), plain / 255
    expected = (
        np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055) * 255
    )
    assert np.abs(shown - expected).max() <= 2


@pytest.mark.parametrize(
    ("values", "bits", "white"),
    [
        pytest.param(RAMP, 12, 4095, id="as they are"),
        pytest.param(RAMP << 4 | RAMP >> 8, 12, 65535, id="scaled as the standard says"),
        pytest.param((RAMP >> 4) << 4, 12, 65535, id="scaled and dark"),
        pytest.param(RAMP, 16, 65535, id="all bits count"),
    ],
)
def test_significant_bits_of_a_png_say_its_white_whatever_the_pool_is(
    tmp_path: Path, values: npt.NDArray[np.uint16], bits: int, white: int
) -> None:
    path = write(tmp_path / "a.png", values)
    path.write_bytes(with_chunk(path.read_bytes(), b"sBIT", bytes([bits])))
    assert np.abs(gray(path) - exact(values, white)).max() <= 0.5 + 1e-9
    if bits < 16:
        assert (gray(path, HowRead(Levels(white=100))) == gray(path)).all()


def test_a_tiff_that_says_its_white_is_shown_by_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RAMP, extratags=[(281, "H", 1, 2000, True)])
    assert np.abs(gray(path, TWELVE) - exact(RAMP, 2000).clip(0, 255)).max() <= 0.5 + 1e-9


def test_a_hot_pixel_and_what_was_not_measured_leave_a_picture_its_gray_levels(tmp_path: Path) -> None:
    values = np.linspace(10, 20, 64 * 64, dtype=np.float32).reshape(64, 64)
    values[:8, :8], values[20, 20] = -9999, 1e6
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, extratags=[(42113, "s", 0, "-9999", True)])
    assert len(np.unique(gray(path))) == 2
    pool = scan(tmp_path)
    levels = pool_levels([Note.unpacked(pool["levels"][0])])
    seen = gray(path, HowRead(levels))
    assert len(np.unique(seen)) > 240
    assert (seen[:8, :8] == 0).all()
    assert seen[20, 20] == 255


def test_a_scan_notes_what_has_more_than_8_bits(tmp_path: Path) -> None:
    write(tmp_path / "a.png", RAMP)
    write(tmp_path / "b.tif", (RAMP // 7).astype(np.int16))
    write(tmp_path / "c.png", (RAMP >> 4).astype(np.uint8))
    write(tmp_path / "d.tif", (RAMP >> 4).astype(np.uint8))
    tifffile.imwrite(tmp_path / "e.tif", np.stack([RAMP + i for i in range(3)]), photometric="minisblack")
    (tmp_path / "g.png").write_bytes(png(np.stack([RAMP, RAMP.T, RAMP // 2], axis=-1), bits=16))
    tifffile.imwrite(tmp_path / "f.tif", RAMP.T, extratags=[(281, "H", 1, 4095, True)])
    found = scan(tmp_path).set_index(pd_name(scan(tmp_path)))
    notes = {name: Note.unpacked(row) if row else None for name, row in found["levels"].items()}
    assert notes["a.png"] is not None
    assert notes["a.png"].ends[-1] == 4095
    assert notes["g.png"] is not None
    assert notes["g.png"].ends[-1] == 4095
    assert notes["b.tif"] is not None
    assert (notes["b.tif"].unsigned, notes["b.tif"].ends[-1]) == (False, 585)
    assert notes["c.png"] is notes["d.tif"] is None
    assert notes["f.tif"] == Note(True, 256)
    assert found["planes"].to_dict() == {**dict.fromkeys(found.index, 1), "e.tif": 3}


def pd_name(manifest: Any) -> Any:
    return manifest["uri"].map(lambda uri: Path(uri).name)


def test_channels_are_shown_in_the_order_asked_for(tmp_path: Path) -> None:
    path, channels = tmp_path / "a.tif", np.stack([np.full((8, 8), v, np.uint8) for v in (10, 20, 30, 40, 50)])
    tifffile.imwrite(path, channels, photometric="minisblack", planarconfig="separate")
    seen = {
        chosen: open_rgb(path, how=HowRead(channels=chosen)).getpixel((3, 3))
        for chosen in [(), (4, 0, 2), (3,), (1, 2)]
    }
    assert seen == {(): (10, 20, 30), (4, 0, 2): (50, 10, 30), (3,): (40, 40, 40), (1, 2): (20, 30, 0)}
    with pytest.raises(ImageError, match=r"no channel 9, .* \(5 channels, counted from 0\)"):
        open_rgb(path, how=HowRead(channels=(0, 9)))
    # What is gray or colours in a mixed pool is shown as ever, where it has not the channels.
    write(tmp_path / "gray.tif", channels[4])
    tifffile.imwrite(tmp_path / "rgb.tif", np.moveaxis(channels[:3], 0, -1), photometric="rgb")
    seen = [
        open_rgb(tmp_path / name, how=HowRead(channels=(4, 0, 2))).getpixel((3, 3)) for name in ("gray.tif", "rgb.tif")
    ]
    assert seen == [(50, 50, 50), (10, 20, 30)]
    found = scan(tmp_path, workers=1)
    [told] = describe(found, tmp_path).remarks
    assert told.startswith("1 image has more channels than colours and opacity: the first three")
    assert describe(found, tmp_path, how=HowRead(channels=(1,))).remarks == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_is_there_of_a_file_that_is_cut_off_can_be_used(tmp_path: Path, kind: str) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 64, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    whole, path, used = buffer.getvalue(), tmp_path / "a", HowRead(truncated="use")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cut off"):
        open_rgb(path)
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
    assert (np.asarray(open_rgb(path, how=used))[:40] == expected[:40]).all()
    # A whole file is read as ever, also with zeros behind its end.
    for data in (whole, whole + bytes(100)):
        path.write_bytes(data)
        assert (np.asarray(open_rgb(path, how=used)) == expected).all()
    path.write_bytes(whole[:60])
    with pytest.raises(ImageError):
        open_rgb(path, how=used)


def test_a_cache_keeps_apart_what_is_read_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", RAMP)
    cache = ImageCache(tmp_path / "cache", 10**9)
    images = CachedImages(cache, ["0" * 32], [path], TWELVE)
    for _ in range(2):
        (_, own), (_, ever) = next(images.blocks(32)), next(images.blocks(32, how=AS_EVER))
        assert (own[0] == decode(path, 32, how=TWELVE)).all()
        assert (ever[0] == decode(path, 32)).all()
        assert own.max() > 200 > 17 > ever.max()
    assert sorted(folder.name for folder in (tmp_path / "cache").iterdir()) == sorted(
        [f"{seen_as(32, 'crop')}-v3", f"{seen_as(32, 'crop', TWELVE)}-v3"]
    )
    # Room is made in both.
    list(CachedImages(ImageCache(tmp_path / "cache", 0), ["0" * 32], [path]).blocks(32))
    assert not [*(tmp_path / "cache").rglob("*.pixels")]


def test_how_files_are_read_survives_json_and_has_a_name_of_its_own() -> None:
    kinds = [
        AS_EVER,
        TWELVE,
        HowRead(channels=(2, 1, 0)),
        HowRead(truncated="use"),
        HowRead(Levels(low=-0.1, high=1.5)),
        HowRead(plane="max"),
        HowRead(plane=3),
    ]
    assert [HowRead.from_dict(json.loads(json.dumps(dataclasses.asdict(how)))) for how in kinds] == kinds
    assert AS_EVER.key == ""
    assert len({how.key for how in kinds}) == len(kinds)


def test_what_was_written_before_planes_could_be_chosen_keeps_its_meaning_and_its_name() -> None:
    found = dataclasses.asdict(TWELVE)
    del found["plane"]
    assert HowRead.from_dict(json.loads(json.dumps(found))) == TWELVE
    assert (TWELVE.key, HowRead(truncated="use").key) == ("rc1f57abe6491", "rbe916d695df4")


def test_a_png_of_16_bits_with_opacity_may_have_fewer_pixels_than_others(tmp_path: Path) -> None:
    values = np.full((8, 8, 4), 40_000, np.uint16)
    for channels in (3, 4):
        (tmp_path / f"{channels}.png").write_bytes(png(values[..., :channels], bits=16))
    assert open_rgb(tmp_path / "3.png", max_pixels=64).size == (8, 8)
    assert open_rgb(tmp_path / "4.png", max_pixels=74).size == (8, 8)
    with pytest.raises(ImageError, match="too large: 8 × 8 pixels"):
        open_rgb(tmp_path / "4.png", max_pixels=72)


def test_turns_are_known_again_of_the_plane_that_is_read(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (2, 64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    for plane in range(2):
        single, how = write(tmp_path / f"{plane}.tif", planes[plane]), HowRead(plane=plane)
        assert turned_hashes(str(tmp_path / "a.tif"), how) == turned_hashes(str(single))
