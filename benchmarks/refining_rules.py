"""Which refined network a round goes by: rules compared on image sets that none of them was found on.

`python -m benchmarks.refining_rules FOLDER OUT [SET …] [--seeds N] [--px N] [--budget N] [--finished]` runs
the loop of a study per rule, set and seed, with batches of 20. What the rules have in common is computed once. Finished
seeds are kept in OUT.
"""

import argparse
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.stats import t

from al_pipeline.core.evaluation.evaluate import Evaluation, evaluate
from al_pipeline.core.learning.options import worth_refining
from al_pipeline.core.learning.predict import predict_features
from al_pipeline.core.learning.refine import Refined, refine
from al_pipeline.core.study import simulate
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.staged import Stage, seen_by
from al_pipeline.core.study.world import World
from al_pipeline.core.turn import Rows
from benchmarks.data import ImageSet, load
from benchmarks.table import print_table

SEEDS, PX, BATCH, BUDGET = 5, 32, 20, 140
# Pairs of classes that are alike, each class once; named before anything was run.
PAIRS = (("cat", "dog"), ("automobile", "truck"), ("deer", "horse"), ("airplane", "ship"))
SETS = ("digits", *("/".join(pair) for pair in PAIRS))
HEAD = "head alone"
STALE = "newest that was better"
NEWEST = "newest evidence"
# Once a network was better, a lower log loss keeps the newest one, though chance may have made it so.
CONVINCED = "newest, once convinced"
RULES = (STALE, NEWEST, CONVINCED)


@dataclass(frozen=True)
class Cell:
    """An image set at a size, and how many labels a run gets."""

    name: str
    px: int
    budget: int

    def kept(self, out: Path, what: str, seed: int) -> Path:
        """Return the file of a finished seed."""
        path = out / what / f"{self.name.replace('/', '-')}-{self.px}-{self.budget}-{seed}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def images(self, folder: Path, out: Path) -> ImageSet:
        """Return the digits, or two classes of CIFAR-10."""
        images = load("digits" if self.name == "digits" else "cifar10", folder, out)
        images = replace(images, title=self.name, options=images.options.but(image_size=self.px))
        if self.name == "digits":
            return images
        pair = self.name.split("/")
        rows = images.manifest[images.manifest["label"].isin(pair)].reset_index(drop=True)
        return replace(images, manifest=rows, class_names=pair)

    def plan(self, images: ImageSet) -> Plan:
        """Return what is run of each seed."""
        shared: dict[str, Any] = {"sample_size": None, "options": images.options, "stop_set": False}
        return Plan(strategies=["auto"], seeds=[0], batch_size=BATCH, budget=self.budget, staged=True, **shared)


