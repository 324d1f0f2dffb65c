"""Heads that learn from unlabeled images too, and means of the last heads, beside the head that a round learns.

`python -m benchmarks.refined_heads FOLDER OUT [SET …] [--seeds N] [--px N]` runs staged studies of batches of 20 and
measures in each turn what else could have been learned from the same labels and features.
"""

import argparse
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
from benchmarks.refining_rules import BATCH, BUDGET, PX, SEEDS, image_set, interval
from benchmarks.table import print_table

SETS = ("digits", "cat/dog")
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


def run_seed(samples: simulate.KnownSamples, plan: Plan, seed: int, features: simulate.Embedded) -> pd.DataFrame:
    """Return the scores of each way in each turn of a seed."""
    rows: list[dict[str, Any]] = []
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
        simulate.simulate_seed(samples, plan, seed, features)
    return pd.DataFrame(rows)


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
    given = parser.parse_args()
    for name in given.sets:
        images = image_set(name, given.folder, given.out, given.px)
        samples = simulate.known(images.manifest, images.class_names)
        shared: dict[str, Any] = {"sample_size": None, "options": images.options, "stop_set": False, "staged": True}
        plan = Plan(strategies=["auto"], seeds=[0], batch_size=BATCH, budget=BUDGET, **shared)
        features, found = simulate.embedded(samples, plan), []
        for seed in range(given.seeds):
            path = given.out / "heads" / f"{name.replace('/', '-')}-{given.px}-{seed}.parquet"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                run_seed(samples, plan, seed, features).to_parquet(path)
            found.append(pd.read_parquet(path))
        report(name, pd.concat(found, ignore_index=True))


if __name__ == "__main__":
    main()
