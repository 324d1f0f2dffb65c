"""The comparison of all query strategies on three image sets, and of other ways to train on one of them.

`python -m benchmarks.comparison FOLDER OUT` reads the archives and weights from FOLDER and keeps finished seeds in OUT,
so that it goes on where it was ended; then it writes `docs/results/comparison.md` and a page per part. With
`--finished` it computes nothing and writes about what OUT holds.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from al_pipeline.core.evaluation.metrics import UNDECIDED
from al_pipeline.core.strategies import available
from al_pipeline.core.study.page import table
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.report import Report, settings_of
from al_pipeline.core.study.results import Results
from al_pipeline.core.study.run import run_study, study_key, versions
from al_pipeline.core.study.savings import Saving, savings, sentence
from al_pipeline.core.study.simulate import known
from benchmarks.data import RESULTS, ImageSet, load, made

COMMAND = "python -m benchmarks.comparison FOLDER OUT"
SEEDS, JOBS = 10, 2
# `auto` is uncertainty herding here, and is not run twice.
EVERY = tuple(name for name in available() if name != "uncertainty_herding")
# These predict each candidate ten times in every round, and are a part of their own.
ENSEMBLES = ("bald", "batch_bald")
TRIED = frozenset(EVERY) - frozenset(ENSEMBLES)
# With thousands of labels of ten classes a round takes seconds: the better ones of the other sets.
FEW = ("auto", "random", "margin", "badge")
SOME = (*FEW, "entropy", "tcm")


@dataclass(frozen=True)
class Arm:
    """Runs of some strategies with one way to train, and what is added to the strategies' names."""

    strategies: tuple[str, ...]
    suffix: str = ""
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Part:
    """One table of results.

    Attributes
    ----------
    images : str
        The image set.
    title : str
    batch_size, budget, seeds : int
    arms : sequence of Arm
    bar : float, optional
        How many times fewer labels the default strategy is to need for random's ROC-AUC at the budget.
    image_size : int, optional
        If it is not the set's.
    """

    images: str
    title: str
    batch_size: int
    budget: int
    arms: Sequence[Arm]
    bar: float | None = None
    seeds: int = SEEDS
    image_size: int | None = None


def every(*first: str) -> list[Arm]:
    """Return all strategies but the ensembles, with the set's own training: those named first run apart."""
    rest = tuple(name for name in EVERY if name not in first and name not in ENSEMBLES)
    return [Arm(names) for names in (first, rest) if names]


PARTS = {
    # Curves are flat where random choice ends: ten seeds leave it open whether 1.4 or 4 times fewer labels reach that.
    "photos": Part("photos", "Chihuahua and muffin photos, 96 px", 20, 560, every(), bar=2.5, seeds=20),
    "digits": Part("digits", "Digits, 64 px", 20, 400, every(*SOME)),
    "cifar10": Part("cifar10", "CIFAR-10 subset, 64 px", 200, 2000, every(*FEW), bar=1.3),
    "flip": Part(
        "cifar10",
        "CIFAR-10 subset, features averaged over an image and its mirror image",
        200,
        2000,
        [Arm(("auto", "random")), Arm(("auto", "random"), ", test_time_flip", (("test_time_flip", True),))],
    ),
    "ensembles": Part(
        "photos", "Ensembles of heads, photos at 96 px", 20, 560, [Arm(("auto", "random")), Arm(ENSEMBLES)]
    ),
    "guesses": Part(
        "photos",
        "Learning from unlabeled photos too, 96 px",
        20,
        300,
        [
            Arm(("auto", "random")),
            Arm(("auto", "random"), ", label propagation", (("semi_supervised", "label_propagation"),)),
            Arm(("auto", "random"), ", pseudo labels", (("semi_supervised", "pseudo_label"),)),
        ],
    ),
    "finetune": Part(
        "photos",
        "Training the whole network, photos at 64 px",
        40,
        120,
        [Arm(("auto", "random")), Arm(("auto", "random"), ", finetune", (("mode", "finetune"), ("epochs", 10)))],
        seeds=5,
        image_size=64,
    ),
}


