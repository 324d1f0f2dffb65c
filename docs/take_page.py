"""Write docs/images/round-page.png: the page of a round, of a home in which rounds have gone by, made for it."""

import tempfile
from pathlib import Path

from al_pipeline.web.page.app import pages
from al_pipeline.web.serve import serving
from al_pipeline_tests.browser import open_browser
from al_pipeline_tests.web.lived_in import lived_in

TARGET = Path(__file__).parent / "images" / "round-page.png"


def main() -> None:
    """Serve the pages, come by the link, look at the second round."""
    with tempfile.TemporaryDirectory() as folder:
        home = lived_in(Path(folder) / "home", pool=90, batch=12, blind=24)
        with serving(pages(home.deployment, "token"), "127.0.0.1", 0) as port, open_browser(width=1280) as page:
            page.goto(f"http://127.0.0.1:{port}/rounds/r0001?token=token")
            page.wait_for_load_state("networkidle")
            page.screenshot(path=TARGET)


if __name__ == "__main__":
    main()
