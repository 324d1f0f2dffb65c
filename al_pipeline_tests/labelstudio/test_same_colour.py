"""What Chromium paints of a file with colours of its own, on a screen of sRGB, is what the network gets of it."""

import base64
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from al_pipeline.core.data.images import open_rgb
from al_pipeline_tests.browser import open_browser
from al_pipeline_tests.core.data.colour_kinds import FILES, SIDE

COLUMNS = 20


@pytest.fixture(scope="module")
def painted() -> dict[str, npt.NDArray[np.int_]]:
    """Show all files at once, pixel by pixel, and take a picture of the screen."""
    kinds = {b"\x89P": "png", b"\xff\xd8": "jpeg", b"RI": "webp"}
    pages = "".join(
        f'<img style="position:absolute;left:{i % COLUMNS * SIDE}px;top:{i // COLUMNS * SIDE}px" '
        f'src="data:image/{kinds[data[:2]]};base64,{base64.b64encode(data).decode()}">'
        for i, data in enumerate(FILES.values())
    )
    with open_browser(width=COLUMNS * SIDE, height=400, args=["--force-color-profile=srgb"]) as page:
        page.set_content(f'<body style="margin:0;background:white">{pages}')
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
        seen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    places = {name: divmod(i, COLUMNS) for i, name in enumerate(FILES)}
    return {
        name: seen[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        for name, (row, column) in places.items()
    }


@pytest.mark.parametrize("name", FILES)
def test_chromium_paints_what_the_network_gets(
    tmp_path: Path, painted: dict[str, npt.NDArray[np.int_]], name: str
) -> None:
    (tmp_path / "x").write_bytes(FILES[name])
    off = np.abs(np.asarray(open_rgb(tmp_path / "x")).astype(int) - painted[name])
    assert off.max() <= 2, f"{off.max()} levels off, {off.mean():.2f} on average"
    assert off.mean() <= 0.5
