"""A round of very many images through Dagster: a home whose features are stored, and the job `round` on it.

`python -m benchmarks.million_round HOME COUNT` makes such a home, with a first round that people have answered;
`python -m benchmarks.million_round HOME` then runs its next round and prints JSON. `benchmarks.million` does both and
prints a table. Sums of several threads come out in other bits: to compare two builds, set OMP_NUM_THREADS=1.

The pool's paths lead to 1,000 files, by links between folders: of whom features are stored the file is not looked at,
and who is chosen has a picture to show. Label Studio is the tests' one in memory, so that its own time, and the way
to it, are left out; and so are the daemon, its queue and the start of the run's process.
"""

import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
from PIL import Image

from al_pipeline.defs import build
from al_pipeline.defs.io import PART
from al_pipeline.loop.classes import bring_up, declare
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.grouping import keep_rule
from al_pipeline.loop.samples import StoredSamples
from al_pipeline.settings import Settings, load_settings
from al_pipeline_tests.defs.worlds import open_instance
from al_pipeline_tests.faults.memory_studio import Clock, MemoryStudio, State
from al_pipeline_tests.faults.worker import write_weights
from benchmarks.features import ids_of
from benchmarks.pools import DIMENSIONS, embeddings
from benchmarks.table import print_table

FILES, SIDE, SHARD, BATCH, FIRST = 1000, 32, 4096, 100, 2000
CLASSES = ("cat", "dog")
PUSH = "labeling_tasks"
Json = dict[str, Any]


def settings_of(home: Path) -> Settings:
    """Return the settings of a home: heads on the features of given weights, and all of the pool as candidates."""
    training = {"mode": "head", "weights": str(home / "start.safetensors"), "image_size": SIDE}
    chosen = {"strategy": "auto", "batch_size": BATCH, "sample_size": None}
    return load_settings(home=home, images=home / "images", training=training, round=chosen, policy={"prefetch": False})


@lru_cache
def deployed(home: str) -> tuple[dg.Definitions, Deployment, MemoryStudio]:
    """Return what a home is run with."""
    place = Path(home)
    settings, studio = settings_of(place), MemoryStudio(Clock())
    definitions = build(settings)
    deployment = (definitions.resources or {})["deployment"]
    deployment.__dict__["label_studio"] = studio
    # What stands above the instructions would be tried in vain, for a second, where nobody serves.
    studio.__dict__["connection"] = SimpleNamespace(sdk=None, read=lambda *_: SimpleNamespace(expert_instruction=""))
    studio.state.title = settings.label_studio_project
    if (kept := place / "studio.pickle").exists():
        state: State = pickle.loads(kept.read_bytes())
        studio.state = state
    return definitions, deployment, studio


def round_job() -> dg.JobDefinition:
    """Return the job `round` of the home that the environment names."""
    # Dagster loads this file a second time.
    from benchmarks.million_round import deployed

    return deployed(os.environ["MILLION_HOME"])[0].resolve_job_def("round")


