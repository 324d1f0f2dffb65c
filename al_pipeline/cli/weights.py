"""Weights for the rounds, before anything waits for them: downloaded where everybody sees how far that is."""

from typing import TYPE_CHECKING

from rich.markup import escape

from al_pipeline.cli.session import console, say

if TYPE_CHECKING:
    from al_pipeline.core.learning.options import TrainingOptions
    from al_pipeline.loop.weights import Start
    from al_pipeline.settings import Settings


def ready_weights(settings: "Settings", training: "TrainingOptions | None" = None) -> "Start":
    """Return the options of training with weights that are there; warn if `auto` found none.

    Parameters
    ----------
    settings : Settings
    training : TrainingOptions, optional
        Of a study, which leaves the home as it is; those of the home by default, which keeps what is found.

    Raises
    ------
    CheckpointError, FileError
        As of `loop.weights.settle_weights`.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from al_pipeline.loop.weights import settle_weights

    wanted = training or settings.training
    what = f"{'ImageNet ' * (wanted.hub == 'imagenet')}weights of {wanted.architecture}"
    columns = TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, visible=False)

        def told(done: int, total: int) -> None:
            if not done:
                say(f"Downloading the {what} ({total / 1e6:.0f} MB), once for this machine …")
            bar.update(task, completed=done, total=total or None, visible=True)

        found = settle_weights(wanted, settings, again=True, keep=training is None, progress=told)
    if found.warning:
        say(f"[yellow]Warning:[/yellow] {escape(found.warning)}")
    return found
