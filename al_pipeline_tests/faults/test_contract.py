"""The Label Studio in memory does what a real one does: the same tests for both."""

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx
import pytest

from al_pipeline.core.labels.annotation import Annotation, is_unknown
from al_pipeline.labelstudio.annotator import DOMAIN, sign_up
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import Interface, choice, classes_in, label_config, payload
from al_pipeline.labelstudio.connection import LabelStudioError, LabelStudioNotFoundError
from al_pipeline.labelstudio.events import TaskStatus
from al_pipeline_tests.faults.memory_studio import PROJECT, Clock, MemoryStudio
from al_pipeline_tests.labelstudio.projects import CLASSES, Project

HORSE, MEADOW = CLASSES
IDENTITY = "0f2c8a52-6c5e-4f2e-9d3a-5d3c9a1f7b10"
MOMENT = timedelta(microseconds=1)


class Studio(Protocol):
    """A project to which people do things. Whoever has the number 0 owns the client's token."""

    client: LabelStudio
    project_id: int

    def add(self, samples: Sequence[str], round_key: str = "r0000", predicted: str | None = None) -> list[int]: ...
    def answer(
        self, task_id: int, choices: Sequence[str], *, skip: bool = False, lead_time: float | None = None
    ) -> int: ...
    def answer_as(self, number: int, task_id: int, name: str | None) -> int: ...
    def change(self, annotation_id: int, choices: Sequence[str], *, skip: bool = False) -> None: ...
    def retract(self, annotation_id: int) -> None: ...
    def accept_guesses(self, task_ids: Sequence[int]) -> None: ...
    def delete_predictions(self, task_ids: Sequence[int]) -> None: ...
    def delete_user(self, number: int) -> None: ...
    def remove_member(self, number: int) -> None: ...
    def export(self) -> list[dict[str, Any]]: ...
    def import_export(self, exported: Sequence[dict[str, Any]]) -> None: ...
    def another(self) -> "Studio": ...
    def at_another_address(self) -> LabelStudio: ...
    def make_anew(self) -> None: ...
    def edit_config(self, config: str) -> None: ...
    def config(self) -> str: ...
    def gives(self, task_id: int, number: int) -> bool: ...


