"""`al scan`: what a folder of images holds, before there is a project and without servers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, check_output, configure, console, end_on_signals, in_words_given, say
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from al_pipeline.core.data.report import Report
    from al_pipeline.settings import Settings

PAGE_OPTION = "--html"


def scan(
    folder: Annotated[
        str | None,
        typer.Argument(metavar="[DIR]", help="Folder of images, or its address (s3://…); the settings' by default."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Names of the classes, with commas; other folders are no classes.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group", metavar="RULE", help="What belongs together, as the setting `group` has it (AL_GROUP)."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every file, also those that look as they did at the last scan.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(PAGE_OPTION, metavar="FILE", help="Write a page with pictures of what is odd.")
    ] = None,
    home: Home = None,
) -> None:
    """Show what a folder of images holds: classes, sizes, look-alikes, what is set aside and why."""
    end_on_signals()
    settings = configure(home, folder, spelled={"images": "DIR"} if folder else None, classes=classes, group=group)
    if settings.images is None:
        raise InputError("No folder of images is named: `al scan DIR`, AL_IMAGES, or `images` in al.toml")
    if html is not None:
        check_output(html, PAGE_OPTION)
    from al_pipeline.cli.tables import print_scan
    from al_pipeline.core.data.folder import list_files
    from al_pipeline.core.data.groups import assign, check_rule
    from al_pipeline.core.data.pool import scan_listed
    from al_pipeline.core.data.report import describe
    from al_pipeline.core.data.scan_cache import ScanCache
    from al_pipeline.loop.classes import listing_options
    from al_pipeline.loop.deployment import Artifacts
    from al_pipeline.loop.how_read import asked_for, settle

    check_rule(settings.group)
    options = listing_options(settings)
    listing = files = list_files(settings.images, **options)
    if listing.question is not None:
        # Until it is answered no folder is a class: none can have this name.
        files = list_files(settings.images, **options | {"classes": ["/"], "known": ()})
    asked = asked_for(settings)
    # Only a home that was named is written to.
    cache = ScanCache(settings.home / "cache" / "scan", asked) if "home" in settings.model_fields_set else None
    if full and cache is not None:
        cache.forget()
    with reading(kept=cache is not None) as progress:
        # A folder that is mostly broken is to be looked at all the more.
        manifest = scan_listed(settings.images, files, max_excluded_share=1, cache=cache, progress=progress, how=asked)
    manifest["group"] = assign(manifest, settings.images, settings.group)
    kept, reading_told = settle(settings, Artifacts.of(settings), manifest)
    how = kept.how
    report = describe(manifest, settings.images, listing, rule=settings.group, how=how)
    print_scan(console, report)
    remarks = [
        in_words_given(each) for each in (*reading_told, *_remarks(settings, report, manifest, listing.question))
    ]
    for remark in remarks:
        say(f"[yellow]Note:[/yellow] {escape(remark)}")
    if html is not None:
        from al_pipeline.cli.scan_page import scan_page
        from al_pipeline.core.files import whole_file

        with whole_file(html, "The page") as file:
            file.write_text(scan_page(report, manifest, remarks, how), encoding="utf-8")
        say(f"The page is {escape(str(html))}")


def _remarks(settings: "Settings", report: "Report", manifest: "pd.DataFrame", question: str | None) -> Iterator[str]:
    """Yield what `al up` would say of this folder, and refuse it for."""
    from al_pipeline.core.data.pool import class_names

    yield from report.remarks
    if report.excluded > settings.max_excluded_share * len(manifest):
        yield (
            f"{report.excluded:,} of {len(manifest):,} files are set aside. `al up` refuses the folder if more than "
            f"{settings.max_excluded_share:.0%} cannot be decoded: mend or remove them, or raise AL_MAX_EXCLUDED_SHARE"
        )
    if question is not None:
        yield question
        return
    try:
        class_names(manifest, settings.classes, settings.images)
    except InputError as error:
        yield str(error)


@contextmanager
def reading(*, kept: bool) -> Iterator[Callable[[int, int], None]]:
    """Show how many files are read, how fast and for how long; say so if Ctrl-C ends it, and whether that is `kept`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    read = total = 0
    rate = TextColumn("{task.fields[rate]}")
    columns = TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Reading", total=None, rate="")

        def progress(done: int, files: int) -> None:
            nonlocal read, total
            read, total = done, files
            speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
            bar.update(task, completed=done, total=files, rate=f"{speed:,.0f} files/s" if speed else "")

        try:
            yield progress
        except KeyboardInterrupt:
            bar.stop()
            then = (
                "the next scan goes on from there" if kept else "with --home DIR the next scan would go on from there"
            )
            say(f"Ended after {read:,} of {total:,} files; {then}")
            raise
