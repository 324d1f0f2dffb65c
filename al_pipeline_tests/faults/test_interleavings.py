"""Whatever people, rounds, crashes and the server do in whatever order: the ledger keeps what it promises.

The product's own code runs against a Label Studio in memory (`memory_studio`, checked by `test_contract`), driven by
hypothesis; what must be true is said by plain dictionaries here. `make faults` tries 60 interleavings, CI 16.
"""

import logging
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from PIL import Image

from al_pipeline.core.labels.consensus import consensus
from al_pipeline.core.rounds import RoundPolicy, round_key
from al_pipeline.labelstudio.config import Interface, payload
from al_pipeline.labelstudio.connection import LabelStudioError
from al_pipeline.labelstudio.push import import_missing, reconcile
from al_pipeline.labelstudio.push import verify as verify_push
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.again import withdraw_unusable
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.identity import ensure_owned, owned, sign
from al_pipeline.loop.pull import pull
from al_pipeline.loop.push import to_ask
from al_pipeline.loop.restore import push_again
from al_pipeline.loop.withdrawals import withdraw_answered, withdraw_copies, withdraw_deleted
from al_pipeline_tests.faults.memory_studio import PROJECT, Clock, MemoryStudio, State
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.faults.size import size
from al_pipeline_tests.ledger.builders import asked, manifest, plan_rows

pytestmark = pytest.mark.faults

EXAMPLES, STEPS = size(60, ci=16), 40
POOL, BATCH = 16, 2
CLASSES = ("cat", "dog")
LOG = logging.getLogger(__name__)
ACCIDENTS = (*["time"] * 8, "loss", "backup", "restore", "clock", "another project")
# One choice of the class set, none, an unknown one, two at once.
CHOICES = st.sampled_from([("cat",), ("dog",), ("cat",), ("dog",), (), ("zebra",), CLASSES])
PEOPLE = st.sampled_from(["ann", "bob", "cem"])
INDEX = st.integers(0, 2**16)
FAULT = st.none() | st.none() | st.tuples(st.integers(0, 6), st.sampled_from(["before", "after"]))
# An annotation: ids are given out again by a server that was set back, moments are not.
Key = tuple[int, datetime]
Said = tuple[str, str, str | None, bool, datetime]

counted: Counter[str] = Counter()


