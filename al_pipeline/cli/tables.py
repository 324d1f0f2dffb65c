"""Tables that a person reads in the terminal."""

from rich.console import Console
from rich.table import Table

from al_pipeline.servers.observer import RoundRow


def _interval(numbers: tuple[float, float, float] | None) -> str:
    return "–" if numbers is None else f"{numbers[0]:.3f} ({numbers[1]:.3f}–{numbers[2]:.3f})"


def rounds_table(rows: list[RoundRow]) -> Table:
    """Return the table of rounds: labels trained on, accuracy and ROC-AUC with 95 % intervals, seconds."""
    table = Table(title=f"Rounds, measured on {max(row.holdout for row in rows)} holdout samples")
    for column, justify in (
        ("round", "left"),
        ("labels", "right"),
        ("accuracy (95 %)", "right"),
        ("ROC-AUC (95 %)", "right"),
        ("seconds", "right"),
    ):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            row.key,
            str(row.labels),
            _interval(row.accuracy),
            _interval(row.roc_auc),
            "–" if row.seconds is None else f"{row.seconds:.1f}",
        )
    return table


def print_rounds(console: Console, rows: list[RoundRow]) -> None:
    """Print the table, or that there is nothing yet."""
    if rows:
        console.print(rounds_table(rows))
    else:
        console.print("No round has been evaluated yet.")
