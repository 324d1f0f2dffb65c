"""Pictures of a study: strategies compared by curves, differences, areas, and wins and losses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from al_pipeline.core.evaluation.figures import (
    COLORS,
    FAINT,
    INK,
    as_png,
    blend,
    canvas,
    cell_text,
    class_ticks,
    legend,
    plain_name,
    whole_numbers,
)
from al_pipeline.core.evaluation.metrics import BETTER, WORSE
from al_pipeline.core.study.paired import AreaDifference
from al_pipeline.core.study.results import BASELINE
from al_pipeline.core.study.savings import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Up to this many strategies the legend fits into the picture.
LEGEND_INSIDE = 5
# From here on bands are paler, as they lie on each other.
MANY = 4
# The colours of all that are far apart from each other and from black, then again with other lines and points.
APART = COLORS[:6]
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D")
LONGEST = 22
VERDICT_COLORS = {BETTER: COLORS[2], WORSE: COLORS[1]}
POINTS = 100


def score_curves(frame: pd.DataFrame, counted: str, scored: str, *, banded: bool) -> bytes:
    """Draw the mean learning curve of each strategy.

    Parameters
    ----------
    frame : DataFrame
        Columns strategy, budget, mean and, if `banded`, low and high.
    counted, scored : str
        What the axes show: "labels", "ROC-AUC".
    banded : bool
        Whether there are 95 % bands.
    """
    # The legend is in the order in which the lines end.
    last = frame.sort_values("budget", kind="stable").groupby("strategy")["mean"].last()
    names = sorted(last.index, key=lambda name: (-last[name], name))
    figure, axes = _plot("Learning curves", len(names))
    _lines(axes, frame, names, banded=banded)
    axes.set(xlabel=counted, ylabel=f"{scored} on the holdout" + (" (95 % band)" if banded else ""))
    # Neither the untrained model nor the first batch, which all share, nor wide bands may flatten what differs.
    means = frame.groupby("budget")["mean"]
    apart = (means.max() > means.min()) & (means.max().index > 0)
    shown = frame[frame["budget"].map(apart)] if apart.any() else frame
    lowest, highest = float(shown["mean"].min()), float(shown["mean"].max())
    margin = max(0.004, 0.08 * (highest - lowest))
    axes.set_ylim(max(0.0, lowest - margin), min(1.0, highest + margin) + 0.002)
    return _finished(figure, axes, len(names), "lower right")


def difference_curves(frame: pd.DataFrame, counted: str, scored: str) -> bytes:
    """Draw each strategy's paired difference to random choice along the budget.

    Parameters
    ----------
    frame : DataFrame
        Columns strategy, budget, mean, low and high: shares.
    counted, scored : str
        What the axes show.
    """
    shown = frame.assign(**{name: POINTS * frame[name] for name in ("mean", "low", "high")})
    order = shown.groupby("strategy")["mean"].mean()
    names = sorted(order.index, key=lambda name: (-order[name], name))
    figure, axes = _plot(f"Difference to {BASELINE}, seed by seed", len(names))
    axes.axhline(0, color=INK, linewidth=1.2)
    _lines(axes, shown, names, banded=True)
    axes.set(xlabel=counted, ylabel=f"points of {scored} over {BASELINE} (95 % band)")
    # At the first budgets a band may be ten times as wide as all lines are apart.
    low, high = float(shown["mean"].min()), float(shown["mean"].max())
    margin = max(0.3, 0.35 * (high - low))
    axes.set_ylim(min(0.0, low) - margin, max(0.0, high) + margin)
    return _finished(figure, axes, len(names), "best")


def area_forest(differences: Mapping[str, AreaDifference], scored: str) -> bytes:
    """Draw the differences of areas under the budget curve with interval and verdict, the best strategy first."""
    names = sorted(differences, key=lambda name: (-differences[name].difference.value, name))
    figure, axes = canvas(
        f"Area under the {scored} curve against {BASELINE}",
        size=(7.6, max(2.4, 1.25 + 0.29 * len(names))),
        margins=(1.85, 0.6),
        right=2.35,
    )
    for row, name in enumerate(names):
        found = differences[name]
        value, low, high = (POINTS * share for share in found.difference)
        color = VERDICT_COLORS.get(found.verdict, FAINT)
        axes.plot([low, high], [row, row], color=color, linewidth=2.2, solid_capstyle="butt")
        axes.plot([value], [row], color=color, marker="o", markersize=6)
        test = "no test" if found.p_holm is None else f"p {found.p_holm:.2g}"
        said = f"{signed(value)}  ({test})  {found.verdict}"
        axes.text(1.02, row, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)
    axes.axvline(0, color=INK, linewidth=1.2)
    axes.set_yticks(range(len(names)), [plain_name(name, LONGEST) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="points on average over all budgets (95 % interval; p by Holm)")
    return as_png(figure)


def win_matrix(found: pd.DataFrame) -> bytes:
    """Draw at how many budgets (`paired.wins`) the strategy of the row wins, ties and loses against the column's."""
    balance = found.assign(net=found["wins"] - found["losses"]).groupby("strategy")["net"].sum()
    names = sorted(balance.index, key=lambda name: (-balance[name], name))
    number = {name: i for i, name in enumerate(names)}
    total = int(found[["wins", "ties", "losses"]].iloc[0].sum())
    net = np.zeros((len(names), len(names)))
    side = float(np.clip(0.52 * len(names), 1.6, 7.6))
    figure, axes = canvas(
        f"Wins / ties / losses over {total} budgets",
        size=(max(3.9, side + 2.05), side + 1.75),
        margins=(1.9, 1.4),
        grid=False,
    )
    for row in found.itertuples(index=False):
        i, j = number[row.strategy], number[row.other]
        net[i, j] = (row.wins - row.losses) / total
        cell_text(axes, i, j, f"{row.wins}/{row.ties}/{row.losses}", abs(net[i, j]), 7.5)
    axes.imshow(net, cmap=blend(COLORS[1], "#ffffff", COLORS[2]), vmin=-1, vmax=1, interpolation="nearest")
    class_ticks(axes, [plain_name(name, LONGEST) for name in names])
    axes.set(xlabel="against")
    return as_png(figure)


