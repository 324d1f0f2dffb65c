"""Would the rules to stop by have stopped in time? Replayed on simulated runs, whose end is known.

`python -m benchmarks.stopping FOLDER` reads `chi_muf_224.tar`, `cifar10_small.tar` and `resnet18_tin199.safetensors`
from the folder, and writes docs/results/stopping.md with a picture beside it. Runs that are done are kept in `--out`.
The rules' defaults were chosen on the digits alone.
"""

import argparse
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from al_pipeline.core.expected_gain import fit_power_law
from al_pipeline.core.experiment_plan import Plan
from al_pipeline.core.options import TrainingOptions
from al_pipeline.core.rng import generator
from al_pipeline.core.stopping import AGREEMENT, Wishes, agreement_rule, price_rule
from al_pipeline.core.stopping_regret import Rule, paying_until, replay, summarise
from benchmarks.table import machine, markdown_table

STRATEGY, SEEDS = "auto", 10
# The thresholds that the default was chosen from, on the digits alone.
CHOSEN_ON, THRESHOLDS = "digits", (0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)
METRICS = {"accuracy": "accuracy", "roc_auc": "ROC-AUC"}
AIM = 0.8
# What a point is worth, in labels: to somebody who would pay for 100 of them to be a point better, and for 400.
WORTHS = (100, 400)


@dataclass(frozen=True)
class Set:
    """Images to replay on, and the size of a run."""

    name: str
    title: str
    image_size: int
    batch: int
    budget: int


SETS = (
    Set("digits", "digits, 32 px", 32, 20, 600),
    Set("chi_muf_224", "chihuahua/muffin, 96 px", 96, 20, 500),
    Set("cifar10_small", "CIFAR-10 subset, 64 px", 64, 100, 2000),
)


def load(which: Set, folder: Path, place: Path) -> tuple[pd.DataFrame, list[str], TrainingOptions]:
    """Return the manifest of a set, its classes, and how heads are trained on it."""
    from al_pipeline.core.datasets import write_digits
    from al_pipeline.core.pool import class_names, scan

    root = place / which.name
    if which.name == "digits":
        write_digits(root)
    else:
        with tarfile.open(folder / f"{which.name}.tar") as tar:
            tar.extractall(place, filter="data")
    manifest = scan(root)
    weights = str(folder / "resnet18_tin199.safetensors")
    options = TrainingOptions(mode="head", weights=weights, image_size=which.image_size)
    return manifest, class_names(manifest, None, root), options


def agreed(threshold: float) -> Rule:
    """Return the rule of agreement with a threshold."""
    return lambda rounds: bool(agreement_rule(rounds["agreement"].to_numpy(), threshold).stop)


def rules(batch: int, metric: str) -> dict[str, Rule]:
    """Return the rules to replay: each alone, and both together as the advice takes them."""

    def paid(rounds: pd.DataFrame, worth: int) -> bool:
        labels, scores = (rounds[name].to_numpy(dtype=float) for name in ("n_labels", metric))
        law = fit_power_law(labels, scores, generator(0, len(rounds), "stopping"))
        return bool(price_rule(law, Wishes(batch, price_per_label=1, value_per_point=worth)).stop)

    same = agreed(AGREEMENT)
    found: dict[str, Rule] = {f"agreement ≥ {AGREEMENT:g}": same}
    for worth in WORTHS:
        found[f"price, a point is worth {worth} labels"] = lambda rounds, worth=worth: paid(rounds, worth)
    found["any of agreement and price " + str(WORTHS[0])] = lambda rounds: same(rounds) or paid(rounds, WORTHS[0])
    return found


def main() -> None:
    """Run or read the studies, replay, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stopping")
    parser.add_argument("folder", type=Path, help="of the archives and the weights")
    parser.add_argument("--out", type=Path, default=Path("stopping-studies"), help="where runs are kept")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="where the report goes")
    parser.add_argument("--sets", default=",".join(each.name for each in SETS), help="with commas between them")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    chosen = [each for each in SETS if each.name in given.sets.split(",")]
    studies = {each: study(each, given.folder, given.out, given.seeds, given.jobs) for each in chosen}
    replays = {
        (each, metric): replay(results, rules(each.batch, metric), metric)
        for each, results in studies.items()
        for metric in METRICS
    }
    (given.results / "images").mkdir(parents=True, exist_ok=True)
    draw(studies, replays, given.results / "images" / "stopping.png")
    (given.results / "stopping.md").write_text(report(studies, replays, given.seeds))
    print(given.results / "stopping.md")


def study(which: Set, folder: Path, out: Path, seeds: int, jobs: int) -> pd.DataFrame:
    """Return the results of a set's runs; only rounds with a score count."""
    from al_pipeline.core.study import run_study

    with tempfile.TemporaryDirectory() as place:
        manifest, names, options = load(which, folder, Path(place))
        plan = Plan([STRATEGY], range(seeds), which.batch, None, options, budget=which.budget)
        results = run_study(
            manifest,
            names,
            plan,
            out,
            jobs=jobs,
            progress=lambda done, total: print(f"{which.title}: {done} of {total} seeds", flush=True),
        ).results
    return results[results["n_labels"] > 0].reset_index(drop=True)


