"""What it costs in labels that a batch is chosen before the one before it is answered (`policy.prefetch`).

`python -m benchmarks.ahead FOLDER OUT` reads archives and weights from FOLDER, keeps finished seeds in OUT, and prints
the table that docs/people.md and benchmarks/README.md speak of.
"""

import sys
from pathlib import Path

import pandas as pd

from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.results import Results
from al_pipeline.core.study.run import run_study
from al_pipeline.core.study.savings import Saving, savings
from benchmarks.data import ImageSet, load
from benchmarks.table import print_table

SEEDS, BATCH, JOBS = 16, 8, 2
BUDGETS = {"digits": 160, "photos": 120}
# The batch and whether it is chosen ahead: half of a batch ahead is as far behind as a whole one at its end.
ARMS = {"a whole batch ahead": (BATCH, True), "half of it ahead": (BATCH // 2, True)}
WAITING = "waiting for each batch"


def runs(images: ImageSet, budget: int, out: Path, batch: int, *, ahead: bool) -> pd.DataFrame:
    """Return the runs of the default strategy, at budgets that all arms have."""
    plan = Plan(
        strategies=("auto",),
        seeds=range(SEEDS),
        batch_size=batch,
        start="own",
        options=images.options,
        budget=budget,
        ahead=ahead,
        stop_set=False,
    )
    found = run_study(images.manifest, images.class_names, plan, out, jobs=JOBS).results
    return found[found["n_labels"] % BATCH == 0]


def row(name: str, saving: Saving) -> list[str]:
    """Return a line of the table: more labels are the reciprocal of what is saved."""
    area = saving.area_difference.difference
    more = "not reached" if saving.ratio is None else f"{1 / saving.ratio:.2f} ({1 / saving.ratio_high:.2f} to "
    if saving.ratio is not None:
        more += f"{1 / saving.ratio_low:.2f})" if saving.ratio_low else "∞)"
    points = f"{100 * area.value:+.2f} ({100 * area.low:+.2f} to {100 * area.high:+.2f})"
    return [name, saving.strategy, f"{saving.target:.4f}", f"{saving.baseline_labels:.0f}", more, points]


def main(folder: Path, out: Path) -> None:
    """Run what is missing and print the table."""
    rows = []
    for name, budget in BUDGETS.items():
        images = load(name, folder, out)
        found = [runs(images, budget, out, BATCH, ahead=False).assign(strategy=WAITING)]
        found += [
            runs(images, budget, out, batch, ahead=ahead).assign(strategy=arm) for arm, (batch, ahead) in ARMS.items()
        ]
        results = Results(pd.concat(found, ignore_index=True))
        for at in (budget // 4 // BATCH * BATCH, budget // 2 // BATCH * BATCH, budget):
            found_at = savings(results, baseline=WAITING, target_labels=at)
            rows += [row(f"{images.title}, {at} labels", saving) for saving in found_at]
    columns = ["", "", "ROC-AUC", "labels", "times as many labels for it (95 %)", "area to the end, points (95 %)"]
    print_table(f"A batch ahead, {SEEDS} paired seeds, batches of {BATCH}, {WAITING} = 1", columns, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
