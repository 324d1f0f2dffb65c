"""What a person's browser paints is what the model gets, for every kind of file; plain files are linked."""

import base64
import functools
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Page

from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.errors import ImageError
from al_pipeline.labelstudio.images import publish, published
from al_pipeline_tests.browser import open_browser
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
    return [name, [canvas.width, canvas.height, btoa(String.fromCharCode(...pixels))]]
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


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing about it."""

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


@pytest.mark.browser
def test_people_see_what_the_model_gets_whatever_the_file_is(originals: dict[str, Path], tmp_path: Path) -> None:
    expected = {name: pixels for name, path in originals.items() if (pixels := learned(path)) is not None}
    assert len(expected) > 0.9 * len(KINDS)
    files = {name: publish(originals[name], sample_id(name), tmp_path) for name in expected}
    with page_at(tmp_path) as page:
        painted = paint(page, list(files.values()))
    wrong = {}
    for name, pixels in expected.items():
        seen = painted[files[name]]
        if seen is None or seen.shape != pixels.shape:
            wrong[name] = "another size" if seen is not None else "not shown"
        elif (most := int(np.abs(seen.astype(int) - pixels).max())) > 1:
            wrong[name] = f"{most} levels apart"
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
