"""`al ledger`: labels that people have already, and whether everything in the ledger can be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, Images, configure, console, told_plainly
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

ledger_commands = typer.Typer(help="The ledger of labels: bring labels along, check it.", no_args_is_help=True)


@ledger_commands.command("import")
def import_(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet: label, and path or sample_id.")],
    home: Home = None,
    images: Images = None,
) -> None:
    """Bring labels along: they are trained on from the next round on, and nobody is asked about their images again."""
    import pandas as pd

    from al_pipeline.core.data.pool import class_names, scan
    from al_pipeline.ledger import Ledger
    from al_pipeline.ledger.imports import import_labels

    with told_plainly():
        settings = configure(home, images)
        rows = _read(table)
        ledger = Ledger(settings.ledger_url)
        stored = settings.artifacts / "image_pool.parquet"
        if stored.exists() and images is None:
            manifest = pd.read_parquet(stored)
        elif settings.images is None:
            raise InputError("No images are known yet: add --images DIR, the folder that the labels are about")
        else:
            manifest = scan(
                settings.images, max_excluded_share=settings.max_excluded_share, follow_links=settings.follow_links
            )
            ledger.register(manifest)
        names = class_names(manifest, settings.classes, settings.images)
        done = import_labels(ledger, rows, names, origin=table.name)
        console.print(
            f"{done.new} labels are new, {done.changed} changed, {done.unchanged} were there already. They are trained "
            "on from the next round on",
            soft_wrap=True,
        )


@ledger_commands.command()
def verify(home: Home = None) -> None:
    """Check that no label is without its source, doubled or of the holdout, and that the file is whole."""
    from al_pipeline.ledger.verify import verify as check

    with told_plainly():
        report = check(configure(home).ledger_url)
        console.print(", ".join(f"{count:,} {name}" for name, count in report.counts.items()))
        for problem in report.problems:
            console.print(f"[bold red]•[/bold red] {escape(problem)}", soft_wrap=True)
        if report.problems:
            console.print(
                f"{len(report.problems)} problems. Nothing was changed; restore a backup, or mend them by hand"
            )
            raise typer.Exit(1)
        console.print("No problem was found.")


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if path.suffix.lower() not in {".csv", ".parquet"}:
        raise InputError(f"{path}: labels are read from .csv or .parquet files")
    try:
        # Class names such as "007" or "NA" stay what they are.
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
