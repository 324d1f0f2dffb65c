"""What people do on a real Label Studio, and what the ledger makes of it: once, under that person, or told."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pandas as pd
import pytest

from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import consensus
from al_pipeline.core.rounds import Open, RoundPolicy, Wait, decide
from al_pipeline.labelstudio.annotator import sign_up
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import choice
from al_pipeline.ledger import Ledger
from al_pipeline.loop.again import AGAIN, TWICE, again_rows, withdraw_unusable
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.progress import Facts, pushed
from al_pipeline.loop.pull import pull
from al_pipeline.loop.remarks import AT_ONCE
from al_pipeline_tests.labelstudio.projects import Project

pytestmark = pytest.mark.labelstudio
CLASSES = ("cat", "dog")
SOURCE = "project desk"


@dataclass
class Desk:
    """A project with a round of tasks, and the ledger of a loop that works with it."""

    project: Project
    ledger: Ledger
    overlap: int
    tasks: dict[str, int] = field(default_factory=dict)

    def open(self, key: str, samples: Sequence[str], **row: Any) -> list[int]:
        """Plan a round and push it; return its tasks."""
        plan = {"sample_id": samples, "purpose": "query", "rank": range(len(samples)), "strategy": "random", "seed": 0}
        self.ledger.plan(key, pd.DataFrame(plan))
        ids = self.client.import_tasks(self.project.id, self.project.payloads(samples, key, **row))
        self.ledger.record_pushed(key, dict(zip(samples, ids, strict=True)), datetime.now(UTC))
        return ids

    @property
    def client(self) -> LabelStudio:
        return self.project.client

    @property
    def me(self) -> str:
        return self.client.check().username

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Do what the web page does."""
        answer = httpx.request(
            method,
            f"{self.client.url}/api/{path}",
            headers={"Authorization": f"Token {self.client.secret}"},
            json=body,
            timeout=60,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def act(self, action: str) -> None:
        """Choose an action of the Data Manager for all tasks."""
        everything = {"selectedItems": {"all": True, "excluded": []}}
        self.call("POST", f"dm/actions?id={action}&project={self.project.id}", everything)

    def facts(self, policy: RoundPolicy | None = None, number: int = 0) -> Facts:
        """Look as the sensor does."""
        deployment = SimpleNamespace(
            ledger=self.ledger,
            label_studio=self.client,
            project=lambda: replace(self.client.project(self.project.id), identity=SOURCE.removeprefix("project ")),
            settings=SimpleNamespace(overlap=self.overlap),
            counted=None,
        )
        return pushed(cast("Deployment", deployment), policy or RoundPolicy(prefetch=False), number)

    def labels(self, min_votes: int = 1) -> dict[str, str]:
        """Return what would be trained on, by both ways that there are to find out."""
        pull(self.ledger, self.client, self.project.id, source=SOURCE, min_seconds=RoundPolicy().min_seconds)
        agreed = consensus(self.ledger.answers(purpose="query"), class_names=CLASSES, min_votes=min_votes).labels
        found = dict(zip(agreed["sample_id"], agreed["label"], strict=True))
        current = self.ledger.current_labels(min_votes, class_names=CLASSES)
        assert dict(zip(current["sample_id"], current["label"], strict=True)) == found
        return found


@pytest.fixture
def make_desk(make_project: Callable[..., Project], tmp_path: Path) -> Callable[..., Desk]:
    """A factory of desks."""

    def make(overlap: int = 1) -> Desk:
        ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
        samples = pd.DataFrame({"sample_id": [f"{i:032x}" for i in range(9)]})
        ledger.register(samples.assign(uri="/images/1.png", split="pool", label=None))
        ledger.change_classes("set", {}, ClassSet(CLASSES))
        return Desk(make_project(CLASSES, overlap=overlap), ledger, overlap)

    return make


A, B, C, D = (f"{i:032x}" for i in range(4))


def test_what_a_click_made_of_predictions_is_nobodys_answer(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    tasks = desk.open("r0000", [A, B, C], predicted="dog")
    desk.client.annotate(tasks[2], "cat")
    desk.act("predictions_to_annotations")
    facts = desk.facts()
    assert (facts.status.labeled, facts.status.skipped, facts.status.again) == (1, 0, 0)
    assert isinstance(decide(facts.status, RoundPolicy(prefetch=False), datetime.now(UTC)), Wait)
    (told,) = facts.remarks
    assert told.startswith(f"3 answers were made from predictions by {desk.me} and do not count: delete them")
    # What says so may be deleted later: the state that was pulled first counts.
    desk.act("delete_tasks_predictions")
    assert desk.facts().remarks == facts.remarks
    assert desk.labels() == {C: "cat"}
    # They are the person's second vote no more than the first.
    assert desk.labels(min_votes=2) == {}
    assert desk.ledger.open_tasks() == {("r0000", A), ("r0000", B)}
    assert desk.ledger.export()["sample_id"].tolist() == [C]
    for task in tasks[:2]:
        desk.client.annotate(task, "dog")
    assert desk.labels() == {A: "dog", B: "dog", C: "cat"}


def test_a_guess_that_a_person_submits_is_that_persons_answer_and_the_export_tells(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    (task,) = desk.open("r0000", [A])
    prediction = desk.call("POST", "predictions/", {"task": task, "result": [choice("dog")], "score": 0.9})["id"]
    submitted = {"result": [choice("dog") | {"origin": "prediction"}], "lead_time": 1.5}
    desk.call("POST", f"tasks/{task}/annotations/", submitted | {"parent_prediction": prediction})
    assert desk.labels() == {A: "dog"}
    (row,) = desk.ledger.export().to_dict("records")
    assert (row["origin"], row["parent_prediction"], row["kind"]) == ("prediction", prediction, "answer")


def test_two_answers_of_one_person_are_one_vote_and_the_sample_is_asked_again(make_desk: Callable[..., Desk]) -> None:
    desk, policy = make_desk(overlap=2), RoundPolicy(min_votes=2, prefetch=False)
    stuck, answered = desk.open("r0000", [A, B])
    other = sign_up(desk.client, 1)
    for client, task in ((desk.client, stuck), (desk.client, stuck), (desk.client, answered), (other, answered)):
        client.annotate(task, "cat")
    facts = desk.facts(policy)
    assert (facts.status.labeled, facts.status.again, facts.status.labels_total) == (1, 1, 1)
    decision = decide(facts.status, policy, datetime.now(UTC))
    assert isinstance(decision, Open)
    assert decision.reason == "r0000: 1 of 2 answered, 1 to be asked again"
    (told,) = facts.remarks
    assert told.startswith("1 task was answered twice by the same person")
    # The next round asks again, under a task of its own.
    assert withdraw_unusable(desk.ledger, 1, CLASSES, policy, 2) == {A: TWICE}
    (row,) = again_rows(desk.ledger, 1, CLASSES, policy, 2, most=5, seed=0)
    assert (row["sample_id"], row["purpose"], row["strategy"]) == (A, "query", f"{AGAIN}: {TWICE}")
    (task,) = desk.open("r0001", [A])
    other.annotate(task, "cat")
    desk.labels(2)
    desk.client.annotate(task, "dog")
    assert desk.labels(2) == {B: "cat"}, "the latest answer of each person counts, and they disagree"
    assert desk.facts(policy, 1).status.answered == 1


def test_whoever_has_no_account_any_more_is_nobody_else(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(overlap=2)
    known, unknown = desk.open("r0000", [A, B])
    people = [sign_up(desk.client, number) for number in (7, 8)]
    for person in people:
        person.annotate(known, "cat")
    assert desk.labels(2) == {A: "cat"}
    for person in people:
        person.annotate(unknown, "dog")
    users = {user["email"]: user["id"] for user in desk.call("GET", "users/")}
    for person in people:
        desk.call("DELETE", f"users/{users[person.check().username]}/")
    # A client that has not asked who is who before.
    desk.project.client = LabelStudio(desk.client.url, desk.client.secret)
    assert desk.labels(2) == {A: "cat", B: "dog"}
    answers = desk.ledger.answers()
    authors = answers.groupby("sample_id")["annotator"].agg(set)
    assert authors[A] == {f"annotator{number}@simulated.example.com" for number in (7, 8)}
    assert len(authors[B]) == 2
    assert all(name.startswith("unknown author of annotation ") for name in authors[B])
    assert any("by people without an account" in told for told in desk.facts(RoundPolicy(min_votes=2)).remarks)


def test_an_imported_export_counts_once_and_under_its_first_author(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(overlap=2)
    known, late = desk.open("r0000", [A, B])
    other = sign_up(desk.client, 1)
    other.annotate(known, "cat")
    assert desk.labels() == {A: "cat"}
    desk.client.annotate(late, "dog")
    exported = desk.call("GET", f"projects/{desk.project.id}/export?exportType=JSON&download_all_tasks=true")
    # Twice, since that is what people do when nothing seems to happen.
    for _ in range(2):
        desk.call("POST", f"projects/{desk.project.id}/import", exported)
    assert desk.labels() == {A: "cat", B: "dog"}
    assert desk.labels(2) == {}, "no copy is a second vote"
    authors = desk.ledger.answers().groupby("sample_id")["annotator"].agg(set)
    assert authors[A] == {"annotator1@simulated.example.com"}
    pages = desk.client.answers(desk.project.id)
    copies = [event for page in pages for task in page for event in task.annotations if event.import_id is not None]
    assert len(copies) == 4
    # Whoever changes a copy changes that author's answer.
    changed = next(event for event in copies if event.sample_id == A)
    desk.call("PATCH", f"annotations/{changed.annotation_id}/", {"result": [choice("dog")]})
    assert desk.labels() == {A: "dog", B: "dog"}


def test_what_brings_no_label_is_told_and_asked_again(make_desk: Callable[..., Desk]) -> None:
    desk, policy = make_desk(), RoundPolicy(max_skips=2)
    skipped, foreign, empty, hasty = desk.open("r0000", [A, B, C, D])
    annotation = desk.client.annotate(skipped, None)
    desk.call("PATCH", f"annotations/{annotation}/", {"result": [choice("cat")]})
    desk.client.annotate(foreign, "zebra")
    desk.call("POST", f"tasks/{empty}/annotations/", {"result": [], "lead_time": 2.0})
    desk.client.annotate(hasty, "dog", lead_time=0.1)
    facts = desk.facts(policy)
    assert (facts.status.labeled, facts.status.skipped, facts.status.again) == (0, 3, 1)
    assert desk.labels() == {}
    me = desk.me
    assert [told.split(":")[0] for told in facts.remarks] == [
        f"1 answer by {me} says 'zebra', which is no class, and counts like a skip",
        f"1 skipped task was given a choice by {me} and stays skipped",
        f"1 answer was given by {me} sooner than a person can look (min_seconds) and does not count",
        "1 task was answered with no class, or with several",
    ]
    assert withdraw_unusable(desk.ledger, 1, CLASSES, policy, 1).keys() == {A, B, C, D}
    # What was only skipped returns to the pool; a slip of the hand is asked about by the next round.
    assert [row["sample_id"] for row in again_rows(desk.ledger, 1, CLASSES, policy, 1, most=9, seed=0)] == [C, D]
    tasks = desk.open("r0001", [A, B, C, D])
    desk.client.annotate(tasks[0], None)
    desk.client.annotate(tasks[1], "zebra")
    desk.client.annotate(tasks[2], "cat")
    desk.client.annotate(tasks[3], "dog", lead_time=0.1)
    assert desk.labels() == {C: "cat"}
    # Twice is often enough for a skip and for a class that is none; a hasty answer gets a chance more.
    assert withdraw_unusable(desk.ledger, 2, CLASSES, policy, 1).keys() == {D}


def test_the_sensor_pulls_as_soon_as_the_counts_change(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    first, second = desk.open("r0000", [A, B])
    desk.client.annotate(first, "cat")
    assert desk.facts().status.labeled == 1
    # Nothing is lost when the task takes its answer along.
    desk.client.delete_tasks([first])
    facts = desk.facts()
    assert (facts.status.labeled, facts.status.withdrawn) == (1, 0)
    annotation = desk.client.annotate(second, None)
    assert desk.facts().status.skipped == 1
    # A change moves no counter.
    desk.call("PATCH", f"annotations/{annotation}/", {"result": [choice("dog")], "was_cancelled": False})
    assert desk.facts().status.labeled == 2
    assert desk.labels() == {A: "cat", B: "dog"}
    desk.call("DELETE", f"annotations/{annotation}/")
    assert desk.facts().status.labeled == 1
    assert desk.labels() == {A: "cat"}


def test_an_answer_that_was_changed_on_the_last_page_is_told(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    first, last = desk.open("r0000", [A, B])
    early = desk.client.annotate(first, "cat")
    annotation = desk.client.annotate(last, "cat")
    # A person needs longer for a key; a server stamps what it stores at once less far apart.
    time.sleep(AT_ONCE.total_seconds())
    for each in (annotation, early):
        desk.call("PATCH", f"annotations/{each}/", {"result": [choice("dog")]})
    (told,) = desk.facts().remarks
    assert told.startswith(f"1 answer was changed by {desk.me} within a minute")
    assert f"task {last}," in told
    assert desk.labels() == {A: "dog", B: "dog"}
