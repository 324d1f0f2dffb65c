"""What the commands share: the console, the options that name a folder, settings, and errors as sentences."""

import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from al_pipeline.core.errors import ALError, InputError

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

console = Console(highlight=False)
# Setting → how this command was given it: what is said of a setting names the option, not the variable.
_given = dict[str, str]()

Home = Annotated[Path | None, typer.Option("--home", help="Folder of everything that is written (AL_HOME).")]
# Taken as text: a path would lose the // of an address.
Images = Annotated[
    str | None,
    typer.Option(
        "--images", metavar="DIR", help="Folder of images, flat or in class folders; or its address (s3://…)."
    ),
]
DagsterPort = Annotated[int | None, typer.Option("--dagster-port", help="Port of the Dagster UI, kept from then on.")]
StudioPort = Annotated[int | None, typer.Option("--label-studio-port", help="Port of Label Studio, kept from then on.")]


@contextmanager
def told_plainly() -> Iterator[None]:
    """Show an error on purpose as its sentence, without a traceback; Ctrl-C ends with the usual code."""
    _given.clear()
    try:
        yield
    except ALError as error:
        told = f"[bold red]Error:[/bold red] {escape(in_words_given(str(error)))}"
        Console(stderr=True, highlight=False).print(told, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def note_given(names: Iterable[str], spelled: Mapping[str, str] | None = None) -> None:
    """Remember which settings this command was given, as `in_words_given` then has them."""
    _given.update({name: f"--{name.replace('_', '-')}" for name in names} | dict(spelled or {}))


def in_words_given(sentence: str) -> str:
    """Name the option where one was given in place of a setting's variable: (AL_IMAGES) is (--images) then.

    Not where both are named, or where a remedy sets the variable: AL_CLASSES=cat,dog.
    """
    for name, option in _given.items():
        sentence = re.sub(rf"(?<!, )\bAL_{name.upper()}\b(?!=)", option, sentence)
    return sentence


def say(line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, soft_wrap=True)


def tell(line: str) -> None:
    """Print a line of somebody else's words: nothing in it is taken for markup."""
    console.print(line, soft_wrap=True, markup=False)


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} bytes"


def configure(
    home: Path | None, images: str | Path | None = None, *, spelled: Mapping[str, str] | None = None, **others: Any
) -> "Settings":
    """Read the settings, with what the command line says above everything.

    Parameters
    ----------
    home : Path, optional
    images : str or Path, optional
    spelled : mapping of str to str, optional
        Setting → how the command line has it, where that is not ``--setting``.
    **others
        Further settings, None where the command line says nothing.

    Raises
    ------
    InputError
        They cannot be used, or the home is no folder.
    """
    from al_pipeline.settings import load_settings

    values = {"home": home, "images": images, **others}
    given = {name: value for name, value in values.items() if value is not None}
    note_given(given, spelled)
    settings = load_settings(**given)
    if settings.home.exists() and not settings.home.is_dir():
        raise InputError(f"The home {settings.home} is a file: name a folder (--home, AL_HOME)")
    return settings


def check_images(settings: "Settings", *, named: bool = False) -> None:
    """Check by names alone that there are images and classes, before anything is started or read for minutes.

    Parameters
    ----------
    settings : Settings
    named : bool
        The class folders must tell the answers: a simulated annotator is to give them.

    Raises
    ------
    InputError
        The folder is not set, missing or empty, or the classes are not clear.
    """
    from al_pipeline.core.data.pool import class_names, glance
    from al_pipeline.loop.classes import check_declared, listing_options

    if settings.images is None:
        raise InputError("No folder of images is set: `al up --images DIR`, AL_IMAGES, or `images` in al.toml")
    # A loop with known answers may be begun anew, whatever its classes were.
    anew = {"follow_links": settings.follow_links, "classes": settings.classes}
    options = anew if named else listing_options(settings)
    files = glance(settings.images, **options)
    if named and files["label"].isna().all():
        raise InputError(
            "The simulated annotator knows the answers from class folders (images/<class>/…), and the images of "
            f"{settings.images} lie in none. Let people answer: `al up`"
        )
    if named:
        class_names(files, settings.classes, settings.images)
    else:
        check_declared(settings, files)


def check_output(path: Path, option: str) -> None:
    """Check that a file may be written there.

    Raises
    ------
    InputError
        A folder is there, or a file where a folder is to be.
    """
    if path.is_dir():
        raise InputError(f"{path} ({option}) is a folder: name a file in it")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise InputError(f"{path} ({option}) could not be written: {folder} is a file, not a folder")


def stay(look: Callable[[], None] = lambda: None) -> None:
    """Call `look` every second until Ctrl-C or SIGTERM: the ordinary end of whatever serves, no error."""
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)
            look()


def end_on_signals() -> None:
    """Make SIGTERM end us as Ctrl-C does, so that the servers are stopped then too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background jobs with Ctrl-C ignored, and Python leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
