"""Take the README's screenshots from a running demo: `python docs/take_screenshots.py .al/demo`.

The one of a comparison is taken if its cells are there: Materialize on `simulation`, then on `strategy_comparison`.
"""

import json
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

from al_pipeline.loop.local import Credentials, read_credentials

IMAGES = Path(__file__).parent / "images"
# Pixels.
USUAL: ViewportSize = {"width": 1600, "height": 1060}
# Dagster fits the graph to the width of the window and centers it: what does not fit its height is cut off.
GRAPH: ViewportSize = {"width": 1600, "height": 1300}


def main() -> None:
    """Open both UIs as a person would."""
    home = Path(sys.argv[1] if len(sys.argv) > 1 else ".al/demo")
    servers = json.loads((home / "servers.json").read_text())
    credentials = read_credentials(home / "labelstudio")
    if credentials is None:
        sys.exit(f"{home} has no Label Studio: run `al demo --home {home} --keep` first")
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
        )
        page = browser.new_page(viewport=USUAL)
        page.set_default_timeout(60_000)
        dagster(page, servers["dagster_url"])
        comparison(page, servers["dagster_url"])
        label_studio(page, servers["label_studio_url"], credentials)
        browser.close()
    shutil.copyfile(home / "learning_curve.png", IMAGES / "learning-curve.png")


def dagster(page: Page, url: str) -> None:
    """The asset graph, and a round's materialization with its pictures."""
    groups = ",".join(f"global@global:{group}" for group in ("data", "labeling", "model", "query", "simulation"))
    page.set_viewport_size(GRAPH)
    page.goto(f"{url}/asset-groups?expanded={groups}")
    page.get_by_text("labeling_tasks").first.wait_for(state="attached")
    page.wait_for_timeout(5000)
    page.screenshot(path=IMAGES / "dagster-assets.png")
    page.set_viewport_size(USUAL)
    page.goto(f"{url}/assets/query_batch?partition=r0003&view=partitions")
    page.get_by_text("Show Markdown").first.click()
    page.wait_for_timeout(3000)
    page.screenshot(path=IMAGES / "dagster-query-batch.png")


def comparison(page: Page, url: str) -> None:
    """The learning curves in the metadata of `strategy_comparison`, if there are any."""
    page.goto(f"{url}/assets/strategy_comparison?view=events")
    page.wait_for_timeout(5000)
    plots = page.get_by_text("Show Markdown")
    if not plots.count():
        return
    plots.first.click()
    page.wait_for_timeout(3000)
    page.screenshot(path=IMAGES / "strategy-comparison.png")


def label_studio(page: Page, url: str, credentials: Credentials) -> None:
    """A task as the annotator sees it."""
    page.goto(f"{url}/user/login/")
    page.fill("input[name=email]", credentials.username)
    page.fill("input[name=password]", credentials.password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "/user/login" not in address)
    page.goto(f"{url}/projects/1/data?labeling=1")
    page.wait_for_function("[...document.images].some(i => i.complete && i.naturalWidth > 0 && i.clientWidth > 100)")
    # The instructions open with the page.
    page.keyboard.press("Escape")
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "label-studio-task.png")


if __name__ == "__main__":
    main()
