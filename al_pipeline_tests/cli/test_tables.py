"""No figure of a table is cut, however narrow the terminal and however many strategies and budgets."""

import itertools

import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from al_pipeline.cli.tables import rounds_table, score_tables
from al_pipeline.core.evaluation.metrics import METRICS, Interval
from al_pipeline.core.strategies import available
from al_pipeline.core.study.results import Results
from al_pipeline.servers.observer import RoundRow

WIDTHS = (60, 80, 200)
NAMES = [*available(), "auto, label propagation"]


def study(most: int) -> pd.DataFrame:
    """Return runs whose scores all differ, of the first batch and each tenth of the budget."""
    rows = itertools.product(NAMES, (0, 1), (most // 100, *(most * tenth // 10 for tenth in range(1, 11))))
    frame = pd.DataFrame(rows, columns=["strategy", "seed", "n_labels"])
    shares = 0.3 + frame.index / len(frame) / 2
    return frame.assign(n_asked=frame["n_labels"], accuracy=shares, roc_auc=shares + 0.1)


def shown(table: Table, width: int) -> list[list[str]]:
    """Return the cells of what is printed, line by line."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in capture.get()
    return [[cell.strip() for cell in line.strip("│┃").split("│" if "│" in line else "┃")] for line in lines]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("most", [400, 200_000])
def test_every_score_of_a_study_is_whole(width: int, most: int) -> None:
    results = Results(study(most), axis="n_asked")
    wanted = results.at_budgets(results.shown_budgets())
    tables = list(score_tables(results))
    assert len(tables) == len(METRICS)
    for table, metric in zip(tables, METRICS, strict=True):
        assert table.title == f"Mean {metric.title} on the holdout by samples asked about, 2 seeds"
        cells = shown(table, width)
        assert [f"{budget:,}" for budget in results.shown_budgets()] in [line[1:] for line in cells]
        # A long name goes on below, where there are no scores.
        scores = [line[1:] for line in cells if len(line) > 1 and line[1].startswith("0.")]
        assert [score for line in scores for score in line] == [f"{score:.3f}" for score in wanted[metric.name]]
        assert len(scores) == len(NAMES)


def test_a_metric_that_no_run_has_has_no_table() -> None:
    [table] = score_tables(Results(study(400).assign(roc_auc=float("nan")), "accuracy"))
    assert "accuracy" in str(table.title)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_interval_of_a_round_is_whole(width: int) -> None:
    scores: dict[str, Interval | None] = {metric.name: Interval(0.912, 0.873, 0.943) for metric in METRICS}
    rows = [RoundRow("r0000", 0, 280, dict.fromkeys(scores), None), RoundRow("r0001", 12345, 280, scores, 123.4)]
    words = " ".join(cell for line in shown(rounds_table(rows), width) for cell in line).split()
    assert words.count("0.912") == words.count("(0.873–0.943)") == len(METRICS)
    assert {"12345", "123.4", "r0001", "0"} <= set(words)


def test_rounds_that_told_other_classes_apart_are_marked_and_the_mark_is_told() -> None:
    scores: dict[str, Interval | None] = {metric.name: None for metric in METRICS}
    rows = [RoundRow("r0000", 4, 280, scores, None, True), RoundRow("r0001", 8, 280, scores, None)]
    table = rounds_table(rows)
    keys = [line[0] for line in shown(table, 80)]
    assert "r0000*" in keys
    assert "r0001" in keys
    assert "al classes list" in str(table.caption)
    assert rounds_table(rows[1:]).caption is None


@pytest.mark.parametrize("width", WIDTHS)
def test_rounds_that_are_measured_on_more_and_more_tell_on_how_many(width: int) -> None:
    scores: dict[str, Interval | None] = dict.fromkeys((metric.name for metric in METRICS), Interval(0.5, 0.25, 0.75))
    rows = [RoundRow(f"r{n:04d}", 8 * n, tests, scores, 1.0) for n, tests in enumerate((0, 3, 6))]
    cells = shown(rounds_table(rows), width)
    assert [line[2] for line in cells if line[0].startswith("r0")] == ["0", "3", "6"]
    alike = " ".join(cell for line in shown(rounds_table(rows[:2]), width) for cell in line)
    assert "measured on 3 holdout samples" in alike
