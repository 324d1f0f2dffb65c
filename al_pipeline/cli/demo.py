"""`al demo`: the whole loop on built-in images, with a simulated annotator in the place of people."""

import os
import shutil
import time
from pathlib import Path

from rich.console import Console

from al_pipeline.cli.tables import print_rounds
from al_pipeline.core.errors import InputError
from al_pipeline.core.files import private_folder
from al_pipeline.core.rounds import Stalled, round_key
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.connection import LabelStudioUnavailableError
from al_pipeline.servers.local import Servers
from al_pipeline.servers.observer import Loop, open_loop, truth
from al_pipeline.servers.processes import ServiceError
from al_pipeline.servers.stack import Stack
from al_pipeline.settings import Settings, load_settings

# An untrained ResNet-18 learns the ten digits from a few dozen labels within seconds per round.
DIGITS_DEFAULTS = {
    "AL_ROUND__BATCH_SIZE": "40",
    "AL_ROUND__SAMPLE_SIZE": "all",
    "AL_TRAINING__IMAGE_SIZE": "32",
    "AL_TRAINING__EPOCHS": "15",
    "AL_TRAINING__LEARNING_RATE": "3e-4",
}
# A round on two busy cores takes well under a minute; this only ends a demo that hangs.
ROUND_TIMEOUT = 900.0


def prepare(home: Path, images: Path | None, *, fresh: bool, console: Console) -> Settings:
    """Return the settings of the demo, which lives in a home of its own and never touches configured servers.

    Raises
    ------
    InputError
        `fresh` while the servers of the last demo run, or on a folder that is no demo.
    """
    marker = home / "demo"
    if fresh and home.exists():
        last = Servers.last(load_settings(home=home))
        if last is not None and last.running:
            raise InputError(f"The last demo still runs (process {last.pid}): stop it with Ctrl-C before --fresh")
        if not marker.exists():
            raise InputError(f"{home} was not made by `al demo`, so --fresh does not delete it")
        shutil.rmtree(home)
    private_folder(home)
    marker.touch()
    if images is None:
        from al_pipeline.core.data.datasets import write_digits

        console.print("Writing the built-in images: 1,797 handwritten digits …")
        images = write_digits(home / "digits")
        for name, value in DIGITS_DEFAULTS.items():
            os.environ.setdefault(name, value)
        os.environ["AL_CLASSES"] = ",".join(str(digit) for digit in range(10))
    # A configured Label Studio or ledger belongs to real work. The demo brings its own.
    for name in (
        "AL_LABEL_STUDIO_URL",
        "AL_LABEL_STUDIO_PUBLIC_URL",
        "AL_LABEL_STUDIO_TOKEN",
        "AL_LABEL_STUDIO_IMAGES",
    ):
        os.environ[name] = ""
    os.environ["AL_HOME"] = str(home.resolve())
    os.environ["AL_IMAGES"] = str(images.resolve())
    os.environ["AL_DATABASE_URL"] = f"sqlite:///{home.resolve() / 'ledger.sqlite3'}"
    os.environ["AL_POLICY__MAX_ROUNDS"] = "none"
    return load_settings()


def run_demo(
    console: Console,
    *,
    images: Path | None,
    rounds: int,
    keep: bool,
    fresh: bool,
    home: Path | None,
    dagster_port: int | None,
    label_studio_port: int | None,
) -> None:
    """Run the demo from the first to the last word; the servers stop when it ends."""
    from al_pipeline.cli.app import stay_up

    began = time.monotonic()
    home = home or Path(".al/demo")
    settings = prepare(home, images, fresh=fresh, console=console)
    stack = Stack(
        settings,
        dict(os.environ),
        dagster_port=dagster_port,
        label_studio_port=label_studio_port,
        say=lambda line: console.print(line, soft_wrap=True),
    )
    with stack, open_loop(settings) as loop:
        start_loop(stack, loop, console)
        manifest = loop.image_pool()
        annotator = SimulatedAnnotator(
            loop.deployment.label_studio,
            loop.deployment.project_id(),
            truth(manifest),
            loop.class_names(),
        )
        play(stack, loop, annotator, rounds, console)
        print_rounds(console, loop.rounds())
        closing_words(stack, loop, console)
        console.print(f"The demo took {time.monotonic() - began:.0f} s.")
        if keep:
            stay_up(stack)


def start_loop(stack: Stack, loop: Loop, console: Console) -> None:
    """Launch `setup` and round 0 through Dagster where they have not succeeded yet."""
    if not loop.is_set_up():
        console.print("Launching the job [bold]setup[/bold]: scan the images, create the Label Studio project …")
        stack.api.wait(stack.api.launch("setup"))
    if loop.newest() is None:
        console.print("Launching [bold]round r0000[/bold]: it chooses the first batch by what the images look like …")
        stack.api.add_partition("rounds", round_key(0))
        stack.api.wait(stack.api.launch("round", partition=round_key(0)))


def play(stack: Stack, loop: Loop, annotator: SimulatedAnnotator, rounds: int, console: Console) -> None:
    """Answer the tasks of every round but the last one, until `rounds` rounds have gone by.

    The annotator only talks to Label Studio; that a new round opens is the sensor's doing.
    """
    last = rounds - 1
    opened = time.monotonic()
    said: tuple[int, str] | None = None
    while True:
        stack.check_alive()
        facts = loop.facts()
        newest = facts.status.round_number
        if newest is not None and facts.status.run_state == "succeeded":
            if newest >= last:
                return
            key = round_key(newest)
            if said != (newest, "answer"):
                said = (newest, "answer")
                opened = time.monotonic()
                console.print(f"{key}: the batch is in Label Studio; the simulated annotator answers …")
            try:
                answered = annotator.answer_open_tasks(round_key=key)
            except LabelStudioUnavailableError as error:
                console.print(f"[yellow]{error}[/yellow]")
            else:
                if answered.labeled + answered.skipped:
                    console.print(f"{key}: {answered.labeled} labels given; waiting for the sensor …")
        decision = loop.decision(facts)
        if isinstance(decision, Stalled):
            raise ServiceError(f"The loop is stalled. {decision.reason}. See {stack.dagster_url}/runs")
        if time.monotonic() - opened > ROUND_TIMEOUT:
            raise ServiceError(f"No new round within {ROUND_TIMEOUT:.0f} s: {decision.reason}. See {stack.dagster_url}")
        time.sleep(1)


def closing_words(stack: Stack, loop: Loop, console: Console) -> None:
    """Say where everything is."""
    picture = loop.settings.home.resolve() / "learning_curve.png"
    console.print(f"Learning curve  {picture}", soft_wrap=True)
    console.print(f"Dagster         {stack.dagster_url}", soft_wrap=True)
    console.print(f"Label Studio    {stack.label_studio_url}", soft_wrap=True)
    if stack.label_studio:
        console.print(
            f"Login           {stack.label_studio.username}  password: {stack.label_studio.password}", soft_wrap=True
        )
    console.print(f"Ask again with  al status --home {loop.settings.home.resolve()}", soft_wrap=True)
