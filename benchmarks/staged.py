"""What training while people label is worth: staged studies beside heads alone, and random choice with a head.

`python -m benchmarks.staged FOLDER OUT [CELL …] [--seeds N] [--finished]` reads the archives and weights from FOLDER,
and keeps finished seeds in OUT, so that it goes on where it was ended. With `--finished` it computes nothing and tells
what OUT holds of all arms of a cell.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.results import Results
from al_pipeline.core.study.run import run_study, study_key
from al_pipeline.core.study.savings import Saving, savings
from al_pipeline.core.study.simulate import known
from benchmarks.data import ImageSet, load
from benchmarks.table import print_table

SEEDS, JOBS, BATCH = 10, 2, 20
RANDOM, HEAD, STAGED = "random", "auto, head", "auto, staged"


@dataclass(frozen=True)
class Cell:
    """An image set at a size.

    Attributes
    ----------
    images : str
    image_size : int
    target : int
        Labels whose score with random choice and a head is to be reached.
    budget : int
        Labels of the other two arms: beyond them the bar is missed.
    random_batch : int
        Of random choice, whose curve is as good with few points.
    bar, least : float
        How many times fewer labels, and the lower limit of that.
    """

    images: str
    image_size: int
    target: int
    budget: int
    random_batch: int
    bar: float
    least: float

    @property
    def title(self) -> str:
        """The image set and the size, in words."""
        names = {"photos": "chihuahua and muffin photos", "cifar10": "CIFAR-10 subset"}
        return f"{names[self.images]}, {self.image_size} px"


CELLS = {
    "photos-64": Cell("photos", 64, 560, 140, 20, 5, 3.5),
    "photos-96": Cell("photos", 96, 560, 140, 20, 5, 3.5),
    "cifar10-64": Cell("cifar10", 64, 2000, 1240, 200, 2, 1.6),
}


def plans(cell: Cell, images: ImageSet, seeds: int) -> dict[str, Plan]:
    """Return what is run for each arm."""
    options = images.options.but(image_size=cell.image_size)
    shared: dict[str, Any] = {"sample_size": None, "options": options, "seeds": range(seeds), "stop_set": False}
    auto: dict[str, Any] = {"strategies": ["auto"], "batch_size": BATCH, "budget": cell.budget} | shared
    return {
        RANDOM: Plan(strategies=["random"], batch_size=cell.random_batch, budget=cell.target, **shared),
        HEAD: Plan(**auto),
        STAGED: Plan(staged=True, **auto),
    }


def kept(images: ImageSet, plan: Plan, out: Path) -> list[int]:
    """Return the seeds of a plan that are kept."""
    folder = out / study_key(known(images.manifest, images.class_names), plan)
    return [seed for seed in plan.seeds if (folder / f"seed-{seed:04d}.parquet").exists()]


def results_of(cell: Cell, images: ImageSet, out: Path, seeds: int, *, compute: bool) -> pd.DataFrame:
    """Return the rows of all arms, of the seeds that all of them have; computed where they are missing."""
    arms = plans(cell, images, seeds)
    if not compute:
        common = set.intersection(*(set(kept(images, plan, out)) for plan in arms.values()))
        if not common:
            return pd.DataFrame()
        arms = {name: plan.but(seeds=sorted(common)) for name, plan in arms.items()}
    found = []
    for name, plan in arms.items():
        study = run_study(images.manifest, images.class_names, plan, out, jobs=JOBS)
        found.append(study.results.assign(strategy=name))
        print(f"{cell.title}, {name}: {len(study.computed)} seeds computed", flush=True)
    return pd.concat(found, ignore_index=True)


def on_one_grid(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of ROC-AUC at the budgets that any run has, from the first batch on.

    Between its budgets a run's score is interpolated, as `savings` does between means; beyond its last one it stays as
    it is, which credits a run that was ended with nothing.
    """
    rows = rows[rows["n_labels"] > 0]
    grid = np.unique(rows["n_labels"])
    found = []
    for (strategy, seed), run in rows.sort_values("n_labels").groupby(["strategy", "seed"]):
        known_at = run.dropna(subset="roc_auc")
        scores = np.interp(grid, known_at["n_labels"], known_at["roc_auc"])
        found.append(pd.DataFrame({"strategy": strategy, "seed": seed, "n_labels": grid, "roc_auc": scores}))
    return pd.concat(found, ignore_index=True)


