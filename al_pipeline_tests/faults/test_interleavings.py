"""Whatever people, rounds, crashes and the server do in whatever order: the ledger keeps what it promises.

The product's own code runs against a Label Studio in memory (`memory_studio`, checked by `test_contract`); what must be
true is said by plain dictionaries (`truth`). At the end people who know what they do answer whatever they are given,
round after round: then nothing waits for anybody. `make faults` tells 200 stories with one vote per label and 60 with
two, CI fewer; a story that fails names its seed and its steps.
"""

import inspect
import logging
import random
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import UNSURE
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import consensus
from al_pipeline.core.rounds import RoundPolicy, Wait, decide, round_key
from al_pipeline.labelstudio.config import Interface, classes_in, label_config
from al_pipeline.labelstudio.connection import LabelStudioError
from al_pipeline.labelstudio.identity import Project
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.again import again_rows, withdraw_unusable
from al_pipeline.loop.classes import DECLARED, bring_up, change, check_project
from al_pipeline.loop.deployment import Artifacts, Deployment
from al_pipeline.loop.holdout import blind_rows
from al_pipeline.loop.identity import owned, sign
from al_pipeline.loop.known_tasks import KnownTasks
from al_pipeline.loop.progress import Facts, pushed
from al_pipeline.loop.pull import pull, pull_news
from al_pipeline.loop.push import create_missing, prepare, verify_and_record
from al_pipeline.loop.restore import push_again
from al_pipeline.loop.withdrawals import withdraw_answered, withdraw_copies, withdraw_deleted
from al_pipeline_tests.faults.memory_studio import PROJECT, Clock, MemoryStudio, State
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.faults.size import FULL, size
from al_pipeline_tests.faults.truth import Key, Truth
from al_pipeline_tests.ledger.builders import asked, manifest, plan_rows

pytestmark = pytest.mark.faults

STEPS = 40
POOL, BATCH = 10, 2
CLASSES = ("cat", "dog", "cow")
SECONDS = 0.3
LOG = logging.getLogger(__name__)
ACCIDENTS = ("time", "time", "loss", "backup", "restore", "restore", "clock", "address", "anew")
# What happens more often than the rest.
OFTEN = ("answer", "answer", "accident", "accident", "pull")
# Which of the choices that are shown: one, the button, none, one that was added by hand, two at once.
CHOICES = ((0,), (1,), (0,), (1,), (2,), (98,), (), (99,), (0, 1))
LEAD_TIMES = (None, 2.0, 2.0, 0.1)
PEOPLE = ("ann", "bob", "cem")
# Those who make an end: they never answered before, and never err.
CAREFUL = ("dee", "eve", "fay")
ENDS = 12

counted: Counter[str] = Counter()


