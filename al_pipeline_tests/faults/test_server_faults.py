"""Label Studio in trouble, or the network before it: what is asked again, what is said, and that nothing is lost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pandas as pd
import pytest

from al_pipeline.core.rounds import round_key
from al_pipeline.labelstudio.client import LabelStudio, LabelStudioError
from al_pipeline.labelstudio.push import import_missing, reconcile, verify
from al_pipeline.ledger import Ledger
from al_pipeline.loop.pull import pull
from al_pipeline.loop.push import to_ask
from al_pipeline.loop.withdrawals import withdraw_copies
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline_tests.faults.proxy import FAULTS, Fault, FaultProxy, fault_proxy
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.labelstudio.projects import Project
from al_pipeline_tests.labelstudio.servers import Answer, Request, forward
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample

pytestmark = [pytest.mark.labelstudio, pytest.mark.faults]

BATCH = 2
TRIES = 3


@dataclass
class Line:
    """Project, proxy and ledger, and what was said over them so far."""

    project: Project
    proxy: FaultProxy
    ledger: Ledger
    token: str
    number: int = -1
    given: dict[tuple[str, int], str] = field(default_factory=dict)

    def client(self, timeout: float = 20) -> LabelStudio:
        """Return a client behind the proxy."""
        assert self.proxy.server is not None
        return LabelStudio(self.proxy.server.url, self.token, timeout=timeout)

    def plan(self) -> str:
        """Plan the next round and return its key."""
        self.number += 1
        key = round_key(self.number)
        self.ledger.plan(key, plan_rows(*range(self.number * BATCH, (self.number + 1) * BATCH)))
        return key

    def push(self, client: LabelStudio, key: str) -> None:
        """Bring a round into Label Studio as its run does."""
        batch = to_ask(self.ledger, client, self.project.id, key, self.ledger.planned(key), 1, self.project.class_names)
        samples = batch["sample_id"].tolist()
        before = reconcile(client, self.project.id, key, samples)
        made = import_missing(client, self.project.id, self.project.payloads(before.missing, key))
        found = verify(client, self.project.id, key, samples, {} if before.existing or before.foreign else made)
        self.ledger.record_pushed(key, found.existing, datetime.now(UTC))

    def answer(self, key: str) -> None:
        """Answer all tasks of a round, past the proxy."""
        for task in self.project.client.tasks(self.project.id, key):
            value = self.project.class_names[task.task_id % 2]
            self.given[task.sample_id, self.project.client.annotate(task.task_id, value)] = value

    def pulled(self) -> dict[tuple[str, int], str]:
        """Return the answers that the ledger holds; one that is there twice fails."""
        answers = self.ledger.answers()
        assert not answers.duplicated(["sample_id", "annotation_id"]).any()
        return {(row.sample_id, row.annotation_id): row.value for row in answers.itertuples()}


@pytest.fixture
def line(make_project: Callable[..., Project], server: LocalLabelStudio, tmp_path: Path) -> Iterator[Line]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.register(manifest(pool=12))
    with fault_proxy(server.url) as proxy:
        yield Line(make_project(), proxy, ledger, server.token)
    ledger.close()


def told(call: Callable[[], object], token: str) -> str:
    """Return what is said when a call fails, "" if it does not; it is our own error, and without the token."""
    try:
        call()
    except LabelStudioError as error:
        chain, cause = "", error
        while cause is not None:
            chain, cause = f"{chain} {cause!r}", cause.__cause__  # type: ignore[assignment]
        assert token not in chain
        return chain
    return ""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_whatever_fails_nothing_is_doubled_and_nothing_is_lost(line: Line, fault: Fault) -> None:
    patient, hasty = line.client(), line.client(timeout=2.5 if fault.slow else 20)
    reads = {"listing": "GET /api/tasks", "counting": f"GET /api/projects/{line.project.id}"}

    # Listing tasks fails once: it is asked again where that can help; else, and if it goes on, the push stops.
    key = line.plan()
    line.proxy.fail(fault, reads["listing"])
    assert bool(told(lambda: line.push(hasty, key), line.token)) is not fault.heals
    key = line.plan()
    if not fault.slow:
        line.proxy.fail(fault, reads["listing"], times=TRIES)
        assert told(lambda: line.push(hasty, key), line.token)

    # Creating tasks fails: it is never sent twice.
    line.proxy.fail(fault, "POST /api/projects")
    assert told(lambda: line.push(hasty, key), line.token)
    there = [task.sample_id for task in line.project.client.tasks(line.project.id, key)]
    assert len(there) == (BATCH if fault.acts else 0)

    for number in range(line.number + 1):
        key = round_key(number)
        line.push(patient, key)
        tasks = [task.sample_id for task in line.project.client.tasks(line.project.id, key)]
        assert sorted(tasks) == sorted(line.ledger.planned(key)["sample_id"])
        line.answer(key)

    # Pulling fails, at the counters and at the answers: what was given is there once after the next pull.
    for path in reads.values():
        line.proxy.fail(fault, path)
        failed = told(lambda: pull(line.ledger, hasty, line.project.id, source="project"), line.token)
        assert bool(failed) is not fault.heals
    line.proxy.fail(fault, "nothing any more")
    pull(line.ledger, patient, line.project.id, source="project")
    assert line.pulled() == line.given
    assert len(line.given) == BATCH * (line.number + 1)
    assert pull(line.ledger, patient, line.project.id, source="project") == 0
    report("server in trouble", failed_requests=line.proxy.failed, answers=len(line.given))


def test_an_import_that_is_finished_after_it_was_sent_again_asks_nobody_twice(line: Line) -> None:
    client, key, late = line.client(), line.plan(), list[Request]()

    def given_up(request: Request) -> Answer:
        if request.method == "POST" and not late:
            late.append(request)
            return Answer(504)
        return forward(request, line.proxy.to)

    line.proxy.answer = given_up  # type: ignore[method-assign]
    assert told(lambda: line.push(client, key), line.token)
    line.push(client, key)
    first = [task.task_id for task in client.tasks(line.project.id, key)]
    forward(late[0], line.proxy.to)
    assert len(client.tasks(line.project.id, key)) == 2 * BATCH
    unanswered = client.tasks(line.project.id, unanswered=True)
    deleted = withdraw_copies(line.ledger, client, line.project.id, line.number + 1, unanswered)
    assert len(deleted) == BATCH
    assert [task.task_id for task in client.tasks(line.project.id, key)] == first
    unanswered = client.tasks(line.project.id, unanswered=True)
    assert withdraw_copies(line.ledger, client, line.project.id, line.number + 1, unanswered) == []


@pytest.mark.parametrize("hours", [-1, 1], ids=["an hour behind", "an hour ahead"])
def test_a_clock_that_differs_by_an_hour_loses_no_answer(line: Line, hours: int) -> None:
    client = line.client()

    def skewed(request: Request):
        answer = forward(request, line.proxy.to)
        shifted = datetime.now(UTC) + timedelta(hours=hours)
        return replace(answer, headers={"Date": format_datetime(shifted, usegmt=True)})

    line.proxy.answer = skewed  # type: ignore[method-assign]
    told_hours = (client.project_counts(line.project.id).at - datetime.now(UTC)) / timedelta(hours=1)
    assert told_hours == pytest.approx(hours, abs=0.1)
    for _ in range(3):
        key = line.plan()
        line.push(client, key)
        line.answer(key)
        assert pull(line.ledger, client, line.project.id, source="project") == BATCH
        assert line.pulled() == line.given


def test_an_answer_stamped_before_the_last_pull_is_found_by_the_counts(line: Line) -> None:
    client = line.client()
    key = line.plan()
    line.push(client, key)
    line.answer(key)
    pull(line.ledger, client, line.project.id, source="project")
    mark = line.ledger.watermark("project")
    assert mark is not None
    # As if the server's clock had been ahead by an hour at the last pull, and was mended since.
    ahead = replace(mark, until=mark.until + timedelta(hours=1), pulled_at=mark.pulled_at)
    line.ledger.set_watermark("project", ahead)
    key = line.plan()
    line.push(client, key)
    line.answer(key)
    assert pull(line.ledger, client, line.project.id, source="project") == BATCH
    assert line.pulled() == line.given


def test_an_answer_that_is_taken_back_counts_no_more_and_is_kept(line: Line) -> None:
    client = line.client()
    key = line.plan()
    line.push(client, key)
    line.answer(key)
    pull(line.ledger, client, line.project.id, source="project")
    (asked, annotation), _ = line.given.popitem()
    line.project.client.connection.send(
        "delete", lambda: line.project.client.connection.sdk.annotations.delete(annotation)
    )
    assert pull(line.ledger, client, line.project.id, source="project") == 1
    assert line.pulled() == line.given
    assert asked in {waiting for _, waiting in line.ledger.open_tasks()}
    assert pull(line.ledger, client, line.project.id, source="project") == 0


def test_answers_of_a_deleted_task_stay_and_are_not_looked_for_again_and_again(line: Line) -> None:
    client = line.client()
    key = line.plan()
    line.push(client, key)
    line.answer(key)
    pull(line.ledger, client, line.project.id, source="project")
    line.project.client.delete_tasks([task.task_id for task in line.project.client.tasks(line.project.id, key)])
    assert pull(line.ledger, client, line.project.id, source="project") == 0
    assert line.pulled() == line.given
    assert line.proxy.server is not None
    before = len(line.proxy.server.requests)
    assert pull(line.ledger, client, line.project.id, source="project") == 0
    asked = [request.path for request in line.proxy.server.requests[before:] if "/api/tasks" in request.path]
    assert len(asked) == 1, "everything was read again"
    assert "updated_at" in asked[0]
    # They are not asked again either: the samples are settled.
    batch = to_ask(line.ledger, client, line.project.id, key, line.ledger.planned(key), 1, line.project.class_names)
    assert batch.empty
    assert isinstance(batch, pd.DataFrame)
    assert sample(0) in {row for row, _ in line.given}
