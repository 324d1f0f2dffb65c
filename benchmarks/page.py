"""How soon the rounds' pages are there with a pool of 100,000 images: `python -m benchmarks.page [IMAGES]`.

A home in which 20 rounds of 100 have gone by is made without a network; the pages are served as `al up` serves them. Of
each address: the seconds until its first answer in a fresh server, the median of five more, and what a browser says of
its first paint (first-contentful-paint). Bar: first paint ≤ 1 s.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from al_pipeline.web.page.app import pages
from al_pipeline.web.serve import serving
from al_pipeline_tests.browser import open_browser
from al_pipeline_tests.web.lived_in import lived_in
from benchmarks.table import print_table

ROUNDS, BATCH, BLIND, REPEATS = 20, 100, 200, 5
ADDRESSES = ("/", "/rounds/r0019", "/rounds/r0010", "/labels", "/rounds/r0019/map?by=label", "/people")
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def main() -> None:
    """Make the home, look at every page."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        home = lived_in(Path(folder) / "home", rounds=ROUNDS, pool=images, batch=BATCH, blind=BLIND, painted=2100)
        rows = []
        with (
            serving(pages(home.deployment, "token"), "127.0.0.1", 0) as port,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, follow_redirects=True) as client,
            open_browser(width=1280) as page,
        ):
            client.get("/style.css")
            client.cookies.update(client.get("/health", params={"token": "token"}).cookies)
            page.goto(f"http://127.0.0.1:{port}/health?token=token")
            for address in ADDRESSES:
                seconds = [_seconds(client, address) for _ in range(1 + REPEATS)]
                page.goto(f"http://127.0.0.1:{port}{address}")
                # The pages forbid what evaluates text, and with it waiting for an expression.
                while not (paint := page.evaluate(PAINT)):
                    time.sleep(0.02)
                paint /= 1000
                row = (address, f"{seconds[0]:.2f}", f"{statistics.median(seconds[1:]):.2f}", f"{paint:.2f}")
                rows.append((*row, "met" if paint <= 1 else "missed"))
    header = ["address", "first answer, s", "median of five more", "first paint, s", "bar 1 s"]
    print_table(f"Pages of a pool of {images:,} images", header, rows)


def _seconds(client: httpx.Client, address: str) -> float:
    began = time.perf_counter()
    client.get(address).raise_for_status()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
