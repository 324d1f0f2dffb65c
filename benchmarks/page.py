"""How soon the rounds' pages are there with a pool of 100,000 images: `python -m benchmarks.page [IMAGES]`.

A home in which 20 rounds of 100 have gone by is made without a network; the pages are served as `al up` serves them. Of
each address: its bytes, what a browser says of its first paint (first-contentful-paint) at the first visit of a fresh
server and then (median of three), the median of five answers, and the seconds until what is made in the background is
there. Bar: first paint ≤ 1 s, at the first visit too. Two minutes.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
from playwright.sync_api import BrowserContext

from al_pipeline.web.page.app import pages
from al_pipeline.web.serve import serving
from al_pipeline_tests.browser import open_browser
from al_pipeline_tests.web.lived_in import lived_in
from benchmarks.table import print_table

ROUNDS, BATCH, BLIND, ANSWERS, PAINTS = 20, 100, 200, 5, 3
MAPS = tuple(f"/rounds/r0019/map?by={by}" for by in ("label", "chosen"))
ADDRESSES = ("/", "/rounds/r0019", "/rounds/r0010", "/labels", *MAPS, "/people")
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# What a page says while something is made for it.
PENDING = 'class="message pending"'
PATIENCE = 60.0


def main() -> None:
    """Make the home, look at every page."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        home = lived_in(Path(folder) / "home", rounds=ROUNDS, pool=images, batch=BATCH, blind=BLIND, painted=2100)
        print(f"made in {time.perf_counter() - began:.0f} s", flush=True)
        rows = []
        with (
            serving(pages(home.deployment, "token"), "127.0.0.1", 0) as port,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, follow_redirects=True) as client,
            open_browser(width=1280) as page,
        ):
            client.cookies.update(client.get("/health", params={"token": "token"}).cookies)
            assert page.context.browser is not None
            context = page.context.browser.new_context(viewport=page.viewport_size)
            with context.new_page() as tab:
                tab.goto(f"http://127.0.0.1:{port}/health?token=token")
            for address in ADDRESSES:
                rows.append(_row(client, context, f"http://127.0.0.1:{port}", address))
                print(rows[-1], flush=True)
    header = ["address", "KB", "first paint, first visit, s", "then", "answer, s", "all is there after, s", "bar 1 s"]
    print_table(f"Pages of a pool of {images:,} images", header, rows)


def _row(client: httpx.Client, context: BrowserContext, site: str, address: str) -> tuple[str, ...]:
    began = time.perf_counter()
    first = _paint(context, site + address)
    while PENDING in client.get(address).raise_for_status().text:
        if time.perf_counter() > began + PATIENCE:
            raise RuntimeError(f"{address} is not made within {PATIENCE:.0f} s")
        time.sleep(0.1)
    whole = time.perf_counter() - began
    seconds, text = [], b""
    for _ in range(ANSWERS):
        asked = time.perf_counter()
        text = client.get(address).raise_for_status().content
        seconds.append(time.perf_counter() - asked)
    then = statistics.median(_paint(context, site + address) for _ in range(PAINTS))
    figures = (f"{len(text) / 1000:.0f}", *(f"{each:.2f}" for each in (first, then, statistics.median(seconds), whole)))
    return (address, *figures, "met" if max(first, then) <= 1 else "missed")


def _paint(context: BrowserContext, address: str) -> float:
    """Return the seconds from the click to the first paint, and stay until the pictures in sight are there."""
    # A page that loads itself anew would do so while the next one is loaded: it is closed.
    with context.new_page() as tab:
        tab.goto(address, wait_until="commit")
        until = time.perf_counter() + PATIENCE
        # The pages forbid what evaluates text, and with it waiting for an expression.
        while not (paint := tab.evaluate(PAINT)):
            if time.perf_counter() > until:
                raise RuntimeError(f"{address} paints nothing within {PATIENCE:.0f} s")
            time.sleep(0.02)
        tab.wait_for_load_state("load")
        return paint / 1000


if __name__ == "__main__":
    main()
