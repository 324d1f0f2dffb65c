"""`al predict` and `al export-model`: what a stored checkpoint is good for outside of the loop."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, check_output, configure, console, say
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

CheckpointName = Annotated[
    str, typer.Option("--checkpoint", help="A round (r0007), best, latest, or the path of a .safetensors checkpoint.")
]
ModelFormat = Literal["onnx", "torchscript"]
SUFFIXES: dict[str, ModelFormat] = {".onnx": "onnx", ".pt": "torchscript"}


def predict(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Folder of images, or one image; or its address (s3://…).")
    ],
    checkpoint: CheckpointName = "best",
    output: Annotated[Path, typer.Option("--output", help="Table to write: .csv or .parquet.")] = Path(
        "predictions.csv"
    ),
    home: Home = None,
) -> None:
    """Predict every image in a folder with a checkpoint, and write a table of probabilities."""
    check_output(output, "--output")
    settings = configure(home)
    from al_pipeline.core.data.places import place_of
    from al_pipeline.loop.deployment import Artifacts
    from al_pipeline.loop.offline import check_folder, check_table, find_checkpoint, predict_folder

    check_table(output)
    images = place_of(folder)
    check_folder(images)
    stored = find_checkpoint(Artifacts.of(settings), checkpoint)
    _tell_which(settings, checkpoint)
    from rich.progress import Progress

    from al_pipeline.core.learning.checkpoint import Checkpoint

    model = Checkpoint.load(stored)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Images", total=None)
        outcome = predict_folder(
            model, images, output, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if not model.info.trained:
        say("[yellow]Warning:[/yellow] this checkpoint is untrained: its answers are chance")
    rate = outcome.predicted / outcome.seconds
    console.print(f"{outcome.predicted} images in {outcome.seconds:.1f} s, {rate:.0f} per second; predicted:")
    for name, count in outcome.counts.items():
        say(f"  {count:>8} {escape(name)}")
    if outcome.failed:
        path, reason = next(iter(outcome.failed.items()))
        say(
            f"[yellow]Warning:[/yellow] {len(outcome.failed)} of {outcome.files} files could not be read; the "
            f"column error says why. The first is {escape(path)}: {escape(reason)}"
        )
    say(f"{outcome.files} rows written to {escape(str(output))}")


def _tell_which(settings: "Settings", name: str) -> None:
    """Say which network serves and why, where that was asked for."""
    from al_pipeline.loop.deployment import Artifacts
    from al_pipeline.loop.offline import BEST
    from al_pipeline.loop.refined import served

    if name == BEST and (found := served(Artifacts.of(settings))) is not None:
        say(escape(f"{found.sentence}."))


def export_model(
    output: Annotated[Path | None, typer.Argument(help="File to write; named after the round by default.")] = None,
    checkpoint: CheckpointName = "best",
    file_format: Annotated[
        ModelFormat | None, typer.Option("--format", help="By default from the file's name (.onnx, .pt), else onnx.")
    ] = None,
    register: Annotated[
        bool, typer.Option("--register", help="Also as a version of a registered model of MLflow (AL_TRACKING__URI).")
    ] = False,
    home: Home = None,
) -> None:
    """Write a checkpoint as ONNX or TorchScript: pixels in, probabilities out; checked before it is left there."""
    kind = file_format or (SUFFIXES.get(output.suffix.lower()) if output else "onnx")
    if register and kind == "torchscript":
        raise InputError("--register takes ONNX alone: leave --format torchscript out, or --register")
    if kind is None:
        raise InputError(f"{output}: the format is not clear from the name; add --format onnx or torchscript")
    if output is not None:
        check_output(output, "FILE")
    settings = configure(home)
    if register and settings.tracking.uri is None:
        raise InputError("--register needs an MLflow server: set AL_TRACKING__URI")
    from al_pipeline.loop.deployment import Artifacts
    from al_pipeline.loop.offline import find_checkpoint

    artifacts = Artifacts.of(settings)
    stored = find_checkpoint(artifacts, checkpoint)
    _tell_which(settings, checkpoint)
    from al_pipeline.core.learning import export
    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.core.rounds import round_key
    from al_pipeline.loop.keeping import pin

    model = Checkpoint.load(stored)
    key = round_key(model.info.round)
    exported = export.export_model(model, output or Path(key + export.SUFFIXES[kind]), kind)
    if stored.parent in (artifacts.checkpoints, artifacts.refined):
        pin(stored, f"exported to {exported.path.absolute()}")
    say(
        f"Checkpoint {model.hash} of round {key} written as {kind} to {escape(str(exported.path))}, "
        f"{exported.bytes / 1e6:.0f} MB. Its probabilities differ from ours by {exported.difference:.0e} at most."
    )
    if register:
        from al_pipeline.loop.deployment import Deployment
        from al_pipeline.loop.tracking import register as register_model

        version, new = register_model(Deployment(settings), key, model.hash, exported.path)
        told = "It is" if new else "It was already"
        say(f"{told} version {version} of MLflow's registered model {escape(settings.tracking.model)}.")
