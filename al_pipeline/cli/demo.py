"""`al demo`: the whole loop on built-in images, with a simulated annotator in the place of people."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from al_pipeline.cli.opening import start_loop
from al_pipeline.cli.page import serving_pages
from al_pipeline.cli.session import (
    DagsterPort,
    Home,
    Images,
    StudioPort,
    check_images,
    console,
    end_on_signals,
    note_given,
    tell,
)
from al_pipeline.cli.staying import closing_words, ready_loop, stay_up, told_of_answers
from al_pipeline.cli.terminal import Talk
from al_pipeline.cli.weights import ready_weights
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from al_pipeline.labelstudio.annotator import SimulatedAnnotator
    from al_pipeline.servers.observer import Loop
    from al_pipeline.servers.stack import Stack
    from al_pipeline.settings import Settings

# In the demo's home.
DIGITS = "digits"
# An untrained ResNet-18 learns the ten digits from a few dozen labels within seconds per round.
DIGITS_DEFAULTS: dict[str, dict[str, Any]] = {
    "round": {"batch_size": 40, "sample_size": None},
    "training": {"weights": "none", "image_size": 32, "epochs": 15, "learning_rate": 3e-4},
}
# A round on two busy cores takes well under a minute; this only ends a demo that hangs.
ROUND_TIMEOUT = 900.0


def demo(
    images: Images = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to run; the last one's batch is left to you.")] = 4,
    keep: Annotated[
        bool | None, typer.Option("--keep/--no-keep", help="Leave the servers running; the default on a terminal.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the last demo and start anew.")] = False,
    home: Home = None,
    dagster_port: DagsterPort = None,
    label_studio_port: StudioPort = None,
) -> None:
    """Run the whole loop here: real Label Studio, real Dagster, a simulated annotator."""
    end_on_signals()
    began = time.monotonic()
    settings = prepare((home or Path(".al/demo")).resolve(), images, fresh=fresh)
    from al_pipeline.servers.stack import Stack

    stack = Stack(settings, dagster_port=dagster_port, label_studio_port=label_studio_port, say=tell)
    settings.keep()
    with stack:
        # While the servers start.
        if images is None:
            from al_pipeline.core.data.datasets import write_digits

            console.print("Writing the built-in images: 1,797 handwritten digits …")
            write_digits(settings.home / DIGITS)
        ready_weights(settings)
        with serving_pages(settings), ready_loop(stack, settings) as loop:
            start_loop(stack.api, loop)
            with told_of_answers(stack, settings):
                talk = _turn(stack, loop, rounds)
                console.print(f"The demo took {time.monotonic() - began:.0f} s.")
                if sys.stdout.isatty() if keep is None else keep:
                    stay_up(stack, loop, show=False, talk=talk)
                else:
                    closing_words(stack, loop, ends=True)


def _turn(stack: "Stack", loop: "Loop", rounds: int) -> Talk:
    """Turn the loop so often and show what came of it; return what has told of it."""
    from al_pipeline.cli.tables import print_rounds
    from al_pipeline.labelstudio.annotator import SimulatedAnnotator
    from al_pipeline.servers.observer import truth

    client, project_id = loop.deployment.label_studio, loop.deployment.project_id()
    classes = loop.classes()
    annotator = SimulatedAnnotator(client, project_id, truth(loop.image_pool(), classes), classes.names)
    talk = Talk(loop, stack.dagster_url)
    with talk.following() as look:
        play(stack, loop, annotator, rounds, look)
    print_rounds(console, loop.rounds())
    return talk


def prepare(home: Path, images: str | None, *, fresh: bool) -> "Settings":
    """Return the settings of the demo, which lives in a home of its own and never touches configured servers.

    Raises
    ------
    InputError
        `fresh` while the servers of the last demo run, or on a folder that is no demo; or images without class folders.
    """
    from al_pipeline.core.files import private_folder
    from al_pipeline.loop.local import Servers

    if images is not None:
        check_images(_settings(home, images), named=True)
    marker = home / "demo"
    if fresh and home.exists():
        last = Servers.last(_settings(home, images))
        if last is not None and last.running:
            raise InputError(f"The last demo still runs (process {last.pid}): stop it with Ctrl-C before --fresh")
        if not marker.exists():
            raise InputError(f"{home} was not made by `al demo`, so --fresh does not delete it")
        shutil.rmtree(home)
    private_folder(home)
    marker.touch()
    return _settings(home, images)


def _settings(home: Path, images: str | None) -> "Settings":
    from al_pipeline.settings import load_settings
    from al_pipeline.settings.origins import flat, kept_file, read_toml, variable_of

    # A configured Label Studio or ledger belongs to real work. The demo brings its own.
    own: dict[str, Any] = {f"label_studio_{name}": None for name in ("url", "public_url", "token", "images")}
    own |= dict.fromkeys(("artifacts", "embeddings", "published"))
    own |= {"home": home, "database_url": f"sqlite:///{home / 'ledger.sqlite3'}", "policy": {"max_rounds": None}}
    # Each round is shown with what the last one has brought; nobody is there to wait.
    own["policy"]["prefetch"] = False
    if images is not None:
        note_given(["images"])
        return load_settings(**own, images=images)
    # The variables that somebody sets for the demo, and those it was begun with, count more than what suits digits.
    known = dict(flat(read_toml(kept_file(home))))
    for group, values in DIGITS_DEFAULTS.items():
        names = [name for name in values if variable_of((group, name)) not in os.environ and (group, name) not in known]
        own[group] = {name: values[name] for name in names}
    return load_settings(**own, images=home / DIGITS, classes=[str(digit) for digit in range(10)])


def play(stack: "Stack", loop: "Loop", annotator: "SimulatedAnnotator", rounds: int, look: Callable[[], None]) -> None:
    """Answer the tasks of every round but the last one, until `rounds` rounds have gone by; `look` tells what happens.

    The annotator only talks to Label Studio; that a new round opens is the sensor's doing.
    """
    from al_pipeline.core.rounds import Stalled, round_number
    from al_pipeline.labelstudio.connection import LabelStudioUnavailableError
    from al_pipeline.servers.processes import ServiceError

    last = rounds - 1
    opened = time.monotonic()
    said: int | None = None
    while True:
        stack.check_alive()
        look()
        facts, key = loop.facts(), loop.deployment.ledger.newest_pushed()
        newest = -1 if key is None else round_number(key)
        if last <= newest == facts.status.round_number and facts.status.run_state == "succeeded":
            return
        # A batch is there before its run has ended, which draws pictures then.
        if key is not None and newest < last:
            if said != newest:
                said, opened = newest, time.monotonic()
                console.print(f"{key}: the batch is in Label Studio; the simulated annotator answers …")
            try:
                answered = annotator.answer_open_tasks(round_key=key)
            except LabelStudioUnavailableError as error:
                console.print(f"[yellow]{escape(str(error))}[/yellow]")
            else:
                if answered.labeled + answered.skipped:
                    console.print(f"{key}: {answered.labeled} labels given; waiting for the sensor …")
        decision = loop.decision(facts)
        if isinstance(decision, Stalled):
            raise ServiceError(f"The loop is stalled. {decision.reason}. `al up --home {loop.settings.home}` shows why")
        if time.monotonic() - opened > ROUND_TIMEOUT:
            raise ServiceError(
                f"No new round within {ROUND_TIMEOUT:.0f} s: {decision.reason}. {stack.logs} has what the servers said"
            )
        time.sleep(1)
