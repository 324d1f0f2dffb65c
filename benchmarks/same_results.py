"""What must not change when code moves: digests of picks, checkpoints, studies' tables and whole rounds.

    python -m benchmarks.same_results FOLDER before.json                    # on the one commit
    python -m benchmarks.same_results FOLDER after.json --against before.json   # on the other

FOLDER holds the photos and the weights. Digests hold on one machine, with its libraries, on one thread.
"""

import hashlib
import json
import os
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import dagster as dg
import numpy as np
import pandas as pd
import torch

from al_pipeline.core.learning.head import head_passes
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict
from al_pipeline.core.learning.targets import class_numbers
from al_pipeline.core.learning.train import train, untrained
from al_pipeline.core.strategies import available, select
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.run import one_thread
from al_pipeline.core.study.simulate import simulate
from al_pipeline.defs import build
from al_pipeline.loop.deployment import Deployment
from al_pipeline.settings import load_settings
from benchmarks.data import WEIGHTS, load

POOL, EVERY, SIZE = 600, 12, 32
ROUND = ("labeled_pool", "checkpoint", "evaluation", "uncertainty_scores", "query_batch")
Digests = dict[str, str]


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def table(frame: pd.DataFrame) -> str:
    """Return the digest of a table's values, to the last digit, and of its bytes as Parquet."""
    return digest(frame.to_csv(index=False, float_format="%.17g").encode(), frame.to_parquet(index=False))


def picks(name: str, pool: pd.DataFrame, names: list[str], weights: str, into: Digests) -> None:
    """Let every strategy choose at three seeds: plainly, with its guards, and balanced where it can."""
    given = weights != "none"
    options = TrainingOptions(mode="head" if given else "finetune", weights=weights, image_size=SIZE, epochs=1)
    uris, labels = pool["uri"].tolist(), pool["label"].tolist()
    features = embed(untrained(names, options, seed=0, round_number=0).checkpoint, uris)
    known = np.arange(0, len(pool), EVERY)
    found = train([uris[i] for i in known], [labels[i] for i in known], names, options, seed=0, round_number=1)
    targets = class_numbers([labels[i] for i in known], names)
    passes = head_passes(features[known], targets, len(names), features, passes=5, rng=np.random.default_rng(1))
    probabilities, rest = predict(found.checkpoint, uris), np.setdiff1d(np.arange(len(pool)), known)
    for strategy, info in available().items():
        guards: list[dict[str, Any]] = [{}, {"explore": 0.3, "dedup": 0.999}]
        for seed in range(3):
            for guard in guards + [{"balanced": True}] * info.balanced:
                chosen = select(
                    strategy,
                    probabilities=passes[:, rest] if "passes" in info.needs else probabilities[rest],
                    embeddings=features[rest],
                    labeled_embeddings=features[known],
                    batch_size=20,
                    rng=np.random.default_rng(seed),
                    **guard,
                )
                parts = (chosen.indices.tobytes(), chosen.scores.tobytes(), chosen.propensities.tobytes())
                into[f"picks {name} {strategy} {seed} {sorted(guard)}"] = digest(*parts)


def checkpoints(name: str, pool: pd.DataFrame, names: list[str], options: TrainingOptions, into: Digests) -> None:
    """Train on the labels of three rounds."""
    for number in (1, 2, 3):
        rows = pool.iloc[:: len(pool) // (20 * number)]
        found = train(rows["uri"].tolist(), rows["label"].tolist(), names, options, seed=3, round_number=number)
        into[f"checkpoint {name} {options.mode} {number}"] = found.checkpoint.info.weights_hash


def rounds(name: str, images: Path, options: TrainingOptions, into: Digests) -> None:
    """Run four rounds of Dagster on frozen labels, up to the batch."""
    with tempfile.TemporaryDirectory() as place, chdir(place), dg.DagsterInstance.ephemeral() as instance:
        chosen = {"strategy": "auto", "batch_size": 12, "sample_size": 120, "explore": 0.25, "dedup": 0.9995}
        settings = load_settings(home=Path(place), images=images, training=dict(options), round=chosen)
        job = build(settings).resolve_implicit_global_asset_job_def()
        job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("image_pool"), dg.AssetKey("embeddings")]
        )
        manifest = pd.read_parquet(settings.artifact_folder / "image_pool.parquet")
        for number in range(4):
            key = f"r{number:04d}"
            instance.add_dynamic_partitions("rounds", [key])
            labels = manifest[manifest["split"] == "pool"].groupby("label").head(2 * number)[["sample_id", "label"]]
            said = {"votes": 1, "n_votes": 1, "weight": 1.0, "annotation_ids": "1", "first_round": "r0000"}
            Deployment(settings).ledger.snapshot(key, labels.assign(**said))
            selection = [dg.AssetKey(asset) for asset in ROUND]
            assert job.execute_in_process(instance=instance, partition_key=key, asset_selection=selection).success
            for asset in ("query_batch", "uncertainty_scores"):
                stored = pd.read_parquet(settings.artifact_folder / asset / f"{key}.parquet").astype(str)
                into[f"round {name} {options.mode} {key} {asset}"] = table(stored.drop(columns="uri", errors="ignore"))


def run(folder: Path) -> Digests:
    torch.set_num_threads(1)
    into: Digests = {}
    place = Path(tempfile.gettempdir()) / "same-results"
    for name in ("digits", "photos"):
        images = load(name, folder, place)
        pool = images.manifest[images.manifest["split"] == "pool"].sort_values("sample_id").head(POOL)
        root = Path(pool["uri"].iloc[0]).parents[2]
        weights = str(folder / WEIGHTS)
        picks(name, pool, images.class_names, weights, into)
        for mode in ("head", "finetune"):
            options = TrainingOptions(mode=mode, weights=weights, image_size=SIZE, epochs=2)
            checkpoints(name, pool, images.class_names, options, into)
            rounds(name, root, options, into)
        plan = Plan(
            strategies=["auto", "low_certainty", "random", "bald", "badge", "high_certainty"],
            seeds=[0, 1],
            batch_size=15,
            sample_size=100,
            options=TrainingOptions(mode="head", weights=weights, image_size=SIZE),
            budget=60,
            start="own",
            explore=0.2,
            dedup=0.9995,
            skip_rate=0.1,
            error_rate=0.05,
        )
        few = images.manifest.sort_values("sample_id").groupby("split").head(400)
        with one_thread():
            into[f"study {name}"] = table(simulate(few, images.class_names, plan))
        if name == "digits":
            picks("digits untrained", pool, images.class_names, "none", into)
            checkpoints("digits untrained", pool, images.class_names, options.but(weights="none"), into)
    return into


if __name__ == "__main__":
    found = run(Path(sys.argv[1]).resolve())
    Path(sys.argv[2]).write_text(json.dumps(found, indent=1, sort_keys=True))
    print(f"{len(found)} digests")
    if "--against" in sys.argv:
        before = json.loads(Path(sys.argv[sys.argv.index("--against") + 1]).read_text())
        differ = sorted(key for key in before.keys() | found.keys() if before.get(key) != found.get(key))
        print(f"{len(differ)} differ", *differ, sep="\n")
        sys.exit(bool(differ))
