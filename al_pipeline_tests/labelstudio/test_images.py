"""Published images show in a browser, whole, and under a name that gives nothing away."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_pipeline.core.errors import ImageError
from al_pipeline.labelstudio.images import publish

SAMPLE = "5e" * 16
SHOWN = {"JPEG", "PNG", "WEBP", "GIF", "BMP"}


def picture(folder: Path, name: str, mode: str = "RGB") -> Path:
    """Write an image of some colours."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "I;16":
        Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)).save(path)
    else:
        Image.effect_mandelbrot((32, 32), (-2, -1, 1, 1), 20).convert("RGB").convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "suffix"),
    [
        ("a.jpg", "RGB", ".jpg"),
        ("gray.JPEG", "L", ".jpg"),
        ("a.png", "RGB", ".png"),
        ("clear.png", "RGBA", ".png"),
        ("palette.png", "P", ".png"),
        ("a.webp", "RGB", ".webp"),
        ("a.gif", "P", ".gif"),
        ("print.jpg", "CMYK", ".png"),
        ("a.tiff", "RGB", ".png"),
        ("a.bmp", "RGB", ".bmp"),
        ("xray.png", "I;16", ".png"),
        ("lying.txt", "", ".png"),
    ],
)
def test_every_kind_of_image_becomes_one_that_browsers_show(tmp_path: Path, name: str, mode: str, suffix: str) -> None:
    if name == "lying.txt":
        source = picture(tmp_path, "a.png").rename(tmp_path / name)
    else:
        source = picture(tmp_path, name, mode)
    published = publish(source, SAMPLE, tmp_path / "out")
    assert published == SAMPLE + suffix
    with Image.open(tmp_path / "out" / published) as image:
        image.load()
        assert image.format in SHOWN
        assert image.mode not in {"CMYK", "I;16"}
        assert image.size == (32, 32)


def test_a_reduced_picture_is_the_upright_original_at_that_size(tmp_path: Path) -> None:
    ramp = Image.linear_gradient("L").resize((80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp.convert("RGB").save(tmp_path / "a.jpg", exif=exif, quality=95)
    out = tmp_path / "out"
    assert publish(tmp_path / "a.jpg", SAMPLE, out, shown_px=20) == f"{SAMPLE}.jpg"
    with Image.open(out / f"{SAMPLE}.jpg") as image:
        assert (image.size, image.mode, dict(image.getexif())) == ((10, 20), "RGB", {})
        expected = ramp.rotate(-90, expand=True).resize((10, 20), Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(image.convert("L"), int) - np.asarray(expected, int)).max() < 8
    assert publish(tmp_path / "a.jpg", SAMPLE, out) == f"{SAMPLE}.jpg"
    assert not (out / f"{SAMPLE}.jpg").samefile(tmp_path / "a.jpg")
    publish(tmp_path / "a.jpg", SAMPLE, out, anew=True)
    assert (out / f"{SAMPLE}.jpg").samefile(tmp_path / "a.jpg")


def test_the_name_and_folder_do_not_tell_the_class(tmp_path: Path) -> None:
    name = publish(picture(tmp_path / "muffin", "muffin 7.png"), SAMPLE, tmp_path / "out")
    assert "muffin" not in name


def test_the_original_is_linked_not_copied_where_the_disk_allows(tmp_path: Path) -> None:
    source = picture(tmp_path, "a.png")
    published = tmp_path / "out" / publish(source, SAMPLE, tmp_path / "out")
    assert published.samefile(source)


def test_it_is_copied_to_another_disk(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    source = picture(tmp_path, "a.png")
    folder = other / f"al-test-{tmp_path.name}"
    try:
        published = folder / publish(source, SAMPLE, folder)
        assert published.read_bytes() == source.read_bytes()
        assert published.stat().st_mode & 0o444 == 0o444
    finally:
        for left in folder.glob("*"):
            left.unlink()
        folder.rmdir()


def test_a_link_is_published_as_the_image_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(picture(tmp_path, "a.png"))
    published = tmp_path / "out" / publish(tmp_path / "link.png", SAMPLE, tmp_path / "out")
    assert not published.is_symlink()


def test_publishing_again_changes_nothing(tmp_path: Path) -> None:
    source = picture(tmp_path, "a.tiff")
    first = tmp_path / "out" / publish(source, SAMPLE, tmp_path / "out")
    before = first.stat()
    assert publish(source, SAMPLE, tmp_path / "out") == first.name
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_several_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    source = picture(tmp_path, "a.tiff")
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: publish(source, SAMPLE, tmp_path / "out"), range(24)))
    assert [path.name for path in (tmp_path / "out").iterdir()] == list(names)
    with Image.open(tmp_path / "out" / names.pop()) as image:
        image.load()


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_what_cannot_be_shown_is_refused_and_leaves_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.png"):
        publish(tmp_path / "bad.png", SAMPLE, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_truncated_image_that_must_be_converted_leaves_nothing(tmp_path: Path) -> None:
    source = picture(tmp_path, "a.tiff")
    source.write_bytes(source.read_bytes()[:-1000])
    with pytest.raises(ImageError):
        publish(source, SAMPLE, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))
