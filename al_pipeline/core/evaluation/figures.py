"""Pictures of a model and its rounds: small PNGs in one style, drawn without pyplot's global state.

matplotlib is imported when a picture is drawn, since Dagster's code location, which needs this module, must load fast.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.evaluation.metrics import METRICS, columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from al_pipeline.core.evaluation.evaluate import Evaluation

# Dagster stores metadata with every event and sends it to the browser with every page.
MAX_BYTES = 100_000
DPI = 110
# The first eight are told apart by people with colour-blindness (Okabe and Ito 2008, the yellow darkened).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#B8A800", "#4D4D4D")
INK, FAINT, GRID = "#22272e", "#6b7480", "#e3e7ec"
NUMBERED_CLASSES = 20
LEGEND_CLASSES = 10
LONGEST_NAME = 18


def loss_curve(losses: Sequence[float], validation: Sequence[float] = ()) -> bytes:
    """Draw the mean cross-entropy (nats) of every epoch, in training and on the validation share if there is one."""
    figure, axes = canvas("Training loss")
    epochs = np.arange(1, len(losses) + 1)
    axes.plot(epochs, losses, color=COLORS[0], linewidth=2, marker="o" if len(losses) < 40 else "", markersize=4)
    if validation:
        axes.get_lines()[0].set_label("training")
        axes.plot(epochs, validation, color=COLORS[1], linewidth=2, label="validation")
        legend(axes)
    axes.set(xlabel="epoch", ylabel="cross-entropy", xlim=(0.5, len(losses) + 0.5))
    axes.set_ylim(bottom=0)
    whole_numbers(axes)
    return as_png(figure)


def roc_curve(evaluation: "Evaluation") -> bytes:
    """Draw the ROC curves, one class against the rest, with the area under each."""
    found = evaluation.roc_auc
    title = "ROC" if found is None else f"ROC-AUC {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    figure, axes = canvas(title, size=(5.4, 4.6))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 4)))
    many = len(evaluation.roc) > LEGEND_CLASSES + 1
    for i, curve in enumerate(evaluation.roc):
        mean = len(evaluation.roc) > 1 and i == len(evaluation.roc) - 1
        axes.plot(
            curve.false_positive_rate,
            curve.true_positive_rate,
            color=INK if mean else COLORS[i % len(COLORS)],
            linewidth=2.4 if mean or len(evaluation.roc) == 1 else 1.2,
            alpha=0.45 if many and not mean else 1,
            linestyle="-" if i < len(COLORS) or mean else "--",
            label=f"{plain_name(curve.name)}  {curve.auc:.3f}" if mean or not many else None,
        )
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    if evaluation.roc:
        legend(axes, loc="lower right")
    return as_png(figure)


def confusion_matrix(evaluation: "Evaluation") -> bytes:
    """Draw true against predicted classes: shares per true class, with counts where there is room for them."""
    counts = np.array(evaluation.confusion, dtype=float)
    shares = np.divide(counts, counts.sum(axis=1, keepdims=True), out=np.zeros_like(counts), where=counts > 0)
    k = len(counts)
    numbered = k <= NUMBERED_CLASSES
    side = float(np.clip(2.2 + 0.34 * k, 3.6, 7.6)) if numbered else 5.6
    names = [plain_name(name) for name in evaluation.class_names]
    longest = max(map(len, names)) if numbered else 4
    slanted = longest > 3
    margins = (0.4 + 0.075 * longest, 0.55 + (0.05 * longest if slanted else 0))
    size = (side + margins[0] - 0.1, side + margins[1] - 0.5)
    figure, axes = canvas("Confusion matrix", size=size, margins=margins, grid=False)
    blues = blend("#ffffff", "#cfe3f2", COLORS[0])
    if numbered:
        axes.imshow(shares, cmap=blues, vmin=0, vmax=1, interpolation="nearest")
    else:
        # More classes than pixels: a dot is the largest share of its neighbourhood, and its root, for it to be seen.
        first = np.arange(0, k, -(-k // 150))
        largest = np.maximum.reduceat(np.maximum.reduceat(shares, first, axis=0), first, axis=1)
        axes.imshow(largest**0.5, cmap=blues, vmin=0, vmax=1, extent=(0, k, k, 0), interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="true")
    if numbered:
        class_ticks(axes, names, slanted=slanted)
        for row, column in np.argwhere(counts > 0):
            cell_text(axes, row, column, f"{counts[row, column]:.0f}", float(shares[row, column]))
    return as_png(figure)


def reliability(evaluation: "Evaluation") -> bytes:
    """Draw accuracy against confidence: on the diagonal, 80 % sure means right in 80 % of the cases."""
    title = "Calibration" if evaluation.ece is None else f"Calibration, ECE {evaluation.ece:.3f}"
    figure, axes = canvas(title, size=(5.0, 4.6))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 4)))
    largest = max((b.count for b in evaluation.calibration), default=1)
    for b in evaluation.calibration:
        # Colour says how many samples a bar stands for, so that a bar of three does not look like one of three hundred.
        strength = 0.25 + 0.65 * (b.count / largest) ** 0.5
        axes.bar((b.low + b.high) / 2, b.accuracy, width=0.9 * (b.high - b.low), color=COLORS[0], alpha=strength)
        axes.text((b.low + b.high) / 2, b.accuracy + 0.015, str(b.count), ha="center", fontsize=7, color=FAINT)
    axes.set(xlabel="confidence", ylabel="accuracy (bars: number of samples)", xlim=(0, 1), ylim=(0, 1.08))
    return as_png(figure)


def score_histogram(certainty: npt.ArrayLike) -> bytes:
    """Draw how the certainties, max softmax − 1/K, of the candidates are spread."""
    values = np.asarray(certainty, dtype=float)
    figure, axes = canvas(f"Certainty of {len(values)} candidates", size=(5.6, 3.2))
    # From 0, the least there can be, so that two rounds' pictures start at the same place.
    axes.hist(values, bins=30, range=(0, max(0.05, float(values.max(initial=0)))), color=COLORS[0], rwidth=0.92)
    if len(values):
        median = float(np.median(values))
        axes.axvline(median, color=COLORS[1], linewidth=1.5, label=f"median {median:.3f}")
        legend(axes)
    axes.set(xlabel="certainty (0: all classes alike)", ylabel="candidates")
    return as_png(figure)


def learning_curve_picture(rows: pd.DataFrame, random_curve: npt.ArrayLike | None = None) -> bytes:
    """Draw the metrics against the number of labels, with 95 % bands; of answers, where one gave several labels.

    Parameters
    ----------
    rows : DataFrame
        One row per round: n_labels, perhaps n_answers, and, by `metrics.columns`, the metrics, which may be missing.
    random_curve : array_like, shape (4, p), optional
        What random labels are projected to give: numbers of labels (answers), accuracy, its lower and its upper limit.
    """
    figure, axes = canvas("Learning curve", size=(6.4, 4.0))
    lowest, across = 1.0, "n_labels"
    if "n_answers" in rows and (rows["n_answers"] < rows["n_labels"]).any():
        across = "n_answers"
    if random_curve is not None:
        labels, accuracy, low, high = np.asarray(random_curve, dtype=float)
        axes.fill_between(labels, low, high, color=COLORS[2], alpha=0.12, linewidth=0)
        axes.plot(labels, accuracy, color=COLORS[2], linestyle="--", label="accuracy, random labels (projected)")
        lowest = float(low.min())
    # The third colour is that of random labels.
    for metric, color in zip(METRICS, (*COLORS[:2], *COLORS[3:]), strict=False):
        known = rows.dropna(subset=[metric.name]).sort_values(across)
        if len(known):
            x, y, low, high = (known[name].astype(float) for name in (across, *columns(metric.name, None)))
            axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
            axes.plot(x, y, color=color, linewidth=2, marker="o", markersize=4.5, label=metric.title)
            lowest = min(lowest, float(low.min()))
    # The scale ends at 1 and starts below the lowest band: steps of a few points stay visible.
    axes.set_ylim(max(0.0, np.floor(lowest * 10 - 0.2) / 10), 1.01)
    axes.set(xlabel=across.removeprefix("n_"), ylabel="score on the holdout (95 % band)")
    whole_numbers(axes)
    if axes.get_lines():
        legend(axes, loc="lower right")
    return as_png(figure)


def canvas(
    title: str,
    *,
    size: tuple[float, float] = (5.6, 3.6),
    margins: tuple[float, float] = (0.65, 0.55),
    right: float = 0.15,
    grid: bool = True,
) -> "tuple[Figure, Axes]":
    """Return a figure of the house style; `size`, its left and lower `margins` and the `right` one are in inches.

    Margins are given because matplotlib's layout engines find them by drawing everything twice.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    width, height = size
    figure.subplots_adjust(margins[0] / width, margins[1] / height, 1 - right / width, 1 - 0.35 / height)
    axes = figure.add_subplot()
    # With its height given, matplotlib does not measure everything that the title might collide with.
    axes.set_title(title, y=1.0, fontsize=11, color=INK, loc="left", fontweight="bold")
    axes.tick_params(colors=FAINT, labelsize=8.5, length=3)
    axes.xaxis.label.set(color=FAINT, fontsize=9.5)
    axes.yaxis.label.set(color=FAINT, fontsize=9.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    if grid:
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, axes


def whole_numbers(axes: "Axes") -> None:
    """Have ticks at whole numbers alone: there is no half label."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def legend(axes: "Axes", loc: Literal["best", "lower right"] = "best") -> None:
    """Add the legend in the house style."""
    axes.legend(loc=loc, fontsize=8, frameon=True, framealpha=0.85, edgecolor=GRID, labelcolor=INK)


def blend(*colors: str) -> "Colormap":
    """Return the colour map that goes from each colour to the next."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("", colors)


def class_ticks(axes: "Axes", names: Sequence[str], *, slanted: bool = True) -> None:
    """Name the rows and columns of a matrix."""
    axes.set_xticks(range(len(names)), names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)


def cell_text(axes: "Axes", row: int, column: int, text: str, strength: float, size: float = 8) -> None:
    """Write into a cell of a matrix, in white where its colour is of more than 70 % strength."""
    color = "white" if strength > 0.7 else INK
    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def plain_name(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a name as matplotlib shows it: not as a formula, and short enough for a tick."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return short.replace("$", r"\$")


def as_png(figure: "Figure") -> bytes:
    """Return the figure as PNG of less than `MAX_BYTES`, with fewer and fewer colours if it must be."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes; the numbers are still worth seeing.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    png = buffer.getvalue()
    for smaller in chain([png], _fewer_colors(png)):
        png = smaller
        if len(png) < MAX_BYTES:
            break
    return png


def _fewer_colors(png: bytes) -> Iterator[bytes]:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        pixels = image.convert("RGB")
    for colors, scale in ((256, 1), (64, 1), (16, 1), (16, 2), (8, 4)):
        buffer = io.BytesIO()
        pixels.reduce(scale).quantize(colors).save(buffer, format="PNG", optimize=True)
        yield buffer.getvalue()