class Interleavings:
    """People, rounds and accidents."""

    overlap, min_votes = 1, 1
    # Samples that are drawn for the holdout.
    held = 0
    often: tuple[str, ...] = OFTEN

    def __init__(self, template: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="interleavings"))
        shutil.copy(template, self.folder / "ledger.sqlite3")
        self.url = f"sqlite:///{self.folder / 'ledger.sqlite3'}"
        self.ledger = Ledger(self.url)
        self.studio = MemoryStudio(Clock(), page=3, import_chunk=1, overlap=self.overlap)
        self.images = self._make_images()
        self.policy = RoundPolicy(max_skips=2, min_votes=self.min_votes, min_seconds=SECONDS, prefetch=False)
        self.truth = Truth(CLASSES, min_votes=self.min_votes, max_skips=2, min_seconds=SECONDS)
        self.rounds = self.names = 0
        self.plans: dict[str, list[str]] = {}
        self.frozen: dict[str, list[tuple[str, str]]] = {}
        # Annotations that a whole pull has seen, and those that somebody took back.
        self.stored: set[Key] = set()
        self.taken_back: set[Key] = set()
        # What somebody has deleted a task of, by round and sample.
        self.tidied: set[tuple[str, str]] = set()
        # Samples whose image was not always where it was.
        self.disturbed: set[str] = set()
        self.backup: State | None = None
        self.exported: list[dict[str, Any]] = []
        self.clock_was_set_back = False
        self._set_up()
        for _ in range(2):
            self.plan()
            self._push(round_key(self.rounds - 1))

    def acts(self, r: random.Random) -> dict[str, dict[str, Any]]:
        """Return what may happen next, each act with arguments at random."""
        return drawn(r)

    def can(self, act: str) -> bool:
        """Say whether there is something to do it to."""
        if act in {"change", "delete_annotation", "import_what_was_exported"}:
            return bool(self._annotations())
        if act == "choose_on_a_skipped_task":
            return bool(self._skips())
        needs = inspect.signature(getattr(self, act)).parameters.keys()
        return not needs & {"task", "tasks"} or bool(self.studio.state.tasks)

    # What people do.

    def answer(self, task: int, choices: tuple[int, ...], who: str, lead_time: float | None) -> None:
        chosen, number = self._chosen(choices), self._task(task)
        counted["second answers"] += any(
            raw["completed_by"] == self.studio.state.users.get(who)
            for raw in self.studio.state.tasks[number].annotations
        )
        counted["hasty answers"] += lead_time == 0.1
        counted["unsure answers"] += chosen == [UNSURE]
        counted["foreign classes"] += any(name not in (*self.truth.names, UNSURE) for name in chosen)
        counted["empty answers"] += not chosen
        self.studio.answer(number, chosen, annotator=who, lead_time=lead_time)
        self._did("answers", who)

    def skip(self, task: int, who: str) -> None:
        self.studio.answer(self._task(task), (), skip=True, annotator=who)
        self._did("skips", who)

    def change(self, number: int, choices: tuple[int, ...], to_skip: bool) -> None:
        self.studio.change(self._annotation(number), () if to_skip else self._chosen(choices), skip=to_skip)
        self._did("changes")

    def choose_on_a_skipped_task(self, number: int, choices: tuple[int, ...]) -> None:
        skips = self._skips()
        self.studio.change(skips[number % len(skips)], self._chosen(choices), skip=True)
        self._did("skips with a choice")

    def delete_annotation(self, number: int) -> None:
        self._take_back(self._annotation(number))
        self._did("deletions")

    def delete_task(self, task: int) -> None:
        self._remove(self._task(task))
        self._did("deletions")

    def import_a_task_once_more(self, task: int) -> None:
        self.studio.double(self._task(task))
        self._did("doubled tasks")

    def make_a_task_by_hand(self, number: int, known: bool, key: str | None) -> None:
        ids = self._known()
        data = ({"sample_id": ids[number % len(ids)]} if known else {}) | ({"round": key} if key else {})
        # A round of which something is there was not lost: what is missing of it somebody has deleted.
        self.tidied |= {(str(key), sample) for sample in self.plans.get(str(key), ())}
        made = self.studio.import_tasks(PROJECT, [{"data": {"image": "x"} | data}])
        self.studio.answer(made[0], self._chosen((0,)), annotator="ann")
        self._did("tasks made by hand", "ann")

    def make_annotations_of_predictions(self, tasks: list[int], who: str) -> None:
        made = self.studio.accept_guesses([*{self._task(task) for task in tasks}], annotator=who)
        self.truth.guesses |= {key for key in self._annotations() if key[0] in made}
        self._did("guesses", who, len(made))

    def delete_predictions(self) -> None:
        self.studio.delete_predictions([*self.studio.state.tasks])
        self._did("deleted predictions")

    def person_leaves(self, who: str, kind: str) -> None:
        if who in self.studio.state.users:
            (self.studio.delete_user if kind == "deleted" else self.studio.remove_member)(who)
            self._did(f"people {kind}")

    def import_what_was_exported(self, tasks: list[int], old: bool) -> None:
        """Import what somebody exported now or the last time."""
        if not (old and self.exported):
            self.exported = [row for row in self.studio.export() if row["annotations"]]
        rows = [self.exported[i] for i in sorted({task % len(self.exported) for task in tasks})]
        keys = {raw["id"]: (raw["id"], _moment(raw["created_at"])) for row in rows for raw in row["annotations"]}
        before = self._annotations().keys()
        try:
            self.studio.import_export(rows)
        except LabelStudioError:
            # Somebody who answered has no account any more.
            return
        for key, (raw, _) in self._annotations().items():
            if key not in before:
                self.truth.import_ids[key] = raw["import_id"]
                first = self.truth.originals[key] = keys[raw["import_id"]]
                self.truth.guesses |= {key} if first in self.truth.guesses else set()
                counted["copies"] += 1
        self._remember()

    # What happens to the classes.

    def edit_the_interface(self, kind: str, number: int) -> None:
        """Somebody changes what people choose from; `setup` mends it."""
        counted["edits of the interface"] += 1
        if kind == "mend":
            self._set_up()
            return
        shown = classes_in(self.studio.state.label_config)
        at = number % len(shown)
        wanted = {
            "rename": [name if i != at else f"{name}?" for i, name in enumerate(shown)],
            "remove": [name for i, name in enumerate(shown) if i != at or len(shown) < 3],
            "add": [*shown, f"more{len(shown)}"],
            "multiple": shown,
        }[kind]
        config = label_config(interface(wanted))
        self.studio.edit_config(config.replace('"single-radio"', '"multiple"') if kind == "multiple" else config)

    def change_the_classes(self, kind: str, number: int, fault: tuple[int, Any] | None) -> None:
        """Change them by the command; it may fail before anything is stored, or after."""
        names = self.truth.names
        old, other = names[number % len(names)], names[(number + 1) % len(names)]
        new, second = self._name(), self._name()
        arguments: dict[str, Any] = {
            "rename": {"old": old, "new": new},
            "merge": {"olds": [old, other], "into": other if number % 2 else new},
            "split": {"old": old, "into": [new, second]},
            "remove": {"name": old},
            "add": {"names": [new]},
        }[kind]
        before = self._classes().version
        if fault is not None:
            self.studio.fail_after(*fault)
        try:
            change(self.deployment, kind, **arguments)
        except (InputError, LabelStudioError):
            counted["refused changes of classes"] += 1
        self.studio.heal()
        if self._classes().version > before:
            getattr(self.truth, kind)(*arguments.values())
            counted[f"classes: {kind}"] += 1
        assert set(self._names()) == set(self.truth.names)

    # What happens to the server.

    def accident(self, kind: str, minutes: int, hours: int) -> None:
        if kind == "loss" and self.studio.state.tasks:
            self.studio.lose_all_tasks()
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
        elif kind == "address":
            self.studio.url = f"http://{minutes}.example.com"
            counted["moved servers"] += 1
        elif kind == "anew":
            self.studio.delete_project()
            self._set_up()
            self.backup = None
            self._did("projects made anew")
        else:
            self.studio._clock.advance(minutes)

    # What rounds do.

    def plan(self) -> None:
        self._plan(BATCH)

    def push(self, number: int, fault: tuple[int, Any] | None) -> None:
        key = round_key(number % self.rounds)
        assert self.ledger.plan(key, plan_rows(POOL - 1))["sample_id"].tolist() == self.plans[key]
        before = self._tasks_of(key)
        if self._whole(lambda: self._push(key), fault, "pushes"):
            self._look_at_tasks(key, before)

    def push_while_somebody_is_at_it(self, number: int, task: int, after: int, act: str) -> None:
        acts = {
            "answer": lambda i: self.studio.answer(i, self._chosen((0,))),
            "delete": self._remove,
            "double": self.studio.double,
        }
        self.studio.visit_after(after, lambda: self._visit(acts[act], task, "ann"))
        key = round_key(number % self.rounds)
        self._whole(lambda: self._push(key), None, "pushes")

    def pull(self, fault: tuple[int, Any] | None) -> None:
        if self._whole(self._pull, fault, "pulls"):
            self._look_at_answers()
            self._look_for_copies()
            self._look_for_tasks()

    def pull_while_somebody_answers(self, task: int, after: int, who: str) -> None:
        chosen = self._chosen((1,))
        self.studio.visit_after(
            after, lambda: self._visit(lambda i: self.studio.answer(i, chosen, annotator=who), task, who)
        )
        self._whole(self._pull, None, "pulls")

    def tick(self) -> None:
        """Look as the sensor does."""
        facts = self._facts(self.rounds - 1)
        self._store()
        status = facts.status
        assert status.labeled + status.skipped + status.withdrawn + status.again <= status.planned
        self._look_at_labels()
        counted["ticks"] += 1

    def freeze(self, number: int) -> None:
        key = round_key(number % self.rounds)
        agreed = self._look_at_labels()
        kept = self.ledger.snapshot(key, agreed)
        labels = list(zip(kept["sample_id"], kept["label"], strict=True))
        assert self.frozen.setdefault(key, labels) == labels
        counted["snapshots"] += 1

    def end(self) -> None:
        """Let everything end well: what is there at the end is what has to be there."""
        self.studio.heal()
        self._set_up()
        self._pull()
        self._look_at_answers()
        self._look_for_copies()
        self._look_for_tasks()
        for key in self.plans:
            before = self._tasks_of(key)
            self._push(key)
            self._look_at_tasks(key, before)
        self._make_an_end()
        for key, planned in self.plans.items():
            assert self.ledger.planned(key)["sample_id"].tolist() == planned
        for key, labels in self.frozen.items():
            found = self.ledger.frozen_labels(key)
            assert list(zip(found["sample_id"], found["label"], strict=True)) == labels
        self.ledger.close()
        problems = verify(self.url).problems
        assert not problems, problems
        counted["examples"] += 1

    def _make_an_end(self) -> None:
        """Whatever can be answered is answered, round after round, until nobody is asked any more."""
        for _ in range(ENDS):
            self._answer_everything()
            facts, key = self._facts(self.rounds - 1), round_key(self.rounds - 1)
            if "made from predictions" in str(facts.remarks):
                self._delete_guesses(key)
                self._answer_everything()
                facts = self._facts(self.rounds - 1)
            decision = decide(facts.status, self.policy, datetime.now(UTC))
            assert not isinstance(decision, Wait), f"{decision.reason}, and nobody is asked; {facts.remarks}"
            self._pull()
            self._look_at_answers()
            if not self._plan(POOL):
                break
            self._push(round_key(self.rounds - 1))
        else:
            raise AssertionError(f"after {ENDS} rounds there is still something to ask")
        self._look_at_labels()
        standing, planned = self._standing(), self._planned()
        settled = self.truth.settled(standing, planned) | self.truth.disputed(standing, planned)
        stuck = {sample for samples in self.plans.values() for sample in self._askable(samples)} - settled
        stuck -= self.truth.labels(standing, planned).keys() | self.ledger.holdout()
        assert not stuck, f"nobody is asked any more, and there is no label: {[*map(self._story, sorted(stuck))]}"

    def _answer_everything(self) -> None:
        for who in CAREFUL:
            for task in sorted(self.studio.state.tasks):
                if self.studio.gives(task, who):
                    self.studio.answer(task, self.truth.names[:1], annotator=who, lead_time=2.0)
                    self._remember(who)

    def _delete_guesses(self, key: str) -> None:
        """Do what the remark says."""
        for found, (_, data) in self._annotations().items():
            if data.get("round") == key and found in self.truth.guesses:
                self._take_back(found[0])
        self._remember()

    # How.

    def _plan(self, most: int) -> list[str]:
        """Plan a round as query_batch does: what has to be asked again, then what was never asked."""
        names = self._names()
        asked_again = again_rows(self.ledger, self.rounds, names, self.policy, self.overlap, most=most, seed=7)
        there = set(self._askable([row["sample_id"] for row in asked_again]))
        again = [row for row in asked_again if row["sample_id"] in there]
        counted["asked again"] += len(again)
        drawn = dict.fromkeys(self._known()[: self.held], self.held / POOL) if not self.rounds else {}
        taken = asked(self.ledger) | {row["sample_id"] for row in again} | self.ledger.holdout() | drawn.keys()
        free = [sample for sample in self._askable(self._known()) if sample not in taken][: most - len(again)]
        waiting, blind = self.ledger.holdout_waiting() | drawn, sum(row["purpose"] == "holdout" for row in again)
        others, there = len(free) + len(again) - blind, set(self._askable(list(waiting)))
        tests = blind_rows(waiting, there, others, 0.25, 7, first=blind)
        key = round_key(self.rounds)
        self.rounds += 1
        planned = self.ledger.plan(
            key,
            pd.concat(
                [plan_rows(*range(len(free))).assign(sample_id=free, predicted=names[0]), pd.DataFrame(again + tests)],
                ignore_index=True,
            ),
            drawn=drawn,
        )
        self.plans[key] = planned["sample_id"].tolist()
        assert len(self.plans[key]) == len(free) + len(again) + len(tests)
        return self.plans[key]

    def _push(self, key: str) -> None:
        """Push a round as labeling_tasks does."""
        batch = prepare(self.deployment, PROJECT, key, self.ledger.planned(key), self.images, self.policy)
        batch = create_missing(self.deployment, PROJECT, key, batch, LOG)
        verify_and_record(self.deployment, PROJECT, key, batch)
        pull(self.ledger, self.studio, PROJECT, source=self._project().source, min_seconds=SECONDS)
        self._store()
        sign(self.ledger, self.studio, self._project())

    def _pull(self) -> None:
        """Pull as labeled_pool does."""
        project = self._project()
        told = {"source": project.source, "min_seconds": SECONDS, "round_key": round_key(self.rounds)}
        counts, _ = pull_news(self.ledger, self.studio, PROJECT, **told)
        check_project(self.deployment, PROJECT, self._classes(), counts.label_config)
        known = KnownTasks(self.deployment, project, counts.tasks)
        # It would list nothing then: so there is to be nothing to do.
        as_before = self.rounds > 0 and known.as_before()
        unanswered = self.studio.tasks(PROJECT, unanswered=True)
        again = push_again(self.deployment, project, self.images, self.policy, unanswered, LOG, before=self.rounds)
        unanswered = self.studio.tasks(PROJECT, unanswered=True)
        copies = withdraw_copies(self.ledger, self.studio, PROJECT, self.rounds, unanswered)
        lost = withdraw_answered(self.ledger, self.studio, project.source, unanswered, self.min_votes)
        gone = withdraw_deleted(self.ledger, self.studio, PROJECT, self.rounds, unanswered)
        done = {"rounds pushed again": again, "late copies deleted": copies, "answers that were lost": lost}
        for what, found in done.items():
            counted[what] += len(found)
        if not (again or copies or lost or gone):
            known.note()
        counted["pulls that list nothing"] += as_before
        assert not as_before or not (again or copies or lost or gone) or self._replaced(), (done, gone)
        withdraw_unusable(self.ledger, self.rounds, self._names(), self.policy, self.overlap)
        self._store()

    def _replaced(self) -> bool:
        """Say whether a task that is gone has left its id to another: of that no count tells."""
        planned = self.ledger.planned()
        ours = planned[planned["task_id"].notna()]
        asked = {(int(row.task_id), row.sample_id) for row in ours.itertuples()}
        ids = {task for task, _ in asked}
        there = {(task.task_id, sample) for task in self.studio.tasks(PROJECT) for sample in task.samples}
        return any(task in ids and (task, sample) not in asked for task, sample in there)

    def _facts(self, number: int) -> Facts:
        return pushed(self.deployment, self.policy, number)

    @property
    def deployment(self) -> Deployment:
        """All that is asked of one here."""
        options = SimpleNamespace(**self._settings())
        own = {"ledger": self.ledger, "label_studio": self.studio, "project": self._project}
        own["project_id"] = lambda: self._project().project_id
        own["artifacts"] = Artifacts(self.folder / "artifacts")
        return cast("Deployment", SimpleNamespace(settings=options, counted=None, **own))

    def _settings(self) -> dict[str, Any]:
        return {
            "artifacts": None,
            "artifact_folder": self.folder / "artifacts",
            "published_images": self.folder / "published",
            "published": None,
            "show_crop": False,
            "submits": "ctrl+enter",
            "shown_px": 0,
            "label_studio_project": "memory",
            "overlap": self.overlap,
            "predictions": True,
            "unsure_class": True,
            "instructions": None,
            "examples": None,
            "ask_groups": False,
            "grid": 1,
            "images": self.folder,
            "max_gone_share": 1.0,
        }

    def _make_images(self) -> pd.DataFrame:
        """Make what the asset image_pool has: here one file is the image of all samples."""
        Image.new("RGB", (4, 4)).save(self.folder / "image.png")
        return manifest(pool=POOL, holdout=0).assign(uri=str(self.folder / "image.png"), label=None)

    def _known(self) -> list[str]:
        """Return the samples that there ever were."""
        return [f"{number:032x}" for number in range(POOL)]

    def _askable(self, sample_ids: Sequence[str]) -> list[str]:
        """Return those of the samples whose image can be shown."""
        return list(sample_ids)

    def _project(self) -> Project:
        return owned(self.ledger, self.studio, self.studio.project(PROJECT))

    def _set_up(self) -> None:
        """Make the project, or bring it up to date."""
        bring_up(self.deployment, self._classes())

    def _whole(self, act: Callable[[], None], fault: tuple[int, Any] | None, what: str) -> bool:
        """Do something that a fault may end in the middle; say whether it came to its end."""
        if fault is not None:
            self.studio.fail_after(*fault)
        try:
            act()
        except LabelStudioError:
            counted[f"failed {what}"] += 1
            self._restart()
            self._store()
            return False
        except InputError as error:
            # Others than the classes are shown, and nothing is done until that is mended.
            if "Until this is mended" not in str(error):
                raise
            counted["obstacles"] += 1
            self.studio.heal()
            self._store()
            return False
        counted[what] += 1
        self.studio.heal()
        return True

    def _restart(self) -> None:
        """Go on with nothing in memory."""
        self.studio.heal()
        self.studio._usernames = {}
        self.ledger.close()
        self.ledger = Ledger(self.url)

    def _did(self, what: str, who: str | None = None, times: int = 1) -> None:
        counted[what] += times
        self._remember(who)

    def _remember(self, who: str | None = None) -> None:
        """Take note of what the server has now; what is new there is by this person."""
        for raw, data in self._annotations().values():
            self.truth.see(raw, data, who)

    def _store(self) -> None:
        """Take note of what the ledger has now."""
        self._remember()
        states = self.ledger.states(self._known())
        accounts = self.studio.state.users.keys() - self.studio.state.removed
        self.truth.store((((each.annotation_id, each.created_at), each.updated_at) for each, _ in states), accounts)

    def _annotations(self) -> dict[Key, tuple[dict[str, Any], dict[str, Any]]]:
        """Return what the server has now: annotations, and the data of their tasks."""
        return {
            (raw["id"], _moment(raw["created_at"])): (raw, task.data)
            for task in self.studio.state.tasks.values()
            for raw in task.annotations
        }

    def _annotation(self, number: int) -> int:
        keys = sorted(self._annotations())
        return keys[number % len(keys)][0]

    def _skips(self) -> list[int]:
        return sorted(raw["id"] for raw, _ in self._annotations().values() if raw["was_cancelled"])

    def _tasks_of(self, key: str) -> defaultdict[str, list[int]]:
        """Return how many people have answered each task of a round, by sample."""
        tasks: defaultdict[str, list[int]] = defaultdict(list)
        for task in self.studio.state.tasks.values():
            if task.data.get("round") == key and "sample_id" in task.data:
                tasks[task.data["sample_id"]].append(len(task.annotations))
        return tasks

    def _task(self, number: int) -> int:
        tasks = sorted(self.studio.state.tasks)
        return tasks[number % len(tasks)]

    def _chosen(self, choices: tuple[int, ...]) -> list[str]:
        """Return choices of those that are shown; a person can add one by hand."""
        shown = classes_in(self.studio.state.label_config)
        apart = {98: UNSURE, 99: "zebra"}
        return [apart.get(i) or shown[i % len(shown)] for i in choices]

    def _name(self) -> str:
        self.names += 1
        return f"class{self.names}"

    def _names(self) -> list[str]:
        return list(self._classes().names)

    def _classes(self) -> ClassSet:
        class_set = self.ledger.class_set()
        assert class_set is not None
        return class_set

    def _take_back(self, annotation: int) -> None:
        self.taken_back |= {key for key in self._annotations() if key[0] == annotation}
        self.studio.retract(annotation)

    def _remove(self, task: int) -> None:
        data = self.studio.state.tasks[task].data
        self.tidied.add((data.get("round", ""), data.get("sample_id", "")))
        self.studio.remove(task)

    def _visit(self, act: Callable[[int], object], task: int, who: str) -> None:
        if self.studio.state.tasks:
            act(self._task(task))
            self._remember(who)

    def _story(self, sample: str) -> str:
        """Return all that is known about a sample."""
        planned, answers = self.ledger.planned(), self.ledger.answers(nobodys=True)
        columns = ["round", "task_id", "annotation_id", "annotator", "value", "kind", "purpose", "import_id"]
        return "\n".join(
            [
                planned.loc[
                    planned["sample_id"] == sample, ["round", "task_id", "pushed_at", "withdrawn_at"]
                ].to_string(),
                answers[answers["sample_id"] == sample].reindex(columns=columns).to_string(),
                *(str(task) for task in self.studio.state.tasks.values() if task.data.get("sample_id") == sample),
            ]
        )

    # What must be true.

    def _look_at_tasks(self, key: str, before: defaultdict[str, list[int]]) -> None:
        """After a push: what nobody has said anything about has one task, what has a label gets none."""
        tasks, standing = self._tasks_of(key), self._standing()
        rows = self.ledger.planned()
        elsewhere = set(rows.loc[(rows["round"] != key) & rows["withdrawn_at"].isna(), "sample_id"])
        labels = self.truth.labels(standing, self._planned())
        touched = {said.sample for states in self.truth.states.values() for said in states.values()}
        for sample in set(self.plans[key]) - elsewhere:
            assert tasks[sample].count(0) <= 1, f"{key} {sample}: {tasks[sample]}"
            seen = tasks[sample] or sample in touched or not self._askable([sample])
            assert seen, f"{key} {sample} has no task"
            assert sample not in labels or before[sample] or not tasks[sample], f"{key} {sample} is asked again"

    def _look_for_copies(self) -> None:
        """After a whole pull: nobody is asked twice by one round, or about what people have answered in it."""
        dealt_with = {(said.round, said.sample) for said in map(self.truth.latest, self._by_people())}
        for key in self.plans:
            pushed = self.ledger.planned(key).set_index("sample_id")["pushed_at"]
            for sample, counts in self._tasks_of(key).items():
                if sample in pushed.index and pd.notna(pushed[sample]):
                    most = 0 if (key, sample) in dealt_with and any(counts) else 1
                    assert counts.count(0) <= most, f"{key} {sample}: {counts}"

    def _by_people(self) -> list[Key]:
        """Return what is an answer or a skip by itself; some of it is in Label Studio no more."""
        own = [key for key in self._standing() if key not in self.truth.guesses and key not in self.truth.originals]
        return [key for key in own if self.truth.latest(key).cancelled or len(self.truth.latest(key).choices) == 1]

    def _look_for_tasks(self) -> None:
        """After a whole pull: whoever's answer is awaited has a task, however the tasks were lost.

        Nothing is withdrawn but what people have said something about, or have deleted the task of.
        """
        pushed = self.ledger.planned().set_index(["round", "sample_id"])["pushed_at"]
        for key, sample in self.ledger.open_tasks():
            assert pd.isna(pushed[key, sample]) or self._tasks_of(key)[sample], f"{key} {sample} has no task"
        touched = {said.sample for states in self.truth.states.values() for said in states.values()}
        rows = self.ledger.planned()
        for row in rows[rows["withdrawn_at"].notna()].itertuples():
            meant = row.sample_id in touched or (row.round, row.sample_id) in self.tidied
            meant = meant or row.sample_id in self.disturbed
            assert meant, f"{row.round} {row.sample_id} was withdrawn, and nobody did anything about it"

    def _look_at_answers(self) -> None:
        """After a whole pull: the ledger has what the server has, and keeps what it had."""
        frame = self.ledger.answers(nobodys=True)
        held: dict[Key, datetime] = {}
        for row in frame.itertuples():
            key = (row.annotation_id, row.created_at.to_pydatetime())
            assert key not in held, f"annotation {key} is there twice"
            held[key] = at = row.updated_at.to_pydatetime()
            said = self.truth.states[key].get(at)
            assert said is not None, f"nobody ever said {row}"
            value = said.choices[0] if len(said.choices) == 1 and not said.cancelled else None
            value = None if value is None else self.truth.today(value)
            shown = (row.sample_id, row.cancelled, row.value if pd.notna(row.value) else None)
            assert shown == (said.sample, said.cancelled, value)
        now = self._annotations()
        for key, (raw, data) in now.items():
            # A backup brings back what somebody took back: either may be right.
            if key in self.taken_back or "sample_id" not in data:
                continue
            assert key in held, f"{raw} is lost"
            # A change that is stamped before what it changes cannot be told from an older backup.
            assert held[key] >= _moment(raw["updated_at"]), f"{raw} is not the latest"
        for key in self.stored - self.taken_back:
            assert key in held, f"{key} was there and is lost"
        if not self.clock_was_set_back and self.backup is None:
            present = {
                (annotation["id"], _moment(annotation["created_at"]))
                for task in self.studio.state.tasks.values()
                for annotation in task.retracted
            }
            assert not present & held.keys(), "what somebody took back still counts"
        self.stored |= {key for key, (_, data) in now.items() if "sample_id" in data}

    def _look_at_labels(self) -> pd.DataFrame:
        """Compare labels with a count by hand; return them."""
        expected = self.truth.labels(self._standing(), self._planned())
        answers, names = self.ledger.answers(purpose="query"), self._names()
        agreed = consensus(answers, class_names=names, min_votes=self.min_votes).labels
        by_sql = self.ledger.current_labels(self.min_votes, class_names=names)
        for found in (agreed, by_sql):
            labels = dict(zip(found["sample_id"], found["label"], strict=True))
            wrong = dict(sorted(labels.items() ^ expected.items()))
            assert not wrong, f"labels {labels}, by hand {expected}: {[*map(self._story, wrong)]}"
        return agreed

    def _standing(self) -> list[Key]:
        frame = self.ledger.answers(nobodys=True)
        return [(row.annotation_id, row.created_at.to_pydatetime()) for row in frame.itertuples()]

    def _planned(self) -> set[tuple[str, str]]:
        """Return what rounds have asked about to learn from."""
        blind = self.ledger.holdout()
        return {(key, sample) for key, samples in self.plans.items() for sample in samples if sample not in blind}


