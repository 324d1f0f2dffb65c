"""`al home`: what lies in a home, the home as one file, and in another place."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from al_pipeline.cli.ledger import print_check
from al_pipeline.cli.session import Home, Images, check_output, configure, console, say, size, told_plainly

home_commands = typer.Typer(
    help="The home, the folder of everything that is written: what is in it, pack it, move it.", no_args_is_help=True
)


@home_commands.command()
@told_plainly()
def show(home: Home = None) -> None:
    """Show what lies in the home, with sizes, and what `al home pack` takes along."""
    settings = configure(home)
    from al_pipeline.loop.packing import contents

    table = Table(title=str(settings.home))
    table.add_column("part", overflow="fold")
    for name in ("files", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("packed", no_wrap=True)
    for part in contents(settings):
        table.add_row(escape(part.name), f"{part.files:,}", size(part.bytes), "yes" if part.packed else "no")
    console.print(table)


@home_commands.command()
@told_plainly()
def pack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Archive to write: a name that ends with .tar(.gz).")],
    with_images: Annotated[bool, typer.Option("--images", help="Take along the images, too.")] = False,
    newest_checkpoint: Annotated[
        bool, typer.Option("--newest-checkpoint", help="Leave out all checkpoints but the newest.")
    ] = False,
    home: Home = None,
) -> None:
    """Write the home into one file: ledger, settings, checkpoints, Label Studio's project. The loop may go on."""
    check_output(file, "FILE")
    settings = configure(home)
    from al_pipeline.loop.packing import pack as write

    packed = write(settings, file, images=with_images, newest_checkpoint=newest_checkpoint)
    whole = size(file.stat().st_size)
    say(f"{len(packed.files):,} files, {size(packed.bytes)}, packed into {escape(str(file))} ({whole})")
    for remark in packed.remarks:
        say(f"• {escape(remark)}")
    say(f"Elsewhere  al home unpack {escape(file.name)} --home DIR")


@home_commands.command()
@told_plainly()
def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Archive that `al home pack` has written.")],
    home: Annotated[Path, typer.Option("--home", help="The new home: a folder that is not there yet, or empty.")],
    images: Images = None,
) -> None:
    """Make a home of an archive, with its rounds, answers and Label Studio project; nothing is asked again."""
    from al_pipeline.core.data.places import place_of
    from al_pipeline.loop.packing import LEDGER
    from al_pipeline.loop.relocating import unpack as restore

    index = restore(file, home, images=None if images is None else place_of(images))
    counts = ", ".join(f"{count:,} in {name}" for name, count in index["counts"].items())
    say(f"The home {escape(index['home'])} of {index['made_at']} is unpacked in {escape(str(home))}: {escape(counts)}")
    print_check(f"sqlite:///{home.expanduser().resolve() / LEDGER}")
    say(f"Go on with  al up --home {escape(str(home))}")


@home_commands.command()
@told_plainly()
def move(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Its new place, not there yet, or empty.")],
    home: Home = None,
) -> None:
    """Move the home, whose servers are stopped, and mend the paths in it."""
    settings = configure(home)
    from al_pipeline.loop.relocating import move as relocate

    relocate(settings, target)
    say(f"The home {escape(str(settings.home))} is {escape(str(target))} now")
    print_check(configure(target).ledger_url)
    say(f"Go on with  al up --home {escape(str(target))}")
