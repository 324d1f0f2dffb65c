"""The rounds' pages as a person goes through them."""

from pathlib import Path

import pytest

from al_pipeline.loop.refined import Network
from al_pipeline.loop.requests import Requests
from al_pipeline.web.page.app import pages
from al_pipeline.web.serve import serving
from al_pipeline_tests.browser import open_browser
from al_pipeline_tests.web.lived_in import CLASSES, lived_in

LONG = "a_name_without_a_blank_" * 4
LOADED = "[...document.images].filter(i => i.loading != 'lazy' || i.complete).every(i => i.naturalWidth > 0)"
CHOSEN = "rgb(194, 74, 0)"
FITS = "document.documentElement.scrollWidth <= innerWidth"


def test_a_person_comes_by_the_link_looks_around_and_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No line can break in them: they must not make a page wider than a telephone.
    monkeypatch.setattr("al_pipeline_tests.web.lived_in.CLASSES", [f"{name}_{LONG}" for name in CLASSES])
    home = lived_in(tmp_path / "home", pool=40, batch=6, blind=8)
    home.artifacts.checkpoints.mkdir()
    (home.artifacts.checkpoints / "r0002.safetensors").touch()
    home.artifacts.refined.mkdir()
    Network("r0002", home.artifacts.refined / "r0002.safetensors", "0123456789abcdef", False, LONG).write({})
    with serving(pages(home.deployment, "token"), "127.0.0.1", 0) as port, open_browser(width=1280) as page:
        complaints = list[str]()
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"http://127.0.0.1:{port}/?token=token")
        assert page.url == f"http://127.0.0.1:{port}/"
        page.get_by_text(f"The checkpoint of r0002 serves: {LONG}.").wait_for()
        page.get_by_role("link", name="r0001").click()
        page.wait_for_load_state("networkidle")
        assert page.evaluate(LOADED)
        tile = page.locator(f"[id='{home.asked(1)[1]}']")
        box = tile.locator("img").first.bounding_box()
        assert box is not None
        assert box["width"] >= 160
        tile.get_by_role("button", name="Ask again").click()
        tile.get_by_text("asked again in the next batch").wait_for()
        assert Requests(home.deployment).open() == [home.asked(1)[1]]
        page.get_by_role("link", name="Map", exact=True).click()
        page.get_by_role("link", name="chosen in this round").click()
        # Links have a colour of their own, which is none of the map's.
        dot = page.locator("g.chosen circle").first
        dot.wait_for(state="attached")
        assert dot.evaluate("e => getComputedStyle(e).fill") == CHOSEN
        page.set_viewport_size({"width": 390, "height": 844})
        for name in ("Overview", "Newest", "Labels", "Map", "People"):
            page.get_by_role("link", name=name, exact=True).click()
            page.get_by_role("heading", level=1).wait_for()
            page.wait_for_function(FITS)
        assert complaints == []
