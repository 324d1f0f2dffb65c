"""The paper's test series: B × S, four certainty strategies against passive learning, an untrained ResNet-18.

`python -m benchmarks.paper_series FOLDER OUT` reads `chi_muf_224.tar` from FOLDER and keeps finished runs in OUT, so
that it goes on where it was ended; then it writes `docs/results/paper-series.md` and its picture. With `--finished` it
computes nothing and writes about what OUT holds.
"""

import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import ttest_1samp
from statsmodels.stats.multitest import multipletests

from al_pipeline.core.evaluation.figures import COLORS, DPI, FAINT, INK, as_png
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.study.page import table
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.results import Results
from al_pipeline.core.study.run import run_study, study_key
from al_pipeline.core.study.simulate import known
from benchmarks.data import RESULTS, load, made

PASSIVE = "random"
ACTIVE = ("low_certainty", "high_certainty", "low_high_certainty", "mid_certainty")
BATCHES = (2, 4, 6, 8)
FACTORS = (2, 4, 5, 10)
SEEDS, BUDGET, JOBS = 5, 24, 2
# The paper names loss, optimiser and learning rate, but neither the size of its images nor the number of epochs.
OPTIONS = TrainingOptions(mode="finetune", weights="none", image_size=32, epochs=10)
# Balancing is compared where there is most to choose from.
BALANCED_FACTOR = 10


@dataclass(frozen=True)
class Effect:
    """A mean over seeds with Student's 95 % interval, in points, and p corrected by Holm within its claim."""

    what: str
    mean: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """What the corrected test at 5 % says."""
        return "not shown" if self.p >= 0.05 else "more" if self.mean > 0 else "less"

    def row(self) -> list[str]:
        """Return the cells of a table."""
        return [self.what, f"{self.mean:+.1f}", f"{self.low:+.1f} to {self.high:+.1f}", f"{self.p:.2g}", self.verdict]


def plans() -> list[Plan]:
    """Return the series, in an order in which each part of it says something."""
    order = [(10, False), (2, False), (10, True), (5, False), (4, False)]
    return [
        Plan(
            strategies=(PASSIVE, *ACTIVE),
            seeds=range(SEEDS),
            batch_size=size,
            sample_size=factor * size,
            options=OPTIONS,
            budget=BUDGET,
            balanced=balanced,
            stop_set=False,
        )
        for factor, balanced in order
        for size in BATCHES
    ]


