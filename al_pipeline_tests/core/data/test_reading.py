"""What one file is: an image that is decoded small is still found damaged, and is the same after a tag was written."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image

from al_pipeline.core.data.many_readings import read_files
from al_pipeline.core.data.reading import Reading, looks, read_file, turned_hashes
from al_pipeline_tests.core.data.jpegs import aged, photo, save, tag

ORIENTATION, EXIF, TAKEN, SUBSECONDS, RATING = 274, 0x8769, 0x9003, 0x9291, 0x4746


def read(path: Path) -> Reading:
    return read_file(str(path), now_ns=2 * 10**18)


def bits(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_a_reading_tells_everything_about_a_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", photo(1))
    status, found = path.stat(), read(path)
    assert found.file_id == hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    assert (found.width, found.height, found.format, found.problem) == (300, 200, "JPEG", None)
    assert (found.bytes, found.mtime_ns, found.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)
    assert bits(found.phash, str(imagehash.phash(Image.open(path)))) <= 2
    assert len(found.thumbnail) == 256
    assert found.taken is None
    assert found.pixels is not None
    assert len(found.pixels) == 32


@pytest.mark.parametrize("size", [(500, 375), (64, 900), (33, 47), (20, 16), (1100, 900)])
def test_looks_are_those_of_imagehash_and_of_boxes(size: tuple[int, int]) -> None:
    gray = photo(3, size).convert("L")
    phash, thumbnail = looks([np.asarray(gray)])[0]
    assert bits(phash, str(imagehash.phash(gray))) <= 2
    boxes = np.asarray(gray.resize((16, 16), Image.Resampling.BOX), dtype=int).ravel()
    # Pillow gives whole pixels to a box.
    assert np.abs(boxes - np.frombuffer(thumbnail, np.uint8)).mean() < 8


def test_a_plain_image_has_one_hash_whatever_its_size() -> None:
    plain = [np.full(shape, level, np.uint8) for shape in ((40, 30), (94, 125)) for level in (1, 77, 255)]
    hashes = {looks([gray])[0][0] for gray in plain}
    assert hashes == {"8000000000000000"}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_16_bits_look_like_hangs_neither_on_their_exposure_nor_on_a_hot_pixel(tmp_path: Path, suffix: str) -> None:
    scene = np.asarray(photo(1).convert("L"), dtype=float)

    def seen(values: np.ndarray) -> Reading:
        Image.fromarray(values.round().astype(np.uint16)).save(tmp_path / f"x{suffix}")
        return read(tmp_path / f"x{suffix}")

    dark, bright = scene * 4, scene * 200 + 5000
    hot = dark.copy()
    hot[7, 9] = 65535
    eight = Image.fromarray(scene.astype(np.uint8))
    for values in (dark, bright, hot):
        found = seen(values)
        assert bits(found.phash, str(imagehash.phash(eight))) <= 2
        alike = np.corrcoef(np.frombuffer(found.thumbnail, np.uint8), eight.resize((16, 16)).get_flattened_data())
        assert alike[0, 1] > 0.95
        assert np.ptp(np.frombuffer(found.thumbnail, np.uint8).astype(int)) > 100
    assert seen(np.asarray(photo(2).convert("L")) * 4.0).phash != seen(dark).phash
    assert seen(dark).phash in turned_hashes(str(tmp_path / f"x{suffix}"))


def test_a_tag_leaves_the_pixels_and_another_picture_or_quality_does_not(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", photo(1), quality=80)
    before = read(path)
    tag(path, {RATING: 5, ORIENTATION: 6})
    after = read(path)
    assert after.file_id != before.file_id
    assert after.pixels == before.pixels
    assert (after.width, after.height) == (200, 300)
    assert read(save(path, photo(1), quality=70)).pixels != before.pixels
    assert read(save(path, photo(2), quality=80)).pixels != before.pixels


def test_the_same_indices_in_other_colours_are_another_picture(tmp_path: Path) -> None:
    image = photo(1).quantize(16)
    image.save(tmp_path / "a.png")
    image.putpalette(list(reversed(image.getpalette() or [])))
    image.save(tmp_path / "b.png")
    assert read(tmp_path / "a.png").pixels != read(tmp_path / "b.png").pixels


@pytest.mark.parametrize(
    ("tags", "taken"),
    [
        ({TAKEN: "2023:05:01 12:30:00", SUBSECONDS: "25"}, "2023-05-01T12:30:00.25"),
        ({TAKEN: "2023:05:01 12:30:00"}, "2023-05-01T12:30:00"),
        ({TAKEN: "0000:00:00 00:00:00"}, None),
        ({}, None),
    ],
)
def test_the_moment_is_that_of_the_camera(tmp_path: Path, tags: dict[int, str], taken: str | None) -> None:
    path = save(tmp_path / "a.jpg", photo(1))
    tag(path, {EXIF: tags})
    assert read(path).taken == taken


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_is_damaged_costs_no_image(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", photo(1), exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xffrubbish")
    assert (read(path).problem, read(path).width) == (None, 300)


@pytest.mark.parametrize("size", [(300, 200), (1200, 900)])
def test_a_cut_jpeg_is_damaged_although_it_is_decoded_small(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(tmp_path / "a.jpg", photo(1, size), quality=95)
    data = path.read_bytes()
    for share in (0.1, 0.6, 0.95):
        path.write_bytes(data[: int(share * len(data))])
        found = read(path)
        assert found.problem is not None
        assert (found.pixels, found.phash, found.width) == (None, "", 0)
        assert found.file_id is not None


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("keep_rgb", [False, True])
def test_jpegs_of_every_kind_are_read(tmp_path: Path, mode: str, keep_rgb: bool) -> None:
    path = save(tmp_path / "a.jpg", photo(1).convert(mode), keep_rgb=keep_rgb)
    found = read(path)
    assert (found.problem, found.width, found.format) == (None, 300, "JPEG")
    assert bits(found.phash, str(imagehash.phash(photo(1)))) <= 4


def test_a_turned_picture_has_a_hash_of_the_other_in_one_of_its_turns(tmp_path: Path) -> None:
    before = read(save(tmp_path / "a.jpg", photo(4))).phash
    for turn in Image.Transpose:
        path = save(tmp_path / "b.jpg", photo(4).transpose(turn))
        assert min(bits(before, each) for each in turned_hashes(str(path))) <= 2
    other = save(tmp_path / "c.jpg", photo(5))
    assert min(bits(before, each) for each in turned_hashes(str(other))) > 8


def test_a_file_written_a_moment_ago_is_not_settled(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", photo(1))
    now = path.stat().st_mtime_ns
    assert not read_file(str(path), now + 10**9).settled
    assert read_file(str(path), now + 3 * 10**9).settled


def test_files_are_read_in_their_order_and_those_that_went_say_so(tmp_path: Path) -> None:
    paths = [str(save(tmp_path / f"{i}.jpg", photo(i, (40, 30)))) for i in range(40)]
    paths[7] = str(tmp_path / "gone.jpg")
    found = [each for some in read_files(paths, 0, workers=2) for each in some]
    assert found == [read_file(path, 0) for path in paths]
    assert found[7].problem == "unreadable: No such file or directory"
    assert len({each.file_id for each in found}) == 40


def test_a_caller_that_stops_early_waits_for_nothing(tmp_path: Path) -> None:
    path = str(save(tmp_path / "a.jpg", photo(1, (40, 30))))
    some = read_files([path] * 10_000, 0, workers=1)
    assert next(some)[0].problem is None
    some.close()
    with pytest.raises(StopIteration):
        next(some)


def test_a_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = aged(save(tmp_path / "a.jpg", photo(1)))
    opened: list[object] = []
    for module, real in (("os", os.open), ("builtins", io.open)):

        def noted(file: Any, *rest: Any, real: Callable[..., Any] = real, **named: Any) -> Any:
            opened.append(file)
            return real(file, *rest, **named)

        monkeypatch.setattr(f"{module}.open", noted)
    assert read(path).problem is None
    assert opened == [os.fspath(path)]


def test_a_file_that_grows_or_shrinks_while_it_is_read_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = aged(save(tmp_path / "a.jpg", photo(1)))
    data, real = path.read_bytes(), os.fstat
    for size in (1, len(data) - 1, len(data) + 1, 2 * len(data)):

        def earlier(file: int, size: int = size) -> os.stat_result:
            status = list(real(file))
            status[6] = size
            return os.stat_result(status)

        with monkeypatch.context() as patch:
            patch.setattr("os.fstat", earlier)
            found = read(path)
        assert (found.bytes, found.settled) == (len(data), False)
        assert found.file_id == hashlib.sha256(data).hexdigest()[:32]