def write_images(folder: Path, count: int) -> list[str]:
    """Write 1,000 files, and links by which they have so many paths; return these."""
    real = folder / "cat" / "0000"
    real.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for number in range(FILES):
        noise = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(real / f"photo_{number:06d}.png")
        os.utime(real / f"photo_{number:06d}.png", (1e9, 1e9))
    folders = ["cat/0000"]
    for number in range(1, -(-count // FILES)):
        folders.append(f"{CLASSES[number % 2]}/{number:04d}")
        (folder / folders[-1]).parent.mkdir(exist_ok=True)
        (folder / folders[-1]).symlink_to(real)
    root = folder.resolve()
    return [f"{root}/{folders[n // FILES]}/photo_{n % FILES:06d}.png" for n in range(count)]


def manifest_of(uris: list[str], labels: np.ndarray) -> pd.DataFrame:
    """Return what a scan would have found: of six images one has two near-duplicates, all others are alone."""
    count, ids, rng = len(uris), ids_of(len(uris)), np.random.default_rng(4)
    first = np.arange(count)
    first[1::6], first[2::6] = first[0::6][: len(first[1::6])], first[0::6][: len(first[2::6])]
    each = {Path(uri).name: Path(uri).stat().st_size for uri in uris[:FILES]}
    return pd.DataFrame(
        {
            "sample_id": ids,
            "uri": uris,
            "split": "pool",
            "reason": None,
            "label": np.array(CLASSES, dtype=object)[labels],
            "width": 640,
            "height": 480,
            "format": "PNG",
            "bytes": [each[Path(uri).name] for uri in uris],
            "phash": [digits[:16] for digits in ids],
            "thumbnail": [rng.bytes(256) for _ in range(count)],
            "file_id": ids,
            "pixels": ids,
            "mtime_ns": int(1e18),
            "inode": np.arange(count),
            "taken": None,
            "notes": 0,
            "planes": 1,
            "levels": None,
            "group": np.array(ids, dtype=object)[first],
        }
    )


def make(home: Path, count: int) -> None:
    """Make a home of so many images with stored features, and a first round of 100 of 2,000 that is answered."""
    home.mkdir(parents=True)
    write_weights(home / "start.safetensors")
    uris, vectors = write_images(home / "images", count), embeddings(count)
    # Two classes with a straight border that leaves about half on either side.
    side = vectors @ np.random.default_rng(2).normal(size=vectors.shape[1])
    manifest = manifest_of(uris, (side > np.median(side)).astype(int))
    _, deployment, studio = deployed(str(home))
    settings = deployment.settings
    settings.artifact_folder.mkdir(parents=True, exist_ok=True)
    manifest.to_parquet(settings.artifact_folder / "image_pool.parquet", index=False, row_group_size=PART)
    samples = StoredSamples(manifest, deployment, settings.training, 0, logging.getLogger())
    ids = manifest["sample_id"].tolist()
    for start in range(0, count, SHARD):
        samples.store.append(ids[start : start + SHARD], vectors[start : start + SHARD])
    deployment.ledger.register(manifest)
    keep_rule(deployment)
    bring_up(deployment, declare(deployment.ledger, manifest, settings))
    truth = dict(zip(ids, manifest["label"], strict=True))
    del samples, vectors, manifest
    run(home, "r0000", {"sample_size": FIRST})
    for task in list(studio.state.tasks.values()):
        studio.answer(task.id, [truth[task.data["sample_id"]]], lead_time=2.0)
    (home / "studio.pickle").write_bytes(pickle.dumps(studio.state))


class Steps:
    """CPU and wall seconds of each step of a run in this process, from its events."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}
        self.pushed = 0.0
        self._began: dict[str, tuple[float, float]] = {}
        self._handle = instance.handle_new_event
        instance.handle_new_event = self.handle  # type: ignore[method-assign]

    def handle(self, entry: Any, **more: Any) -> Any:
        """Look at an event, and hand it on."""
        kind, key = entry.dagster_event.event_type_value if entry.dagster_event else "", str(entry.step_key)
        now = time.process_time(), time.perf_counter()
        if kind == "STEP_START":
            self._began[key] = now
        elif kind in {"STEP_SUCCESS", "STEP_FAILURE"}:
            self.seconds[key] = now[0] - self._began[key][0], now[1] - self._began[key][1]
            self.pushed = now[1] if key.startswith(PUSH) else self.pushed
        return self._handle(entry, **more)


def run(home: Path, key: str, chosen: Json | None = None) -> Json:
    """Run a round as a run's process does, and return what it took."""
    os.environ["MILLION_HOME"] = str(home)
    logging.disable()
    with open_instance(home / "dagster") as instance:
        instance.add_dynamic_partitions("rounds", [key])
        steps = Steps(instance)
        # What a run's process is forked with.
        import_module("al_pipeline.servers.preload")
        Path("/proc/self/clear_refs").write_text("5")
        cpu, wall = time.process_time(), time.perf_counter()
        done = dg.execute_job(
            dg.reconstructable(round_job),
            instance=instance,
            tags={"dagster/partition": key},
            run_config={"resources": {"round_config": {"config": chosen or {}}}},
            raise_on_error=True,
        )
        assert done.success
        ended = time.perf_counter()
    batch = deployed(str(home))[1].ledger.planned(key)
    shown = batch[["sample_id", "purpose", "rank", "strategy", "score", "predicted_probability"]]
    return {
        "wall": ended - wall,
        "to_push": steps.pushed - wall,
        "cpu": time.process_time() - cpu,
        "peak": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024,
        "handed_on": sum(file.stat().st_size for file in (home / "dagster" / "storage").rglob("*") if file.is_file()),
        "steps": steps.seconds,
        "samples": hashlib.sha256("".join(batch["sample_id"]).encode()).hexdigest()[:16],
        "batch": hashlib.sha256(shown.to_csv(float_format="%.17g").encode()).hexdigest()[:16],
    }


def report(count: int) -> None:
    """Make a home, run its round in a process of its own, and print what it took."""
    with tempfile.TemporaryDirectory(prefix="al-million-") as folder:
        command = [sys.executable, "-m", "benchmarks.million_round", f"{folder}/home"]
        subprocess.run([*command, str(count)], check=True, capture_output=True)
        found = json.loads(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()[-1])
    features = count * DIMENSIONS * 4
    rows = [(step, f"{cpu:.2f}", f"{wall:.2f}") for step, (cpu, wall) in found["steps"].items()]
    rows.append(("until the batch is out", "", f"{found['to_push']:.2f}"))
    rows.append(("the whole run", f"{found['cpu']:.2f}", f"{found['wall']:.2f}"))
    print_table(f"A round of {count:,} images through Dagster", ("step", "CPU seconds", "seconds"), rows)
    memory, share = f"{found['peak'] / 1e6:,.0f} MB", found["peak"] / features
    print(f"Peak memory of the process {memory}, {share:.2f} of the features' {features / 1e6:,.0f} MB; handed on")
    print(
        f"between steps beside assets {found['handed_on'] / 1e6:.1f} MB; samples {found['samples']}, batch "
        f"{found['batch']}"
    )


if __name__ == "__main__":
    from benchmarks import million_round

    place = Path(sys.argv[1]).resolve()
    if len(sys.argv) > 2:
        million_round.make(place, int(sys.argv[2]))
    else:
        print(json.dumps(million_round.run(place, "r0001")))