class Pairs(Interleavings):
    """Each task is given to two people, and a label needs both."""

    overlap, min_votes = 2, 2


class Blind(Interleavings):
    """Three samples are drawn for the holdout by round 0, and asked about one by one."""

    held = 3

    def end(self) -> None:
        """Everything ends, and people have dealt with every sample of the holdout, none of which taught anything."""
        super().end()
        ledger = Ledger(self.url)
        assert ledger.holdout() == set(self._known()[: self.held])
        planned, answers = ledger.planned(), ledger.answers(purpose="holdout")
        assert set(planned.loc[planned["purpose"] == "holdout", "sample_id"]) == ledger.holdout()
        counted["tests answered"] += answers["sample_id"].nunique()
        ledger.close()


def interface(names: Sequence[str]) -> Interface:
    return Interface(names, unsure=True)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# What people and accidents do, and what comes of it in enough stories.
ACTS = (
    *("answers", "skips", "changes", "deletions", "second answers", "hasty answers", "empty answers", "unsure answers"),
    *("foreign classes", "skips with a choice", "guesses", "deleted predictions", "people deleted", "people removed"),
    *("copies", "doubled tasks", "tasks made by hand", "edits of the interface", "lost databases", "moved servers"),
    *("restored backups", "projects made anew", "failed pushes", "failed pulls", "snapshots", "ticks"),
    *(f"classes: {kind}" for kind in ("rename", "merge", "split", "remove", "add")),
)
OUTCOMES = (*("asked again", "late copies deleted", "rounds pushed again", "obstacles"), "refused changes of classes")


