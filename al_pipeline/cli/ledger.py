"""`al export`, `al migrate` and `al ledger`: labels that go out, labels that people bring along, and their check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, Images, check_output, configure, console, say, told_plainly
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from al_pipeline.settings import Settings

ledger_commands = typer.Typer(help="The ledger of labels: bring labels along, check it.", no_args_is_help=True)
Format = Literal["csv", "parquet", "json"]


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
    kind = file_format or output.suffix.lstrip(".").lower()
    if kind not in get_args(Format):
        raise InputError(f"{output}: the format is not clear from the name; add --format csv, parquet or json")
    check_output(output, "FILE")
    settings = configure(home)
    _check_kept(settings, home)
    from al_pipeline.core.files import whole_file
    from al_pipeline.ledger import Ledger

    ledger = Ledger(settings.ledger_url)
    labels = ledger.current_labels() if agreed else ledger.export()
    if agreed:
        labels.insert(1, "uri", labels["sample_id"].map(ledger.uris()).astype(object))
    with whole_file(output, "The labels") as file:
        if kind == "csv":
            labels.to_csv(file, index=False)
        elif kind == "parquet":
            labels.to_parquet(file, index=False)
        else:
            labels.to_json(file, orient="records", lines=False, date_format="iso", indent=1)
    console.print(f"{len(labels)} {'labels' if agreed else 'answers'} written to {output}")


def migrate(home: Home = None) -> None:
    """Bring the ledger's tables up to date (every other command does so too when it opens the ledger)."""
    settings = configure(home)
    from al_pipeline.ledger import Ledger

    Ledger(settings.ledger_url)
    console.print("The ledger is up to date.")


@ledger_commands.command("import")
@told_plainly()
def import_(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet: label, and path or sample_id.")],
    home: Home = None,
    images: Images = None,
) -> None:
    """Bring labels along: they are trained on from the next round on, and nobody is asked about their images again."""
    if table.suffix.lower() not in {".csv", ".parquet"}:
        raise InputError(f"{table}: labels are read from .csv or .parquet files")
    if not table.is_file():
        raise InputError(f"There is no file {table}: check the path")
    settings = configure(home, images)
    from al_pipeline.loop.deployment import Artifacts

    stored = Artifacts(settings.artifacts).image_pool
    if not stored.exists() and settings.images is None:
        raise InputError("No images are known yet: add --images DIR, the folder that the labels are about")
    import pandas as pd

    from al_pipeline.core.data.pool import class_names, scan
    from al_pipeline.ledger import Ledger
    from al_pipeline.ledger.imports import import_labels

    rows = _read(table)
    ledger = Ledger(settings.ledger_url)
    if stored.exists() and images is None:
        manifest = pd.read_parquet(stored)
    else:
        assert settings.images is not None
        manifest = scan(
            settings.images, max_excluded_share=settings.max_excluded_share, follow_links=settings.follow_links
        )
        ledger.register(manifest)
    names = class_names(manifest, settings.classes, settings.images or stored)
    done = import_labels(ledger, rows, names, origin=table.name)
    say(
        f"{done.new} labels are new, {done.changed} changed, {done.unchanged} were there already. They are trained "
        "on from the next round on"
    )


@ledger_commands.command()
@told_plainly()
def verify(home: Home = None) -> None:
    """Check that no label is without its source, doubled or of the holdout, and that the file is whole."""
    settings = configure(home)
    _check_kept(settings, home)
    from al_pipeline.ledger.verify import verify as check

    report = check(settings.ledger_url)
    console.print(", ".join(f"{count:,} {name}" for name, count in report.counts.items()))
    for remark in report.remarks:
        say(f"• {escape(remark)}")
    for problem in report.problems:
        say(f"[bold red]•[/bold red] {escape(problem)}")
    if report.problems:
        console.print(f"{len(report.problems)} problems. Nothing was changed; restore a backup, or mend them by hand")
        raise typer.Exit(1)
    console.print("No problem was found.")


def _check_kept(settings: "Settings", named: Path | None) -> None:
    """Refuse a home that was named and has no ledger: it may be misspelt, and must not get an empty one."""
    if named is not None and settings.database_url is None and not (settings.home / "ledger.sqlite3").exists():
        raise InputError(f"There is no ledger in {settings.home}: run `al up`, or name another home")


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        # Class names such as "007" or "NA" stay what they are.
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