def report(studies: dict[Set, pd.DataFrame], replays: dict[tuple[Set, str], pd.DataFrame], seeds: int) -> str:
    """Return the report in Markdown."""
    lines = [
        "# When to stop: the rules, replayed",
        "",
        f"Runs of the strategy `{STRATEGY}` with heads on given features, S = all, {seeds} seeds, to a budget. Each "
        "rule sees the rounds so far and stops the run where it says so for the first time.",
        "",
        "* **Right moment**: the first budget from which on the mean curve over the seeds stays at most half a point "
        "below its end. The mean, because one run's score on the holdout jumps by more than that by chance.",
        "* **Regret**: labels asked past the right moment. A run that no rule stops goes on to the budget. The aim is "
        f"a regret of at most 10 % of the budget in at least {AIM:.0%} of the runs.",
        "* **Lost**: share of runs whose own last score is more than half a point above that at the stop (a single "
        "run's noise included), and the same by the mean curve. Stopping too early shows here, not as regret.",
        "* **Good**: small regret and at most half a point lost by the mean curve.",
        "* The default of the agreement rule was chosen on the digits alone; the other sets are as they came out.",
        "",
        "![Mean curves, right moments and where the rules stopped](images/stopping.png)",
        "",
    ]
    for each, results in studies.items():
        for metric, word in METRICS.items():
            last = results.groupby("seed")[metric].last()
            lines += [
                f"## {each.title}: {word}",
                "",
                f"B = {each.batch}, budget {each.budget} labels; mean {word} at the end {last.mean():.4f}; right "
                f"moment {paying_until(results, metric)[STRATEGY]} labels.",
                "",
                table(replays[each, metric]),
                "",
            ]
            if each.name == CHOSEN_ON:
                swept = replay(results, {f"agreement ≥ {value:g}": agreed(value) for value in THRESHOLDS}, metric)
                lines += ["Thresholds of agreement, of which the default is one:", "", table(swept), ""]
    lines += [f"Made by `python -m benchmarks.stopping FOLDER`: {machine()}.", ""]
    return "\n".join(lines)


def table(replayed: pd.DataFrame) -> str:
    """Return how each rule did, in Markdown."""
    columns = (
        "rule",
        "stopped",
        "median stop",
        "median regret",
        "regret ≤ 10 %",
        "lost > 0.5 points",
        "… by the mean",
        "good",
    )
    rows = [
        (
            one.rule,
            f"{one.stopped:.0%}",
            f"{one.stop_labels:.0f}",
            f"{one.regret:.0f}",
            f"{one.small_regret:.0%}{'' if one.small_regret < AIM else ' (aim met)'}",
            f"{one.lost:.0%}",
            f"{one.lost_of_mean:.0%}",
            f"{one.good:.0%}",
        )
        for one in summarise(replayed)
    ]
    return markdown_table(columns, rows)


def draw(studies: dict[Set, pd.DataFrame], replays: dict[tuple[Set, str], pd.DataFrame], path: Path) -> None:
    """Draw each set's mean curves, with the right moment and where each rule stopped the runs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(METRICS), len(studies), figsize=(5 * len(studies), 7), squeeze=False)
    for column, (each, results) in enumerate(studies.items()):
        for row, (metric, word) in enumerate(METRICS.items()):
            axis, replayed = axes[row][column], replays[each, metric]
            mean = results.groupby("n_labels")[metric].mean()
            for _, run in results.groupby("seed"):
                axis.plot(run["n_labels"], run[metric], color="0.85", linewidth=0.8)
            axis.plot(mean.index, mean, color="black", linewidth=1.5)
            axis.axvline(paying_until(results, metric)[STRATEGY], color="black", linestyle=":")
            low, high = mean.min(), results[metric].max()
            for number, (rule, runs) in enumerate(replayed.groupby("rule", sort=False)):
                height = low + (high - low) * (0.05 + 0.07 * number)
                axis.plot(runs["stop_labels"], [height] * len(runs), "o", alpha=0.5, markersize=5, label=rule)
            axis.set_title(f"{each.title}: {word}", fontsize=10)
            axis.set_xlabel("labels")
    axes[0][0].legend(fontsize=7, loc="center right", title="runs stopped by")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
