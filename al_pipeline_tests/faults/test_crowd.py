"""Ten people answer tasks while rounds run: the ledger has what they did, all of it and nothing else.

`make faults` gives them five thousand tasks and three rounds, CI two hundred and two.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from al_pipeline.core.rounds import round_key
from al_pipeline.labelstudio.annotator import sign_up
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import choice
from al_pipeline.labelstudio.connection import LabelStudioNotFoundError, LabelStudioUnavailableError
from al_pipeline.labelstudio.events import TaskStatus
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.pull import pull
from al_pipeline.loop.withdrawals import withdraw_copies
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline_tests.defs.worlds import CLASSES, World, write_images
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.faults.size import size
from al_pipeline_tests.faults.worker import write_weights

pytestmark = [pytest.mark.labelstudio, pytest.mark.faults]

PEOPLE, TASKS, ROUNDS = 10, size(5000, ci=200), size(3, ci=2)
# Seconds that somebody looks at an image. Without them Label Studio's SQLite has no moment left for the rounds' writes.
LOOK = 1.0
ATTEMPTS = 3
# A busy SQLite may take a minute over one request. What a person does again after giving up would be there twice, and
# rightly so; rounds give up after a minute, and have to mend what comes of it.
PATIENCE = 300
# Of each person's answers every so-manieth is a skip, changed later, taken back, or also given by the next person.
SKIPPED, CHANGED, TAKEN_BACK, SHARED = 13, 7, 17, 11
# What somebody has said: annotation id → sample, annotator, value; None for a skip.
Said = dict[int, tuple[str, str, str | None]]


@dataclass
class Person:
    """Somebody who labels until it is time to go home."""

    client: LabelStudio
    id: int
    name: str
    tasks: list[TaskStatus]
    said: Said = field(default_factory=dict)
    acts: int = 0

    def work(self, home_time: threading.Event) -> None:
        for number, task in enumerate(self.tasks, start=1):
            if home_time.wait(LOOK):
                return
            value = None if number % SKIPPED == 0 else CLASSES[task.task_id % 2]
            made = self.answer(task.task_id, value)
            self.said[made] = (task.sample_id, self.name, value)
            self.acts += 1
            if number % CHANGED == 0:
                value = CLASSES[(task.task_id + 1) % 2]
                self.change(made, value)
                self.said[made] = (task.sample_id, self.name, value)
                self.acts += 1
            elif number % TAKEN_BACK == 0:
                self.take_back(made)
                del self.said[made]
                self.acts += 1

    # On SQLite Label Studio tells one of many who write at once that its database is locked. A person then looks
    # whether it was done, and does it again if it was not.

    def answer(self, task_id: int, value: str | None) -> int:
        connection = self.client.connection
        for _ in range(ATTEMPTS):
            with suppress(LabelStudioUnavailableError):
                return self.client.annotate(task_id, value)
            there = connection.read("look", lambda: connection.json(f"api/tasks/{task_id}/annotations/", {}))
            if mine := [annotation["id"] for annotation in there if annotation["completed_by"] == self.id]:
                return int(mine[0])
        pytest.fail(f"task {task_id} could not be answered in {ATTEMPTS} attempts")

    def change(self, annotation_id: int, value: str) -> None:
        changed: Any = {"result": [choice(value)], "was_cancelled": False}
        annotations = self.client.connection.sdk.annotations
        self.client.connection.read("change", lambda: annotations.update(annotation_id, **changed))

    def take_back(self, annotation_id: int) -> None:
        annotations = self.client.connection.sdk.annotations
        with suppress(LabelStudioNotFoundError):
            self.client.connection.read("take back", lambda: annotations.delete(annotation_id))


@pytest.fixture
def world(make_world: Any, server: LocalLabelStudio, tmp_path: Path) -> World:
    images = tmp_path / "many"
    write_images(images, TASKS // 2 + 2 * ROUNDS, seed=0)
    write_images(images, 3, seed=1, split="holdout")
    write_weights(tmp_path / "start.safetensors")
    world = make_world(
        images,
        # Nobody looks at the images here: Label Studio need not find them.
        label_studio_images=str(server.document_root / "images"),
        label_studio_url=server.url,
        label_studio_token=server.token,
        label_studio_project=f"crowd {uuid4()}",
        label_studio_timeout=60,
        round={"strategy": "low_certainty", "batch_size": 2, "sample_size": None, "dedup": None},
        training={"mode": "head", "image_size": 32, "weights": str(tmp_path / "start.safetensors")},
    )
    assert world.run("setup").success
    return world


def attempt(world: World, key: str) -> bool:
    """Run a round as the sensor does: a run that fails, as when Label Studio is too busy, is followed by another."""
    world.instance.add_dynamic_partitions("rounds", [key])
    job = world.defs.resolve_job_def("round")
    runs = (
        job.execute_in_process(instance=world.instance, partition_key=key, raise_on_error=False)
        for _ in range(ATTEMPTS)
    )
    return any(run.success for run in runs)


def test_every_answer_of_ten_people_is_accounted_for(world: World) -> None:
    client, project, ledger = world.deployment.label_studio, world.deployment.project_id(), world.deployment.ledger
    world.run("round", "r0000", round_config={"batch_size": TASKS})
    source, tasks = world.deployment.project().source, client.tasks(project)
    assert len(tasks) == TASKS
    clients = [sign_up(client, number) for number in range(1, PEOPLE + 1)]
    people = [
        Person(
            LabelStudio(each.url, each.secret, timeout=PATIENCE),
            int(each.connection.json("api/current-user/whoami", {})["id"]),
            each.check().username,
            [task for i, task in enumerate(tasks) if i % PEOPLE == n or (i % SHARED == 0 and (i + 1) % PEOPLE == n)],
        )
        for n, each in enumerate(clients)
    ]
    home_time = threading.Event()
    trained_on: list[int] = []
    with ThreadPoolExecutor(PEOPLE) as pool:
        working = [pool.submit(person.work, home_time) for person in people]
        try:
            for number in range(1, ROUNDS + 1):
                assert attempt(world, round_key(number)), f"{ATTEMPTS} runs of a round failed"
                trained_on.append(len(ledger.frozen_labels(round_key(number))))
        finally:
            home_time.set()
    for each in working:
        each.result()

    pull(ledger, client, project, source=source)
    said: Said = {}
    for person in people:
        assert not said.keys() & person.said.keys()
        said |= person.said
    answers = ledger.answers()
    assert answers["annotation_id"].is_unique
    rows = answers.where(answers.notna(), None)
    held = {row.annotation_id: (row.sample_id, row.annotator, row.value) for row in rows.itertuples()}
    assert held == said
    assert trained_on == sorted(trained_on)
    assert len(set(trained_on)) == ROUNDS, "nobody answered while the rounds ran"
    assert pull(ledger, client, project, source=source) == 0
    # As the next round would: an import that was given up under this load may have been finished after all.
    withdraw_copies(ledger, client, project, ROUNDS + 1, client.tasks(project, unanswered=True))
    asked = [(task.round, task.sample_id) for task in client.tasks(project)]
    assert sorted(asked) == sorted(ledger.planned()[["round", "sample_id"]].itertuples(index=False, name=None))
    assert verify(world.settings.ledger_url).problems == []
    acts = sum(person.acts for person in people)
    counted = {"acts": acts, "answers_in": len(said), "answers_out": len(held)}
    report("people at once", people=PEOPLE, tasks=TASKS, rounds=ROUNDS, **counted)
