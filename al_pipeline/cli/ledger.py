"""`al export`, `al migrate` and `al ledger`: labels that go out, labels that people bring along, and their check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, Images, check_output, configure, console, say, told_plainly
from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.formats import Read, Table, Written

if TYPE_CHECKING:
    import pandas as pd

    from al_pipeline.ledger import Ledger
    from al_pipeline.settings import Settings

ledger_commands = typer.Typer(help="The ledger of labels: bring labels along, check it.", no_args_is_help=True)


def export(
    output: Annotated[Path, typer.Argument(metavar="PATH", help="File or, for a data set, new folder.")],
    file_format: Annotated[
        Written | None,
        typer.Option("--format", help="A table, or a data set with its images; by default from the file's name."),
    ] = None,
    agreed: Annotated[
        bool, typer.Option("--agreed", help="One row per image whose label most people agree on, as in a data set.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Only what is new or changed since this round, for example r0005.")
    ] = None,
    home: Home = None,
) -> None:
    """Write all labels with where each came from: round, annotation, annotator, moment."""
    suffix = output.suffix.lstrip(".").lower()
    kind = file_format or next((table for table in get_args(Table) if table == suffix), None)
    if kind is None:
        *others, last = get_args(Written)
        raise InputError(f"{output}: the format is not clear from the name; add --format {', '.join(others)} or {last}")
    if is_table := kind in get_args(Table):
        check_output(output, "PATH")
    else:
        from al_pipeline.core.labels.formats.images import check_new

        check_new(output)
    settings = configure(home)
    _check_kept(settings, home)
    from al_pipeline.ledger import Ledger
    from al_pipeline.ledger.exports import agreed as agreed_labels
    from al_pipeline.ledger.exports import answers_since

    ledger = Ledger(settings.ledger_url)
    if is_table and not agreed:
        answers = answers_since(ledger, since)
        _write_table(answers, output, kind)
        where = "" if len(answers) or since else f": nobody has answered in {settings.home.resolve()} (--home)"
        say(f"{len(answers)} answers written to {escape(str(output))}{escape(where)}")
        return
    min_votes, classes = settings.policy.min_votes, _classes(ledger, settings)
    found = agreed_labels(ledger, classes, min_votes, since=since)
    labels, of_holdout = found.labels, int((found.labels["split"] == "holdout").sum())
    if is_table:
        labels = labels[labels["split"] == "train"].drop(columns="split")
        _write_table(labels, output, kind)
    else:
        from al_pipeline.core.labels.formats.write import write_data_set

        labels = _with_images(labels, settings)
        of_holdout = int((labels["split"] == "holdout").sum())
        write_data_set(labels, output, kind, classes or sorted(set(labels["label"])))
    say(f"{len(labels)} labels written to {escape(str(output))}")
    if of_holdout and not is_table:
        say(f"{of_holdout} of them are test labels (holdout), in a part of their own: never train on them")
    elif of_holdout:
        say(f"Left out are {of_holdout} test labels (holdout); a data set (--format folders) has them apart")
    if missing := found.left_out(min_votes):
        say(f"Images without a label: {missing}")


def _with_images(labels: "pd.DataFrame", settings: "Settings") -> "pd.DataFrame":
    """Return the labels whose images are there, with ``file_id``; say which are left out."""
    import pandas as pd

    from al_pipeline.loop.deployment import Artifacts, Deployment
    from al_pipeline.loop.presence import Files

    stored = Artifacts.of(settings).image_pool
    if not stored.exists():
        return labels
    manifest = pd.read_parquet(stored)
    found = Files(manifest, Deployment(settings)).look(labels["sample_id"])
    if found.absent:
        say(escape(found.sentence("labels are left out,")))
    labels = labels[labels["sample_id"].isin(found.there)]
    if "file_id" not in manifest:
        return labels
    usable = manifest[manifest["split"] != "excluded"].set_index("sample_id")
    return labels.assign(file_id=labels["sample_id"].map(usable["file_id"]))


def migrate(home: Home = None) -> None:
    """Bring the ledger's tables up to date (every other command does so too when it opens the ledger)."""
    settings = configure(home)
    from al_pipeline.ledger import Ledger

    Ledger(settings.ledger_url)
    console.print("The ledger is up to date.")


