"""Label Studio in memory: what the client asks of it, what people do to it, and how it fails.

`test_contract.py` runs the same tests against this and a real server.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from xml.etree import ElementTree

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import Given, Interface, cells_in, choice, chosen, label_config
from al_pipeline.labelstudio.connection import LabelStudioError, LabelStudioNotFoundError, LabelStudioUnavailableError
from al_pipeline.labelstudio.events import (
    ProjectCounts,
    TaskAnswers,
    TaskStatus,
    parse_annotation,
    parse_task,
    samples_of,
)
from al_pipeline.labelstudio.identity import Project, marks, signed

# Before or after the server has done what it was asked for.
FailureKind = Literal["before", "after"]
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
# The name of a class, or the JSON of a choice.
Choice = str | dict[str, Any]
PROJECT = 1
SOURCE = "project 0f2c8a52-6c5e-4f2e-9d3a-5d3c9a1f7b10"


class Clock:
    """The time of day as it is. No two moments are the same, nor are they when a clock is wrong by whole hours.

    Between two there is room for the images of a grid, which the loop tells apart by microseconds.
    """

    def __init__(self) -> None:
        self._minutes = self._moments = 0

    def now(self) -> datetime:
        """Return a moment later than all before."""
        self._moments += 1
        return START + timedelta(minutes=self._minutes, microseconds=10 * self._moments)

    def advance(self, minutes: int) -> None:
        """Let time pass."""
        self._minutes += minutes


@dataclass
class Task:
    """One task, its annotations and predictions as the API shows them, and what somebody has deleted from it."""

    id: int
    data: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    annotations: list[dict[str, Any]] = field(default_factory=list)
    retracted: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    # An import counts whoever has skipped a task as one who has answered it.
    imported_people: int = 0

    @property
    def skips(self) -> int:
        return sum(annotation["was_cancelled"] for annotation in self.annotations)

    def status(self) -> TaskStatus:
        """Return what a list of tasks without annotations tells."""
        return parse_task(
            {
                "id": self.id,
                "data": self.data,
                "total_annotations": len(self.annotations) - self.skips,
                "cancelled_annotations": self.skips,
                "updated_at": self.updated_at.isoformat(),
            }
        )

    def answers(self, annotator: Callable[[dict[str, Any]], str]) -> TaskAnswers:
        """Return what a list of tasks with annotations tells."""
        return TaskAnswers(
            task_id=self.id,
            samples=samples_of(self.data) or (self.data.get("sample_id"),),
            created_at=self.created_at,
            updated_at=self.updated_at,
            annotations=[
                event
                for raw in self.annotations
                for event in parse_annotation(dict(raw), task_id=self.id, data=self.data, annotator=annotator(raw))
            ],
        )


@dataclass
class State:
    """All that a backup holds."""

    tasks: dict[int, Task] = field(default_factory=dict)
    next_annotation: int = 1
    next_prediction: int = 1
    # Who has an account, by login; ids are never given out again, and who was removed keeps theirs without a name.
    users: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    next_user: int = 1
    label_config: str = ""
    overlap: int = 1
    title: str = "memory"
    description: str = ""
    created_at: datetime = START


class MemoryStudio(LabelStudio):
    """One project on one server, without the server.

    Parameters
    ----------
    clock : Clock
        The server's own may be wrong, see `set_clock`.
    page, import_chunk : int
        Tasks per request.
    overlap : int
        People who are given each task.
    """

    def __init__(self, clock: Clock, *, page: int = 1000, import_chunk: int = 250, overlap: int = 1) -> None:
        super().__init__("http://memory.example.com", "no token is needed")
        self._clock, self._page_size, self._import_chunk = clock, page, import_chunk
        self._offset = timedelta(0)
        self._fault: tuple[int, FailureKind] | None = None
        self._visit: tuple[int, Callable[[], object]] | None = None
        self.state = State(overlap=overlap, label_config=label_config(Interface(("cat", "dog"))))
        self._user("ann")
        self.requests = 0

    # What the client asks.

    def find_project(self, title: str) -> Project | None:
        found = self.project(PROJECT)
        return found if found.title == title else None

    def ensure_project(self, title: str, interface: Interface, *, overlap: int = 1, identity: str | None = None) -> int:
        def bring_up() -> None:
            state = self.state
            if state.title != title:
                state.title, state.created_at = title, self.now()
                state.description = signed("", identity) if identity else ""
            state.label_config, state.overlap = label_config(interface, cells_in(state.label_config)), overlap

        self.find_project(title)
        self._request(bring_up)
        return PROJECT

    def show_guesses(self, project_id: int) -> None:
        # It shows guesses of every version.
        self._request(lambda: None)

    def project(self, project_id: int) -> Project:
        state = self.state
        return self._request(lambda: Project(PROJECT, state.title, state.created_at, *marks(state.description)))

    def sign(self, project_id: int, identity: str, newest_round: str | None) -> None:
        if self.project(project_id).identity not in (None, identity):
            raise LabelStudioError("the description names another identity")

        def write() -> None:
            self.state.description = signed(self.state.description, identity, newest_round)

        self._request(write)

    def project_counts(self, project_id: int) -> ProjectCounts:
        def count() -> ProjectCounts:
            tasks = list(self.state.tasks.values())
            skips = [task.skips for task in tasks]
            labels = [len(task.annotations) - task.skips for task in tasks]
            return ProjectCounts(
                tasks=len(tasks),
                annotations=sum(labels),
                skipped=sum(skips),
                # The header that tells the time knows no fractions of a second.
                at=self.now().replace(microsecond=0),
                label_config=self.state.label_config,
            )

        return self._request(count)

    def tasks(self, project_id: int, round_key: str | None = None, *, unanswered: bool = False) -> list[TaskStatus]:
        def wanted(task: Task) -> bool:
            return round_key in (None, task.data.get("round")) and not (unanswered and task.annotations)

        return [task.status() for page in self._listing(wanted) for task in page]

    def newest_task(self, project_id: int, round_key: str) -> tuple[TaskStatus | None, int]:
        def newest() -> tuple[TaskStatus | None, int]:
            found = [task for task in self.state.tasks.values() if task.data.get("round") == round_key]
            return max(found, key=lambda task: task.id).status() if found else None, len(found)

        return self._request(newest)

    def newest_change(self, project_id: int) -> datetime | None:
        return self._request(lambda: max((task.updated_at for task in self.state.tasks.values()), default=None))

    def count(self, project_id: int, *conditions: dict[str, Any]) -> tuple[int, int | None]:
        def meets(task: Task, condition: dict[str, Any]) -> bool:
            name, value = condition["filter"].removeprefix("filter:tasks:"), condition["value"]
            if name == "data.round":
                return task.data.get("round") == value
            if name in ("total_annotations", "cancelled_annotations"):
                assert (condition["operator"], value) == ("equal", 0)
                return not (task.skips if name.startswith("cancelled") else len(task.annotations) - task.skips)
            assert name == "id"
            return task.id > int(value) if condition["operator"] == "greater" else task.id < int(value)

        def look() -> tuple[int, int | None]:
            ids = [task.id for task in self.state.tasks.values() if all(meets(task, each) for each in conditions)]
            return len(ids), max(ids, default=None)

        return self._request(look)

    def answers(
        self, project_id: int, *, updated_since: datetime | None = None, updated_until: datetime | None = None
    ) -> Iterator[list[TaskAnswers]]:
        def wanted(task: Task) -> bool:
            late = updated_until is not None and task.updated_at > updated_until
            return not late and (updated_since is None or task.updated_at > updated_since)

        for page in self._listing(wanted):
            yield [task.answers(self._annotator) for task in page]

    def annotations(self, project_id: int, *, updated_since: datetime | None = None) -> list[Annotation]:
        pages = self.answers(project_id, updated_since=updated_since)
        return [event for page in pages for task in page for event in task.annotations]

    def import_tasks(self, project_id: int, payloads: Sequence[dict[str, Any]]) -> list[int]:
        def create(chunk: Sequence[dict[str, Any]]) -> list[int]:
            return [self._create(payload["data"], payload.get("predictions", ())) for payload in chunk]

        chunks = [payloads[i : i + self._import_chunk] for i in range(0, len(payloads), self._import_chunk)]
        return [task for chunk in chunks for task in self._request(lambda chunk=chunk: create(chunk))]

    def delete_tasks(self, task_ids: Sequence[int]) -> None:
        for task_id in task_ids:
            self._request(lambda task_id=task_id: self.state.tasks.pop(task_id, None))

    def delete_unanswered(self, task_ids: Sequence[int], known: Collection[int] = ()) -> list[int]:
        deleted: list[int] = []
        for task_id in task_ids:
            task = self._request(lambda task_id=task_id: deepcopy(self.state.tasks.get(task_id)))
            if task is not None and {each["id"] for each in task.annotations} <= {*known}:
                self.delete_tasks([task_id])
                deleted.append(task_id)
        return deleted

    def annotate(self, task_id: int, name: Given, *, lead_time: float = 0.0, annotator: str = "ann") -> int:
        return self._request(lambda: self.answer(task_id, chosen(name), name is None, annotator, lead_time or None))

    def _logins(self) -> dict[int, str]:
        state = self.state
        return self._request(lambda: {i: name for name, i in state.users.items() if name not in state.removed})

    # What people do; none of it is a request of the client, and none of it fails.

    def answer(
        self,
        task_id: int,
        choices: Sequence[Choice],
        skip: bool = False,
        annotator: str = "ann",
        lead_time: float | None = None,
    ) -> int:
        """Annotate a task and return the annotation's id."""
        task = self._task(task_id)
        made = self._annotate(task, _result(choices), self._user(annotator), was_cancelled=skip, lead_time=lead_time)
        task.updated_at = self.now()
        return made

    def change(
        self, annotation_id: int, choices: Sequence[Choice], skip: bool = False, lead_time: float | None = None
    ) -> None:
        """Answer anew in place of an answer; whoever does, its author stays."""
        task, annotation = self.find(annotation_id)
        changed = {"updated_at": self.now().isoformat(), "was_cancelled": skip, "result": _result(choices)}
        annotation.update(changed | ({} if lead_time is None else {"lead_time": lead_time}))
        task.updated_at = self.now()

    def accept_guesses(self, task_ids: Sequence[int], annotator: str = "ann") -> list[int]:
        """Create annotations from the predictions of tasks that have brought none yet."""
        made: list[int] = []
        for task in map(self._task, task_ids):
            used = {annotation["parent_prediction"] for annotation in task.annotations}
            for guess in [each for each in task.predictions if each["id"] not in used]:
                result = deepcopy(guess["result"])
                made.append(self._annotate(task, result, self._user(annotator), parent_prediction=guess["id"]))
                task.updated_at = self.now()
        return made

    def delete_predictions(self, task_ids: Sequence[int]) -> None:
        """Delete what a model has guessed; what was made from it forgets that, and no time moves."""
        for task in map(self._task, task_ids):
            task.predictions.clear()
            for annotation in task.annotations:
                annotation["parent_prediction"] = None

    def delete_user(self, name: str) -> None:
        """Delete an account: what its owner said stays, and is nobody's; no time moves."""
        self._usernames = {}
        gone = self.state.users.pop(name)
        self.state.removed.discard(name)
        for annotation in [each for task in self.state.tasks.values() for each in task.annotations]:
            if annotation["completed_by"] == gone:
                annotation["completed_by"] = None

    def remove_member(self, name: str) -> None:
        """Take somebody out of the organization: from then on everybody who was is shown by the same name."""
        self._user(name)
        self._usernames = {}
        self.state.removed.add(name)

    def export(self) -> list[dict[str, Any]]:
        """Return all tasks with their annotations as an export has them."""
        return [
            {"id": task.id, "data": deepcopy(task.data), "annotations": deepcopy(task.annotations)}
            for task in self.state.tasks.values()
        ]

    def import_export(self, exported: Sequence[dict[str, Any]]) -> list[int]:
        """Import tasks with annotations: all of it is new, but for who has a number now and which annotation it was."""
        known, made = {*self.state.users.values()}, list[int]()
        for row in exported:
            for raw in row["annotations"]:
                if raw["completed_by"] is not None and raw["completed_by"] not in known:
                    raise LabelStudioError(f"completed_by={raw['completed_by']} is not a valid annotator's ID")
        for row in exported:
            made.append(self._create(deepcopy(row["data"]), ()))
            task = self.state.tasks[made[-1]]
            for raw in row["annotations"]:
                # As Label Studio does on SQLite: after the newest that is there, not after the last that was made.
                there = [each["id"] for other in self.state.tasks.values() for each in other.annotations]
                kept = {name: deepcopy(raw[name]) for name in ("was_cancelled", "lead_time", "ground_truth")}
                who = raw["completed_by"] or self._user("ann")
                self._annotate(
                    task, deepcopy(raw["result"]), who, id=max(there, default=0) + 1, import_id=raw["id"], **kept
                )
            task.imported_people = len({raw["completed_by"] for raw in row["annotations"]})
        return made

    def edit_config(self, config: str) -> None:
        """Save another labeling interface; only a control that has been answered with cannot go."""
        there = {(part.attrib.get("name"), part.tag.lower()) for part in ElementTree.fromstring(config).iter()}
        for annotation in [each for task in self.state.tasks.values() for each in task.annotations]:
            for part in annotation["result"]:
                if (part["from_name"], part["type"]) not in there:
                    raise LabelStudioError("Created annotations are incompatible with provided labeling schema")
        self.state.label_config = config

    def gives(self, task_id: int, annotator: str) -> bool:
        """Say whether somebody who asks for the next task may get this one."""
        task, given = self._task(task_id), [each["completed_by"] for each in self._task(task_id).annotations]
        if self._user(annotator) in given or task.imported_people >= self.state.overlap:
            return False
        return len(given) - task.skips < self.state.overlap

    def retract(self, annotation_id: int) -> None:
        """Delete an annotation."""
        task, annotation = self.find(annotation_id)
        task.annotations.remove(annotation)
        task.retracted.append(annotation)
        task.updated_at = self.now()

    def remove(self, task_id: int) -> None:
        """Delete a task with its annotations."""
        del self.state.tasks[task_id]

    def double(self, task_id: int) -> int:
        """Import a task once more by hand."""
        task = self._task(task_id)
        return self._create(dict(task.data), task.predictions)

    # What happens to the server.

    def now(self) -> datetime:
        """Return the time by the server's clock."""
        return self._clock.now() + self._offset

    def set_clock(self, hours: float) -> None:
        """Set the server's clock ahead of the time, or behind it."""
        self._offset = timedelta(hours=hours)

    def backup(self) -> State:
        """Return a copy of everything."""
        return deepcopy(self.state)

    def restore(self, backup: State) -> None:
        """Be as at the time of the backup, after a minute without a server. Ids given out since are given out again."""
        self._clock.advance(1)
        self.state = deepcopy(backup)

    def make_anew(self) -> None:
        """Be another project with the same title, made after the old one was deleted; tasks get their old ids."""
        title, config, overlap = self.state.title, self.state.label_config, self.state.overlap
        self.delete_project()
        self.state.title, self.state.label_config, self.state.overlap = title, config, overlap
        self.state.created_at = self.now()

    def delete_project(self) -> None:
        """Have no project; the next gets the id of this one, and its tasks get those of its tasks."""
        old = self.state
        self.state = State(title="", users=old.users, removed=old.removed, next_user=old.next_user)
        self.state.next_annotation, self.state.next_prediction = old.next_annotation, old.next_prediction

    def lose_all_tasks(self) -> None:
        """Forget all tasks, as when somebody deletes them all; their ids are given out again."""
        self.state.tasks.clear()

    def find(self, annotation_id: int) -> tuple[Task, dict[str, Any]]:
        """Return an annotation and its task."""
        for task in self.state.tasks.values():
            for annotation in task.annotations:
                if annotation["id"] == annotation_id:
                    return task, annotation
        raise LabelStudioNotFoundError(f"There is no annotation {annotation_id}")

    # Faults.

    def fail_after(self, requests: int, kind: FailureKind) -> None:
        """Fail one request: the next if 0, or the one after so many."""
        self._fault = (self.requests + requests, kind)

    def visit_after(self, requests: int, act: Callable[[], object]) -> None:
        """Let something happen just before a request: the next if 0, or the one after so many."""
        self._visit = (self.requests + requests, act)

    def heal(self) -> None:
        """Forget the faults and visits that have not happened."""
        self._fault = self._visit = None

    def _request(self, act: Callable[[], Any]) -> Any:
        number, self.requests = self.requests, self.requests + 1
        if self._visit is not None and self._visit[0] == number:
            self._visit[1]()
        kind = self._fault[1] if self._fault is not None and self._fault[0] == number else None
        if kind != "before":
            result = act()
            if kind is None:
                return result
        raise LabelStudioUnavailableError(f"{self.url} failed {kind} it had acted")

    def _listing(self, wanted: Callable[[Task], bool]) -> Iterator[list[Task]]:
        last = 0
        while True:

            def page(last: int = last) -> tuple[list[Task], int]:
                found = [self.state.tasks[i] for i in sorted(self.state.tasks) if i > last]
                found = [task for task in found if wanted(task)]
                return deepcopy(found[: self._page_size]), len(found)

            tasks, total = self._request(page)
            yield tasks
            if len(tasks) >= total:
                return
            last = tasks[-1].id

    def _create(self, data: dict[str, Any], predictions: Sequence[dict[str, Any]] = ()) -> int:
        # As Label Studio does on SQLite: the id of the newest task is given out again when that was deleted.
        made, now = max(self.state.tasks, default=0) + 1, self.now()
        task = self.state.tasks[made] = Task(made, data, created_at=now, updated_at=now)
        for guess in predictions:
            task.predictions.append({"id": self.state.next_prediction, "result": deepcopy(guess["result"])})
            self.state.next_prediction += 1
        return made

    def _annotate(self, task: Task, result: list[dict[str, Any]], who: int, **more: Any) -> int:
        annotation = {
            "id": self.state.next_annotation,
            "result": result,
            "completed_by": who,
            "was_cancelled": False,
            "ground_truth": False,
            "lead_time": None,
            # The second is taken a few microseconds later.
            "created_at": self.now().isoformat(),
            "updated_at": self.now().isoformat(),
            "parent_prediction": None,
            "parent_annotation": None,
            "import_id": None,
        }
        task.annotations.append(annotation | more)
        self.state.next_annotation += 1
        return task.annotations[-1]["id"]

    def _user(self, name: str) -> int:
        """Return somebody's number; who has no account gets one."""
        if name not in self.state.users:
            self.state.users[name] = self.state.next_user
            self.state.next_user += 1
        return self.state.users[name]

    def _task(self, task_id: int) -> Task:
        if task_id not in self.state.tasks:
            raise LabelStudioNotFoundError(f"There is no task {task_id}")
        return self.state.tasks[task_id]


def _result(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """Return the JSON of a choice of all these names, or of what is JSON already."""
    parts = [each for each in choices if isinstance(each, dict)]
    names = [each for each in choices if isinstance(each, str)]
    return [*parts, *(choice(names[0]) | {"value": {"choices": names}} for _ in names[:1])]
