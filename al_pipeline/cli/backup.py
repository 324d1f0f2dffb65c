"""`al backup` and `al restore`: a deployment with all its databases in a folder, and back."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.ledger import print_check
from al_pipeline.cli.session import Home, Images, configure, console, say, size


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write: not there yet, or empty.")],
    with_images: Annotated[bool, typer.Option("--images", help="Take along the images, too.")] = False,
    newest_checkpoint: Annotated[
        bool, typer.Option("--newest-checkpoint", help="Leave out all checkpoints but the newest.")
    ] = False,
    home: Home = None,
) -> None:
    """Back up ledger, Label Studio, Dagster and all files of rounds, in SQLite or PostgreSQL. The loop may go on."""
    settings = configure(home)
    from al_pipeline.loop.backing_up import backup as write
    from al_pipeline.loop.databases import databases_of

    made = write(settings, folder, databases_of(settings), images=with_images, newest_checkpoint=newest_checkpoint)
    parts = ", ".join(f"{name} {size(file.bytes)}" for name, file in made.files.items())
    say(f"Backed up into {escape(str(folder))}: {parts}")
    say(", ".join(f"{count:,} {name}" for name, count in made.ledger.items()))
    for remark in made.remarks:
        say(f"• {escape(remark)}")
    for problem in made.problems:
        say(f"[bold red]•[/bold red] {escape(problem)}")
    if made.problems:
        console.print(f"{len(made.problems)} problems in the ledger, and so in its copy: keep older backups")
        raise typer.Exit(1)
    say(f"Elsewhere  al restore {escape(str(folder))}")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `al backup` has written.")],
    home: Home = None,
    images: Images = None,
) -> None:
    """Fill an empty deployment from a backup, its servers stopped; the next round goes on, nobody is asked twice."""
    settings = configure(home)
    from al_pipeline.core.data.places import place_of
    from al_pipeline.loop.backing_up import restore as fill
    from al_pipeline.loop.databases import databases_of

    made = fill(settings, folder, databases_of(settings), images=None if images is None else place_of(images))
    filled = ", ".join(["ledger", *made.databases, f"home {settings.home}"])
    say(f"The backup of {made.made_at} is restored: {escape(filled)}")
    print_check(settings.ledger_url)
    say("Start the servers, and launch the job `setup` once: it shows people the images of open tasks again")