@dataclass
class Shared:
    """What the rules have in common of a seed: they part where they go by other features."""

    found: dict[Any, Any] = field(default_factory=dict)

    def once(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the work, done once for what it is given."""

        @functools.wraps(work)
        def known(*given: Any, **named: Any) -> Any:
            key = work.__name__, *map(_name, (*given, *named.values()))
            if key not in self.found:
                self.found[key] = work(*given, **named)
            return self.found[key]

        return known


def _name(given: Any) -> Any:
    """Return what tells one argument from another within a seed."""
    if isinstance(given, World):
        return given.network and given.network.hash
    if isinstance(given, Refined):
        return given.checkpoint.hash
    if isinstance(given, np.ndarray):
        return given.tobytes()
    # Plans of a seed differ in what is refined alone; a turn stays as long as what is shared.
    return "" if isinstance(given, Plan) else id(given) if isinstance(given, simulate.Turn) else given


def refined(given: World, plan: Plan, labeled: Rows, number: int) -> Refined:
    """Return the network that is refined on some labels."""
    assert given.pool.all_features is not None
    return refine(
        given.pool.images(labeled),
        given.answers[labeled],
        given.class_names,
        plan.options,
        features=given.pool.all_features[labeled],
        groups=given.pool.groups(labeled),
        seed=given.seed,
        number=number,
    )


def looked(given: World, found: Refined) -> tuple[World, Evaluation]:
    """Return the samples with a refined network's features, and its scores."""
    world = seen_by(found.checkpoint, given, pool=True)
    assert world.holdout.all_features is not None
    tested = predict_features(found.checkpoint, world.holdout.all_features)
    how: dict[str, Any] = {"seed": given.seed, "thresholds": found.checkpoint.info.thresholds, "groups": given.tested}
    return world, evaluate(tested, given.truth, given.class_names, **how)


def by_network(rule: str, found: Refined, now: World) -> bool:
    """Say whether a rule goes by the network that was refined last."""
    evidence = found.evidence
    convinced = rule == CONVINCED and now.network is not None
    return evidence.better or (convinced and evidence.network.log_loss < evidence.head.log_loss)


def following(rule: str, shared: Shared) -> AbstractContextManager[Any]:
    """Have studies go by a rule."""
    once, seen = shared.once(refined), shared.once(looked)

    def staged(given: World, own: World, plan: Plan, answered: Rows, number: int, now: simulate.Turn) -> Stage | None:
        labeled = given.labeled(answered)
        if not (plan.staged and now.trained and worth_refining(len(labeled), own.refined_on)):
            return None
        found = once(given, plan, labeled, number)
        if by_network(rule, found, own):
            world, scores = seen(given, found)
            return Stage(world, scores, found.evidence, 0.0)
        kept = own if rule == STALE else given
        return Stage(replace(kept, refined_on=len(labeled)), None, found.evidence, 0.0)

    parts: dict[str, Any] = {"turn": shared.once(simulate.turn), "_ask": shared.once(simulate._ask), "_staged": staged}
    return patch.multiple(simulate, **parts)


def run_seed(
    plan: Plan,
    samples: simulate.KnownSamples,
    seed: int,
    features: simulate.Embedded,
    beside: AbstractContextManager[Any] | None = None,
) -> pd.DataFrame:
    """Return the rows of the head alone and of all rules; something may be measured beside the newest evidence."""
    known, rows = Shared(), []
    for rule in (HEAD, *RULES):
        told: list[str] = []
        with following(rule, known), beside if beside and rule == NEWEST else nullcontext():
            run = simulate.simulate_seed(samples, plan.but(staged=rule != HEAD), seed, features, told.append)
        rows.append(run.assign(rule=rule, told=told))
    return pd.concat(rows, ignore_index=True)


def results_of(cell: Cell, folder: Path, out: Path, seeds: int, *, compute: bool) -> pd.DataFrame:
    """Return the rows of a set's seeds; they are computed where they are missing."""
    paths = {seed: cell.kept(out, "rules", seed) for seed in range(seeds)}
    missing = [seed for seed, path in paths.items() if compute and not path.exists()]
    if missing:
        images = cell.images(folder, out)
        samples, plan = simulate.known(images.manifest, images.class_names), cell.plan(images)
        features = simulate.embedded(samples, plan)
        for seed in missing:
            run_seed(plan, samples, seed, features).to_parquet(paths[seed])
            print(f"{cell}, seed {seed}: done", flush=True)
    found = [pd.read_parquet(path) for path in paths.values() if path.exists()]
    return pd.concat(found, ignore_index=True).assign(images=cell.name) if found else pd.DataFrame()


def more_than(rows: pd.DataFrame, rule: str, other: str) -> pd.DataFrame:
    """Return points of ROC-AUC that one rule has more than another: a row per run (set, seed), a column per budget."""
    table = rows[rows["n_labels"] > 0].pivot(index=["images", "seed", "n_labels"], columns="rule", values="roc_auc")
    return (100 * (table[rule] - table[other])).unstack("n_labels")


def interval(values: pd.Series) -> str:
    """Return the mean with its interval of 95 % by Student's t, and the worst."""
    mean, n = values.mean(), len(values)
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f}), worst {values.min():+.2f}"


def report(rows: pd.DataFrame) -> None:
    """Print what each rule has more than the others."""
    pairs = [(rule, STALE) for rule in RULES if rule != STALE] + [(rule, HEAD) for rule in RULES]
    for rule, other in pairs:
        more = more_than(rows, rule, other)
        parts = {"all": more} | {str(name): more.xs(name, level="images") for name in more.index.unique("images")}
        columns = [int(budget) for budget in more.columns]
        lines = [
            [
                name,
                len(part),
                sum((part != 0).any(axis=1)),
                *(interval(part[budget]) for budget in columns),
                interval(part.mean(axis=1)),
            ]
            for name, part in parts.items()
        ]
        header = ("images", "runs", "differ", *(f"{budget} labels" for budget in columns), "mean of budgets")
        print_table(f"{rule}: points of ROC-AUC more than {other}", header, lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refining_rules", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the archives and weights")
    parser.add_argument("out", type=Path, help="where finished seeds are kept")
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}; all by default")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--px", type=int, default=PX)
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--finished", action="store_true", help="compute nothing")
    given = parser.parse_args()
    if unknown := sorted(set(given.sets) - set(SETS)):
        parser.error(f"unknown sets {', '.join(unknown)}: choose from {', '.join(SETS)}")
    cells = [Cell(name, given.px, given.budget) for name in given.sets or SETS]
    found = [results_of(cell, given.folder, given.out, given.seeds, compute=not given.finished) for cell in cells]
    report(pd.concat(found, ignore_index=True))


if __name__ == "__main__":
    main()