def _plot(title: str, lines: int) -> "tuple[Figure, Axes]":
    outside = lines > LEGEND_INSIDE
    height = max(4.2, 0.9 + 0.2 * lines) if outside else 4.2
    return canvas(title, size=(8.6 if outside else 6.6, height), right=2.1 if outside else 0.15)


def _lines(axes: "Axes", frame: pd.DataFrame, names: Sequence[str], *, banded: bool) -> None:
    """Draw a line per strategy; `names` is the order of the legend, colours go by the alphabet.

    So that a strategy looks the same in every picture of a study; the baseline is black.
    """
    colored = sorted(set(frame["strategy"]) - {BASELINE})
    for name in names:
        rows = frame[frame["strategy"] == name].sort_values("budget")
        if name == BASELINE:
            color, dash, marker, width = INK, "-", "", 2.6
        else:
            turn, place = divmod(colored.index(name), len(APART))
            color, dash, marker, width = APART[place], DASHES[turn % 4], MARKERS[turn % 4], 1.8
        if banded:
            strength = 0.15 if len(names) <= MANY else 0.05
            axes.fill_between(rows["budget"], rows["low"], rows["high"], color=color, alpha=strength, linewidth=0)
        axes.plot(
            rows["budget"],
            rows["mean"],
            color=color,
            linewidth=width,
            linestyle=dash,
            marker=marker if len(rows) <= 60 else "",
            markersize=3.8,
            label=plain_name(name, LONGEST),
        )


def _finished(figure: "Figure", axes: "Axes", lines: int, where: Literal["best", "lower right"]) -> bytes:
    whole_numbers(axes)
    legend(axes, loc=where)
    if lines > LEGEND_INSIDE:
        found = axes.get_legend()
        assert found is not None
        found.set_loc("upper left")
        found.set_bbox_to_anchor((1.01, 1.0))
    return as_png(figure)