class InMemory:
    """People at the server in memory."""

    def __init__(self, overlap: int, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self.client: LabelStudio = (studio := MemoryStudio(self._clock, page=2, import_chunk=2, overlap=overlap))
        self._studio, self.project_id = studio, PROJECT
        studio.state.label_config = label_config(Interface(CLASSES))

    def add(self, samples: Sequence[str], round_key: str = "r0000", predicted: str | None = None) -> list[int]:
        row = _row(predicted)
        tasks = [
            payload(row | {"sample_id": i}, round_key=round_key, image_name="", prediction=predicted is not None)
            for i in samples
        ]
        return self.client.import_tasks(self.project_id, tasks)

    def answer(
        self, task_id: int, choices: Sequence[str], *, skip: bool = False, lead_time: float | None = None
    ) -> int:
        return self._studio.answer(task_id, choices, skip, lead_time=lead_time)

    def answer_as(self, number: int, task_id: int, name: str | None) -> int:
        return self._studio.annotate(task_id, name, annotator=_names(number))

    def change(self, annotation_id: int, choices: Sequence[str], *, skip: bool = False) -> None:
        self._studio.change(annotation_id, choices, skip)

    def retract(self, annotation_id: int) -> None:
        self._studio.retract(annotation_id)

    def accept_guesses(self, task_ids: Sequence[int]) -> None:
        self._studio.accept_guesses(task_ids)

    def delete_predictions(self, task_ids: Sequence[int]) -> None:
        self._studio.delete_predictions(task_ids)

    def delete_user(self, number: int) -> None:
        self._studio.delete_user(_names(number))

    def remove_member(self, number: int) -> None:
        self._studio.remove_member(_names(number))

    def export(self) -> list[dict[str, Any]]:
        return self._studio.export()

    def import_export(self, exported: Sequence[dict[str, Any]]) -> None:
        self._studio.import_export(exported)

    def another(self) -> Studio:
        other = InMemory(1, self._clock)
        other._studio.state.users |= self._studio.state.users
        return other

    def at_another_address(self) -> LabelStudio:
        self._studio.url = "http://other.example.com"
        return self._studio

    def make_anew(self) -> None:
        self._studio.make_anew()

    def edit_config(self, config: str) -> None:
        self._studio.edit_config(config)

    def config(self) -> str:
        return self._studio.state.label_config

    def gives(self, task_id: int, number: int) -> bool:
        return self._studio.gives(task_id, _names(number))


class Real:
    """People at a real server."""

    def __init__(self, make_project: Callable[..., Project], overlap: int) -> None:
        self._make_project, self._overlap = make_project, overlap
        self._project = make_project(overlap=overlap)
        self.client, self.project_id = self._project.client, self._project.id
        # Those who are deleted do not come back: each test has its own.
        self._others: dict[int, tuple[int, LabelStudio]] = {}

    def add(self, samples: Sequence[str], round_key: str = "r0000", predicted: str | None = None) -> list[int]:
        row = {} if predicted is None else {"predicted": predicted}
        return self.client.import_tasks(self.project_id, self._project.payloads(samples, round_key, **row))

    def answer(
        self, task_id: int, choices: Sequence[str], *, skip: bool = False, lead_time: float | None = None
    ) -> int:
        took = {} if lead_time is None else {"lead_time": lead_time}
        return int(self._sdk.annotations.create(id=task_id, result=_result(choices), was_cancelled=skip, **took).id)

    def answer_as(self, number: int, task_id: int, name: str | None) -> int:
        return self._person(number).annotate(task_id, name)

    def change(self, annotation_id: int, choices: Sequence[str], *, skip: bool = False) -> None:
        self._sdk.annotations.update(id=annotation_id, result=_result(choices), was_cancelled=skip)

    def retract(self, annotation_id: int) -> None:
        self._sdk.annotations.delete(annotation_id)

    def accept_guesses(self, task_ids: Sequence[int]) -> None:
        self._act("predictions_to_annotations", task_ids)

    def delete_predictions(self, task_ids: Sequence[int]) -> None:
        self._act("delete_tasks_predictions", task_ids)

    def delete_user(self, number: int) -> None:
        self._send("DELETE", f"api/users/{self._user(number)}/")
        self._begin_anew()

    def remove_member(self, number: int) -> None:
        self._send("DELETE", f"api/organizations/1/memberships/{self._user(number)}/")
        self._begin_anew()

    def export(self) -> list[dict[str, Any]]:
        params = {"exportType": "JSON", "download_all_tasks": "true"}
        return self._send("GET", f"api/projects/{self.project_id}/export", params=params).json()

    def import_export(self, exported: Sequence[dict[str, Any]]) -> None:
        self._send("POST", f"api/projects/{self.project_id}/import", json=exported)

    def another(self) -> Studio:
        return Real(self._make_project, 1)

    def at_another_address(self) -> LabelStudio:
        return LabelStudio(self.client.url.replace("127.0.0.1", "localhost"), self.client.secret, timeout=60)

    def make_anew(self) -> None:
        self._sdk.projects.delete(self.project_id)
        self.project_id = self.client.ensure_project(self._project.title, Interface(CLASSES), overlap=self._overlap)

    def edit_config(self, config: str) -> None:
        self.client.connection.read(
            "save the interface", lambda: self._sdk.projects.update(id=self.project_id, label_config=config)
        )

    def config(self) -> str:
        return str(self._sdk.projects.get(id=self.project_id).label_config)

    def gives(self, task_id: int, number: int) -> bool:
        answer = self._send("GET", f"api/projects/{self.project_id}/next", self._person(number), none=True)
        return answer.status_code == 200 and answer.json()["id"] == task_id

    @property
    def _sdk(self) -> Any:
        return self.client.connection.sdk

    def _person(self, number: int) -> LabelStudio:
        if number and number not in self._others:
            login = secrets.randbelow(2**30)
            self._others[number] = (login, sign_up(self.client, login))
        return self._others[number][1] if number else self.client

    def _user(self, number: int) -> int:
        email = f"annotator{self._others[number][0]}@{DOMAIN}"
        return next(int(user.id) for user in self._sdk.users.list() if user.email == email)

    def _begin_anew(self) -> None:
        """Ask with a client that remembers nobody's name."""
        self.client = LabelStudio(self.client.url, self.client.secret, timeout=60)

    def _act(self, name: str, task_ids: Sequence[int]) -> None:
        selected = {"selectedItems": {"all": False, "included": list(task_ids)}}
        self._send("POST", "api/dm/actions", params={"id": name, "project": self.project_id}, json=selected)

    def _send(
        self, method: str, path: str, who: LabelStudio | None = None, *, none: bool = False, **more: Any
    ) -> httpx.Response:
        who = who or self.client
        headers = {"Authorization": f"Token {who.secret}"}
        answer = httpx.request(method, f"{who.url}/{path}", headers=headers, timeout=60, **more)
        assert answer.is_success or none, answer.text
        return answer


def _result(choices: Sequence[str]) -> list[dict[str, Any]]:
    return [choice(choices[0]) | {"value": {"choices": list(choices)}}] if choices else []


def _row(predicted: str | None) -> dict[str, Any]:
    return {"purpose": "query", "predicted": predicted, "predicted_probability": 0.75, "checkpoint": "c0ffee"}


def _names(number: int) -> str:
    return ("ann", "bob", "cem", "dan")[number]


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.labelstudio)])
def make_studio(request: pytest.FixtureRequest) -> Callable[[int], Studio]:
    """A factory of projects; its argument says how many people are given each task."""
    if request.param == "memory":
        return InMemory
    make_project = request.getfixturevalue("make_project")
    return lambda overlap: Real(make_project, overlap)


