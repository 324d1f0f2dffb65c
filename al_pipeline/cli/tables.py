"""Tables that a person reads in the terminal. From 60 columns on no figure is cut: what is too long goes on below."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from al_pipeline.core.evaluation.metrics import METRICS, TITLES, Interval

if TYPE_CHECKING:
    from al_pipeline.core.data.report import Report
    from al_pipeline.core.labels.class_set import ClassSet
    from al_pipeline.core.study.results import Results
    from al_pipeline.servers.observer import RoundRow


# Marks a round.
OTHER = "*"
# Classes that a table of a scan shows; of more there are the largest and the smallest.
MOST_CLASSES = 20


def _interval(numbers: Interval | None) -> str:
    return "–" if numbers is None else f"{numbers.value:.3f} ({numbers.low:.3f}–{numbers.high:.3f})"


def rounds_table(rows: list["RoundRow"]) -> Table:
    """Return the table of rounds: labels trained on, the metrics with 95 % intervals, seconds."""
    tests = {row.holdout for row in rows if row.holdout}
    each = len(tests) > 1
    on = "the holdout samples answered by then" if each else f"{max(tests, default=0)} holdout samples"
    table = Table(title=f"Rounds, measured on {on}")
    if any(row.other_classes for row in rows):
        table.caption = f"{OTHER} told other classes apart than today's (`al classes list`): not to be compared"
    table.add_column("round", no_wrap=True)
    table.add_column("labels", justify="right", no_wrap=True)
    if each:
        table.add_column("tests", justify="right", no_wrap=True)
    for metric in METRICS:
        table.add_column(f"{metric.title} (95 %)", justify="right", overflow="fold")
    table.add_column("seconds", justify="right", no_wrap=True)
    for row in rows:
        scores = (_interval(row.scores[metric.name]) for metric in METRICS)
        key, seconds = row.key + OTHER * row.other_classes, "–" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(key, str(row.labels), *([str(row.holdout)] if each else []), *scores, seconds)
    return table


def print_rounds(console: Console, rows: list["RoundRow"]) -> None:
    """Print the table, or that there is nothing yet."""
    console.print(rounds_table(rows) if rows else "No round has been evaluated yet.")


def class_table(classes: "ClassSet", labels: Mapping[str, int]) -> Table:
    """Return the table of classes: how many images have each as their label, and what it was called before."""
    table = Table(title="Classes")
    table.add_column("class", overflow="fold")
    table.add_column("labels", justify="right", no_wrap=True)
    table.add_column("also called", overflow="fold")
    for name in classes.names:
        former = [old for old, new in classes.renamed.items() if new == name]
        table.add_row(escape(name), str(labels[name]), escape(", ".join(former)))
    return table


def score_tables(results: "Results") -> Iterator[Table]:
    """Yield a table per metric: its mean of each strategy at some budgets.

    Parameters
    ----------
    results : Results
    """
    budgets, seeds = results.shown_budgets(), results.table["seed"].nunique()
    found = results.at_budgets(budgets)
    for metric in results.metrics:
        table = Table(title=f"Mean {TITLES[metric]} on the holdout by {results.counted}, {seeds} seeds")
        table.add_column("strategy", overflow="fold")
        for budget in budgets:
            table.add_column(f"{budget:,}", justify="right", no_wrap=True)
        for strategy, rows in found.groupby("strategy", sort=False):
            table.add_row(str(strategy), *(f"{score:.3f}" for score in rows[metric]))
        yield table


def print_scan(console: Console, report: "Report") -> None:
    """Print what a scan found: images by class and split, what else is to be said, and what is set aside and why."""
    console.print(f"[bold]{escape(report.title)}[/bold]", soft_wrap=True)
    console.print(*_scan_tables(report))


def _scan_tables(report: "Report") -> Iterator[Table]:
    counts = Table()
    counts.add_column("class", overflow="fold")
    for split in ("pool", "holdout"):
        counts.add_column(split, justify="right", no_wrap=True)
    for name, *numbers in shown_counts(report):
        counts.add_row(escape(name), *numbers)
    counts.add_section()
    counts.add_row("all", f"{report.pool:,}", f"{report.holdout:,}")
    yield counts
    facts = Table(show_header=False, box=None)
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    for subject, text in report.facts():
        facts.add_row(subject, escape(text))
    yield facts
    if report.set_aside:
        aside = Table(title=f"Set aside: {report.excluded:,} files")
        aside.add_column("files", justify="right", no_wrap=True)
        aside.add_column("why", overflow="fold")
        aside.add_column("for example", overflow="fold")
        for each in report.set_aside:
            aside.add_row(f"{each.files:,}", escape(each.reason), escape(each.example))
        yield aside


def shown_counts(report: "Report") -> Iterator[tuple[str, str, str]]:
    """Yield name, images in the pool and in the holdout of each class; of many classes the first and the last."""
    rows = [(name, f"{row.pool:,}", f"{row.holdout:,}") for name, row in report.counts.iterrows()]
    if (more := len(rows) - MOST_CLASSES) > 0:
        half = MOST_CLASSES // 2
        rows = [*rows[:half], (f"… {more:,} more", "", ""), *rows[-half:]]
    yield from rows
