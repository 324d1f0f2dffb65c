"""What `al up` and `al demo` do once the loop runs: open the door, say what is asked, and stay until Ctrl-C."""

import os
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from rich.markup import escape

from al_pipeline.cli.session import console, say, stay
from al_pipeline.cli.terminal import Talk
from al_pipeline.core.errors import ALError
from al_pipeline.servers.processes import HOST

if TYPE_CHECKING:
    from al_pipeline.servers.observer import Loop
    from al_pipeline.servers.stack import Stack
    from al_pipeline.settings import Settings


@contextmanager
def ready_loop(stack: "Stack", settings: "Settings") -> "Iterator[Loop]":
    """Import Dagster while the servers start, wait for them, and open their loop."""
    from al_pipeline.servers.observer import open_loop

    stack.wait_ready()
    with open_loop(settings) as loop:
        yield loop


def closing_words(stack: "Stack", loop: "Loop", *, ends: bool = False) -> None:
    """Say where everything is; not of servers that end now."""
    home = loop.settings.home
    if (curve := home / "learning_curve.png").exists():
        say(f"Learning curve  {curve}")
    if ends:
        say(f"Go on with      al up --home {home}")
        return
    say(f"Dagster         {stack.dagster_url}")
    say(f"Label Studio    {loop.settings.label_studio_public_url or stack.label_studio_url}")
    if stack.label_studio:
        say(f"Login           {stack.label_studio.username}  password: {stack.label_studio.password}")
    say(f"Ask again with  al status --home {home}")


def stay_up(stack: "Stack", loop: "Loop", *, show: bool, talk: Talk | None = None) -> None:
    """Keep the servers and the door to the first task open until Ctrl-C; tell what happens, and if a server ends.

    Parameters
    ----------
    stack : Stack
    loop : Loop
    show : bool
        Open the door in a browser.
    talk : Talk, optional
        What has told already what has happened.
    """
    closing_words(stack, loop)
    with opened_door(stack, loop) as address, suppress(KeyboardInterrupt):
        if address:
            once = " (logs you in, once; after that the login above)" if stack.label_studio else ""
            say(f"[bold]Label here      {escape(address)}[/bold]{once}")
        if show and address:
            webbrowser.open(address)
        console.print("[bold]Running. Ctrl-C ends everything.[/bold]")
        with (talk or Talk(loop, stack.dagster_url)).following() as look:

            def both() -> None:
                stack.check_alive()
                look()

            stay(both)


@contextmanager
def told_of_answers(stack: "Stack", settings: "Settings") -> Iterator[None]:
    """Open the next round as soon as it is due while the block runs: Label Studio tells when people answer.

    One that does not run on this machine cannot reach us without being told where: `al webhook` is for that. Where it
    refuses, the sensor looks every few seconds as ever.
    """
    from urllib.parse import urlsplit

    from al_pipeline.web.listening import listening
    from al_pipeline.web.serve import is_loopback

    with ExitStack() as told:
        if settings.webhook_url is None and is_loopback(urlsplit(stack.label_studio_url).hostname or ""):
            try:
                told.enter_context(listening(settings, stack.api, HOST, 0))
            except ALError as error:
                every = f"the sensor looks every {settings.sensor_interval} s instead"
                told_why = escape(str(error))
                say(f"[yellow]Note:[/yellow] Label Studio does not tell when people answer, {every}: {told_why}")
        yield


@contextmanager
def opened_door(stack: "Stack", loop: "Loop") -> Iterator[str | None]:
    """Say what is asked, and yield the address of the first task: with the login, where we run Label Studio for it.

    None if Label Studio cannot be asked now.
    """
    target, studio = told_what_is_asked(loop), stack.label_studio
    if target is None or studio is None or loop.settings.label_studio_public_url:
        yield target
        return
    from al_pipeline.web.door import door
    from al_pipeline.web.serve import serving

    application, path = door(studio.url, studio.credentials, target)
    with serving(application, HOST, 0) as port:
        yield f"http://{HOST}:{port}{path}"


def told_what_is_asked(loop: "Loop") -> str | None:
    """Say what people are asked, and return the address of the first task; None if Label Studio cannot be asked now."""
    from al_pipeline.loop.waiting import left_now

    try:
        facts = loop.facts()
        left = left_now(loop.deployment.ledger, facts.status, loop.settings.policy)
        say(f"Asked           {escape(left or loop.decision(facts).reason)}")
        return f"{loop.deployment.project_url(loop.deployment.project_id())}?labeling=1"
    except ALError as error:
        say(f"[yellow]Note:[/yellow] {escape(str(error))}")
        return None


def is_desktop() -> bool:
    """Say whether a browser that we open is seen by whoever reads what we print."""
    screen = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return screen and sys.stdout.isatty() and "SSH_CONNECTION" not in os.environ