@ledger_commands.command("import")
@told_plainly()
def import_(
    labels: Annotated[Path, typer.Argument(metavar="PATH", help="Table, or folder of a data set.")],
    file_format: Annotated[Read | None, typer.Option("--format", help="By default what names and content say.")] = None,
    folders: Annotated[
        bool, typer.Option("--folders", help="PATH is a folder of class folders (--format folders).")
    ] = False,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out labels of images that are not in the pool.")
    ] = False,
    home: Home = None,
    images: Images = None,
) -> None:
    """Bring labels along, or back from an export: nobody is asked about their images, and corrections win.

    A table has the columns label, and path or sample_id.
    """
    if folders and file_format not in {None, "folders"}:
        raise InputError(f"--folders and --format {file_format} contradict each other: leave one of them out")
    from al_pipeline.core.labels.formats.read import detect, read_labels

    kind = detect(labels) if file_format is None and not folders else file_format or "folders"
    settings = configure(home, images)
    from al_pipeline.loop.deployment import Artifacts

    stored = Artifacts.of(settings).image_pool
    if not stored.exists() and settings.images is None:
        raise InputError("No images are known yet: add --images DIR, the folder that the labels are about")
    import pandas as pd

    from al_pipeline.core.data.pool import class_names, scan
    from al_pipeline.ledger import Ledger
    from al_pipeline.ledger.imports import import_labels
    from al_pipeline.loop.classes import listing_options
    from al_pipeline.loop.how_read import asked_for

    found = read_labels(labels, kind)
    ledger = Ledger(settings.ledger_url)
    if stored.exists() and images is None:
        manifest = pd.read_parquet(stored)
    else:
        assert settings.images is not None
        options = listing_options(settings)
        manifest = scan(
            settings.images, max_excluded_share=settings.max_excluded_share, how=asked_for(settings), **options
        )
        ledger.register(manifest)
    today = ledger.class_set()
    names = list(today.names) if today else class_names(manifest, settings.classes, settings.images or stored)
    done = import_labels(
        ledger, found, names, min_votes=settings.policy.min_votes, manifest=manifest, skip_unknown=skip_unknown
    )
    for remark in found.remarks:
        say(f"[bold yellow]Note:[/bold yellow] {escape(remark)}")
    for line in done.sentences():
        say(escape(line))


@ledger_commands.command()
@told_plainly()
def verify(home: Home = None) -> None:
    """Check that no label is without its source, doubled or of the holdout, and that the file is whole."""
    settings = configure(home)
    _check_kept(settings, home)
    print_check(settings.ledger_url)


def print_check(url: str) -> None:
    """Check a ledger and print what was found; end with 1 if that is a problem."""
    from al_pipeline.ledger.verify import verify as check

    report = check(url)
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


def _classes(ledger: "Ledger", settings: "Settings") -> "list[str] | None":
    """Return today's classes, None if nothing tells them yet; labels get out also where settings contradict images."""
    if (today := ledger.class_set()) is not None:
        return list(today.names)
    import pandas as pd

    from al_pipeline.loop.deployment import Artifacts

    stored = Artifacts.of(settings).image_pool
    if settings.classes or not stored.exists():
        return settings.classes
    return sorted(set(pd.read_parquet(stored, columns=["label"])["label"].dropna())) or None


def _write_table(table: "pd.DataFrame", output: Path, kind: str) -> None:
    from al_pipeline.core.files import whole_file

    with whole_file(output, "The labels") as file:
        if kind == "csv":
            table.to_csv(file, index=False)
        elif kind == "parquet":
            table.to_parquet(file, index=False)
        else:
            # Moments tell which state of an answer a row was, so they stay exact.
            table.to_json(file, orient="records", lines=False, date_format="iso", date_unit="us", indent=1)
