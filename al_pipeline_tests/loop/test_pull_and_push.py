"""What pulling and pushing promise, one sentence each, against a Label Studio in memory that `test_contract` checks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from al_pipeline.core.rounds import RoundPolicy, round_number
from al_pipeline.labelstudio.config import payload
from al_pipeline.labelstudio.connection import LabelStudioError
from al_pipeline.labelstudio.events import ProjectCounts, TaskAnswers, TaskStatus
from al_pipeline.labelstudio.identity import Project
from al_pipeline.labelstudio.push import import_missing, reconcile, verify
from al_pipeline.ledger import Ledger, Watermark
from al_pipeline.loop import pull as pulling
from al_pipeline.loop.again import COPIED, GUESSED, withdraw_unusable
from al_pipeline.loop.deployment import Artifacts, Deployment
from al_pipeline.loop.known_tasks import KnownTasks
from al_pipeline.loop.progress import Facts, pushed
from al_pipeline.loop.pull import RECENT, pull, pull_news
from al_pipeline.loop.push import to_ask
from al_pipeline.loop.withdrawals import withdraw_copies, withdraw_deleted
from al_pipeline_tests.faults.memory_studio import PROJECT, SOURCE, START, Clock, MemoryStudio
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample

CLASSES = ("cat", "dog")


@dataclass
class Desk:
    """A ledger, a Label Studio, and what rounds do with them."""

    ledger: Ledger
    studio: MemoryStudio
    clock: Clock

    def plan(self, key: str, *numbers: int, purpose: str = "query") -> None:
        self.ledger.plan(key, plan_rows(*numbers, purpose=purpose))

    def send(self, key: str, samples: list[str]) -> dict[str, int]:
        """Create tasks; return sample → task."""
        rows = [{"sample_id": i, "purpose": "query"} for i in samples]
        tasks = [payload(row, round_key=key, image_name="", prediction=False) for row in rows]
        return import_missing(self.studio, PROJECT, tasks)

    def open(self, key: str, *numbers: int, purpose: str = "query") -> list[int]:
        """Plan a round and push it; return its tasks in the order of the numbers."""
        self.plan(key, *numbers, purpose=purpose)
        made = self.send(key, [sample(number) for number in numbers])
        self.ledger.record_pushed(key, made, datetime.now(UTC))
        return [made[sample(number)] for number in numbers]

    def asks(self, key: str, min_votes: int = 1) -> list[str]:
        """Return the samples for which a push of the round would see to tasks."""
        batch = to_ask(self.ledger, self.studio, PROJECT, key, self.ledger.planned(key), min_votes, CLASSES)
        return sorted(batch["sample_id"])

    def pull(self) -> int:
        return pull(self.ledger, self.studio, PROJECT, source=SOURCE)

    def pull_news(self, key: str | None = None) -> int:
        """Pull as a look does, or before a round freezes its labels."""
        return pull_news(self.ledger, self.studio, PROJECT, source=SOURCE, min_seconds=None, round_key=key)[1]

    def values(self) -> dict[str, Any]:
        """Return the answer that stands for each sample."""
        answers = self.ledger.answers()
        return dict(zip(answers["sample_id"], answers["value"].where(answers["value"].notna(), None), strict=True))

    def deleted(self, before: int) -> list[str]:
        unanswered = self.studio.tasks(PROJECT, unanswered=True)
        return withdraw_deleted(self.ledger, self.studio, PROJECT, before, unanswered)

    def unusable(self, before: int, max_skips: int) -> list[str]:
        return sorted(withdraw_unusable(self.ledger, before, CLASSES, RoundPolicy(max_skips=max_skips), 1))

    def copies(self, before: int) -> list[int]:
        unanswered = self.studio.tasks(PROJECT, unanswered=True)
        return withdraw_copies(self.ledger, self.studio, PROJECT, before, unanswered)

    def counts(self, key: str, min_votes: int = 1) -> tuple[Any, ...]:
        """Return what a tick counts: labeled, skipped, missing."""
        counts = self.facts(key, min_votes=min_votes).counts
        return counts["labeled"], counts["skipped"], counts["missing"]

    def deployment(self, overlap: int = 1) -> Deployment:
        """Return what a tick looks through, which remembers what the last one has counted."""
        made = SimpleNamespace(
            ledger=self.ledger,
            label_studio=self.studio,
            project=lambda: Project(PROJECT, "memory", START, SOURCE.removeprefix("project ")),
            settings=SimpleNamespace(overlap=overlap),
            counted=None,
        )
        return cast("Deployment", made)

    def facts(self, key: str, *, min_votes: int = 1, overlap: int = 1, of: Deployment | None = None) -> Facts:
        """Return what a tick finds out."""
        policy = RoundPolicy(min_votes=min_votes, prefetch=False)
        return pushed(of or self.deployment(overlap), policy, round_number(key))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    ledger, clock = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}"), Clock()
    ledger.register(manifest(pool=20))
    yield Desk(ledger, MemoryStudio(clock), clock)
    ledger.close()


# Pulling: nothing is missed, nothing that was said is forgotten.


def test_a_change_that_was_stamped_minutes_before_the_last_pull_is_found(desk: Desk) -> None:
    early, late = desk.open("r0000", 0, 1)
    annotation = desk.studio.answer(early, ["cat"])
    desk.clock.advance(60)
    desk.studio.answer(late, ["cat"])
    desk.pull()
    desk.studio.set_clock(-0.05)
    desk.studio.change(annotation, ["dog"])
    desk.studio.set_clock(0)
    assert desk.pull() == 1
    assert desk.values()[sample(0)] == "dog"


def test_an_answer_that_was_stamped_long_before_the_last_pull_is_found_by_the_counts(desk: Desk) -> None:
    early, late = desk.open("r0000", 0, 1)
    desk.clock.advance(120)
    desk.studio.answer(late, ["cat"])
    desk.pull()
    desk.studio.set_clock(-1)
    desk.studio.answer(early, ["dog"])
    desk.studio.set_clock(0)
    assert desk.pull() == 1
    assert desk.values() == {sample(0): "dog", sample(1): "cat"}


def test_a_change_after_the_servers_clock_was_set_back_is_found(desk: Desk) -> None:
    first, second = desk.open("r0000", 0, 1)
    annotation = desk.studio.answer(first, ["cat"])
    desk.studio.set_clock(1)
    desk.studio.answer(second, ["cat"])
    desk.pull()
    desk.studio.set_clock(0)
    desk.studio.change(annotation, ["dog"])
    assert desk.pull() == 1
    assert desk.values() == {sample(0): "dog", sample(1): "cat"}


def test_what_is_answered_while_a_pull_reads_is_read_too(desk: Desk) -> None:
    first, second = desk.open("r0000", 0, 1)
    desk.studio.answer(first, ["cat"])
    # Counts, one page of answers, counts: between the last two.
    desk.studio.visit_after(2, lambda: desk.studio.answer(second, ["dog"]))
    assert desk.pull() == 2
    assert desk.values() == {sample(0): "cat", sample(1): "dog"}


def test_a_look_reads_what_is_new_once_and_everything_only_if_it_misses_something_for_good(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "AGAIN", timedelta(days=10**4))
    tasks = desk.open("r0000", *range(10))
    for task in tasks[:3]:
        desk.studio.answer(task, ["cat"])
    desk.pull_news()
    pages = list[datetime | None]()
    real = desk.studio.answers

    def noted(project_id: int, *, updated_since: datetime | None = None, **until: Any) -> Iterator[list[TaskAnswers]]:
        pages.append(updated_since)
        return real(project_id, updated_since=updated_since, **until)

    desk.studio.answers = noted  # type: ignore[method-assign]
    before = desk.studio.requests
    desk.studio.answer(tasks[3], ["cat"])
    assert desk.pull_news() == 1
    assert (len(pages), desk.studio.requests - before) == (1, 2), "counters and one page"
    # An answer that is counted, and whose task is not said to have changed yet: it comes a moment later.
    late = desk.studio.project_counts(PROJECT)
    desk.studio.answer(tasks[4], ["cat"])
    counted, counts = [replace(late, annotations=late.annotations + 1)], desk.studio.project_counts
    desk.studio.project_counts = lambda project_id: counted.pop() if counted else counts(project_id)  # type: ignore
    assert desk.pull_news() == 1
    # It was stamped before all that is read, and counted: then everything is.
    desk.clock.advance(60)
    desk.studio.answer(tasks[5], ["cat"])
    desk.pull_news()
    pages.clear()
    desk.studio.set_clock(-1)
    desk.studio.answer(tasks[6], ["dog"])
    desk.studio.set_clock(0)
    assert desk.pull_news() == 1
    assert [since is None for since in pages] == [False] * 4 + [True]


@pytest.mark.parametrize("act", ["answer", "change", "retract"])
def test_a_round_misses_nothing_that_was_done_since_the_look_and_reads_nothing_anew_if_nothing_was(
    desk: Desk, act: str
) -> None:
    first, second = desk.open("r0000", 0, 1)
    annotation = desk.studio.answer(first, ["cat"])
    desk.pull_news()
    before = desk.studio.requests
    assert desk.pull_news("r0001") == 0
    assert desk.studio.requests == before + 2, "counters and the newest change"
    acts = {
        "answer": lambda: desk.studio.answer(second, ["dog"]),
        "change": lambda: desk.studio.change(annotation, ["dog"]),
        "retract": lambda: desk.studio.retract(annotation),
    }
    acts[act]()
    assert desk.pull_news("r0001") == 1


def test_a_change_that_was_overtaken_by_what_the_look_has_read_is_read_once_the_batch_is_out(desk: Desk) -> None:
    first, second = desk.open("r0000", 0, 1)
    annotation = desk.studio.answer(first, ["cat"])
    desk.clock.advance(10)
    desk.studio.answer(second, ["cat"])
    desk.pull_news()
    desk.studio.set_clock(-0.05)
    desk.studio.change(annotation, ["dog"])
    desk.studio.set_clock(0)
    assert desk.pull_news("r0001") == 0
    # As `labeling_tasks` does.
    assert desk.pull() == 1
    assert desk.values()[sample(0)] == "dog"


def test_a_change_that_was_overtaken_is_read_by_a_look_half_a_minute_later(desk: Desk) -> None:
    first, second, third, fourth = desk.open("r0000", 0, 1, 2, 3)
    annotation = desk.studio.answer(first, ["cat"])
    desk.clock.advance(1)
    desk.studio.answer(second, ["cat"])
    desk.pull_news()
    desk.studio.set_clock(-20 / 3600)
    desk.studio.change(annotation, ["dog"])
    desk.studio.set_clock(0)
    desk.studio.answer(third, ["cat"])
    assert desk.pull_news() == 1
    assert desk.values()[sample(0)] == "cat"
    # All servers' time goes by.
    mark = desk.ledger.watermark(SOURCE)
    assert mark is not None
    assert mark.pulled_at is not None
    desk.ledger.set_watermark(SOURCE, replace(mark, pulled_at=mark.pulled_at - timedelta(minutes=1)))
    desk.clock.advance(1)
    desk.studio.answer(fourth, ["cat"])
    assert desk.pull_news() == 2
    assert desk.values()[sample(0)] == "dog"


def test_every_moment_is_read_once_more_however_often_looks_come() -> None:
    rng, now = np.random.default_rng(0), datetime(2026, 1, 1, tzinfo=UTC)
    # A server's clock tells whole seconds, and is another one.
    ahead, read, begun, again = timedelta(seconds=7), list[tuple[datetime, datetime]](), now, timedelta()
    mark = Watermark(now + ahead, now, 0, 0)
    for pause in rng.choice([0.4, 2.0, 5.0, 33.0, 200.0], 400):
        now += timedelta(seconds=float(pause))
        told = (now + ahead).replace(microsecond=0)
        if moments := pulling._once_more(mark, cast(ProjectCounts, SimpleNamespace(at=told)), now):
            since, until = moments
            again += until - since
            # What is newer than all that the pull before saw is read by this one for the first time, up to now.
            read.append((since, until if until < mark.until else told - RECENT))
        mark = Watermark(now + ahead, now, 0, 0)
    assert read[0][0] <= begun + ahead - RECENT
    assert read[-1][1] > now + ahead - RECENT - 2 * pulling.AGAIN
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(read))
    assert again < (now - begun) * 1.3
    assert pulling._once_more(None, cast(ProjectCounts, SimpleNamespace(at=now)), now) is None


def test_a_round_that_no_look_came_before_reads_what_may_have_been_overtaken(desk: Desk) -> None:
    first, second = desk.open("r0000", 0, 1)
    annotation = desk.studio.answer(first, ["cat"])
    desk.clock.advance(10)
    desk.studio.answer(second, ["cat"])
    desk.pull_news()
    mark = desk.ledger.watermark(SOURCE)
    assert mark is not None
    long_ago = datetime.now(UTC) - 2 * RECENT
    desk.ledger.set_watermark(SOURCE, replace(mark, pulled_at=long_ago))
    desk.studio.set_clock(-0.05)
    desk.studio.change(annotation, ["dog"])
    desk.studio.set_clock(0)
    assert desk.pull_news("r0001") == 1


def test_an_answer_stays_when_the_server_is_set_back_to_before_it(desk: Desk) -> None:
    [task] = desk.open("r0000", 0)
    backup = desk.studio.backup()
    desk.studio.answer(task, ["cat"])
    desk.pull()
    desk.studio.restore(backup)
    assert desk.pull() == 0
    assert desk.values() == {sample(0): "cat"}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_answer_stays_when_its_task_changes_after_the_server_was_set_back(desk: Desk, *, elsewhere: bool) -> None:
    first, second = desk.open("r0000", 0, 1)
    older = desk.studio.answer(first, ["cat"])
    backup = desk.studio.backup()
    desk.studio.answer(first, ["dog"], annotator="bob")
    desk.pull()
    desk.studio.restore(backup)
    # A number that is given out again tells, wherever it is seen.
    if elsewhere:
        desk.studio.answer(second, ["dog"])
        desk.studio.change(older, ["dog"])
    else:
        desk.studio.answer(first, ["cat"], annotator="cy")
    desk.pull()
    assert len(desk.ledger.answers()) == 3


def test_an_answer_stays_when_its_tasks_id_is_given_to_another_sample(desk: Desk) -> None:
    [task] = desk.open("r0000", 0)
    desk.studio.answer(task, ["cat"])
    desk.pull()
    desk.studio.lose_all_tasks()
    # By a clock that is behind: the time alone does not tell that it is another task.
    desk.studio.set_clock(-1)
    assert desk.open("r0001", 1) == [task]
    desk.studio.set_clock(0)
    desk.studio.answer(task, ["dog"])
    desk.pull()
    assert desk.values() == {sample(0): "cat", sample(1): "dog"}


# Before a round: nothing is listed where nothing is amiss.


def known(desk: Desk, folder: Path) -> KnownTasks:
    """Return the tasks as the next round finds them, after its pull."""
    desk.pull()
    deployment = desk.deployment()
    deployment.artifacts = Artifacts(folder)  # type: ignore[misc]
    counts = desk.studio.project_counts(PROJECT)
    # As it is signed after each push.
    project = replace(deployment.project(), newest_round=desk.ledger.newest_pushed())
    return KnownTasks(deployment, project, counts.tasks)


def test_what_was_pushed_and_answered_is_known_without_a_list(desk: Desk, tmp_path: Path) -> None:
    tasks = desk.open("r0000", 0, 1, 2)
    before = desk.studio.requests
    assert known(desk, tmp_path).as_before()
    desk.studio.answer(tasks[0], ["cat"])
    desk.studio.answer(tasks[1], [], skip=True)
    desk.open("r0001", 3, 4)
    assert known(desk, tmp_path).as_before()
    # Those of the pull, and two for all tasks of both rounds.
    assert desk.studio.requests - before < 20


@pytest.mark.parametrize("amiss", ["gone", "copied", "by hand", "lost answer", "replaced answer", "forgotten"])
def test_whatever_is_amiss_is_looked_for_until_it_is_set_right(
    desk: Desk, tmp_path: Path, amiss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = desk.open("r0000", 0, 1, 2, 3)
    desk.studio.answer(tasks[1], ["cat"])
    assert known(desk, tmp_path).as_before()
    backup = desk.studio.backup()
    if amiss == "gone":
        desk.studio.remove(tasks[0])
    elif amiss == "copied":
        desk.studio.double(tasks[0])
    elif amiss == "by hand":
        # One is gone, and another one is there.
        desk.studio.remove(tasks[0])
        desk.studio.double(tasks[3])
    elif amiss == "lost answer":
        desk.studio.answer(tasks[2], ["dog"])
        desk.pull()
        desk.studio.restore(backup)
    elif amiss == "replaced answer":
        # Label Studio has lost one answer, and somebody has given another one since.
        desk.studio.answer(tasks[2], ["dog"])
        desk.pull()
        desk.studio.restore(backup)
        desk.studio.answer(tasks[3], ["dog"])
    else:
        untouched = desk.studio.count
        forgetful = {"filter:tasks:total_annotations": 1}

        def count(project_id: int, *conditions: dict[str, Any]) -> tuple[int, int | None]:
            found, last = untouched(project_id, *conditions)
            return found + any(each["filter"] in forgetful for each in conditions), last

        monkeypatch.setattr(desk.studio, "count", count)
    now = known(desk, tmp_path)
    assert not now.as_before()
    now.note()
    # Of a task that is gone all is known. One that is nobody's, or does not know of its answer, is looked for again.
    assert known(desk, tmp_path).as_before() == (amiss == "gone")


# Withdrawing: what comes back to the pool, and what does not.


def test_a_deleted_task_is_withdrawn_from_rounds_before_this_one(desk: Desk) -> None:
    first, _ = desk.open("r0000", 0, 1)
    desk.studio.remove(first)
    assert desk.deleted(before=0) == []
    assert desk.deleted(before=1) == [sample(0)]


def test_a_task_that_was_answered_after_the_pull_is_not_taken_for_deleted(desk: Desk) -> None:
    first, _ = desk.open("r0000", 0, 1)
    desk.pull()
    desk.studio.answer(first, ["cat"])
    assert desk.deleted(before=1) == []


def test_a_round_that_lost_all_of_its_tasks_keeps_them_in_the_plan(desk: Desk) -> None:
    desk.open("r0000", 0, 1)
    desk.studio.lose_all_tasks()
    assert desk.deleted(before=1) == []


@pytest.mark.parametrize(("max_skips", "again"), [(1, []), (2, [sample(0)])])
def test_a_skipped_sample_returns_until_it_was_skipped_often_enough(desk: Desk, max_skips: int, again: Any) -> None:
    skipped, _, labeled = desk.open("r0000", 0, 1, 2)
    desk.studio.answer(skipped, [], skip=True)
    desk.studio.answer(labeled, ["cat"])
    desk.studio.answer(labeled, [], skip=True, annotator="bob")
    desk.pull()
    assert desk.unusable(before=0, max_skips=max_skips) == []
    assert desk.unusable(before=1, max_skips=max_skips) == again


def test_a_sample_that_is_asked_about_anew_is_open_until_the_new_task_is_answered(desk: Desk) -> None:
    [first] = desk.open("r0000", 0)
    desk.studio.answer(first, [], skip=True)
    desk.pull()
    assert desk.unusable(before=1, max_skips=3) == [sample(0)]
    [second] = desk.open("r0001", 0)
    assert desk.unusable(before=2, max_skips=3) == []
    desk.studio.answer(second, [], skip=True)
    desk.pull()
    assert desk.unusable(before=2, max_skips=3) == [sample(0)]


# Copies of tasks that arrive after the push.


def test_a_late_copy_is_deleted_from_rounds_before_this_one(desk: Desk) -> None:
    [task] = desk.open("r0000", 0)
    copy = desk.studio.double(task)
    assert desk.copies(before=0) == []
    assert desk.copies(before=1) == [copy]
    assert list(desk.studio.state.tasks) == [task]


def test_a_task_of_which_only_the_copy_was_answered_is_the_copy(desk: Desk) -> None:
    [task] = desk.open("r0000", 0)
    desk.studio.answer(desk.studio.double(task), ["cat"])
    desk.pull()
    assert desk.copies(before=1) == [task]


def test_of_a_task_and_its_copy_what_was_answered_stays_and_is_the_task_from_then_on(desk: Desk) -> None:
    first, second, third = desk.open("r0000", 0, 1, 2)
    copies = [desk.studio.double(task) for task in (first, second, third)]
    desk.studio.answer(copies[0], ["cat"])
    desk.studio.answer(second, ["cat"])
    desk.studio.answer(copies[1], ["dog"], annotator="bob")
    desk.pull()
    assert sorted(desk.copies(before=1)) == [first, copies[2]]
    tasks = desk.ledger.planned("r0000")["task_id"].tolist()
    assert tasks == [copies[0], second, third]
    assert desk.copies(before=1) == []


def test_a_copy_of_a_withdrawn_task_does_not_take_its_sample_from_the_round_that_asks_now(desk: Desk) -> None:
    first, _ = desk.open("r0000", 0, 1)
    late = desk.studio.state.tasks[first].data
    desk.studio.remove(first)
    assert desk.deleted(before=1) == [sample(0)]
    desk.open("r0001", 0)
    desk.studio.import_tasks(PROJECT, [{"data": late}])
    desk.copies(before=2)
    live = desk.ledger.planned().query("withdrawn_at.isna()")
    assert live[["round", "sample_id"]].to_numpy().tolist() == [["r0000", sample(1)], ["r0001", sample(0)]]


# Pushing: what still has to be asked.


def test_a_sample_that_was_skipped_before_is_asked_by_the_round_that_drew_it_again(desk: Desk) -> None:
    skipped, unknown = desk.open("r0000", 0, 1)
    desk.studio.answer(skipped, [], skip=True)
    desk.studio.answer(unknown, ["zebra"])
    desk.pull()
    desk.unusable(before=1, max_skips=2)
    desk.plan("r0001", 0, 1)
    assert desk.asks("r0001") == [sample(0), sample(1)]


def test_a_sample_that_got_a_label_meanwhile_is_not_asked_about(desk: Desk) -> None:
    [task] = desk.open("r0000", 0)
    desk.studio.answer(task, [], skip=True)
    desk.pull()
    desk.unusable(before=1, max_skips=2)
    desk.plan("r0001", 0)
    desk.studio.answer(task, ["cat"], annotator="bob")
    desk.pull()
    assert desk.asks("r0001") == []


def test_what_was_answered_is_asked_again_only_if_it_needs_more_votes(desk: Desk) -> None:
    first, second, third = desk.open("r0000", 0, 1, 2)
    desk.studio.answer(first, ["cat"])
    for task, choices in ((second, ["cat"]), (third, [])):
        desk.studio.answer(task, choices, skip=not choices)
        desk.studio.answer(task, ["cat"], annotator="bob")
    desk.pull()
    desk.studio.lose_all_tasks()
    assert desk.asks("r0000") == []
    assert desk.asks("r0000", min_votes=2) == [sample(0)]
    # Labeled by both; by one of them, skipped by the other; by one alone.
    assert desk.counts("r0000", min_votes=2) == (1, 1, 1)


def test_an_answered_task_that_is_there_is_seen_to(desk: Desk) -> None:
    [task] = desk.open("r0000", 0)
    desk.studio.answer(task, ["cat"])
    desk.pull()
    assert desk.asks("r0000") == [sample(0)]


def test_a_review_asks_about_a_label_that_is_there_and_takes_nothing_from_the_round_that_asked(desk: Desk) -> None:
    first, _ = desk.open("r0000", 0, 1)
    desk.studio.answer(first, ["cat"])
    desk.pull()
    desk.plan("r0001", 0, purpose="review")
    assert desk.asks("r0001") == [sample(0)]
    assert desk.asks("r0000") == [sample(0), sample(1)]


def test_a_sample_that_another_round_asks_about_by_now_is_left_to_it(desk: Desk) -> None:
    first, _ = desk.open("r0000", 0, 1)
    desk.studio.remove(first)
    desk.deleted(before=1)
    assert desk.asks("r0000") == [sample(0), sample(1)]
    desk.open("r0001", 0)
    assert desk.asks("r0000") == [sample(1)]


def test_a_copy_made_while_tasks_were_created_is_found_and_deleted(desk: Desk) -> None:
    desk.plan("r0000", 0, 1)
    made = desk.send("r0000", [sample(0), sample(1)])
    desk.studio.double(made[sample(0)])
    found = verify(desk.studio, PROJECT, "r0000", [sample(0), sample(1)], made)
    assert found.existing == made
    assert sorted(desk.studio.state.tasks) == sorted(made.values())


def test_a_batch_of_which_a_part_was_created_is_not_taken_for_whole(desk: Desk) -> None:
    made = desk.send("r0000", [sample(0)])
    with pytest.raises(LabelStudioError, match="1 tasks are missing"):
        verify(desk.studio, PROJECT, "r0000", [sample(0), sample(1)], made)


def test_no_answered_copy_is_ever_one_to_delete(desk: Desk) -> None:
    [task] = desk.open("r0000", 0)
    answered, waiting = desk.studio.double(task), desk.studio.double(task)
    desk.studio.answer(task, ["cat"])
    desk.studio.answer(answered, ["dog"], annotator="bob")
    found = reconcile(desk.studio, PROJECT, "r0000", [sample(0)])
    assert found.copies == [waiting]
    assert found.answered_twice == {sample(0): [task, answered]}


def test_a_tick_counts_samples_of_the_plan_once_each(desk: Desk) -> None:
    first, second, third, fourth = desk.open("r0000", 0, 1, 2, 3)
    desk.studio.answer(first, ["cat"])
    desk.studio.answer(first, [], skip=True, annotator="bob")
    desk.studio.answer(second, [], skip=True)
    desk.studio.answer(third, ["cat"])
    # Somebody's own task that says it is of this round.
    foreign = desk.send("r0000", [sample(9)])
    desk.studio.answer(foreign[sample(9)], ["cat"])
    assert desk.counts("r0000") == (2, 1, 0)
    desk.pull()
    desk.studio.remove(third)
    desk.studio.remove(fourth)
    assert desk.counts("r0000") == (2, 1, 1)


def test_an_answer_to_a_task_that_was_made_by_hand_settles_nothing(desk: Desk) -> None:
    (task,) = desk.studio.import_tasks(PROJECT, [{"data": {"sample_id": sample(0), "round": "r9999"}}])
    desk.studio.answer(task, ["cat"])
    desk.plan("r0000", 0)
    desk.pull()
    assert desk.asks("r0000") == [sample(0)]
    desk.ledger.withdraw("r0000", [sample(0)], datetime.now(UTC))
    desk.open("r0001", 0)
    assert desk.counts("r0001") == (0, 0, 0)


@pytest.mark.parametrize("overlap", [1, 2])
def test_a_sample_whose_task_a_guess_has_filled_is_awaited_and_then_asked_again(desk: Desk, overlap: int) -> None:
    (task,) = desk.open("r0000", 0)
    desk.studio.state.tasks[task].predictions.append({"id": 1, "result": []})
    if overlap == 2:
        desk.studio.answer(task, ["cat"])
    desk.studio.accept_guesses([task], annotator="bob")
    desk.pull()
    assert desk.facts("r0000", min_votes=overlap, overlap=overlap).status.again == 0
    found = withdraw_unusable(desk.ledger, 1, CLASSES, RoundPolicy(min_votes=overlap), overlap)
    assert found == {sample(0): GUESSED}


def test_a_copy_of_a_copy_is_no_answer_of_somebody_else(desk: Desk) -> None:
    (task,) = desk.open("r0000", 0)
    desk.studio.answer(task, ["cat"], annotator="bob")
    for _ in range(3):
        desk.pull()
        desk.studio.import_export(desk.studio.export()[-1:])
    desk.pull()
    answers = desk.ledger.answers(nobodys=True)
    assert (set(answers["annotator"]), answers["kind"].tolist()) == ({"bob"}, ["answer", *["copy"] * 3])


def test_a_copy_of_a_skip_whose_original_is_gone_has_its_sample_asked_again(desk: Desk) -> None:
    (task,) = desk.open("r0000", 0)
    desk.studio.answer(task, [], skip=True)
    desk.pull()
    exported = desk.studio.export()
    desk.studio.retract(exported[-1]["annotations"][0]["id"])
    desk.pull()
    desk.studio.import_export(exported[-1:])
    # The first task is deleted, and the imported one, which nobody is given, is the round's.
    desk.studio.remove(task)
    desk.pull()
    assert desk.ledger.answers(nobodys=True)["kind"].tolist() == ["copy"]
    assert withdraw_unusable(desk.ledger, 1, CLASSES, RoundPolicy(), 1) == {sample(0): COPIED}


def test_a_copy_that_got_the_number_of_the_annotation_it_copies_is_an_answer(desk: Desk) -> None:
    (task,) = desk.open("r0000", 0)
    made = desk.studio.answer(task, ["cat"])
    exported = desk.studio.export()
    desk.studio.remove(task)
    desk.studio.import_export(exported)
    desk.pull()
    desk.pull()
    assert desk.ledger.answers()[["annotation_id", "kind"]].values.tolist() == [[made, "answer"]]


@pytest.mark.parametrize(("second", "again"), [("zebra", [sample(0)]), (None, [])])
def test_a_task_for_two_that_a_foreign_class_has_filled_is_asked_again_and_one_that_was_skipped_is_given_to_others(
    desk: Desk, second: str | None, again: list[str]
) -> None:
    desk.studio.state.overlap = 2
    (task,) = desk.open("r0000", 0)
    desk.studio.answer(task, ["cat"], annotator="ann")
    desk.studio.annotate(task, second, annotator="bob")
    desk.pull()
    assert desk.studio.gives(task, "cem") == (not again)
    policy = RoundPolicy(min_votes=2, max_skips=2)
    assert sorted(withdraw_unusable(desk.ledger, 1, CLASSES, policy, 2)) == again


def test_a_round_is_listed_anew_only_when_other_tasks_are_gone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, deployment, listed = desk.open("r0000", 0, 1, 2, 3, 4), desk.deployment(), list[str]()
    list_tasks = desk.studio.tasks

    def tasks_listed(project_id: int, round_key: str | None = None, *, unanswered: bool = False) -> list[TaskStatus]:
        listed.append(str(round_key))
        return list_tasks(project_id, round_key, unanswered=unanswered)

    monkeypatch.setattr(desk.studio, "tasks", tasks_listed)

    def missing() -> tuple[int | str, int | str, int]:
        counts = desk.facts("r0000", of=deployment).counts
        return counts["labeled"], counts["missing"], len(listed)

    assert missing() == (0, 0, 0)
    desk.studio.remove(tasks[0])
    assert missing() == (0, 1, 1)
    # Each answer has all counted anew, and twenty thousand tasks of one that is gone would be read for each.
    for number, task in enumerate(tasks[1:3], start=1):
        desk.clock.advance(1)
        desk.studio.answer(task, ["cat"])
        assert missing() == (number, 1, 1)
    desk.studio.remove(tasks[3])
    assert missing() == (2, 2, 2)
    desk.send("r0000", [sample(0)])
    assert missing() == (2, 1, 3)
