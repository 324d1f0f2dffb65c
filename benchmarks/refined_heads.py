"""Heads that learn from unlabeled images too, and means of the last heads, beside the head that a round learns.

`python -m benchmarks.refined_heads FOLDER OUT [SET …] [--seeds N] …` runs what `benchmarks.refining_rules` does,
which finds it in OUT, and measures in each turn of the newest evidence what else could have been learned.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.evaluation.evaluate import evaluate
from al_pipeline.core.study import simulate
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.world import World
from al_pipeline.core.turn import Rows, learn
from benchmarks.refining_rules import BUDGET, PX, SEEDS, Cell, interval, run_seed
from benchmarks.table import print_table

SETS = ("digits", "automobile/truck")
HEAD, PROPAGATED, LAST = "head", "label propagation", "mean of the last three heads"
# Rounds whose heads are averaged.
HEADS = 3
LEAST = 1e-3


def predicted(world: World, plan: Plan, asked: Rows, number: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return what the head of a turn predicts for the holdout, and what it does with propagated labels."""
    labeled, rows = world.labeled(asked), np.arange(len(world.pool.all_images))
    found = {}
    for name, arm in ((HEAD, "none"), (PROPAGATED, "label_propagation")):
        model = learn(
            world.pool,
            labeled,
            world.answers[labeled],
            world.class_names,
            plan.options.but(semi_supervised=arm),
            seed=world.seed,
            number=number,
            others=np.setdiff1d(rows, labeled),
            network=False,
            refined=world.network,
        )
        found[name] = model.predict(world.holdout, np.arange(len(world.truth)))
    return found


@contextmanager
def measured(rows: list[dict[str, Any]], seed: int) -> Iterator[None]:
    """Have every turn of a study add its scores to the rows, of each way."""
    heads: list[npt.NDArray[np.float64]] = []
    real = simulate.turn

    def turn(world: World, plan: Plan, asked: Rows, number: int, *more: Any, **named: Any) -> simulate.Turn:
        now = real(world, plan, asked, number, *more, **named)
        if now.trained:
            found = predicted(world, plan, asked, number)
            heads.append(found[HEAD])
            found[LAST] = np.mean(heads[-HEADS:], axis=0)
            truth = np.array([world.class_names.index(label) for label in world.truth])
            for way, probabilities in found.items():
                score = evaluate(probabilities, world.truth, world.class_names, seed=seed, groups=world.tested).roc_auc
                assert score is not None
                right = np.maximum(probabilities[np.arange(len(truth)), truth], LEAST)
                row = {"seed": seed, "n_labels": len(world.labeled(asked)), "refined": world.network is not None}
                rows.append(row | {"way": way, "roc_auc": score.value, "log_loss": -np.log(right).mean()})
        return now

    with patch.object(simulate, "turn", turn):
        yield


def report(name: str, rows: pd.DataFrame) -> None:
    """Print what the other ways have more than the head, run by run: the mean over a run's turns."""
    lines = []
    for refined, part in rows.groupby("refined"):
        tables = {score: part.pivot(index=["seed", "n_labels"], columns="way", values=score) for score in SCORES}
        for way in (PROPAGATED, LAST):
            more = {score: (table[way] - table[HEAD]).groupby("seed").mean() for score, table in tables.items()}
            lines.append(
                [
                    name,
                    "refined" if refined else "given",
                    way,
                    f"{len(tables['roc_auc'])} of {part['seed'].nunique()} seeds",
                    interval(100 * more["roc_auc"]),
                    f"{more['log_loss'].mean():+.3f}",
                ]
            )
    header = ("images", "features", "way", "turns", "points of ROC-AUC more than the head", "log loss more")
    print_table("Beside the head that a round learns", header, lines)


SCORES = ("roc_auc", "log_loss")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refined_heads", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the archives and weights")
    parser.add_argument("out", type=Path, help="where images are unpacked, and finished seeds are kept")
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--px", type=int, default=PX)
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    for name in given.sets:
        cell = Cell(name, given.px, given.budget)
        images = cell.images(given.folder, given.out)
        samples, plan = simulate.known(images.manifest, images.class_names), cell.plan(images)
        features, found = simulate.embedded(samples, plan), []
        for seed in range(given.first, given.first + given.seeds):
            path = cell.kept(given.out, "heads", seed)
            if not path.exists():
                rows: list[dict[str, Any]] = []
                rules = run_seed(plan, samples, seed, features, measured(rows, seed))
                rules.to_parquet(cell.kept(given.out, "rules", seed))
                pd.DataFrame(rows).to_parquet(path)
                print(f"{cell}, seed {seed}: done", flush=True)
            found.append(pd.read_parquet(path))
        report(name, pd.concat(found, ignore_index=True))


if __name__ == "__main__":
    main()