@pytest.fixture
def studio(make_studio: Callable[[int], Studio]) -> Studio:
    return make_studio(1)


def status(studio: Studio, task_id: int) -> TaskStatus:
    return {task.task_id: task for task in studio.client.tasks(studio.project_id)}[task_id]


def events(studio: Studio, since: datetime | None = None) -> dict[int, Annotation]:
    return {event.annotation_id: event for event in studio.client.annotations(studio.project_id, updated_since=since)}


def counts(studio: Studio) -> tuple[int, int, int]:
    found = studio.client.project_counts(studio.project_id)
    return found.tasks, found.annotations, found.skipped


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
    assert counts(studio) == (3, 1, 1)
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
    assert counts(studio)[1:] == ((1, 0) if skip_first else (0, 1))
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
    for annotation, left in ((made, (1, 0, 1)), (skip, (1, 0, 0))):
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
    assert (task.task_id, task.samples, task.annotations) == (added, ("e",), [])
    assert since < task.created_at <= task.updated_at
    # Between two moments, or before one.
    pages = list(studio.client.answers(studio.project_id, updated_since=since, updated_until=task.created_at - MOMENT))
    assert [task.task_id for page in pages for task in page] == [made, changed, deleted]
    pages = list(studio.client.answers(studio.project_id, updated_until=since))
    assert {task.task_id for page in pages for task in page}.isdisjoint({made, changed, deleted, added})
    pages = list(studio.client.answers(studio.project_id, updated_until=task.updated_at))
    assert added in {task.task_id for page in pages for task in page}
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
    # Of what is known nothing is lost; of a skip that is not, something would be.
    known = [event.annotation_id for event in events(studio).values() if event.task_id == answered]
    assert studio.client.delete_unanswered([answered, skipped], known) == [answered]


def test_a_deleted_task_takes_its_answers_out_of_the_counts(studio: Studio) -> None:
    tasks = studio.add(["a", "b", "c"])
    for task in tasks:
        studio.answer(task, [HORSE])
        studio.answer(task, [], skip=True)
    studio.client.delete_tasks(tasks[:2])
    assert counts(studio) == (1, 1, 1)
    assert {event.task_id for event in events(studio).values()} == {tasks[2]}
    studio.client.delete_tasks(tasks[:2])
    with pytest.raises(LabelStudioNotFoundError):
        studio.client.annotate(tasks[0], HORSE)