def plan_of(part: Part, arm: Arm, images: ImageSet) -> Plan:
    """Return what is run for one arm."""
    options = images.options if part.image_size is None else images.options.but(image_size=part.image_size)
    options = options.but(**dict(arm.changes))
    return Plan(
        strategies=arm.strategies,
        seeds=range(part.seeds),
        batch_size=part.batch_size,
        sample_size=None,
        options=options,
        budget=part.budget,
    )


def finished(name: str, images: ImageSet, out: Path) -> list[Arm]:
    """Return the arms of a part of which all seeds are kept."""
    part, samples = PARTS[name], known(images.manifest, images.class_names)

    def seeds(arm: Arm) -> int:
        return len(list((out / study_key(samples, plan_of(part, arm, images))).glob("seed-*.parquet")))

    return [arm for arm in part.arms if seeds(arm) >= part.seeds]


def run(name: str, arms: Sequence[Arm], images: ImageSet, out: Path) -> tuple[pd.DataFrame, Plan]:
    """Run what is missing of some arms of a part, and return their results and the first one's plan."""
    part, found, plans = PARTS[name], [], []
    for arm in arms:
        plan = plan_of(part, arm, images)
        began = time.monotonic()
        study = run_study(images.manifest, images.class_names, plan, out, jobs=JOBS)
        seconds = time.monotonic() - began
        print(f"{name}{arm.suffix}: {len(study.computed)} seeds computed in {seconds:.0f} s", flush=True)
        found.append(study.results.assign(strategy=study.results["strategy"] + arm.suffix))
        plans.append(plan)
    return pd.concat(found, ignore_index=True), plans[0]


def write_part(name: str, results: pd.DataFrame, images: ImageSet, plan: Plan) -> None:
    """Write the page of one part with its pictures."""
    # Where the file lies is nobody's business.
    named = plan.but(options=plan.options.but(weights=Path(plan.options.weights).name))
    settings = settings_of(named, images.manifest, images.class_names)
    settings["strategies"] = ", ".join(results["strategy"].unique())
    report = Report(Results(results), PARTS[name].title, settings, versions(), COMMAND)
    shown = {picture: f"images/comparison-{name}-{picture}.png" for picture in report.pictures}
    for picture, png in report.pictures.items():
        (RESULTS / shown[picture]).write_bytes(png)
    (RESULTS / f"comparison-{name}.md").write_text(report.markdown(shown))


def of_default(found: Sequence[Saving]) -> list[Saving]:
    """Return what the default strategy saved, and first without what an arm adds to it."""
    return sorted((saving for saving in found if saving.strategy.startswith("auto")), key=lambda one: one.strategy)


def alike(results: pd.DataFrame, suffix: str) -> Saving:
    """Return what the default strategy saved against random choice with the same training."""
    pair = [name + suffix for name in ("auto", "random")]
    [saving] = savings(Results(results[results["strategy"].isin(pair)]), baseline=pair[1])
    return saving


def ranking(found: dict[str, list[Saving]]) -> str:
    """Return a table of all strategies on the sets that all of them ran on, best mean rank by area first."""
    points = {
        name: {saving.strategy: 100 * saving.area_difference.difference.value for saving in each} | {"random": 0.0}
        for name, each in found.items()
    }
    ranks = pd.DataFrame(points).rank(ascending=False).mean(axis=1).sort_values(kind="stable")
    cells = {(name, saving.strategy): _area(saving) for name, each in found.items() for saving in each}
    rows = [[name, f"{rank:.1f}", *(cells.get((each, name), "0") for each in found)] for name, rank in ranks.items()]
    return table(["strategy", "mean rank", *(PARTS[name].title for name in found)], rows)


