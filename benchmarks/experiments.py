"""How long a study takes: 8 strategies × 10 seeds × 20 rounds on the chihuahua and muffin photos, heads on features.

`python -m benchmarks.experiments FOLDER` reads `chi_muf_224.tar` and `resnet18_tin199.safetensors` from the folder.
"""

import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from benchmarks.table import print_table

STRATEGIES = ("auto", "random", "margin", "low_certainty", "typiclust", "max_herding", "badge", "tcm")
SEEDS, ROUNDS, BATCH, SIZE, JOBS = 10, 20, 20, 96, 2
BAR = 240


def cpu_seconds() -> float:
    """Return the time on processors of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(folder: Path) -> None:
    """Run the study with the features on disk, go on with nothing left to do, and print what it took."""
    from al_pipeline.core.data.pool import class_names, scan
    from al_pipeline.core.learning.options import TrainingOptions
    from al_pipeline.core.study.plan import Plan
    from al_pipeline.core.study.results import Results
    from al_pipeline.core.study.run import run_study

    options = TrainingOptions(mode="head", weights=str(folder / "resnet18_tin199.safetensors"), image_size=SIZE)
    same = {"batch_size": BATCH, "sample_size": None, "options": options}
    plan = Plan(strategies=STRATEGIES, rounds=ROUNDS, seeds=range(SEEDS), **same)
    # One round of one seed is what leaves the features behind.
    first = Plan(strategies=STRATEGIES, rounds=1, seeds=[0], **same)
    steps = []
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(folder / "chi_muf_224.tar") as tar:
            tar.extractall(place, filter="data")
        images, out = Path(place) / "chi_muf_224", Path(place) / "studies"
        manifest = scan(images)
        names = class_names(manifest, None, images)
        for title, wanted in (("features, one round", first), ("the study", plan), ("the study again", plan)):
            began, used = time.perf_counter(), cpu_seconds()
            study = run_study(manifest, names, wanted, out, jobs=JOBS)
            steps.append((title, len(study.computed), time.perf_counter() - began, cpu_seconds() - used))
    n_pool = int((manifest["split"] == "pool").sum())
    rows = [(title, computed, f"{wall:.1f}", f"{cpu:.1f}") for title, computed, wall, cpu in steps]
    rows[1] = (*rows[1][:2], f"{rows[1][2]} (bar ≤ {BAR}: {'met' if steps[1][2] <= BAR else 'missed'})", rows[1][3])
    print_table(
        f"{len(STRATEGIES)} strategies × {SEEDS} seeds × {ROUNDS} rounds, {n_pool} photos of {SIZE} px, B = {BATCH}, "
        f"S = all, {JOBS} processes",
        ("step", "seeds computed", "seconds", "CPU seconds"),
        rows,
    )
    budgets = [BATCH * number for number in (1, 2, 5, 10, ROUNDS - 1)]
    found = Results(study.results).at_budgets(budgets).pivot(index="strategy", columns="budget", values="accuracy")
    print_table(
        "Mean test accuracy, percent",
        ("strategy", *(f"{budget} labels" for budget in budgets)),
        [(name, *(f"{100 * found.loc[name, budget]:.1f}" for budget in budgets)) for name in STRATEGIES],
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m benchmarks.experiments FOLDER")
    main(Path(sys.argv[1]))
