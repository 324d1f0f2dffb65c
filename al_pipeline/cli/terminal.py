"""The talking terminal: on a terminal a line that says what is the case now, below what has happened; elsewhere a line
per event.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from al_pipeline.cli.session import console
from al_pipeline.core.errors import ALError

if TYPE_CHECKING:
    from al_pipeline.cli.telling import News
    from al_pipeline.servers.dagster_api import DagsterApi
    from al_pipeline.servers.observer import Loop

Show = Callable[[str], None]
# Seconds between two words about a run that lasts, where nobody sees a line that changes.
TELL = 10.0
INDENT = 6


@contextmanager
def bottom_line() -> Iterator[Show | None]:
    """Yield what shows one line below all that is printed, redrawn when it changes; None where there is no terminal."""
    if not console.is_interactive:
        yield None
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=True) as live:
        shown = ""

        def show(line: str) -> None:
            nonlocal shown
            if line != shown:
                shown = line
                live.update(Text(line, style="cyan", no_wrap=True, overflow="ellipsis"), refresh=True)

        yield show


class Talk:
    """Tells what happens in a loop, each time that somebody looks.

    Parameters
    ----------
    loop : Loop
    address : str
        Of Dagster, where runs are looked at.
    """

    def __init__(self, loop: "Loop", address: str) -> None:
        from al_pipeline.servers.watcher import Scene, Watcher

        self._watcher, self._address = Watcher(loop), address
        self._before = Scene()

    @contextmanager
    def following(self) -> Iterator[Callable[[], None]]:
        """Yield what looks once and tells what is new; what is the case stays below it until the block ends."""
        with bottom_line() as show:
            yield lambda: self._look(show)

    def _look(self, show: Show | None) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        from al_pipeline.cli.telling import news, now_line

        try:
            scene = self._watcher.look()
        except (ALError, SQLAlchemyError):
            # A database that is busy for long: those who write to it tell, and the next look comes soon.
            return
        for each in news(self._before, scene, self._address):
            tell_news(each)
        self._before = scene
        if show is not None:
            show(now_line(scene, time.time()))


def tell_news(news: "News") -> None:
    """Print one event: on a terminal as wide as that is, elsewhere in one line."""
    style = "yellow" if news.alert else ""
    if not console.is_interactive:
        console.print(Text(news.line, style=style), soft_wrap=True)
        return
    first, *others = news.parts
    head = Text.assemble((f"{news.about} {news.what}: ", "bold"), first, style=style)
    # In one go: the line below is drawn anew after each.
    console.print(Group(head, *(Padding(Text(part, style=style), (0, 0, 0, INDENT)) for part in others)))


def wait_for(api: "DagsterApi", loop: "Loop", run_id: str, what: str) -> None:
    """Wait until a run has succeeded, however long it takes, and show what it is about.

    Raises
    ------
    DagsterError
        It has not succeeded.
    """
    from al_pipeline.servers.run_words import RunWords

    of, words, began, told = run_id, RunWords(loop.instance, run_id), time.monotonic(), (0.0, "")
    with bottom_line() as show:

        def look(run_id: str) -> None:
            nonlocal of, words, told
            if run_id != of:
                of, words = run_id, RunWords(loop.instance, run_id)
                console.print(Text(f"{what}: its process was lost, Dagster has launched it again"), soft_wrap=True)
            newest, seconds = words.newest() or "its process starts", time.monotonic() - began
            if show is not None:
                show(f"{what}, {seconds:.0f} s: {newest}")
            elif newest != told[1] and seconds >= told[0] + TELL:
                told = seconds, newest
                console.print(Text(f"{what} has run for {seconds:.0f} s: {newest}"), soft_wrap=True)

        api.wait(run_id, timeout=math.inf, look=look)
