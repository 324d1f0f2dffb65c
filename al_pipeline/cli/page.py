"""`al page`, and the same pages beside what `al up` and `al demo` run."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, configure, say
from al_pipeline.cli.web import Host, begin
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

USUAL_PORT = 8090
LOOPBACK = "127.0.0.1"


def page(
    host: Host = LOOPBACK,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port; that of the last time by default, 0: any.")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Only show the link that opens the pages.")] = False,
    home: Home = None,
) -> None:
    """Show the rounds in the browser: what was asked and why, what came of it, which labels look wrong."""
    settings = configure(home)
    from al_pipeline.loop.local import page_address
    from al_pipeline.servers.ports import kept_port
    from al_pipeline.servers.processes import port_in_use

    if link:
        address = page_address(settings)
        if address is None:
            raise InputError(f"No page was ever served from {settings.home}: run `al up`, or `al page`")
        print(_link(settings, address))
        if settings.page_url is None and not port_in_use(kept_port(address) or USUAL_PORT):
            # What is printed is the link alone, for whoever hands it on.
            typer.echo("Nobody serves it now: `al up` does, or `al page`", err=True)
        return
    begin(host, 0)
    with serving_pages(settings, host=host, port=port):
        threading.Event().wait()


@contextmanager
def serving_pages(settings: "Settings", *, host: str = LOOPBACK, port: int | None = None) -> Iterator[None]:
    """Serve the pages of a home while the block runs, and say where; without a port that of the last time, or any."""
    from al_pipeline.loop.deployment import Deployment
    from al_pipeline.loop.local import keep_page_address, page_token
    from al_pipeline.web.page.app import pages
    from al_pipeline.web.serve import serving

    app = pages(Deployment(settings), page_token(settings))
    with serving(app, host, _port(settings) if port is None else port) as bound:
        address = settings.page_url or f"http://{LOOPBACK}:{bound}"
        keep_page_address(settings, address)
        if sys.stdout.isatty():
            say(f"Rounds          {escape(_link(settings, address))}")
        else:
            # Whoever reads a log need not see what only the owner is to.
            say(f"Rounds          {escape(address)}  (its link: al page --link --home {escape(str(settings.home))})")
        yield


def _link(settings: "Settings", address: str) -> str:
    from al_pipeline.loop.local import page_token
    from al_pipeline.web.page.door import TOKEN

    return f"{address.rstrip('/')}/?{TOKEN}={page_token(settings)}"


def _port(settings: "Settings") -> int:
    from al_pipeline.loop.local import last_page_address
    from al_pipeline.servers.ports import kept_port
    from al_pipeline.servers.processes import port_in_use

    port = kept_port(last_page_address(settings)) or USUAL_PORT
    return 0 if port_in_use(port) else port
