"""`al up`, and the simulated annotator of a second terminal: `al annotate`."""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

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
from al_pipeline.cli.terminal import wait_for
from al_pipeline.cli.weights import ready_weights
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from al_pipeline.core.data.changes import Changes
    from al_pipeline.servers.observer import Loop
    from al_pipeline.servers.stack import Stack


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

    changes = look(settings)
    stack = Stack(settings, dagster_port=dagster_port, label_studio_port=label_studio_port, say=tell)
    say(escape(settings.keep()))
    with stack:
        # While the servers start.
        say(escape(ready_weights(settings).said))
        with serving_pages(settings), ready_loop(stack, settings) as loop:
            start_loop(stack, loop, changes)
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


def start_loop(stack: "Stack", loop: "Loop", changes: "Changes | None" = None) -> None:
    """Launch `setup` and round 0 through Dagster where they have not succeeded yet; `setup` also if images changed."""
    from al_pipeline.core.rounds import round_key
    from al_pipeline.defs.images import running_setup

    if why := loop.why_set_up(changes):
        say(f"Launching the job [bold]setup[/bold]: {escape(why)} …")
        # The sensor may have been faster.
        wait_for(stack, loop, running_setup(loop.instance) or stack.api.launch("setup"), "setup")
        show_scan(loop)
    if loop.newest() is None:
        say("Launching [bold]round r0000[/bold]: it chooses the first batch by what the images look like …")
        loop.instance.add_dynamic_partitions("rounds", [round_key(0)])
        wait_for(stack, loop, stack.api.launch("round", partition=round_key(0)), round_key(0))


def show_scan(loop: "Loop") -> None:
    """Say what `setup` found in the folder of images."""
    from al_pipeline.cli.tables import print_scan
    from al_pipeline.core.data.folder import list_files
    from al_pipeline.core.data.report import describe
    from al_pipeline.loop.classes import listing_options
    from al_pipeline.loop.deployment import Artifacts
    from al_pipeline.loop.how_read import how_of_home

    settings = loop.settings
    if settings.images is not None:
        listing = list_files(settings.images, **listing_options(settings))
        how = how_of_home(Artifacts(settings.artifacts))
        report = describe(loop.image_pool(), settings.images, listing, rule=settings.group, how=how)
        print_scan(console, report)
        for remark in (*loop.told_of_reading(), *report.remarks):
            say(f"[yellow]Note:[/yellow] {escape(remark)}")
