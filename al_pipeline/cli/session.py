"""What the commands share: the console, the options that name a folder, settings, and errors as sentences."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from al_pipeline.core.errors import ALError
from al_pipeline.settings import Settings, load_settings

console = Console(highlight=False)

Home = Annotated[Path | None, typer.Option("--home", help="Folder of everything that is written (AL_HOME).")]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of images, flat or in class folders.")]


@contextmanager
def told_plainly() -> Iterator[None]:
    """Show an error on purpose as its sentence, without a traceback; Ctrl-C ends with the usual code."""
    try:
        yield
    except ALError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]Error:[/bold red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def configure(home: Path | None, images: Path | None = None) -> Settings:
    """Read the settings, with what the command line says above everything; child processes see the same."""
    if home is not None:
        os.environ["AL_HOME"] = str(home.resolve())
    if images is not None:
        os.environ["AL_IMAGES"] = str(images.resolve())
    settings = load_settings()
    os.environ["AL_HOME"] = str(settings.home.resolve())
    if settings.images is not None:
        os.environ["AL_IMAGES"] = str(settings.images.resolve())
    return load_settings()


def end_on_signals() -> None:
    """Make SIGTERM end us as Ctrl-C does, so that the servers are stopped then too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background jobs with Ctrl-C ignored, and Python leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
