"""Which refined network a round goes by: rules compared on image sets that none of them was found on.

`python -m benchmarks.refining_rules FOLDER OUT [SET …] [--seeds N] [--px N] [--finished]` runs the loop of a study per
rule, set and seed, with batches of 20. What the rules have in common is computed once. Finished seeds are kept in OUT.
"""

import argparse
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.stats import t

from al_pipeline.core.evaluation.evaluate import Evaluation, evaluate
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


def image_set(name: str, folder: Path, out: Path, px: int) -> ImageSet:
    """Return the digits, or two classes of CIFAR-10."""
    images = load("digits" if name == "digits" else "cifar10", folder, out)
    options = images.options.but(image_size=px)
    if name == "digits":
        return replace(images, options=options)
    pair = name.split("/")
    rows = images.manifest[images.manifest["label"].isin(pair)].reset_index(drop=True)
    return replace(images, title=name, manifest=rows, class_names=pair, options=options)


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

    def staged(given: World, now: World, plan: Plan, labeled: Rows, number: int, *, last: bool) -> Stage:
        found = once(given, plan, labeled, number)
        if by_network(rule, found, now):
            world, scores = seen(given, found)
            return Stage(world, scores, found.evidence, 0.0)
        kept = now if rule == STALE else given
        return Stage(replace(kept, refined_on=len(labeled)), None, found.evidence, 0.0)

    return patch.multiple(simulate, staged=staged, turn=shared.once(simulate.turn), _ask=shared.once(simulate._ask))


def run_seed(images: ImageSet, samples: simulate.KnownSamples, seed: int, features: simulate.Embedded) -> pd.DataFrame:
    """Return the rows of the head alone and of all rules."""
    shared: dict[str, Any] = {"sample_size": None, "options": images.options, "seeds": [seed], "stop_set": False}
    plan = Plan(strategies=["auto"], batch_size=BATCH, budget=BUDGET, staged=True, **shared)
    known, rows = Shared(), []
    for rule in (HEAD, *RULES):
        told: list[str] = []
        with following(rule, known):
            run = simulate.simulate_seed(samples, plan.but(staged=rule != HEAD), seed, features, told.append)
        rows.append(run.assign(rule=rule, told=told))
    return pd.concat(rows, ignore_index=True).assign(images=images.title)


def results_of(name: str, folder: Path, out: Path, seeds: int, px: int, *, compute: bool) -> pd.DataFrame:
    """Return the rows of a set's seeds; they are computed where they are missing."""
    found: list[pd.DataFrame] = []
    images = samples = features = None
    for seed in range(seeds):
        path = out / "rules" / f"{name.replace('/', '-')}-{px}-{seed}.parquet"
        if not path.exists():
            if not compute:
                continue
            if images is None or samples is None or features is None:
                images = image_set(name, folder, out, px)
                samples = simulate.known(images.manifest, images.class_names)
                plan = Plan(strategies=["auto"], seeds=[0], batch_size=BATCH, budget=BUDGET, options=images.options)
                features = simulate.embedded(samples, plan)
            path.parent.mkdir(parents=True, exist_ok=True)
            run_seed(images, samples, seed, features).to_parquet(path)
            print(f"{name}, {px} px, seed {seed}: done", flush=True)
        found.append(pd.read_parquet(path))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


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
    parser.add_argument("--finished", action="store_true", help="compute nothing")
    given = parser.parse_args()
    if unknown := sorted(set(given.sets) - set(SETS)):
        parser.error(f"unknown sets {', '.join(unknown)}: choose from {', '.join(SETS)}")
    found = [
        results_of(name, given.folder, given.out, given.seeds, given.px, compute=not given.finished)
        for name in given.sets or SETS
    ]
    report(pd.concat(found, ignore_index=True))


if __name__ == "__main__":
    main()