class Interleavings(RuleBasedStateMachine):
    """People, rounds and accidents."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="interleavings"))
        shutil.copy(self.template, self.folder / "ledger.sqlite3")
        self.url = f"sqlite:///{self.folder / 'ledger.sqlite3'}"
        self.ledger = Ledger(self.url)
        self.studio = MemoryStudio(Clock(), page=3, import_chunk=1)
        Image.new("RGB", (4, 4)).save(self.folder / "image.png")
        self.images = manifest(pool=POOL, holdout=0).assign(uri=str(self.folder / "image.png"))
        self.project = ensure_owned(self.ledger, self.studio, self.studio.state.title, Interface(CLASSES))
        self.rounds = 0
        self.plans: dict[str, list[str]] = {}
        self.frozen: dict[str, list[tuple[str, str]]] = {}
        # Every state that an annotation ever had; those that a whole pull has seen; those that somebody took back.
        self.history: dict[Key, set[Said]] = defaultdict(set)
        self.stored: set[Key] = set()
        self.taken_back: set[Key] = set()
        self.backup: State | None = None
        self.clock_was_set_back = False
        for _ in range(2):
            self.plan()
            self._push(round_key(self.rounds - 1))

    # What people do.

    @precondition(lambda self: self.studio.state.tasks)
    @rule(task=INDEX, choices=CHOICES, who=PEOPLE)
    def answer(self, task: int, choices: tuple[str, ...], who: str) -> None:
        self.studio.answer(self._task(task), choices, annotator=who)
        self._did("answers")

    @precondition(lambda self: self.studio.state.tasks)
    @rule(task=INDEX, who=PEOPLE)
    def skip(self, task: int, who: str) -> None:
        self.studio.answer(self._task(task), (), skip=True, annotator=who)
        self._did("answers")

    @precondition(lambda self: self._annotations())
    @rule(number=INDEX, choices=CHOICES, to_skip=st.booleans())
    def change(self, number: int, choices: tuple[str, ...], to_skip: bool) -> None:
        self.studio.change(self._annotation(number), () if to_skip else choices, skip=to_skip)
        self._did("changes")

    @precondition(lambda self: self._annotations())
    @rule(number=INDEX)
    def delete_annotation(self, number: int) -> None:
        self._take_back(self._annotation(number))
        self._did("deletions")

    @precondition(lambda self: self.studio.state.tasks)
    @rule(task=INDEX)
    def delete_task(self, task: int) -> None:
        self.studio.remove(self._task(task))
        self._did("deletions")

    @precondition(lambda self: self.studio.state.tasks)
    @rule(task=INDEX)
    def import_a_task_once_more(self, task: int) -> None:
        self.studio.double(self._task(task))
        self._did("doubled tasks")

    # What happens to the server.

    @rule(kind=st.sampled_from(ACCIDENTS), minutes=st.integers(1, 90), hours=st.integers(-1, 1))
    def accident(self, kind: str, minutes: int, hours: int) -> None:
        """Mostly time passes; of the rest each has its turn now and then."""
        if kind == "loss" and self.studio.state.tasks:
            self.studio.lose_all_tasks()
            self._did("lost databases")
        elif kind == "another project":
            self.studio.delete_project()
            self.project = ensure_owned(self.ledger, self.studio, "memory", Interface(CLASSES))
            self.backup = None
            self._did("lost databases")
        elif kind == "backup":
            self.backup = self.studio.backup()
        elif kind == "restore" and self.backup is not None:
            self.studio.restore(self.backup)
            self._did("restored backups")
        elif kind == "clock":
            before = self.studio.now()
            self.studio.set_clock(hours)
            self.clock_was_set_back |= self.studio.now() < before
        else:
            self.studio._clock.advance(minutes)

    # What rounds do.

    @rule()
    def plan(self) -> None:
        free = [number for number in range(POOL) if f"{number:032x}" not in asked(self.ledger)][:BATCH]
        key = round_key(self.rounds)
        self.rounds += 1
        planned = self.ledger.plan(key, plan_rows(*free))
        self.plans[key] = planned["sample_id"].tolist()
        assert len(self.plans[key]) == len(free)

    @precondition(lambda self: self.rounds)
    @rule(number=INDEX, fault=FAULT)
    def push(self, number: int, fault: tuple[int, Any] | None) -> None:
        key = round_key(number % self.rounds)
        assert self.ledger.plan(key, plan_rows(POOL - 1))["sample_id"].tolist() == self.plans[key]
        before = self._tasks_of(key)
        if self._whole(lambda: self._push(key), fault, "pushes"):
            self._look_at_tasks(key, before)

    @precondition(lambda self: self.studio.state.tasks and self.rounds)
    @rule(number=INDEX, task=INDEX, after=st.integers(0, 6), act=st.sampled_from(["answer", "delete", "double"]))
    def push_while_somebody_is_at_it(self, number: int, task: int, after: int, act: str) -> None:
        acts = {
            "answer": lambda i: self.studio.answer(i, ("cat",)),
            "delete": self.studio.remove,
            "double": self.studio.double,
        }
        self.studio.visit_after(after, lambda: self._visit(acts[act], task))
        key = round_key(number % self.rounds)
        self._whole(lambda: self._push(key), None, "pushes")

    @rule(fault=FAULT)
    def pull(self, fault: tuple[int, Any] | None) -> None:
        if self._whole(self._pull, fault, "pulls"):
            self._look_at_answers()
            self._look_for_copies()
            self._look_for_stuck_samples()

    @precondition(lambda self: self.studio.state.tasks)
    @rule(task=INDEX, after=st.integers(0, 6), who=PEOPLE)
    def pull_while_somebody_answers(self, task: int, after: int, who: str) -> None:
        self.studio.visit_after(
            after, lambda: self._visit(lambda i: self.studio.answer(i, ("dog",), annotator=who), task)
        )
        self._whole(self._pull, None, "pulls")
        self._remember()

    @precondition(lambda self: self.rounds)
    @rule(number=INDEX)
    def freeze(self, number: int) -> None:
        key = round_key(number % self.rounds)
        agreed = consensus(self.ledger.answers(purpose="query"), class_names=CLASSES)
        self._agree_with(agreed.labels)
        kept = self.ledger.snapshot(key, agreed.labels)
        labels = list(zip(kept["sample_id"], kept["label"], strict=True))
        assert self.frozen.setdefault(key, labels) == labels
        counted["snapshots"] += 1

    def teardown(self) -> None:
        """Let everything end well: what is there at the end is what has to be there."""
        self._restart()
        self._pull()
        self._look_at_answers()
        self._look_for_copies()
        self._look_for_stuck_samples()
        for key in self.plans:
            before = self._tasks_of(key)
            self._push(key)
            self._look_at_tasks(key, before)
        for key, planned in self.plans.items():
            assert self.ledger.planned(key)["sample_id"].tolist() == planned
        for key, labels in self.frozen.items():
            found = self.ledger.frozen_labels(key)
            assert list(zip(found["sample_id"], found["label"], strict=True)) == labels
        self.ledger.close()
        assert verify(self.url).problems == []
        shutil.rmtree(self.folder)
        counted["examples"] += 1

    # How.

    def _push(self, key: str) -> None:
        """Push a round as labeling_tasks does."""
        batch = to_ask(self.ledger, self.studio, PROJECT, key, self.ledger.planned(key), 1, CLASSES)
        samples = batch["sample_id"].tolist()
        if not samples:
            return
        before = reconcile(self.studio, PROJECT, key, samples)
        row = {"purpose": "query"}
        tasks = [
            payload(row | {"sample_id": i}, round_key=key, image_name="", prediction=False) for i in before.missing
        ]
        made = import_missing(self.studio, PROJECT, tasks)
        created = {} if before.existing or before.foreign else made
        found = verify_push(self.studio, PROJECT, key, samples, created)
        self.ledger.record_pushed(key, found.existing, datetime.now(UTC))
        sign(self.ledger, self.studio, self.project)

    def _pull(self) -> None:
        """Pull as labeled_pool does."""
        self.project = owned(self.ledger, self.studio, self.studio.project(PROJECT))
        pull(self.ledger, self.studio, PROJECT, source=self.project.source)
        unanswered, policy = self.studio.tasks(PROJECT, unanswered=True), RoundPolicy()
        again = push_again(self._deployment, self.project, self.images, policy, unanswered, LOG, before=self.rounds)
        counted["rounds pushed again"] += len(again)
        unanswered = self.studio.tasks(PROJECT, unanswered=True)
        counted["late copies deleted"] += len(
            withdraw_copies(self.ledger, self.studio, PROJECT, self.rounds, unanswered)
        )
        counted["answers that were lost"] += len(
            withdraw_answered(self.ledger, self.studio, self.project.source, unanswered, 1)
        )
        withdraw_deleted(self.ledger, self.studio, PROJECT, self.rounds, unanswered)
        withdraw_unusable(self.ledger, self.rounds, CLASSES, RoundPolicy(max_skips=2), 1)

    @property
    def _deployment(self) -> Deployment:
        paths = {"published_images": self.folder / "published", "images": self.folder}
        options = SimpleNamespace(predictions=False, classes=list(CLASSES), **paths)
        return cast("Deployment", SimpleNamespace(ledger=self.ledger, label_studio=self.studio, settings=options))

    def _whole(self, act: Callable[[], None], fault: tuple[int, Any] | None, what: str) -> bool:
        """Do something that a fault may end in the middle; say whether it came to its end."""
        if fault is not None:
            self.studio.fail_after(*fault)
        try:
            act()
        except LabelStudioError:
            counted[f"failed {what}"] += 1
            self._restart()
            return False
        counted[what] += 1
        self.studio.heal()
        return True

    def _restart(self) -> None:
        """Go on with nothing in memory."""
        self.studio.heal()
        self.ledger.close()
        self.ledger = Ledger(self.url)

    def _did(self, what: str) -> None:
        counted[what] += 1
        self._remember()

    def _remember(self) -> None:
        for key, (said, _) in self._annotations().items():
            self.history[key].add(said)

    def _annotations(self) -> dict[Key, tuple[Said, int]]:
        """Return what the server has now: what was said, and the task."""
        return {
            (event.annotation_id, event.created_at): (
                (str(event.sample_id), event.annotator, event.value, event.cancelled, event.updated_at),
                task.id,
            )
            for task in self.studio.state.tasks.values()
            for event in task.answers().annotations
        }

    def _annotation(self, number: int) -> int:
        keys = sorted(self._annotations())
        return keys[number % len(keys)][0]

    def _tasks_of(self, key: str) -> defaultdict[str, list[int]]:
        """Return how many people have answered each task of a round, by sample."""
        tasks: defaultdict[str, list[int]] = defaultdict(list)
        for task in self.studio.state.tasks.values():
            if task.data["round"] == key:
                tasks[task.data["sample_id"]].append(len(task.annotations))
        return tasks

    def _task(self, number: int) -> int:
        tasks = sorted(self.studio.state.tasks)
        return tasks[number % len(tasks)]

    def _take_back(self, annotation: int) -> None:
        self.taken_back |= {key for key in self._annotations() if key[0] == annotation}
        self.studio.retract(annotation)

    def _visit(self, act: Callable[[int], object], task: int) -> None:
        if self.studio.state.tasks:
            act(self._task(task))
            self._remember()

    # What must be true.

    def _look_at_tasks(self, key: str, before: defaultdict[str, list[int]]) -> None:
        """After a push: what has to be asked has one task to answer, or is answered; nothing else got a task."""
        tasks = self._tasks_of(key)
        elsewhere = {
            row.sample_id
            for row in self.ledger.planned().itertuples()
            if row.round != key and pd.isna(row.withdrawn_at)
        }
        # Known, even if the server lost it: a label, whichever round asked for it, and any answer to this round.
        known = {
            row.sample_id
            for row in self.ledger.answers().itertuples()
            if row.value in CLASSES or (row.round == key and (row.cancelled or pd.notna(row.value)))
        }
        others = {sample for other, planned in self.plans.items() if other != key for sample in planned}
        for sample in set(self.plans[key]) - elsewhere:
            settled = any(tasks[sample]) or (sample in known and not before[sample])
            assert tasks[sample].count(0) == (0 if settled else 1), f"{key} {sample}: {tasks[sample]}"
            counted["asked again"] += sample in others and sample not in known

    def _look_for_copies(self) -> None:
        """After a whole pull: nobody is asked twice by one round, or about what they have answered in it."""
        for key in self.plans:
            pushed = self.ledger.planned(key).set_index("sample_id")["pushed_at"]
            for sample, counts in self._tasks_of(key).items():
                once = counts.count(0) <= (0 if any(counts) else 1)
                assert once or pd.isna(pushed[sample]), f"{key} {sample}: {counts}"

    def _look_for_stuck_samples(self) -> None:
        """After a whole pull: who waits for an answer has a task, however the tasks were lost."""
        pushed = self.ledger.planned().set_index(["round", "sample_id"])["pushed_at"]
        for key, sample in self.ledger.open_tasks():
            assert pd.isna(pushed[key, sample]) or self._tasks_of(key)[sample], (
                f"nobody is asked about {sample} of {key}"
            )

    def _look_at_answers(self) -> None:
        """After a whole pull: the ledger has what the server has, and keeps what it had."""
        frame = self.ledger.answers()
        frame = frame.assign(value=frame["value"].where(frame["value"].notna(), None))
        held: dict[Key, Said] = {}
        for row in frame.itertuples():
            key = (row.annotation_id, row.created_at.to_pydatetime())
            assert key not in held, f"annotation {key} is there twice"
            held[key] = (row.sample_id, row.annotator, row.value, bool(row.cancelled), row.updated_at.to_pydatetime())
        now = self._annotations()
        for key, said in held.items():
            assert said in self.history[key], f"nobody ever said {said}"
        for key, (said, _) in now.items():
            # A backup brings back what somebody took back: either may be right.
            if key in self.taken_back:
                continue
            assert key in held, f"{said} is lost"
            # A change that is stamped before what it changes cannot be told from an older backup.
            assert held[key][-1] >= said[-1], f"{said} is not the latest"
        for key in self.stored - self.taken_back:
            assert key in held, f"{key} was there and is lost"
        if not self.clock_was_set_back and self.backup is None:
            present = {
                (annotation["id"], datetime.fromisoformat(annotation["created_at"]))
                for task in self.studio.state.tasks.values()
                for annotation in task.retracted
            }
            assert not present & held.keys(), "what somebody took back still counts"
        self.stored |= now.keys()

    def _agree_with(self, labels: Any) -> None:
        """Compare labels with a count by hand: the latest answer of each person, more than half of the votes."""
        latest: dict[tuple[str, str], Any] = {}
        for row in sorted(self.ledger.answers().itertuples(), key=lambda row: (row.updated_at, row.annotation_id)):
            latest[row.sample_id, row.annotator] = row.value if not row.cancelled else None
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        for (sample, _), value in latest.items():
            if value in CLASSES:
                votes[sample][value] += 1
        expected = {
            sample: value for sample, found in votes.items() for value, n in found.items() if 2 * n > found.total()
        }
        assert dict(zip(labels["sample_id"], labels["label"], strict=True)) == expected


def test_any_order_of_what_people_rounds_and_accidents_do(tmp_path: Path) -> None:
    counted.clear()
    Interleavings.template = tmp_path / "template.sqlite3"
    ledger = Ledger(f"sqlite:///{Interleavings.template}")
    ledger.register(manifest(pool=POOL, holdout=0))
    ledger.close()
    run_state_machine_as_test(
        Interleavings,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            phases=[Phase.explicit, Phase.generate],
        ),
    )
    report("interleavings", **{name: counted[name] for name in sorted(counted)})
    assert (
        min(
            counted[name]
            for name in (
                "asked again",
                "late copies deleted",
                "failed pushes",
                "failed pulls",
                "snapshots",
                "lost databases",
                "rounds pushed again",
            )
        )
        > 0
    )
