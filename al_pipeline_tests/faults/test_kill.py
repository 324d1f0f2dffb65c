"""kill -9 anywhere in a round, or run it twice at once: no task twice, no answer lost, the same batch and labels.

`make faults` kills five times at each point, CI once.
"""

import multiprocessing
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import forkserver
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest

from al_pipeline.core.rounds import round_key
from al_pipeline.ledger.verify import verify
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline_tests.defs.worlds import CLASSES, World, open_world, write_images
from al_pipeline_tests.faults.points import POINTS, Point
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.faults.size import size
from al_pipeline_tests.faults.worker import LABELS, MODEL, PUSH, SCORES, run, write_weights
from al_pipeline_tests.ledger.builders import asked

pytestmark = [pytest.mark.labelstudio, pytest.mark.faults]

REPEATS = size(5, ci=1)
# Rounds that are run by two processes at once.
TWICE = size(10, ci=4)
BATCH = 2
# One for each round, and each point has one more that looks at the labels: the first round asks about so many.
ANSWERS = (REPEATS + 1) * len(POINTS) + TWICE
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
        [code] = self.run_at_once(key, assets, point)
        self.killed += code == -signal.SIGKILL
        return code

    def run_at_once(self, key: str, assets: list[str], *points: Point | None) -> list[int]:
        """Run a part of a round in several processes at once, one for each point, and return their exit codes."""
        processes = [self.context.Process(target=run, args=(self.path, key, assets, point)) for point in points]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        codes = [process.exitcode for process in processes]
        assert None not in codes, "a process hangs"
        return codes

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

    def lend(self, key: str) -> None:
        """Give a round what comes before its query batch: that of the first one, without what was asked since."""
        for asset, ending in (("labeled_pool", "parquet"), ("checkpoint", "safetensors")):
            folder = self.world.settings.artifact_folder / asset
            shutil.copy(folder / f"r0000.{ending}", folder / f"{key}.{ending}")
        scores = self.world.value("uncertainty_scores", "r0000")
        left = scores[~scores["sample_id"].isin(asked(self.world.deployment.ledger))]
        left.to_parquet(self.world.settings.artifact_folder / "uncertainty_scores" / f"{key}.parquet")

    def look_at_labels(self, key: str) -> None:
        """Compare what a round trains on with the answers given so far."""
        labels = self.world.deployment.ledger.frozen_labels(key)
        by_sample = dict(zip(labels["sample_id"], labels["label"], strict=True))
        assert by_sample == {sample: value for (sample, _), value in self.given.items()}

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
        "round": {"strategy": "low_certainty", "batch_size": BATCH, "sample_size": None, "dedup": None},
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
    os.environ["AL_FAULT_PROJECT"] = str(home / "usual")
    context = multiprocessing.get_context("forkserver")
    # That of another test has imported something else.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    context.set_forkserver_preload(["al_pipeline_tests.faults.warm"])
    loop = Loop(world, str(home / "first"), context)
    world.instance.add_dynamic_partitions("rounds", ["r0000"])
    assert loop.run("r0000", LABELS + MODEL + SCORES + PUSH) == 0
    loop.path = str(home / "usual")
    planned = world.deployment.ledger.planned("r0000")
    loop.open_tasks = dict(zip(planned["task_id"].astype(int).tolist(), planned["sample_id"], strict=True))
    yield loop
    if loop.killed:
        report("kill -9", points=len(POINTS), repeats=REPEATS, kills=loop.killed, answers=len(loop.given))
    world.instance.dispose()
    # It has networks ready, whose threads no fork has: a child that gives one up is aborted by OpenVINO.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_round_that_was_killed_ends_as_if_it_had_not_been(loop: Loop, point: Point) -> None:
    ledger, assets = loop.world.deployment.ledger, RUNS[point.phase]
    for _ in range(REPEATS):
        key = loop.begin()
        if assets == PUSH:
            loop.lend(key)
        assert loop.run(key, assets, point) == -signal.SIGKILL, f"{point.name} was not reached"
        planned = ledger.planned(key)["sample_id"].tolist() if ledger.is_planned(key) else None
        frozen = ledger.frozen_labels(key) if ledger.has_snapshot(key) else None

        assert loop.run(key, assets or LABELS) == 0
        if assets == PUSH:
            batch = ledger.planned(key)["sample_id"].tolist()
            assert len(batch) == BATCH
            assert planned is None or planned == batch
            assert sorted(loop.tasks(key)) == sorted(batch), "a task is missing or there twice"
        else:
            loop.look_at_labels(key)
        if frozen is not None:
            pd.testing.assert_frame_equal(ledger.frozen_labels(key), frozen)
    key = loop.begin()
    assert loop.run(key, LABELS) == 0
    loop.look_at_labels(key)
    held = {(row.sample_id, row.annotation_id): row.value for row in ledger.answers().itertuples()}
    assert held == loop.given
    assert verify(loop.world.settings.ledger_url).problems == []


def test_two_runs_of_one_round_at_once_make_one_batch(loop: Loop) -> None:
    ledger, succeeded = loop.world.deployment.ledger, 0
    for _ in range(TWICE // 2):
        key = loop.begin()
        loop.lend(key)
        # One may find the other's tasks half made, and say so; what counts is what is there in the end.
        succeeded += loop.run_at_once(key, PUSH, None, None).count(0)
        assert loop.run(key, PUSH) == 0
        batch = ledger.planned(key)["sample_id"].tolist()
        assert len(batch) == BATCH
        assert sorted(loop.tasks(key)) == sorted(batch), "a task is missing or there twice"
        key = loop.begin()
        assert loop.run_at_once(key, LABELS, None, None) == [0, 0]
        loop.look_at_labels(key)
    assert verify(loop.world.settings.ledger_url).problems == []
    report("two runs at once", rounds=TWICE, succeeded=succeeded + TWICE)