def test_two_people_answer_one_task(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    first = studio.client.annotate(task, HORSE)
    second = studio.answer_as(1, task, MEADOW)
    found = events(studio)
    assert [found[first].value, found[second].value] == [HORSE, MEADOW]
    assert found[first].annotator != found[second].annotator
    assert status(studio, task).annotations == 2
    assert counts(studio) == (1, 2, 0)


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
    assert (status(studio, task).annotations, counts(studio)) == (1, (1, 1, 0))


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


def facts(event: Annotation) -> tuple[str | None, str, float | None, int | None]:
    """Return what an answer is worth and where it comes from."""
    return event.value, event.kind, event.lead_time, event.import_id


def test_guesses_become_annotations_of_whoever_clicks_once_and_forget_it_without_a_trace(studio: Studio) -> None:
    task, other = studio.add(["a", "b"], predicted=HORSE)
    studio.answer(other, [MEADOW], lead_time=2.0)
    (mine,) = {event.annotator for event in events(studio).values()}
    before = status(studio, task).updated_at
    studio.accept_guesses([task])
    studio.accept_guesses([task])
    (guess,) = [event for event in events(studio).values() if event.task_id == task]
    assert (guess.kind, guess.annotator, guess.lead_time, guess.origin) == ("guess", mine, None, None)
    assert guess.parent_prediction is not None
    assert before < guess.updated_at <= status(studio, task).updated_at
    assert (counts(studio), studio.gives(task, 1)) == ((2, 2, 0), False)
    changed = status(studio, task).updated_at
    studio.delete_predictions([task])
    after = events(studio)[guess.annotation_id]
    assert (after.parent_prediction, after.updated_at) == (None, guess.updated_at)
    # The guess is no part of the choice, so that nobody can take it for an answer afterwards.
    assert (guess.value, after.value, after.kind) == (None, None, "empty")
    assert status(studio, task).updated_at == changed
    studio.accept_guesses([task])
    assert len(events(studio)) == 2


@pytest.mark.parametrize(
    ("first", "second", "given"),
    [([HORSE], None, True), ([HORSE], [MEADOW], False), (None, None, True), ([], None, True)],
)
def test_a_task_for_two_is_given_to_others_until_there_are_two_answers_by_whomever(
    make_studio: Callable[[int], Studio], first: list[str] | None, second: list[str] | None, given: bool
) -> None:
    studio = make_studio(2)
    (task,) = studio.add(["a"])
    studio.answer(task, first or [], skip=first is None)
    if second is not None:
        studio.answer(task, second)
    assert not studio.gives(task, 0)
    assert studio.gives(task, 1) is given


@pytest.mark.parametrize("skip", [True, False])
def test_a_task_for_one_is_given_to_others_only_if_it_was_skipped(studio: Studio, skip: bool) -> None:
    (task,) = studio.add(["a"])
    assert studio.gives(task, 0)
    studio.answer(task, [] if skip else [HORSE], skip=skip)
    assert not studio.gives(task, 0)
    assert studio.gives(task, 1) is skip


def test_what_a_deleted_person_said_is_nobodys_and_no_time_moves(studio: Studio) -> None:
    task, other = studio.add(["a", "b"])
    made = [studio.answer_as(1, task, HORSE), studio.answer_as(1, other, None)]
    before, tasks = events(studio), studio.client.tasks(studio.project_id)
    studio.delete_user(1)
    after = events(studio)
    assert all(is_unknown(after[i].annotator) for i in made)
    assert after[made[0]].annotator != after[made[1]].annotator
    assert [after[i].updated_at for i in made] == [before[i].updated_at for i in made]
    assert (studio.client.tasks(studio.project_id), counts(studio)) == (tasks, (2, 1, 1))
    # Whoever changes it does not become its author.
    studio.change(made[0], [MEADOW])
    assert events(studio)[made[0]].annotator == after[made[0]].annotator


def test_two_people_who_left_the_organization_are_not_one(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    made = [studio.answer_as(1, task, HORSE), studio.answer_as(2, task, MEADOW)]
    studio.remove_member(1)
    studio.remove_member(2)
    found = events(studio)
    assert len({found[i].annotator for i in made}) == 2
    assert all(is_unknown(found[i].annotator) for i in made)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_import_of_an_export_makes_new_annotations_that_name_the_old_ones(studio: Studio, elsewhere: bool) -> None:
    answered, skipped, _ = studio.add(["a", "b", "c"])
    old = [studio.answer(answered, [HORSE], lead_time=2.0), studio.answer_as(1, answered, MEADOW)]
    old.append(studio.answer_as(1, skipped, None))
    exported, newest = studio.export(), max(event.updated_at for event in events(studio).values())
    there = studio.another() if elsewhere else studio
    there.import_export(exported)
    copies = [event for event in events(there).values() if event.import_id is not None]
    assert [event.import_id for event in copies] == old
    assert [facts(event)[:3] for event in copies] == [
        (HORSE, "answer", 2.0),
        (MEADOW, "answer", None),
        (None, "skip", None),
    ]
    assert all(is_unknown(event.annotator) for event in copies)
    assert len({event.annotator for event in copies}) == 3
    assert [(event.sample_id, event.round) for event in copies] == [("a", "r0000"), ("a", "r0000"), ("b", "r0000")]
    assert all(newest < event.created_at <= event.updated_at for event in copies)
    # A task is older than what is imported with it, and so is its last change.
    tasks = {task.task_id: task for page in there.client.answers(there.project_id) for task in page}
    assert all(tasks[event.task_id].updated_at < event.created_at for event in copies)
    assert counts(there) == ((3, 2, 1) if elsewhere else (6, 4, 2))
    # And a copy of a copy names the copy.
    again = there.another()
    again.import_export(there.export())
    assert {event.import_id for event in events(again).values()} == set(events(there))


def test_an_imported_skip_is_given_to_nobody(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    studio.answer(task, [], skip=True)
    there = studio.another()
    there.import_export(studio.export())
    (copy,) = there.client.tasks(there.project_id)
    assert (copy.annotations, copy.cancelled) == (0, 1)
    assert not there.gives(copy.task_id, 1)


def test_an_import_may_give_out_the_number_of_the_newest_annotation_again(studio: Studio) -> None:
    kept, gone = studio.add(["a", "b"])
    studio.answer(kept, [HORSE])
    exported, deleted = studio.export(), studio.answer(gone, [MEADOW])
    before = events(studio)[deleted]
    studio.retract(deleted)
    studio.import_export(exported)
    (copy,) = [event for event in events(studio).values() if event.import_id is not None]
    assert copy.annotation_id == deleted
    assert copy.created_at > before.created_at
    assert studio.answer(gone, [HORSE]) > deleted


def test_a_skip_that_gets_a_choice_stays_a_skip(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    made = studio.answer(task, [], skip=True)
    studio.change(made, [HORSE], skip=True)
    event = events(studio)[made]
    assert (event.value, event.kind, event.cancelled) == (None, "skip_choice", True)
    assert (status(studio, task).annotations, status(studio, task).cancelled) == (0, 1)
    assert studio.gives(task, 1)


def test_slips_of_the_hand_are_stored_and_fill_a_task(studio: Studio) -> None:
    empty, foreign, hasty = studio.add(["a", "b", "c"])
    made = [studio.answer(empty, [], lead_time=1.0), studio.answer(foreign, ["zebra"])]
    made.append(studio.answer(hasty, [HORSE], lead_time=0.1))
    found = events(studio)
    assert [facts(found[i]) for i in made] == [
        (None, "empty", 1.0, None),
        ("zebra", "answer", None, None),
        (HORSE, "answer", 0.1, None),
    ]
    assert not any(studio.gives(task, 1) for task in (empty, foreign, hasty))


def test_a_class_that_was_answered_with_can_go_and_the_control_cannot(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    made, config = studio.answer(task, [HORSE]), studio.config()
    before = (status(studio, task), events(studio))
    for edited in (
        label_config(Interface([MEADOW])),
        label_config(Interface([MEADOW, "cow"])),
        label_config(Interface([*CLASSES, "cow"])),
        config.replace('choice="single-radio"', 'choice="multiple"'),
    ):
        studio.edit_config(edited)
        assert classes_in(studio.config()) == classes_in(edited)
        assert (status(studio, task), events(studio)) == before
    renamed = studio.config().replace('name="label"', 'name="labels"')
    with pytest.raises(LabelStudioError):
        studio.edit_config(renamed)
    assert studio.config() != renamed
    studio.retract(made)
    studio.edit_config(renamed)
    assert 'name="labels"' in studio.config()


def test_another_address_shows_the_same(studio: Studio) -> None:
    (task,) = studio.add(["a"])
    studio.answer(task, [HORSE])
    before, url = (events(studio), counts(studio)), studio.client.url
    other = studio.at_another_address()
    assert other.url != url
    assert {event.annotation_id: event for event in other.annotations(studio.project_id)} == before[0]
    assert other.project_counts(studio.project_id).annotations == before[1][1]


def test_a_project_that_was_made_anew_has_nothing_and_gives_out_the_ids_of_tasks_again(studio: Studio) -> None:
    tasks = studio.add(["a", "b"])
    made = [studio.answer(task, [HORSE]) for task in tasks]
    studio.make_anew()
    assert (counts(studio), studio.client.tasks(studio.project_id)) == ((0, 0, 0), [])
    again = studio.add(["a", "b"])
    assert again == tasks
    assert studio.answer(again[0], [HORSE]) > made[-1]


def test_a_task_made_by_hand_may_say_nothing_or_anything(studio: Studio) -> None:
    data = ({}, {"sample_id": "a"}, {"sample_id": "a", "round": "r0009"}, {"sample_id": "a", "round": None})
    tasks = studio.client.import_tasks(studio.project_id, [{"data": {"image": "x"} | each} for each in data])
    for task in tasks:
        studio.answer(task, [HORSE])
    found = [(event.sample_id, event.round) for event in events(studio).values()]
    assert found == [(None, None), ("a", None), ("a", "r0009"), ("a", None)]
    assert [task.task_id for task in studio.client.tasks(studio.project_id, "r0009")] == [tasks[2]]
