"""Take the README's screenshots from a running demo: `python docs/take_screenshots.py .al/demo`."""

import json
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from al_pipeline.labelstudio.server import Credentials, read_credentials

IMAGES = Path(__file__).parent / "images"


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
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(60_000)
        dagster(page, servers["dagster_url"])
        label_studio(page, servers["label_studio_url"], credentials)
        browser.close()
    shutil.copyfile(home / "learning_curve.png", IMAGES / "learning-curve.png")


def dagster(page: Page, url: str) -> None:
    """The asset graph, and a round's materialization with its pictures."""
    page.goto(f"{url}/asset-groups/", wait_until="networkidle")
    page.get_by_text("labeling_tasks", exact=True).first.wait_for()
    page.wait_for_timeout(3000)
    page.screenshot(path=IMAGES / "dagster-assets.png")
    page.goto(f"{url}/assets/query_batch?partition=r0003", wait_until="networkidle")
    page.wait_for_timeout(2000)
    page.screenshot(path=IMAGES / "dagster-query-batch.png")


def label_studio(page: Page, url: str, credentials: Credentials) -> None:
    """A task as the annotator sees it."""
    page.goto(f"{url}/user/login/")
    page.fill("input[name=email]", credentials.username)
    page.fill("input[name=password]", credentials.password)
    page.click("button[type=submit]")
    page.wait_for_url("**/projects**")
    page.goto(f"{url}/projects/1/data?labeling=1", wait_until="networkidle")
    page.wait_for_function(
        "[...document.querySelectorAll('img')].some(i => i.src.includes('local-files') && i.naturalWidth > 0)"
    )
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "label-studio-task.png")


if __name__ == "__main__":
    main()
