"""What a person's browser paints is what the model gets, for every kind of file; plain files are linked."""

import base64
import functools
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Page

from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.errors import ImageError
from al_pipeline.labelstudio.images import publish, published
from al_pipeline_tests.browser import open_browser
from al_pipeline_tests.core.data.every_kind import every_kind
from al_pipeline_tests.core.data.kinds_table import KINDS

# On a dark ground, as an annotator may have it: each image as it lies there, drawn once it is decoded.
PAINT = """async names => Object.fromEntries(await Promise.all(names.map(async name => {
    const image = new Image()
    image.src = name
    try { await image.decode() } catch { return [name, null] }
    const canvas = document.createElement("canvas")
    canvas.width = image.naturalWidth
    canvas.height = image.naturalHeight
    const context = canvas.getContext("2d")
    context.fillStyle = "#203040"
    context.fillRect(0, 0, canvas.width, canvas.height)
    context.drawImage(image, 0, 0)
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data
    let text = ""
    for (let i = 0; i < pixels.length; i += 32768) text += String.fromCharCode(...pixels.subarray(i, i + 32768))
    return [name, [canvas.width, canvas.height, btoa(text)]]
})))"""

Pixels = npt.NDArray[np.uint8]

# Were they published as they are, people would see something else; else this file's comparison compared nothing.
SHOWN_OTHERWISE = (
    "JPEG XMP 6",
    "JPEG resolution of half a screen's",
    "PNG RGBA",
    "PNG palette with clear colours",
    "PNG turned, told after the pixels",
    "PNG turned by a raw profile",
    "WebP lossy with alpha",
    "WebP turned",
    "WebP small first frame",
    "GIF clear colour",
    "GIF small first frame",
)


# Of all kinds nobody sees what nobody reads.
REFUSED = {"JPEG 12 bit CMYK"}


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, many on one connection, and says nothing about it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def page_at(folder: Path) -> Iterator[Page]:
    """A page of a server that serves the folder."""
    (folder / "index.html").write_text("<!doctype html><title>Pictures</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with open_browser() as page:
                page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
                yield page
        finally:
            server.shutdown()
            thread.join()


def paint(page: Page, names: list[str]) -> dict[str, Pixels | None]:
    """What the page paints of files that lie beside it; None of one that it cannot show."""
    painted: dict[str, Pixels | None] = dict.fromkeys(names)
    for name, found in page.evaluate(PAINT, names).items():
        if found is not None:
            width, height, pixels = found
            painted[name] = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)[..., :3]
    return painted


def sample_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of the table as a file."""
    folder = tmp_path_factory.mktemp("originals")
    paths = {name: folder / sample_id(name) for name in KINDS}
    for name, path in paths.items():
        path.write_bytes(KINDS[name].data)
    return paths


def learned(path: Path) -> Pixels | None:
    """What the model gets of a file; None if it is set aside."""
    try:
        return np.asarray(open_rgb(path))
    except ImageError:
        return None


def difference(seen: Pixels | None, levels: npt.NDArray[Any], within: float) -> str:
    """Say how what is painted differs from what is expected; "" if it doesn't."""
    if seen is None:
        return "not shown"
    if seen.shape != levels.shape:
        return f"another size, {seen.shape} in place of {levels.shape}"
    most = np.abs(seen.astype(float) - levels).max()
    return f"{most:.1f} levels apart" if most > within else ""


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::DeprecationWarning")
def test_people_see_what_the_model_gets_and_the_writer_meant_whatever_the_file_is(tmp_path: Path) -> None:
    originals, shown = tmp_path / "originals", tmp_path / "shown"
    originals.mkdir()
    shown.mkdir()
    expected, files = dict[str, Pixels](), dict[str, str]()
    for name, kind in every_kind().items():
        (original := originals / sample_id(name)).write_bytes(kind.data)
        if (pixels := learned(original)) is not None:
            expected[name], files[name] = pixels, publish(original, sample_id(name), shown)
    assert len(expected) >= 500
    assert {name for name in every_kind() if name not in expected} == REFUSED
    with page_at(shown) as page:
        painted = paint(page, list(files.values()))
    wrong = {name: told for name in expected if (told := difference(painted[files[name]], expected[name], 1))}
    assert not wrong
    meant = {name: kind for name, kind in every_kind().items() if kind.levels is not None}
    assert len(meant) >= 350
    for name, kind in meant.items():
        if kind.levels is not None and (told := difference(painted[files[name]], kind.levels, kind.within)):
            wrong[name] = told
    assert not wrong


@pytest.mark.browser
def test_as_they_are_some_kinds_would_be_seen_otherwise(originals: dict[str, Path]) -> None:
    folder = originals["PNG RGB"].parent
    with page_at(folder) as page:
        painted = paint(page, [originals[name].name for name in ("PNG RGB", *SHOWN_OTHERWISE)])
    for name in SHOWN_OTHERWISE:
        seen, pixels = painted[originals[name].name], learned(originals[name])
        assert seen is not None
        assert pixels is not None
        assert seen.shape != pixels.shape or np.abs(seen.astype(int) - pixels).max() > 20, name


@pytest.mark.parametrize("name", KINDS)
def test_plain_files_are_linked_and_all_others_are_made_anew(
    originals: dict[str, Path], tmp_path: Path, name: str
) -> None:
    original = originals[name]
    if (pixels := learned(original)) is None:
        with pytest.raises(ImageError):
            publish(original, sample_id(name), tmp_path)
        return
    shown = tmp_path / publish(original, sample_id(name), tmp_path)
    assert shown.samefile(original) == KINDS[name].plain
    if not KINDS[name].plain:
        assert shown.suffix == ".png"
        content = shown.read_bytes()
        assert not any(chunk in content for chunk in (b"iCCP", b"gAMA", b"cHRM", b"eXIf", b"tEXt", b"iTXt", b"tRNS"))
        with Image.open(shown) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert np.array_equal(np.asarray(image), pixels)


def test_what_was_linked_by_an_earlier_rule_is_made_anew_under_the_name_that_tasks_know(
    originals: dict[str, Path], tmp_path: Path
) -> None:
    name = "WebP small first frame, turned"
    original, old = originals[name], tmp_path / f"{sample_id(name)}.webp"
    old.hardlink_to(original)
    assert publish(original, sample_id(name), tmp_path) == old.name == published(sample_id(name), tmp_path)
    assert original.read_bytes() == KINDS[name].data, "the original is written over"
    with Image.open(old) as image:
        assert np.array_equal(np.asarray(image), np.asarray(open_rgb(original)))
    before = old.stat()
    publish(original, sample_id(name), tmp_path)
    assert old.stat().st_ino == before.st_ino


def test_what_was_linked_by_an_earlier_rule_is_made_anew_without_its_original(tmp_path: Path) -> None:
    old = tmp_path / f"{sample_id('x')}.png"
    old.write_bytes(KINDS["PNG turned by XMP"].data)
    assert publish(tmp_path / "gone.png", sample_id("x"), tmp_path) == old.name
    with Image.open(old) as image:
        assert image.size == (43, 61)
        assert image.getpixel((40, 3)) == (255, 0, 0)