def saved(cell: Cell, rows: pd.DataFrame) -> list[Saving]:
    """Return what the other arms saved against random choice with a head."""
    return savings(Results(on_one_grid(rows)), target_labels=cell.target)


def report(cells: Sequence[str], folder: Path, out: Path, seeds: int, *, compute: bool) -> None:
    """Run cells and print their tables."""
    overview, budgets = [], []
    for name in cells:
        cell, images = CELLS[name], load(CELLS[name].images, folder, out)
        rows = results_of(cell, images, out, seeds, compute=compute)
        if rows.empty or rows["seed"].nunique() < 2:
            print(f"{cell.title}: fewer than 2 seeds are kept of all arms", flush=True)
            continue
        overview += [_overview_row(cell, saving) for saving in saved(cell, rows)]
        budgets += _budget_rows(cell, rows)
    print_table(
        "Labels needed for the ROC-AUC that random choice with a head has",
        ("images", "arm", "seeds", "target", "random's labels", "labels", "times fewer (95 %)", "bar"),
        overview,
    )
    print_table(
        "Staged beside the head alone, seed by seed",
        ("images", "labels", "head alone", "staged", "points more (95 %)", "network serves", "refining, seconds"),
        budgets,
    )


def _overview_row(cell: Cell, saving: Saving) -> list[str]:
    ratio = "not reached"
    if saving.ratio is not None:
        ratio = f"{saving.ratio:.2f} ({saving.ratio_low:.2f} to {saving.ratio_high:.2f})"
    bar = ""
    if saving.strategy == STAGED:
        met = (saving.ratio or 0) >= cell.bar and saving.ratio_low > cell.least
        bar = f"≥ {cell.bar:g}, above {cell.least:g}: {'met' if met else 'not met'}"
    labels = "" if saving.labels is None else f"{np.ceil(saving.labels):.0f}"
    target = f"{saving.target:.4f} ({saving.target_labels})"
    return [
        cell.title,
        saving.strategy,
        str(saving.seeds),
        target,
        f"{np.ceil(saving.baseline_labels):.0f}",
        labels,
        ratio,
        bar,
    ]


def _budget_rows(cell: Cell, rows: pd.DataFrame) -> list[list[str]]:
    found = []
    for budget, at in rows[rows["strategy"] != RANDOM].groupby("n_labels"):
        table = at.pivot(index="seed", columns="strategy", values="roc_auc").dropna()
        if budget == 0 or len(table) < 2:
            continue
        more = 100 * (table[STAGED] - table[HEAD])
        half = t.ppf(0.975, len(more) - 1) * more.std(ddof=1) / np.sqrt(len(more))
        worse = " **worse**" if more.mean() + half < 0 else ""
        own = at[at["strategy"] == STAGED]
        found.append(
            [
                cell.title,
                str(budget),
                f"{table[HEAD].mean():.4f}",
                f"{table[STAGED].mean():.4f}",
                f"{more.mean():+.2f} ({more.mean() - half:+.2f} to {more.mean() + half:+.2f}){worse}",
                f"{int(own['refined'].sum())} of {len(own)}",
                f"{own['refine_seconds'].median():.0f}",
            ]
        )
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.staged", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the archives and weights")
    parser.add_argument("out", type=Path, help="where finished seeds are kept")
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}; all by default")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--finished", action="store_true", help="compute nothing")
    given = parser.parse_args()
    if unknown := sorted(set(given.cells) - set(CELLS)):
        parser.error(f"unknown cells {', '.join(unknown)}: choose from {', '.join(CELLS)}")
    report(given.cells or list(CELLS), given.folder, given.out, given.seeds, compute=not given.finished)


if __name__ == "__main__":
    main()
