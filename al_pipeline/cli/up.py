"""`al up`, and the simulated annotator of a second terminal: `al annotate`."""

import time
from typing import Annotated

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
    configure,
    console,
    end_on_signals,
    say,
    tell,
)
from al_pipeline.cli.staying import is_desktop, ready_loop, stay_up, told_of_answers
from al_pipeline.cli.weights import ready_weights
from al_pipeline.core.errors import InputError


def up(
    images: Images = None,
    home: Home = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Class names, comma separated: for a folder without class folders.")
    ] = None,
    dagster_port: DagsterPort = None,
    label_studio_port: StudioPort = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Settings that go together, kept by the home: see `al presets`.")
    ] = None,
    show: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the first task in a browser: on a desktop by default.")
    ] = None,
) -> None:
    """Run Label Studio and Dagster on your images and settings; people answer, the sensor goes on."""
    end_on_signals()
    from al_pipeline.settings.presets import preset_values

    settings = configure(home, images, classes=classes, **preset_values(preset, home))
    from al_pipeline.core.learning.options import check_weights

    check_weights(settings.training.weights, settings.training.architecture)
    from al_pipeline.servers.ports import check_port
    from al_pipeline.servers.stack import Stack

    check_port("Dagster", dagster_port)
    check_port("Label Studio", label_studio_port)
    check_images(settings)
    from al_pipeline.loop.changes import look
    from al_pipeline.loop.copies import Copies

    # A bucket that cannot be written to is told of before anything starts.
    Copies(settings).mark()
    changes = look(settings)
    stack = Stack(settings, dagster_port=dagster_port, label_studio_port=label_studio_port, say=tell)
    say(escape(settings.keep()))
    with stack:
        # While the servers start.
        say(escape(ready_weights(settings).said))
        with serving_pages(settings), ready_loop(stack, settings) as loop:
            start_loop(stack.api, loop, changes)
            with told_of_answers(stack, settings):
                stay_up(stack, loop, show=is_desktop() if show is None else show)


def annotate(
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Answer with the folder names, as the simulated annotator of the demo.")
    ] = False,
    error_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of wrong answers.")] = 0.0,
    skip_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of skipped tasks.")] = 0.0,
    annotators: Annotated[int, typer.Option(min=1, help="Different people, each a Label Studio user.")] = 1,
    seconds_per_label: Annotated[float, typer.Option(min=0, help="How long one answer takes.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    once: Annotated[bool, typer.Option("--once", help="Answer what is open now, then end.")] = False,
    home: Home = None,
) -> None:
    """Answer open tasks in Label Studio with a simulated annotator."""
    settings = configure(home)
    from al_pipeline.loop.local import instance_folder

    instance_folder(settings)
    if not oracle:
        raise InputError(
            "People answer in Label Studio, at the address that `al up` shows. Add --oracle to let the simulated "
            "annotator do it"
        )
    from al_pipeline.labelstudio.annotator import SimulatedAnnotator
    from al_pipeline.servers.observer import open_loop, truth

    with open_loop(settings) as loop:
        classes = loop.classes()
        answers = truth(loop.image_pool(), classes)
        annotator = SimulatedAnnotator(
            loop.deployment.label_studio,
            loop.deployment.project_id(),
            answers,
            classes.names,
            error_rate=error_rate,
            skip_rate=skip_rate,
            annotators=annotators,
            overlap=settings.overlap,
            seconds_per_label=seconds_per_label,
            seed=seed,
        )
        while True:
            answered = annotator.answer_open_tasks()
            if answered.labeled + answered.skipped or once:
                console.print(f"{answered.labeled} labels, {answered.skipped} skipped, {answered.wrong} wrong")
            if once:
                return
            time.sleep(1)
