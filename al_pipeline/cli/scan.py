"""`al scan`: what a folder of images holds, before there is a project and without servers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.session import check_output, configure, console, end_on_signals, say
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from al_pipeline.core.data.report import Report
    from al_pipeline.settings import Settings

PAGE_OPTION = "--html"


def scan(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Folder of images; that of the settings by default.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(PAGE_OPTION, metavar="FILE", help="Write a page with pictures of what is odd.")
    ] = None,
) -> None:
    """Show what a folder of images holds: classes, sizes, look-alikes, what is set aside and why."""
    end_on_signals()
    settings = configure(None, folder)
    if settings.images is None:
        raise InputError("No folder of images is named: `al scan DIR`, AL_IMAGES, or `images` in al.toml")
    if html is not None:
        check_output(html, PAGE_OPTION)
    from al_pipeline.cli.tables import print_scan
    from al_pipeline.core.data.report import describe

    manifest = _read(settings, settings.images)
    report = describe(manifest, settings.images, rule=settings.group)
    print_scan(console, report)
    remarks = [*_remarks(settings, report, manifest)]
    for remark in remarks:
        say(f"[yellow]Note:[/yellow] {escape(remark)}")
    if html is not None:
        from al_pipeline.cli.scan_page import scan_page
        from al_pipeline.core.files import whole_file

        with whole_file(html, "The page") as file:
            file.write_text(scan_page(report, manifest, remarks), encoding="utf-8")
        say(f"The page is {escape(str(html))}")


def _read(settings: "Settings", images: Path) -> "pd.DataFrame":
    from al_pipeline.core.data import pool

    # A folder that is mostly broken is to be looked at all the more.
    with reading() as progress:
        return pool.scan(images, max_excluded_share=1, follow_links=settings.follow_links, progress=progress)


def _remarks(settings: "Settings", report: "Report", manifest: "pd.DataFrame") -> Iterator[str]:
    """Yield what `al up` would say of this folder, and refuse it for."""
    from al_pipeline.core.data.pool import class_names

    yield from report.remarks
    if report.excluded > settings.max_excluded_share * len(manifest):
        yield (
            f"{report.excluded:,} of {len(manifest):,} files are set aside. `al up` refuses the folder if more than "
            f"{settings.max_excluded_share:.0%} cannot be decoded: mend or remove them, or raise AL_MAX_EXCLUDED_SHARE"
        )
    try:
        class_names(manifest, settings.classes, settings.images)
    except InputError as error:
        yield str(error)


@contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """Show how many files are read, how fast and for how long; say so if Ctrl-C ends it."""
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
            say(f"Ended after {read:,} of {total:,} files. Nothing was written; `al scan` begins anew")
            raise