def drawn(r: random.Random) -> dict[str, dict[str, Any]]:
    """Return what may happen next, each act with arguments at random."""
    number, who, choices, after = r.randrange(2**16), r.choice(PEOPLE), r.choice(CHOICES), r.randrange(7)
    some = [r.randrange(2**16) for _ in range(r.randint(1, 4))]
    fault = r.choice([None, None, (r.randrange(7), r.choice(["before", "after"]))])
    return {
        "answer": {"task": number, "choices": choices, "who": who, "lead_time": r.choice(LEAD_TIMES)},
        "skip": {"task": number, "who": who},
        "change": {"number": number, "choices": choices, "to_skip": r.random() < 0.5},
        "choose_on_a_skipped_task": {"number": number, "choices": choices},
        "delete_annotation": {"number": number},
        "delete_task": {"task": number},
        "import_a_task_once_more": {"task": number},
        "make_a_task_by_hand": {"number": number, "known": r.random() < 0.7, "key": r.choice([None, "r0000", "r9999"])},
        "make_annotations_of_predictions": {"tasks": some, "who": who},
        "delete_predictions": {},
        "person_leaves": {"who": who, "kind": r.choice(["deleted", "removed"])},
        "import_what_was_exported": {"tasks": some, "old": r.random() < 0.5},
        "edit_the_interface": {"kind": r.choice(["rename", "remove", "add", "multiple", "mend"]), "number": number},
        "change_the_classes": {
            **{"kind": r.choice(["rename", "merge", "split", "remove", "add"]), "number": number},
            **{"fault": fault},
        },
        "accident": {"kind": r.choice(ACCIDENTS), "minutes": r.randint(1, 90), "hours": r.randint(-1, 1)},
        "plan": {},
        "push": {"number": number, "fault": fault},
        "push_while_somebody_is_at_it": {
            **{"number": number, "task": some[0]},
            **{"after": after, "act": r.choice(["answer", "delete", "double"])},
        },
        "pull": {"fault": fault},
        "pull_while_somebody_answers": {"task": number, "after": after, "who": who},
        "tick": {},
        "freeze": {"number": number},
    }


