"""A headless Chromium, for what people see."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

# As a person sets it under Account & Settings.
SET_KEYS = """async key => (await fetch('/api/current-user/hotkeys/', {
    method: 'PATCH',
    headers: {
        'Content-Type': 'application/json',
        'X-CSRFToken': document.cookie.match(/csrftoken=([^;]+)/)?.[1] ?? '',
    },
    body: JSON.stringify({custom_hotkeys: {'annotation:annotation:submit': {key, active: true}}}),
})).status"""


def chromium() -> str:
    """Return the path of Chromium; skip the test without one, unless AL_REQUIRE_BROWSER says that it must run."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("AL_REQUIRE_BROWSER"):
            pytest.fail("AL_REQUIRE_BROWSER is set and there is no Chromium: apt-get install chromium")
        pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium)")
    return path


@contextmanager
def open_browser(*, width: int = 1600, height: int = 1000, args: Sequence[str] = ()) -> Iterator[Page]:
    """Open one page in a new browser, which may be told more on its command line."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", *args],
        )
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(60_000)
            yield page
        finally:
            browser.close()


def press_until(page: Page, key: str, reached: Callable[[], bool], *, settled: float = 0) -> None:
    """Press a key until what it does is done, for a minute at most: pages forget keys while they set themselves up.

    Parameters
    ----------
    page : Page
    key : str
    reached : callable
        Says whether it is done.
    settled : float
        Milliseconds after which it still has to be done.
    """
    until = time.monotonic() + 60
    while True:
        page.keyboard.press(key)
        again = time.monotonic() + 3
        while not (done := reached()) and time.monotonic() < again:
            page.wait_for_timeout(50)
        if done and settled:
            page.wait_for_timeout(settled)
        if done and (not settled or reached()):
            return
        assert time.monotonic() < until, f"{key} did not do what it should"
