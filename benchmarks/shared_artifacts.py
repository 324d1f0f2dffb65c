"""What rounds write in a bucket beside the same in a folder: writing, looking, and a machine that begins with nothing.

`python -m benchmarks.shared_artifacts [ROUNDS]`: a home as after so many rounds (200 unless said; of each an
evaluation, scores, predictions, a batch and a claim, and the newest five checkpoints of 45 MB), on a real S3 server
(SeaweedFS) of which the time is not counted. A minute.
"""

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from al_pipeline.core.data.places import Place
from al_pipeline.core.files import content, whole_file
from al_pipeline.core.rounds import round_key
from al_pipeline.loop import artifact_bucket
from al_pipeline.loop.deployment import Artifacts
from al_pipeline_tests.buckets import bucket_server
from benchmarks.buckets import timed
from benchmarks.table import print_table

CHECKPOINT, CHECKPOINTS = 45_000_000, 5


def write_round(artifacts: Artifacts, number: int, weights: bytes | None) -> None:
    """Write what a round of 1,000 candidates leaves."""
    key, rng = round_key(number), np.random.default_rng(number)
    files: dict[Path, bytes] = {
        artifacts.evaluations / f"{key}.json": json.dumps({"roc": rng.random(100).tolist()}).encode(),
        artifacts.uncertainty_scores / f"{key}.parquet": rng.bytes(30_000),
        artifacts.holdout_predictions / f"{key}.parquet": rng.bytes(10_000),
        artifacts.folder / "query_batch" / f"{key}.parquet": rng.bytes(8_000),
        artifacts.claims / f"{key}-attempt-1.1": b"sensor",
    }
    if weights is not None:
        files[artifacts.checkpoints / f"{key}.safetensors"] = weights
    for path, data in files.items():
        with whole_file(path, "The artifact") as file:
            file.write_bytes(data)


def main(rounds: int) -> None:
    """Measure, and print the table."""
    artifact_bucket.FRESH = 0.0
    with tempfile.TemporaryDirectory() as name, bucket_server(Path(name) / "server"):
        place, weights = Place("s3://ours/deployment"), np.random.default_rng(0).bytes(CHECKPOINT)
        place.parent.put("made", b"")

        def machine(called: str, at: Place | None) -> Artifacts:
            settings: Any = SimpleNamespace(artifact_folder=Path(name) / called / "artifacts", artifacts=at)
            return Artifacts.of(settings)

        folder, ours = machine("folder", None), machine("ours", place)
        for number in range(rounds - 1):
            write_round(ours, number, weights if number >= rounds - CHECKPOINTS else None)
        rows: list[tuple[str, float, float]] = []
        for where, artifacts in {"in a folder": folder, "in a bucket": ours}.items():
            _, cpu, wall = timed(lambda artifacts=artifacts: write_round(artifacts, rounds - 1, weights))
            rows.append((f"a round is written, a checkpoint of 45 MB among it, {where}", cpu, wall))
        new, cpu, wall = timed(lambda: machine("new", place))
        rows.append(("a machine that has nothing takes over all but networks", cpu, wall))
        network = new.checkpoints / f"{round_key(rounds - 1)}.safetensors"
        _, cpu, wall = timed(lambda: content(network).stat())
        rows.append(("the newest network is read there, 45 MB", cpu, wall))
        _, cpu, wall = timed(new.fresh)
        rows.append(("a look at what has not changed", cpu, wall))
        write_round(ours, rounds, weights)
        _, cpu, wall = timed(new.fresh)
        rows.append(("a look takes over a round", cpu, wall))
        title = f"What {rounds:,} rounds wrote, in a bucket: {len(place.entries()):,} objects"
        print_table(title, ["what", "CPU s", "s"], [[what, f"{a:.3f}", f"{b:.3f}"] for what, a, b in rows])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