def tell(machine: type[Interleavings], template: Path, seed: int) -> None:
    """Let one story happen."""
    r, story = random.Random(f"{machine.__name__} {seed}"), machine(template)
    steps: list[tuple[str, dict[str, Any]]] = []
    try:
        for _ in range(r.randint(5, STEPS)):
            acts = story.acts(r)
            steps.append((name := r.choice((*acts, *story.often)), acts[name]))
            if story.can(name):
                getattr(story, name)(**acts[name])
        story.end()
        shutil.rmtree(story.folder)
    except Exception as error:
        error.add_note(f"{machine.__name__}, seed {seed}: {steps}")
        raise


def make_template(path: Path) -> Path:
    """Make a ledger to begin with."""
    ledger = Ledger(f"sqlite:///{path}")
    ledger.register(manifest(pool=POOL, holdout=0))
    ledger.change_classes("declare", {DECLARED: list(CLASSES)}, ClassSet(CLASSES))
    ledger.close()
    return path


@pytest.mark.parametrize(
    ("machine", "stories"),
    [(Interleavings, size(200, ci=14)), (Pairs, size(60, ci=8)), (Blind, size(60, ci=4))],
    ids=["one", "two", "blind"],
)
def test_any_order_of_what_people_rounds_and_accidents_do(
    machine: type[Interleavings], stories: int, tmp_path: Path
) -> None:
    counted.clear()
    template = make_template(tmp_path / "template.sqlite3")
    for seed in range(stories):
        tell(machine, template, seed)
    report(
        f"interleavings, {machine.min_votes} votes, {machine.held} held out",
        **{name: counted[name] for name in sorted(counted)},
    )
    # The few stories of CI about two votes need not meet all.
    met = (*ACTS, *OUTCOMES) if FULL else ACTS if machine is Interleavings else ()
    assert [name for name in met if not counted[name]] == []
