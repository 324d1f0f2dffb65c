"""kill -9 anywhere in a round, run it again: no task twice, no answer lost, the same batch, the same labels."""

import multiprocessing
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest

from al_pipeline.core.rounds import round_key
from al_pipeline.labelstudio.server import LocalLabelStudio
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.defs.conftest import CLASSES, World, open_world, write_images
from al_pipeline_tests.faults.points import POINTS, Point
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.faults.worker import LABELS, MODEL, PUSH, run, write_weights

pytestmark = [pytest.mark.labelstudio, pytest.mark.faults]

REPEATS = 5
BATCH = 2
# One for each round: the first round asks about so many.
ANSWERS = REPEATS * len(POINTS)
# What is run, and killed, for each phase; what comes before is there already.
RUNS = {
    "pull": LABELS,
    "snapshot": LABELS,
    "train": LABELS + MODEL,
    "write ahead": PUSH,
    "import": PUSH,
    "verify": PUSH,
    "sensor": [],
}


@dataclass
class Loop:
    """One project whose rounds are killed again and again."""

    world: World
    path: str
    context: Any
    number: int = 0
    # Tasks that nobody has answered, by id: their samples.
    open_tasks: dict[int, str] = field(default_factory=dict)
    # (sample, annotation id) → value of every answer given so far.
    given: dict[tuple[str, int], str] = field(default_factory=dict)
    killed: int = 0

    def run(self, key: str, assets: list[str], point: Point | None = None) -> int:
        """Run a part of a round in a process of its own and return its exit code."""
        process = self.context.Process(target=run, args=(self.path, key, assets, point))
        process.start()
        process.join(120)
        assert process.exitcode is not None, "the process hangs"
        self.killed += process.exitcode == -signal.SIGKILL
        return process.exitcode

    def begin(self) -> str:
        """Add the next round, and answer something for it to pull."""
        self.number += 1
        key = round_key(self.number)
        self.world.instance.add_dynamic_partitions("rounds", [key])
        client = self.world.deployment.label_studio
        task, sample = self.open_tasks.popitem()
        value = CLASSES[int(sample[:8], 16) % 2]
        self.given[sample, client.annotate(task, value)] = value
        return key

    def lend_checkpoint(self, key: str) -> None:
        """Give a round the checkpoint of the first one, where training is not what is tested."""
        folder = self.world.settings.artifacts / "checkpoint"
        shutil.copy(folder / "r0000.safetensors", folder / f"{key}.safetensors")

    def tasks(self, key: str) -> list[str]:
        """Return the samples that the project's tasks of a round ask about."""
        client, project = self.world.deployment.label_studio, self.world.deployment.project_id()
        return [task.sample_id for task in client.tasks(project, key)]


@pytest.fixture(scope="module")
def loop(server: LocalLabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    home = tmp_path_factory.mktemp("kill")
    write_images(home / "images", ANSWERS, seed=0)
    write_images(home / "images", 3, seed=1, split="holdout")
    write_weights(home / "start.safetensors")
    settings: dict[str, Any] = {
        "home": home / "home",
        # Nobody looks at the images here: Label Studio need not find them.
        "label_studio_images": str(server.document_root / "images"),
        "images": home / "images",
        "round": {"strategy": "low_certainty", "batch_size": BATCH, "sample_size": ANSWERS},
        "training": {"mode": "head", "image_size": 32, "weights": str(home / "start.safetensors")},
        "label_studio_url": server.url,
        "label_studio_token": server.token,
        "label_studio_project": f"kill {uuid4()}",
        "label_studio_timeout": 60,
        "database_url": f"sqlite:///{home / 'ledger.sqlite3'}",
    }
    world = open_world(home / "dagster", settings)
    assert world.run("setup").success
    os.environ["OMP_NUM_THREADS"] = "1"
    many = settings | {"round": settings["round"] | {"batch_size": ANSWERS}}
    for name, options in (("usual", settings), ("first", many)):
        (home / name).write_bytes(pickle.dumps((home / "dagster", options)))
    os.environ["AL_KILL_PROJECT"] = str(home / "usual")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["al_pipeline_tests.faults.warm"])
    loop = Loop(world, str(home / "first"), context)
    world.instance.add_dynamic_partitions("rounds", ["r0000"])
    assert loop.run("r0000", LABELS + MODEL + PUSH) == 0
    loop.path = str(home / "usual")
    planned = world.deployment.ledger.planned("r0000")
    loop.open_tasks = dict(zip(planned["task_id"].astype(int).tolist(), planned["sample_id"], strict=True))
    yield loop
    counts = {"points": len(POINTS), "repeats": REPEATS, "kills": loop.killed, "answers": len(loop.given)}
    report("kill -9", **counts)
    world.instance.dispose()


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_round_that_was_killed_ends_as_if_it_had_not_been(loop: Loop, point: Point) -> None:
    ledger, assets = loop.world.deployment.ledger, RUNS[point.phase]
    for _ in range(REPEATS):
        key = loop.begin()
        if assets == PUSH:
            assert loop.run(key, LABELS) == 0
            loop.lend_checkpoint(key)
        assert loop.run(key, assets, point) == -signal.SIGKILL, f"{point.name} was not reached"
        planned = ledger.planned(key)["sample_id"].tolist() if ledger.is_planned(key) else None
        frozen = ledger.frozen_labels(key) if ledger.has_snapshot(key) else None

        assert loop.run(key, assets or LABELS) == 0
        labels = ledger.frozen_labels(key)
        if frozen is not None:
            pd.testing.assert_frame_equal(labels, frozen)
        by_sample = dict(zip(labels["sample_id"], labels["label"], strict=True))
        assert by_sample == {sample: value for (sample, _), value in loop.given.items()}
        if assets == PUSH:
            batch = ledger.planned(key)["sample_id"].tolist()
            assert len(batch) == BATCH
            assert planned is None or planned == batch
            assert sorted(loop.tasks(key)) == sorted(batch), "a task is missing or there twice"
    held = {(row.sample_id, row.annotation_id): row.value for row in ledger.answers().itertuples()}
    assert held == loop.given
    assert verify(loop.world.settings.ledger_url).problems == []