def run(folder: Path, out: Path, *, finished: bool = False) -> pd.DataFrame:
    """Run what is missing, unless `finished`, and return results with the columns batch_size, factor and balanced."""
    images = load("photos", folder, out)
    samples = known(images.manifest, images.class_names)
    found = []
    for plan in plans():
        if finished and len(list((out / study_key(samples, plan)).glob("seed-*.parquet"))) < SEEDS:
            continue
        began = time.monotonic()
        study = run_study(images.manifest, images.class_names, plan, out, jobs=JOBS)
        size = plan.batch_size
        factor = (plan.sample_size or 0) // size
        found.append(study.results.assign(batch_size=size, factor=factor, balanced=plan.balanced))
        print(
            f"B = {size}, S = {factor} B{', balanced' if plan.balanced else ''}: {len(study.computed)} seeds computed "
            f"in {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return pd.concat(found, ignore_index=True)


def run_areas(results: pd.DataFrame) -> pd.DataFrame:
    """Return the area under the ROC-AUC curve of every run, in points, from the first batch on."""
    frames = []
    for (size, factor, balanced), part in results[results["n_labels"] > 0].groupby(
        ["batch_size", "factor", "balanced"]
    ):
        curves = Results(part).curves
        for name in curves.strategies:
            found = {"strategy": name, "seed": curves.seeds, "area": 100 * curves.areas(name)}
            frames.append(pd.DataFrame(found).assign(batch_size=size, factor=factor, balanced=balanced))
    return pd.concat(frames, ignore_index=True)


def effects(samples: dict[str, npt.NDArray[np.float64]]) -> list[Effect]:
    """Test each sample, one value per seed, against 0."""
    if not samples:
        return []
    tests = [ttest_1samp(values, 0) for values in samples.values()]
    corrected = multipletests([float(test.pvalue) for test in tests], method="holm")[1]
    found = []
    for what, values, test, p in zip(samples, samples.values(), tests, corrected, strict=True):
        interval = test.confidence_interval(0.95)
        found.append(Effect(what, float(values.mean()), float(interval.low), float(interval.high), float(p)))
    return found


def against_passive(found: pd.DataFrame, size: int) -> list[Effect]:
    """Return each strategy's lead over passive learning at one B, the mean over S, seed by seed."""
    own = found[(found["batch_size"] == size) & ~found["balanced"]]
    mean = own.groupby(["strategy", "seed"])["area"].mean().unstack("seed")
    return effects({name: (mean.loc[name] - mean.loc[PASSIVE]).to_numpy() for name in ACTIVE})


def larger_samples(found: pd.DataFrame) -> list[Effect]:
    """Return how much area each doubling of S adds, per B: the slope over log₂ S, the mean of the four strategies."""
    samples = {}
    for size in BATCHES:
        own = found[(found["batch_size"] == size) & ~found["balanced"] & (found["strategy"] != PASSIVE)]
        mean = own.groupby(["seed", "factor"])["area"].mean().unstack("factor")
        if len(mean.columns) < 2:
            continue
        doublings = np.log2(mean.columns.to_numpy(dtype=np.float64))
        samples[f"B = {size}"] = np.polyfit(doublings, mean.to_numpy().T, 1)[0]
    return effects(samples)


def balancing(found: pd.DataFrame) -> list[Effect]:
    """Return what balancing adds to each strategy's area at S = 10 B, the mean over those B that have both."""
    own = found[(found["factor"] == BALANCED_FACTOR) & found["batch_size"].isin(balanced_sizes(found))]
    mean = own.groupby(["balanced", "strategy", "seed"])["area"].mean().unstack("seed")
    names = (PASSIVE, *ACTIVE)
    return effects({name: (mean.loc[(True, name)] - mean.loc[(False, name)]).to_numpy() for name in names})


def balanced_sizes(found: pd.DataFrame) -> list[int]:
    """Return the batch sizes that were run with balancing, too."""
    return sorted(found.loc[found["balanced"], "batch_size"].unique())


def smaller_batches(results: pd.DataFrame) -> list[Effect]:
    """Return how much area is lost from one B to the next larger one, at S = 10 B, by passive learning and the four.

    Over the labels that all of them have, from the largest B on; between budgets scores are interpolated.
    """
    own = results[~results["balanced"] & (results["factor"] == BALANCED_FACTOR) & (results["n_labels"] > 0)]
    labels = np.arange(max(BATCHES), BUDGET + 1)
    rows = [
        (name != PASSIVE, size, seed, 100 * np.interp(labels, run["n_labels"], run["roc_auc"]).mean())
        for (name, size, seed), run in own.groupby(["strategy", "batch_size", "seed"])
    ]
    found = pd.DataFrame(rows, columns=["active", "batch_size", "seed", "area"])
    mean = found.groupby(["active", "batch_size", "seed"])["area"].mean().unstack("seed")
    return effects(
        {
            f"{'active' if active else 'passive'}, B = {small} less B = {large}": (
                mean.loc[(active, small)] - mean.loc[(active, large)]
            ).to_numpy()
            for active in (True, False)
            for small, large in pairwise(BATCHES)
        }
    )


def picture(results: pd.DataFrame) -> bytes:
    """Draw mean ROC-AUC against labels: a row per B, a column per S, without balancing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 8.5), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(BATCHES), len(FACTORS), sharex=True, sharey=True)
    plain = results[~results["balanced"] & (results["n_labels"] > 0)]
    for row, size in zip(grid, BATCHES, strict=True):
        for axes, factor in zip(row, FACTORS, strict=True):
            part = plain[(plain["batch_size"] == size) & (plain["factor"] == factor)]
            axes.set_title(f"B = {size}, S = {factor} B" + ("" if len(part) else ": not run"), fontsize=9, color=INK)
            axes.tick_params(colors=FAINT, labelsize=8)
            axes.grid(color="#e3e7ec", linewidth=0.6)
            if part.empty:
                continue
            mean = part.groupby(["strategy", "n_labels"])["roc_auc"].mean()
            for name, color in zip((PASSIVE, *ACTIVE), (INK, *COLORS), strict=False):
                line = mean.loc[name]
                axes.plot(line.index, line, color=color, linewidth=1.6, marker="o", markersize=2.5, label=name)
    figure.supxlabel("labels", fontsize=10, color=FAINT)
    figure.supylabel(f"ROC-AUC on the holdout, mean of {SEEDS} seeds", fontsize=10, color=FAINT)
    handles, names = grid[0, -1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), fontsize=9, frameon=False)
    return as_png(figure)


def claim(found: list[Effect], wanted: tuple[str, ...]) -> str:
    """Return how many of the effects that the paper speaks of are shown; it holds only if each of them was run."""
    more = [effect.what for effect in found if effect.what in wanted and effect.verdict == "more"]
    less = [effect.what for effect in found if effect.what in wanted and effect.verdict == "less"]
    if len(more) == len(wanted):
        return "**Holds.**"
    said = f"**Shown for {len(more)} of {len(wanted)}**" + (f" ({', '.join(more)})" if more else "")
    said += f", **the opposite for** {', '.join(less)}" if less else ""
    absent = [what for what in wanted if what not in {effect.what for effect in found}]
    return f"{said}; not run: {', '.join(absent)}." if absent else f"{said}."


def report(results: pd.DataFrame, folder: Path) -> str:
    """Write the picture, and return the page."""
    (folder / "images" / "paper-series.png").write_bytes(picture(results))
    found = run_areas(results)
    leads = {size: against_passive(found, size) for size in BATCHES}
    header = ["", "points", "95 %", "p (Holm)", "verdict"]

    def shown(title: str, said: str, of_it: list[Effect]) -> str:
        return f"## {title}\n\n{said}\n\n{table(header, [effect.row() for effect in of_it])}"

    last = results[results["n_labels"] == BUDGET]
    ends = (
        last[~last["balanced"] & (last["factor"] == BALANCED_FACTOR)]
        .groupby(["strategy", "batch_size"])["roc_auc"]
        .mean()
        .unstack("batch_size")
    )
    larger, smaller = larger_samples(found), smaller_batches(results)
    alone = [effect for effect in leads[4] if effect.verdict == "more"]
    only_low = [effect.what for effect in alone] == ["low_certainty"]
    rest = leads[6] + leads[8]
    late = [effect for effect in rest if effect.verdict == "more"]
    balanced = ""
    if sizes := balanced_sizes(found):
        said = f"Balanced less not balanced, mean over B = {', '.join(map(str, sizes))}."
        balanced = shown(f"With class balancing, at S = {BALANCED_FACTOR} B", said, balancing(found))
    parts = [
        "# The paper's test series",
        "B ∈ {2, 4, 6, 8}, S ∈ {2 B, 4 B, 5 B, 10 B}, four certainty strategies against passive (random) learning; "
        f"untrained ResNet-18, cross-entropy, Adam with 1e-4, random start, {SEEDS} paired seeds, {BUDGET} labels. "
        f"Chihuahua and muffin photos at {OPTIONS.image_size} px, {OPTIONS.epochs} epochs per round (the paper names "
        "neither size nor epochs). The paper shows curves; here each of its claims is tested.",
        "Figures are points (hundredths) of the area under the ROC-AUC curve from the first batch to the last label, "
        "seed by seed, with Student's 95 % interval; p is corrected by Holm within its table, and the verdict is at "
        f"5 %. With {SEEDS} seeds a difference must be about 1.2 times its own spread to be shown: *not shown* is no "
        "proof of equality.",
        what_was_run(found),
        "![Learning curves: a row per B, a column per S](images/paper-series.png)",
        shown("“At B = 2 all four beat passive learning”", claim(leads[2], ACTIVE), leads[2]),
        shown(
            "“A larger S helps”",
            claim(larger, tuple(f"B = {size}" for size in BATCHES)) + " Points per doubling of S, mean of the four.",
            larger,
        ),
        shown(
            "“At B = 4 only low certainty first still beats it”",
            "**Holds.**"
            if only_low
            else f"**{len(alone)} of 4 beat it**: {', '.join(e.what for e in alone) or 'none'}.",
            leads[4],
        ),
        shown(
            "“With larger B the network converges before it matters”",
            f"{len(late)} of {len(rest)} leads are shown at B = 6 and 8: "
            + ("in line with it, which missing evidence cannot prove." if not late else "**it still matters** there."),
            [Effect(f"B = {size}: {e.what}", e.mean, e.low, e.high, e.p) for size in (6, 8) for e in leads[size]],
        ),
        shown(
            "What smaller batches bring at the same number of labels",
            "S = 10 B, from 8 labels on. The paper does not ask this.",
            smaller,
        ),
        balanced,
        f"## ROC-AUC at {BUDGET} labels, S = {BALANCED_FACTOR} B, mean of seeds\n\n"
        + table(
            ["strategy", *(f"B = {size}" for size in BATCHES)],
            [[str(name), *(f"{ends.loc[name, size]:.3f}" for size in BATCHES)] for name in (PASSIVE, *ACTIVE)],
        ),
        made("python -m benchmarks.paper_series FOLDER OUT"),
    ]
    return "\n\n".join(part for part in parts if part)


def what_was_run(found: pd.DataFrame) -> str:
    """Say which parts of the series there are."""
    plain = found[~found["balanced"]].groupby("batch_size")["factor"].unique()
    parts = "; ".join(f"B = {size}: S = {', '.join(f'{x} B' for x in sorted(s))}" for size, s in plain.items())
    missing = sum(len(FACTORS) - len(s) for s in plain) + len(BATCHES) - len(balanced_sizes(found))
    said = f"Run so far ({parts}; balanced at B = {', '.join(map(str, balanced_sizes(found))) or 'none'}): "
    return "" if not missing else f"{said}{missing} of {5 * len(BATCHES)} settings are **not run yet**."


if __name__ == "__main__":
    series = run(Path(sys.argv[1]), Path(sys.argv[2]), finished="--finished" in sys.argv)
    (RESULTS / "paper-series.md").write_text(report(series, RESULTS))
