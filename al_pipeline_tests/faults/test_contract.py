"""The Label Studio in memory does what a real one does: the same tests for both."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.labelstudio.annotator import sign_up
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import choice, payload
from al_pipeline.labelstudio.connection import LabelStudioError, LabelStudioNotFoundError
from al_pipeline.labelstudio.events import TaskStatus
from al_pipeline_tests.faults.memory_studio import PROJECT, Clock, MemoryStudio
from al_pipeline_tests.labelstudio.projects import CLASSES, Project

HORSE, MEADOW = CLASSES
IDENTITY = "0f2c8a52-6c5e-4f2e-9d3a-5d3c9a1f7b10"


class Studio(Protocol):
    """A project to which people do things."""

    client: LabelStudio
    project_id: int

    def add(self, samples: Sequence[str], round_key: str = "r0000") -> list[int]: ...
    def answer(self, task_id: int, choices: Sequence[str], *, skip: bool = False) -> int: ...
    def answer_as_another(self, task_id: int, name: str | None) -> int: ...
    def change(self, annotation_id: int, choices: Sequence[str], *, skip: bool = False) -> None: ...
    def retract(self, annotation_id: int) -> None: ...


class InMemory:
    """People at the server in memory."""

    def __init__(self) -> None:
        self.client: LabelStudio = (studio := MemoryStudio(Clock(), page=2, import_chunk=2))
        self._studio, self.project_id = studio, PROJECT

    def add(self, samples: Sequence[str], round_key: str = "r0000") -> list[int]:
        row = {"purpose": "query"}
        tasks = [payload(row | {"sample_id": i}, round_key=round_key, image_name="", prediction=False) for i in samples]
        return self.client.import_tasks(self.project_id, tasks)

    def answer(self, task_id: int, choices: Sequence[str], *, skip: bool = False) -> int:
        return self._studio.answer(task_id, choices, skip)

    def answer_as_another(self, task_id: int, name: str | None) -> int:
        return self._studio.annotate(task_id, name, annotator="bob")

    def change(self, annotation_id: int, choices: Sequence[str], *, skip: bool = False) -> None:
        self._studio.change(annotation_id, choices, skip)

    def retract(self, annotation_id: int) -> None:
        self._studio.retract(annotation_id)


class Real:
    """People at a real server."""

    def __init__(self, project: Project) -> None:
        self._project, self.client, self.project_id = project, project.client, project.id

    def add(self, samples: Sequence[str], round_key: str = "r0000") -> list[int]:
        return self.client.import_tasks(self.project_id, self._project.payloads(samples, round_key))

    def answer(self, task_id: int, choices: Sequence[str], *, skip: bool = False) -> int:
        made = self._people.create(id=task_id, result=_result(choices), was_cancelled=skip, lead_time=1.0)
        return int(made.id)

    def answer_as_another(self, task_id: int, name: str | None) -> int:
        return sign_up(self.client, 1).annotate(task_id, name)

    def change(self, annotation_id: int, choices: Sequence[str], *, skip: bool = False) -> None:
        self._people.update(id=annotation_id, result=_result(choices), was_cancelled=skip)

    def retract(self, annotation_id: int) -> None:
        self._people.delete(annotation_id)

    @property
    def _people(self) -> Any:
        return self.client.connection.sdk.annotations


def _result(choices: Sequence[str]) -> list[dict[str, Any]]:
    return [choice(choices[0]) | {"value": {"choices": list(choices)}}] if choices else []


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.labelstudio)])
def studio(request: pytest.FixtureRequest) -> Studio:
    return InMemory() if request.param == "memory" else Real(request.getfixturevalue("project"))


def status(studio: Studio, task_id: int) -> TaskStatus:
    return {task.task_id: task for task in studio.client.tasks(studio.project_id)}[task_id]


def events(studio: Studio, since: datetime | None = None) -> dict[int, Annotation]:
    return {event.annotation_id: event for event in studio.client.annotations(studio.project_id, updated_since=since)}


def counts(studio: Studio) -> tuple[int, int, int, int]:
    found = studio.client.project_counts(studio.project_id)
    return found.tasks, found.labeled, found.annotations, found.skipped


def test_a_project_says_who_it_is_and_which_round_it_got_last(studio: Studio) -> None:
    client, title = studio.client, studio.client.project(studio.project_id).title
    before = client.find_project(title)
    assert before is not None
    assert before == client.project(studio.project_id)
    assert (before.project_id, before.identity, before.newest_round) == (studio.project_id, None, None)
    client.sign(studio.project_id, IDENTITY, None)
    client.sign(studio.project_id, IDENTITY, "r0003")
    now = client.project(studio.project_id)
    assert now == client.find_project(title)
    assert (now.identity, now.newest_round, now.created_at) == (IDENTITY, "r0003", before.created_at)
    with pytest.raises(LabelStudioError, match="another identity"):
        client.sign(studio.project_id, IDENTITY.replace("0", "1"), "r0004")
    assert client.project(studio.project_id) == now


def test_ids_ascend_and_only_that_of_the_newest_task_may_be_given_out_again(studio: Studio) -> None:
    tasks = studio.add(["a", "b", "c"])
    assert tasks == sorted(tasks)
    made = [studio.answer(task, [HORSE]) for task in reversed(tasks)]
    assert made == sorted(made)
    studio.retract(made[-1])
    studio.client.delete_tasks(tasks[-1:])
    (later,) = studio.add(["d"])
    assert later >= tasks[-1]
    assert studio.answer(later, [HORSE]) > made[-1]


def test_importing_twice_makes_two_tasks(studio: Studio) -> None:
    assert len({*studio.add(["a"]), *studio.add(["a"])}) == 2
    assert [task.sample_id for task in studio.client.tasks(studio.project_id)] == ["a", "a"]


def test_tasks_are_listed_by_id_and_by_round(studio: Studio) -> None:
    first, second = studio.add(["a", "b", "c"]), studio.add(["d"], "r0001")
    assert [task.task_id for task in studio.client.tasks(studio.project_id)] == first + second
    assert [task.task_id for task in studio.client.tasks(studio.project_id, "r0000")] == first
    assert [task.round for task in studio.client.tasks(studio.project_id, "r0001")] == ["r0001"]
    assert studio.client.tasks(studio.project_id, "r0002") == []


def test_the_newest_task_of_a_round_and_how_many_it_has(studio: Studio) -> None:
    tasks = studio.add(["a", "b", "c"])
    studio.add(["d"], "r0001")
    newest, count = studio.client.newest_task(studio.project_id, "r0000")
    assert newest is not None
    assert (newest.task_id, newest.sample_id, count) == (tasks[-1], "c", 3)
    studio.client.delete_tasks(tasks[1:])
    newest, count = studio.client.newest_task(studio.project_id, "r0000")
    assert newest is not None
    assert (newest.task_id, count) == (tasks[0], 1)
    assert studio.client.newest_task(studio.project_id, "r0002") == (None, 0)


def test_tasks_that_nobody_has_dealt_with_are_listed_alone(studio: Studio) -> None:
    answered, skipped, retracted, untouched = studio.add(["a", "b", "c", "d"])
    (elsewhere,) = studio.add(["a"], "r0001")
    studio.answer(answered, [HORSE])
    studio.answer(skipped, [], skip=True)
    studio.retract(studio.answer(retracted, [HORSE]))
    found = studio.client.tasks(studio.project_id, unanswered=True)
    assert [task.task_id for task in found] == [retracted, untouched, elsewhere]
    found = studio.client.tasks(studio.project_id, "r0000", unanswered=True)
    assert [task.task_id for task in found] == [retracted, untouched]


def test_an_answer_and_a_skip_are_counted_apart(studio: Studio) -> None:
    answered, skipped, _ = studio.add(["a", "b", "c"])
    studio.client.annotate(answered, HORSE)
    studio.client.annotate(skipped, None)
    found = studio.client.tasks(studio.project_id)
    assert [(task.annotations, task.cancelled) for task in found] == [(1, 0), (0, 1), (0, 0)]
    assert counts(studio) == (3, 1, 1, 1)
    assert sorted((event.value or "", event.cancelled) for event in events(studio).values()) == [
        ("", True),
        (HORSE, False),
    ]


@pytest.mark.parametrize("skip_first", [True, False])
def test_a_skip_becomes_an_answer_and_an_answer_a_skip(studio: Studio, skip_first: bool) -> None:
    (task,) = studio.add(["a"])
    made = studio.answer(task, [] if skip_first else [HORSE], skip=skip_first)
    studio.change(made, [HORSE] if skip_first else [], skip=not skip_first)
    assert (status(studio, task).annotations, status(studio, task).cancelled) == ((1, 0) if skip_first else (0, 1))
    assert counts(studio)[2:] == ((1, 0) if skip_first else (0, 1))
    (event,) = events(studio).values()
    assert (event.value, event.cancelled) == ((HORSE, False) if skip_first else (None, True))


def test_an_answer_moves_the_time_of_its_task_and_of_no_other(studio: Studio) -> None:
    task, other = studio.add(["a", "b"])
    before, untouched = status(studio, task).updated_at, status(studio, other).updated_at
    made = studio.answer(task, [HORSE])
    event = events(studio)[made]
    assert before < event.created_at <= event.updated_at <= status(studio, task).updated_at
    assert status(studio, other).updated_at == untouched


def test_a_change_moves_the_times_of_the_answer_and_its_task_and_keeps_when_it_was_made(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    made = studio.answer(task, [HORSE])
    first, before = events(studio)[made], status(studio, task).updated_at
    studio.change(made, [MEADOW])
    changed = events(studio)[made]
    assert (changed.value, changed.created_at, changed.annotator) == (MEADOW, first.created_at, first.annotator)
    assert first.updated_at < changed.updated_at <= status(studio, task).updated_at
    assert before < status(studio, task).updated_at


def test_a_deletion_moves_the_time_of_the_task_and_counts(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    made, skip = studio.answer(task, [HORSE]), studio.answer(task, [], skip=True)
    for annotation, left in ((made, (1, 0, 0, 1)), (skip, (1, 0, 0, 0))):
        before = status(studio, task).updated_at
        studio.retract(annotation)
        assert status(studio, task).updated_at > before
        assert annotation not in events(studio)
        assert counts(studio) == left
    assert status(studio, task).answers == 0


def test_what_changed_since_a_moment_comes_with_all_that_its_task_has(studio: Studio) -> None:
    made, changed, deleted, untouched = studio.add(["a", "b", "c", "d"])
    old = {task: studio.answer(task, [HORSE]) for task in (made, changed, deleted, untouched)}
    since = max(task.updated_at for task in studio.client.tasks(studio.project_id))
    assert events(studio, since) == {}
    new = studio.answer(made, [MEADOW])
    studio.change(old[changed], [MEADOW])
    studio.retract(old[deleted])
    assert set(events(studio, since)) == {old[made], new, old[changed]}
    pages = list(studio.client.answers(studio.project_id, updated_since=since))
    assert [task.task_id for page in pages for task in page] == [made, changed, deleted]
    assert [len(task.annotations) for page in pages for task in page] == [2, 1, 0]
    # A task changes when it is made, too.
    (added,) = studio.add(["e"])
    pages = list(studio.client.answers(studio.project_id, updated_since=since))
    task = [task for page in pages for task in page][-1]
    assert (task.task_id, task.sample_id, task.annotations) == (added, "e", [])
    assert since < task.created_at <= task.updated_at
    # A moment at which a task changed is not after itself.
    newest = max(task.updated_at for task in studio.client.tasks(studio.project_id))
    assert list(studio.client.answers(studio.project_id, updated_since=newest)) == [[]]


def test_only_tasks_that_nobody_has_dealt_with_are_deleted_as_unanswered(studio: Studio) -> None:
    answered, skipped, retracted, untouched = studio.add(["a", "b", "c", "d"])
    studio.answer(answered, [HORSE])
    studio.answer(skipped, [], skip=True)
    studio.retract(studio.answer(retracted, [HORSE]))
    gone = studio.client.delete_unanswered([answered, skipped, retracted, untouched, untouched + 1000])
    assert gone == [retracted, untouched]
    assert [task.task_id for task in studio.client.tasks(studio.project_id)] == [answered, skipped]


def test_a_deleted_task_takes_its_answers_out_of_the_counts(studio: Studio) -> None:
    tasks = studio.add(["a", "b", "c"])
    for task in tasks:
        studio.answer(task, [HORSE])
        studio.answer(task, [], skip=True)
    studio.client.delete_tasks(tasks[:2])
    assert counts(studio) == (1, 1, 1, 1)
    assert {event.task_id for event in events(studio).values()} == {tasks[2]}
    studio.client.delete_tasks(tasks[:2])
    with pytest.raises(LabelStudioNotFoundError):
        studio.client.annotate(tasks[0], HORSE)


def test_two_people_answer_one_task(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    first = studio.client.annotate(task, HORSE)
    second = studio.answer_as_another(task, MEADOW)
    found = events(studio)
    assert [found[first].value, found[second].value] == [HORSE, MEADOW]
    assert found[first].annotator != found[second].annotator
    assert status(studio, task).annotations == 2
    assert counts(studio) == (1, 1, 2, 0)


def test_one_person_can_answer_a_task_twice(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    made = [studio.answer(task, [name]) for name in CLASSES]
    found = events(studio)
    assert [found[i].value for i in made] == list(CLASSES)
    assert len({event.annotator for event in found.values()}) == 1
    assert status(studio, task).annotations == 2


@pytest.mark.parametrize(("choices", "value"), [([], None), (["zebra"], "zebra"), ([HORSE, MEADOW], None)])
def test_an_answer_with_no_choice_an_unknown_one_or_several_is_an_answer(
    studio: Studio, choices: list[str], value: str | None
) -> None:
    (task,) = studio.add(["a"])
    made = studio.answer(task, choices)
    event = events(studio)[made]
    assert (event.value, event.cancelled) == (value, False)
    assert (status(studio, task).annotations, counts(studio)) == (1, (1, 1, 1, 0))


def test_the_counts_tell_the_time_of_the_server_in_whole_seconds(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    studio.answer(task, [HORSE])
    at = studio.client.project_counts(studio.project_id).at
    assert (at.tzinfo, at.microsecond) == (UTC, 0)
    assert abs(at - status(studio, task).updated_at) < timedelta(minutes=1)


def test_a_listing_sees_what_happens_between_its_pages(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("al_pipeline.labelstudio.client.PAGE_WITH_ANNOTATIONS", 2)
    tasks = studio.add(["a", "b", "c", "d", "e"])
    pages = studio.client.answers(studio.project_id)
    seen = [task.task_id for task in next(pages)]
    studio.answer(tasks[0], [HORSE])
    studio.client.delete_tasks(tasks[1:3])
    made = studio.answer(tasks[4], [HORSE])
    rest = [task for page in pages for task in page]
    assert seen + [task.task_id for task in rest] == [*tasks[:2], *tasks[3:]]
    assert [event.annotation_id for task in rest for event in task.annotations] == [made]
