"""The command `al`: demo · up · annotate · status · export · ledger · predict · export-model · simulate · webhook ·
ml-backend · doctor · migrate.
"""

import os
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from al_pipeline.cli.ledger import ledger_commands
from al_pipeline.cli.session import Home, Images, configure, console, end_on_signals, told_plainly
from al_pipeline.cli.simulate import simulate
from al_pipeline.cli.web import ml_backend, webhook
from al_pipeline.core.errors import InputError

app = typer.Typer(
    help="Image active learning with people in the loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

DagsterPort = Annotated[int | None, typer.Option("--dagster-port", help="Port of the Dagster UI.")]
StudioPort = Annotated[int | None, typer.Option("--label-studio-port", help="Port of Label Studio.")]
CheckpointName = Annotated[
    str, typer.Option("--checkpoint", help="A round (r0007), latest, or the path of a .safetensors checkpoint.")
]


class Format(StrEnum):
    """File formats of `al export`."""

    csv = "csv"
    parquet = "parquet"
    json = "json"


class ModelFormat(StrEnum):
    """File formats of `al export-model`."""

    onnx = "onnx"
    torchscript = "torchscript"


def stay_up(stack: Any) -> None:
    """Wait for Ctrl-C while the servers run; say so if one of them ends."""
    console.print("[bold]Running. Ctrl-C ends everything.[/bold]")
    pause = threading.Event()
    while not pause.wait(1):
        stack.check_alive()


@app.command()
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
    from al_pipeline.cli.demo import run_demo

    with told_plainly():
        end_on_signals()
        run_demo(
            console,
            images=images,
            rounds=rounds,
            keep=sys.stdout.isatty() if keep is None else keep,
            fresh=fresh,
            home=home,
            dagster_port=dagster_port,
            label_studio_port=label_studio_port,
        )


@app.command()
def up(
    images: Images = None,
    home: Home = None,
    dagster_port: DagsterPort = None,
    label_studio_port: StudioPort = None,
) -> None:
    """Run Label Studio and Dagster on your images and settings; people answer, the sensor goes on."""
    from al_pipeline.cli.demo import closing_words, start_loop
    from al_pipeline.servers.observer import open_loop
    from al_pipeline.servers.stack import Stack

    with told_plainly():
        end_on_signals()
        settings = configure(home, images)
        if settings.images is None:
            raise InputError("No folder of images is set: `al up --images DIR`, AL_IMAGES, or `images` in al.toml")
        stack = Stack(
            settings,
            dict(os.environ),
            dagster_port=dagster_port,
            label_studio_port=label_studio_port,
            say=lambda line: console.print(line, soft_wrap=True),
        )
        with stack, open_loop(settings) as loop:
            start_loop(stack, loop, console)
            closing_words(stack, loop, console)
            stay_up(stack)


@app.command()
def status(home: Home = None) -> None:
    """Show the rounds, the counts, and what the loop is waiting for."""
    from al_pipeline.cli.tables import print_rounds
    from al_pipeline.servers.observer import open_loop

    with told_plainly(), open_loop(configure(home)) as loop:
        print_rounds(console, loop.rounds())
        facts = loop.facts()
        now = facts.status
        if now.run_state == "succeeded":
            console.print(
                f"{now.labels_total} labels, {now.unlabeled_left} images unlabeled; newest round: "
                f"{now.planned} asked, {now.labeled} labeled, {now.skipped} skipped, {now.withdrawn} withdrawn"
            )
        if facts.warning:
            console.print(f"[yellow]Warning:[/yellow] {escape(facts.warning)}", soft_wrap=True)
        decision = loop.decision(facts)
        console.print(f"[bold]{type(decision).__name__}[/bold]: {decision.reason}", soft_wrap=True)


@app.command()
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
    from al_pipeline.labelstudio.annotator import SimulatedAnnotator
    from al_pipeline.servers.observer import open_loop, truth

    with told_plainly(), open_loop(configure(home)) as loop:
        if not oracle:
            url = loop.deployment.project_url(loop.deployment.project_id())
            raise InputError(f"People answer at {url}. Add --oracle to let the simulated annotator do it")
        annotator = SimulatedAnnotator(
            loop.deployment.label_studio,
            loop.deployment.project_id(),
            truth(loop.image_pool()),
            loop.class_names(),
            error_rate=error_rate,
            skip_rate=skip_rate,
            annotators=annotators,
            overlap=loop.settings.overlap,
            seconds_per_label=seconds_per_label,
            seed=seed,
        )
        pause = threading.Event()
        while True:
            answered = annotator.answer_open_tasks()
            if answered.labeled + answered.skipped or once:
                console.print(f"{answered.labeled} labels, {answered.skipped} skipped, {answered.wrong} wrong")
            if once:
                return
            pause.wait(1)


@app.command()
def export(
    output: Annotated[Path, typer.Argument(help="File to write.")],
    file_format: Annotated[
        Format | None, typer.Option("--format", help="csv, parquet or json; by default from the file's name.")
    ] = None,
    agreed: Annotated[
        bool, typer.Option("--agreed", help="One row per image whose label most people agree on.")
    ] = False,
    home: Home = None,
) -> None:
    """Write all labels with where each came from: round, annotation, annotator, moment."""
    from al_pipeline.ledger import Ledger

    with told_plainly():
        kind = file_format.value if file_format else output.suffix.lstrip(".").lower()
        if kind not in list(Format):
            raise InputError(f"{output}: the format is not clear from the name; add --format csv, parquet or json")
        ledger = Ledger(configure(home).ledger_url)
        labels = ledger.current_labels() if agreed else ledger.export()
        if agreed:
            labels.insert(1, "uri", labels["sample_id"].map(ledger.uris()).astype(object))
        output.parent.mkdir(parents=True, exist_ok=True)
        if kind == Format.csv:
            labels.to_csv(output, index=False)
        elif kind == Format.parquet:
            labels.to_parquet(output, index=False)
        else:
            labels.to_json(output, orient="records", lines=False, date_format="iso", indent=1)
        console.print(f"{len(labels)} {'labels' if agreed else 'answers'} written to {output}")


app.add_typer(ledger_commands, name="ledger")


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images, or one image.")],
    checkpoint: CheckpointName = "latest",
    output: Annotated[Path, typer.Option("--output", help="Table to write: .csv or .parquet.")] = Path(
        "predictions.csv"
    ),
    home: Home = None,
) -> None:
    """Predict every image in a folder with a checkpoint, and write a table of probabilities."""
    from rich.progress import Progress

    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.loop.offline import find_checkpoint, predict_folder

    with told_plainly():
        model = Checkpoint.load(find_checkpoint(configure(home).artifacts, checkpoint))
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("Images", total=None)
            outcome = predict_folder(
                model, folder, output, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        if not model.info.trained:
            console.print(
                "[yellow]Warning:[/yellow] this checkpoint is untrained: its answers are chance", soft_wrap=True
            )
        rate = outcome.predicted / outcome.seconds
        console.print(f"{outcome.predicted} images in {outcome.seconds:.1f} s, {rate:.0f} per second; predicted:")
        for name, count in outcome.counts.items():
            console.print(f"  {count:>8} {escape(name)}", soft_wrap=True)
        if outcome.failed:
            path, reason = next(iter(outcome.failed.items()))
            console.print(
                f"[yellow]Warning:[/yellow] {len(outcome.failed)} of {outcome.files} files could not be read; the "
                f"column error says why. The first is {escape(path)}: {escape(reason)}",
                soft_wrap=True,
            )
        console.print(f"{outcome.files} rows written to {escape(str(output))}", soft_wrap=True)


@app.command()
def export_model(
    output: Annotated[Path | None, typer.Argument(help="File to write; named after the round by default.")] = None,
    checkpoint: CheckpointName = "latest",
    file_format: Annotated[
        ModelFormat | None, typer.Option("--format", help="By default from the file's name (.onnx, .pt), else onnx.")
    ] = None,
    home: Home = None,
) -> None:
    """Write a checkpoint as ONNX or TorchScript: pixels in, probabilities out; checked before it is left there."""
    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.core.learning.export import SUFFIXES, export_model
    from al_pipeline.core.rounds import round_key
    from al_pipeline.loop.offline import find_checkpoint

    with told_plainly():
        kinds = {suffix: kind for kind, suffix in SUFFIXES.items()}
        kind = file_format.value if file_format else kinds.get(output.suffix.lower()) if output else "onnx"
        if kind is None:
            raise InputError(f"{output}: the format is not clear from the name; add --format onnx or torchscript")
        model = Checkpoint.load(find_checkpoint(configure(home).artifacts, checkpoint))
        exported = export_model(model, output or Path(round_key(model.info.round) + SUFFIXES[kind]), kind)
        console.print(
            f"Checkpoint {model.hash} of round {round_key(model.info.round)} written as {kind} to "
            f"{escape(str(exported.path))}, {exported.bytes / 1e6:.0f} MB. Its probabilities differ from ours by "
            f"{exported.difference:.0e} at most.",
            soft_wrap=True,
        )


app.command()(simulate)
app.command()(webhook)
app.command()(ml_backend)


@app.command()
def doctor(home: Home = None, images: Images = None) -> None:
    """Check settings, versions, ports, disk, Label Studio's token and image access, and say what to fix."""
    from al_pipeline.cli.doctor import examine

    with told_plainly():
        findings = examine(lambda: configure(home, images))
        signs = {True: "[green]ok[/green]  ", None: "[yellow]note[/yellow]", False: "[red]fix[/red] "}
        for finding in findings:
            console.print(f"{signs[finding.ok]} {finding.subject}: {escape(finding.text)}", soft_wrap=True)
        if any(finding.ok is False for finding in findings):
            raise typer.Exit(1)


@app.command()
def migrate(home: Home = None) -> None:
    """Bring the ledger's tables up to date (every other command does so too when it opens the ledger)."""
    from al_pipeline.ledger import Ledger

    with told_plainly():
        Ledger(configure(home).ledger_url)
        console.print("The ledger is up to date.")