def overview(found: dict[str, list[Saving]], said: list[str], missing: list[str]) -> str:
    """Return the page that leads to the others, with sentences about them and about what was not run.

    Parameters
    ----------
    found : dict of str to list of Saving
        Per part, of all its strategies.
    said, missing : list of str
    """
    header = [
        "",
        "strategy",
        "seeds",
        "labels",
        "times fewer for random's ROC-AUC there (95 %)",
        "bar",
        "area, points (95 %)",
        "",
    ]
    parts = [
        "# Query strategies compared",
        "The loop with an oracle that knows the answers, by the loop's own training, selection and evaluation. Heads "
        "on features of a ResNet-18 that was trained briefly on Tiny ImageNet; every unlabeled sample is a candidate; "
        "all strategies of a seed start from the same random batch. The default strategy, `auto`, against `random`:",
        table(header, [_overview_row(name, saving) for name, each in found.items() for saving in of_default(each)]),
        "".join(f"* {each}\n" for each in said),
    ]
    whole = {name: each for name, each in found.items() if {saving.strategy for saving in each} | {"random"} == TRIED}
    if whole:
        parts += [
            "## All strategies",
            "Area under the curve of ROC-AUC less random's, points (95 %); **bold** where the difference holds after "
            "Holm's correction for all of them. Sorted by the mean of the ranks.",
            ranking(whole),
        ]
    if missing:
        parts.append(f"**Not run yet**: {'; '.join(missing)}.")
    return "\n\n".join([*parts, made(COMMAND)])


def _overview_row(name: str, saving: Saving) -> list[str]:
    part, verdict = PARTS[name], saving.area_difference.verdict
    bar = ""
    if part.bar is not None and saving.strategy == "auto":
        bar = f"≥ {part.bar}: {'met' if (saving.ratio or 0) >= part.bar else 'not met'}"
    link = f"[{part.title}](comparison-{name}.md)"
    area = _area(saving, bold=False)
    return [link, saving.strategy, str(saving.seeds), f"{saving.target_labels:,}", _ratio(saving), bar, area, verdict]


def _ratio(saving: Saving) -> str:
    if saving.ratio is None:
        return "not reached"
    low = f"{saving.ratio_low:.2f}" if saving.ratio_low else "not reached"
    return f"{saving.ratio:.2f} ({low} to {saving.ratio_high:.2f})"


def _area(saving: Saving, *, bold: bool = True) -> str:
    value, low, high = (100 * share for share in saving.area_difference.difference)
    shown = f"{value:+.2f}"
    if bold and saving.area_difference.verdict != UNDECIDED:
        shown = f"**{shown}**"
    return f"{shown} ({low:+.2f} to {high:+.2f})"


def main(folder: Path, out: Path, *, compute: bool) -> None:
    """Run the parts and write their pages and the one that leads to them."""
    found: dict[str, list[Saving]] = {}
    said, missing = [], []
    for name, part in PARTS.items():
        images = load(part.images, folder, out)
        arms = part.arms if compute else finished(name, images, out)
        absent = [strategy + arm.suffix for arm in part.arms if arm not in arms for strategy in arm.strategies]
        if absent:
            missing.append(f"{part.title}: {', '.join(absent)}")
        # Without the first arm there is nothing to compare with.
        if part.arms[0] in arms:
            results, plan = run(name, arms, images, out)
            write_part(name, results, images, plan)
            found[name] = savings(Results(results))
            said += [f"{part.title}: {sentence(saving)}" for saving in of_default(found[name])]
            said += [f"The same: {sentence(alike(results, arm.suffix))}" for arm in arms if arm.suffix]
            if part.seeds > SEEDS:
                first = savings(Results(results.query("seed < @SEEDS")))
                said += [f"The same, the first {SEEDS} seeds alone: {sentence(one)}" for one in of_default(first)]
    (RESULTS / "comparison.md").write_text(overview(found, said, missing))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), compute="--finished" not in sys.argv)
