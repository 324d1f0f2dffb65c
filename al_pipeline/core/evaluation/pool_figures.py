"""Pictures of what a scan found: images by class, and how large they are."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.evaluation.figures import COLORS, as_png, canvas, legend, plain_name

# Of more classes there is a curve, without their names.
NAMED_CLASSES = 25


def class_counts(counts: pd.DataFrame) -> bytes:
    """Draw the number of images of each class.

    Parameters
    ----------
    counts : DataFrame
        Columns ``pool`` and ``holdout``, the names of the classes in the index, the largest first.
    """
    named = len(counts) <= NAMED_CLASSES
    names = [plain_name(name) for name in counts.index] if named else []
    left = 0.5 + 0.08 * max(map(len, names), default=2)
    figure, axes = canvas(
        f"Images of {len(counts)} classes", size=(5.6, 1.3 + 0.22 * max(len(names), 8)), margins=(left, 0.55)
    )
    places, start = np.arange(len(counts)), np.zeros(len(counts))
    for split, color in zip(("pool", "holdout"), COLORS, strict=False):
        number = counts[split].to_numpy()
        if number.any():
            if named:
                axes.barh(places, number, left=start, height=0.8, color=color, label=split)
            else:
                # A thousand bars take seconds to draw.
                edges, above = np.arange(len(counts) + 1) - 0.5, start + number
                axes.stairs(above, edges, baseline=start, orientation="horizontal", fill=True, color=color, label=split)
            start = start + number
    axes.set(xlabel="images", ylim=(len(counts) - 0.5, -0.5))
    axes.set_yticks(places if named else [], names)
    if not named:
        axes.set_ylabel("classes, the largest first")
    if counts["holdout"].any():
        # Room for the legend beside the bars.
        axes.set_xlim(right=1.3 * start.max())
        legend(axes, loc="lower right")
    return as_png(figure)


def size_histogram(width: npt.ArrayLike, height: npt.ArrayLike) -> bytes:
    """Draw how the sizes of the images are spread, by the side of a square of as many pixels."""
    sides = np.sqrt(np.asarray(width, dtype=float) * np.asarray(height, dtype=float))
    figure, axes = canvas("Size of the images", size=(5.6, 3.0))
    low, high = (float(sides.min()), float(sides.max())) if len(sides) else (1.0, 1.0)
    # Icons and photos in one folder are decades apart.
    axes.hist(sides, bins=np.geomspace(low / 1.5, high * 1.5, 30).tolist(), color=COLORS[0], rwidth=0.92)
    axes.set_xscale("log")
    # matplotlib's own of a logarithmic scale lie on each other, or there is one.
    ticks = sorted({float(f"{tick:.2g}") for tick in np.geomspace(low / 1.4, high * 1.4, 6)})
    axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="side of a square of as many pixels (px)", ylabel="images")
    return as_png(figure)
