"""What the project asks of Label Studio: a project, tasks in it, and the answers people gave."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from al_pipeline.core.data.places import Place, is_address
from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import Annotation, unknown_author
from al_pipeline.labelstudio import serving
from al_pipeline.labelstudio.config import (
    MODEL,
    Interface,
    cells_in,
    chosen,
    classes_in,
    instructions,
    label_config,
    shows_guesses,
)
from al_pipeline.labelstudio.connection import Connection, LabelStudioError, LabelStudioNotFoundError, time_of
from al_pipeline.labelstudio.events import ProjectCounts, ServerInfo, TaskAnswers, TaskStatus, parse_answers, parse_task
from al_pipeline.labelstudio.filters import condition, of_round, unanswered_ones
from al_pipeline.labelstudio.identity import Project, marks, signed
from al_pipeline.labelstudio.notice import kept

# Each request costs the server 15 ms and a transaction beside the tasks themselves, of which it makes 3 per ms.
IMPORT_CHUNK = 1000
# Tasks per request: with their annotations one takes up to 8 ms of a busy server, without them 1 ms.
PAGE, PAGE_WITH_ANNOTATIONS = 1000, 250
# Naming the fields halves the server's time; a name counts for the task and for its annotations alike.
COUNTERS = "id,task_number,total_annotations_number,skipped_annotations_number,label_config"
PROJECT_FIELDS = "id,title,description,created_at"
TASK_FIELDS = "id,data,total_annotations,cancelled_annotations,updated_at"
ANNOTATION_FIELDS = (
    "id,data,annotations,result,completed_by,was_cancelled,ground_truth,lead_time,created_at,updated_at,"
    "parent_prediction,parent_annotation,import_id"
)
# Label Studio's name for everybody who was taken out of the organization.
REMOVED = "Deleted"
Conditions = Sequence[dict[str, Any]]


class LabelStudio:
    """One Label Studio server, asked with one person's token.

    Nothing is sent before the first method call. Every method raises LabelStudioUnavailableError, LabelStudioAuthError,
    LabelStudioNotFoundError or their base LabelStudioError; what only reads is tried three times, what creates
    something is sent once.

    Parameters
    ----------
    url : str
        For example ``http://127.0.0.1:8080``.
    token : str
        A legacy token, or a personal access token: a refresh token that the SDK exchanges for short-lived ones. It is
        never part of a message.
    timeout : float
        Seconds that one request may take.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 10.0) -> None:
        # What requests go through, for the modules beside this one too.
        self.connection = Connection(url, token, timeout=timeout)
        self.url = self.connection.url
        # The token, for deriving other secrets from it; never to be shown.
        self.secret = self.connection.token
        self._usernames: dict[int, str] = {}

    def __repr__(self) -> str:
        """Name the server, not the token."""
        return f"LabelStudio({self.url!r})"

    def check(self) -> ServerInfo:
        """Return the server's version and whose token this is."""
        user = self.connection.read("ask who we are", lambda: self.connection.sdk.users.whoami().email)
        version = self.connection.read("ask for the version", lambda: self.connection.sdk.versions.get().release)
        return ServerInfo(version=str(version), username=str(user))

    def find_project(self, title: str) -> Project | None:
        """Return the project with this title, None if there is none.

        Raises
        ------
        LabelStudioError
            Several projects have the title.
        """

        def look() -> list[Project]:
            # The server finds titles that contain the one asked for.
            page = self.connection.sdk.projects.list(title=title, include=PROJECT_FIELDS, page_size=PAGE)
            # Left to itself the SDK always asks for one page more, until one is empty.
            found = page if page.response.next else page.items or []
            return sorted(
                (_project(raw) for raw in found if raw.title == title), key=lambda project: project.project_id
            )

        found = self.connection.read(f"look for the project {title!r}", look)
        if len(found) > 1:
            raise LabelStudioError(
                f"Label Studio at {self.url} has {len(found)} projects titled {title!r} (ids "
                f"{[project.project_id for project in found]}): rename or delete all but one, or set "
                "AL_LABEL_STUDIO_PROJECT to another title"
            )
        return found[0] if found else None

    def project(self, project_id: int) -> Project:
        """Return which project has this id now."""
        return _project(self._described(project_id))

    def sign(self, project_id: int, identity: str, newest_round: str | None) -> None:
        """Write into the project's description who it is and which round it got last; people's own text stays.

        Raises
        ------
        LabelStudioError
            The description names another identity.
        """
        now = self._described(project_id)
        written, _ = marks(now.description or "")
        if written not in (None, identity):
            raise LabelStudioError(
                f"The description of {self.project_url(project_id)} names another identity, {written}, than the "
                f"project had before, {identity}: another home has taken it over. Set AL_LABEL_STUDIO_PROJECT to "
                "another title, or restore that line"
            )
        text = signed(now.description or "", identity, newest_round)
        if text != now.description:
            update = f"write the identity of project {project_id} into its description"
            self.connection.read(update, lambda: self.connection.sdk.projects.update(id=project_id, description=text))

    def _described(self, project_id: int) -> Any:
        return self.connection.read("read the project", lambda: self.connection.sdk.projects.get(id=project_id))

    def ensure_project(self, title: str, interface: Interface, *, overlap: int = 1, identity: str | None = None) -> int:
        """Create the project, or bring its interface up to date, and return its id.

        Parameters
        ----------
        title : str
        interface : Interface
        overlap : int
            How many people are asked about each task.
        identity : str, optional
            Written into the description of a project that is created.
        """
        found, connection = self.find_project(title), self.connection
        now = None if found is None else self._described(found.project_id)
        config = "" if now is None else now.label_config or ""
        wanted: dict[str, Any] = {
            "title": title,
            "label_config": label_config(interface, cells_in(config)),
            "expert_instruction": kept("" if now is None else now.expert_instruction or "", instructions(interface)),
            # Before the first task; the button Instructions shows them at any time.
            "show_instruction": True,
            "show_skip_button": True,
            "enable_empty_annotation": interface.submit == "key",
            "show_collab_predictions": interface.submit != "key",
            "maximum_annotations": overlap,
        }
        if found is None:
            create = f"create the project {title!r}"
            new = wanted | ({"description": signed("", identity)} if identity else {})
            return int(connection.send(create, lambda: connection.sdk.projects.create(**new).id))
        if not shows_guesses(config) or set(classes_in(config)) - set(interface.class_names):
            self._delete_open_guesses(found.project_id)
        update = f"update the project {title!r}"
        connection.read(update, lambda: connection.sdk.projects.update(id=found.project_id, **wanted))
        return found.project_id

    def show_guesses(self, project_id: int) -> None:
        """Have a project of an earlier version, in which each round's guesses had a name, show those of every round.

        Label Studio takes no version of which it has no guess: call it after tasks with guesses were created.
        """
        if self._described(project_id).model_version != MODEL:
            change = {"id": project_id, "model_version": MODEL}
            self.connection.read("show the guesses", lambda: self.connection.sdk.projects.update(**change))

    def _delete_open_guesses(self, project_id: int) -> None:
        """Delete the guesses of tasks that nobody has answered; the ledger has them.

        They name a class that is none any more, or come as a choice made already, which its own key would take away.
        """
        delete: dict[str, Any] = {
            "id": "delete_tasks_predictions",
            "project": project_id,
            "filters": {"conjunction": "and", "items": unanswered_ones()},
            "selected_items": {"all": True, "excluded": []},
        }
        self.connection.read("delete guesses", lambda: self.connection.sdk.actions.create(**delete))

    def connect_images(self, project_id: int, place: str) -> None:
        """Let the project serve the images in a folder of Label Studio's machine, or in a bucket; once is enough."""
        if is_address(place):
            serving.connect_bucket(self.connection, project_id, Place(place))
        else:
            serving.connect_folder(self.connection, project_id, place)

    def project_counts(self, project_id: int) -> ProjectCounts:
        """Return the project's counters, its label config, and the server's time, or ours where it tells none."""

        def count() -> ProjectCounts:
            answer = self.connection.request(f"api/projects/{project_id}/", {"include": COUNTERS})
            found = answer.json()
            return ProjectCounts(
                tasks=int(found["task_number"]),
                annotations=int(found["total_annotations_number"]),
                skipped=int(found["skipped_annotations_number"]),
                at=time_of(answer) or datetime.now(UTC),
                label_config=str(found["label_config"]),
            )

        return self.connection.read(f"count in project {project_id}", count)

    def tasks(self, project_id: int, round_key: str | None = None, *, unanswered: bool = False) -> list[TaskStatus]:
        """Return the project's tasks, or those of one round, or without answer and skip, by id, with their counts."""
        filters = [] if round_key is None else [of_round(round_key)]
        if unanswered:
            filters += unanswered_ones()
        pages = self._pages(project_id, filters, page_size=PAGE, include=TASK_FIELDS)
        return [parse_task(task) for page in pages for task in page]

    def annotations(self, project_id: int, *, updated_since: datetime | None = None) -> list[Annotation]:
        """Return the annotations, skips too, of all tasks that changed after a moment, or of all tasks."""
        pages = self.answers(project_id, updated_since=updated_since)
        return [event for page in pages for task in page for event in task.annotations]

    def newest_task(self, project_id: int, round_key: str) -> tuple[TaskStatus | None, int]:
        """Return the task of a round with the highest id, if it has any, and how many tasks it has."""
        tasks, total = self._page(project_id, [of_round(round_key)], include=TASK_FIELDS)
        return (parse_task(tasks[0]) if tasks else None), total

    def newest_change(self, project_id: int) -> datetime | None:
        """Return when a task of the project was made or changed last: an answer changes it, and taking one back."""
        tasks, _ = self._page(project_id, [], order="-tasks:updated_at", include="id,updated_at")
        return datetime.fromisoformat(tasks[0]["updated_at"]) if tasks else None

    def count(self, project_id: int, *conditions: dict[str, Any]) -> tuple[int, int | None]:
        """Return how many tasks meet all of these, and the highest id of them."""
        tasks, total = self._page(project_id, conditions, include="id")
        return total, int(tasks[0]["id"]) if tasks else None

    def answers(
        self, project_id: int, *, updated_since: datetime | None = None, updated_until: datetime | None = None
    ) -> Iterator[list[TaskAnswers]]:
        """Yield the tasks that changed last between two moments, or all, page by page, with all annotations of each.

        Parameters
        ----------
        project_id : int
        updated_since, updated_until : aware datetime, optional
            After the first, and not after the second. A task changes when one of its annotations is made, changed or
            deleted.

        Raises
        ------
        InputError
            A moment has no time zone.
        """
        filters: list[dict[str, Any]] = []
        options = {"page_size": PAGE_WITH_ANNOTATIONS, "fields": "all", "include": ANNOTATION_FIELDS}
        for name, moment, operator in (
            ("updated_since", updated_since, "greater"),
            ("updated_until", updated_until, "less_or_equal"),
        ):
            if moment is None:
                continue
            if moment.tzinfo is None:
                raise InputError(f"{name} {moment} has no time zone: pass an aware datetime")
            text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            filters.append(condition("updated_at", operator, "Datetime", text))
        for page in self._pages(project_id, filters, **options):
            yield [parse_answers(task, [self._annotator(raw) for raw in task["annotations"]]) for task in page]

    def import_tasks(self, project_id: int, payloads: Sequence[dict[str, Any]]) -> list[int]:
        """Create tasks and return their ids. Sent once: after a timeout look what arrived before sending again."""
        ids: list[int] = []
        for begin in range(0, len(payloads), IMPORT_CHUNK):
            chunk = list(payloads[begin : begin + IMPORT_CHUNK])

            def create(chunk: list[dict[str, Any]] = chunk) -> list[int]:
                made = self.connection.sdk.projects.import_tasks(project_id, request=chunk, return_task_ids=True)
                return [int(i) for i in made.task_ids or []]

            ids += self.connection.send(f"create {len(chunk)} tasks in project {project_id}", create)
        return ids

    def delete_tasks(self, task_ids: Sequence[int]) -> None:
        """Delete tasks with their annotations; one that is gone already is no error."""
        for task in map(str, task_ids):
            with suppress(LabelStudioNotFoundError):
                self.connection.read(f"delete task {task}", lambda task=task: self.connection.sdk.tasks.delete(task))

    def delete_unanswered(self, task_ids: Sequence[int], known: Collection[int] = ()) -> list[int]:
        """Delete those of these tasks that have no answer and no skip but `known` ones (ids); return which.

        Each is looked at just before, at its annotations: counters of a server that was killed may say that there is
        none. What people did is never deleted with a task.
        """
        deleted: list[int] = []
        for task_id in task_ids:

            def look(path: str = f"api/tasks/{task_id}/") -> set[int]:
                return {each["id"] for each in self.connection.json(path, {"include": "id,annotations"})["annotations"]}

            with suppress(LabelStudioNotFoundError):
                if self.connection.read(f"read task {task_id}", look) <= {*known}:
                    self.delete_tasks([task_id])
                    deleted.append(task_id)
        return deleted

    def annotate(self, task_id: int, name: str | Sequence[str | None] | None, *, lead_time: float = 0.0) -> int:
        """Answer a task with a class, or skip it with None; a grid with one for each image; return the new id."""
        answer = {"result": chosen(name), "was_cancelled": name is None, "ground_truth": False}
        # Who takes no time is no person, and is not held to be a hasty one.
        answer |= {"lead_time": lead_time} if lead_time else {}
        to = self.connection
        return to.send(f"answer task {task_id}", lambda: int(to.sdk.annotations.create(id=task_id, **answer).id))

    def invitation(self) -> str:
        """Return the path of the form with which a new user joins the organization."""
        invitation = self.connection.read("make an invitation", lambda: self.connection.json("api/invite"))
        return str(invitation["invite_url"])

    def project_url(self, project_id: int) -> str:
        """Return where people open the project."""
        return f"{self.url}/projects/{project_id}/data"

    def image_problem(self, project_id: int) -> str | None:
        """Fetch the image of the project's newest task as a browser would; return what is wrong, None if nothing is."""
        tasks, _ = self._page(project_id, [], include="id,data", resolve_uri=False)
        return serving.image_problem(self.connection, tasks[0]) if tasks else None

    def _pages(self, project_id: int, filters: Conditions, **options: Any) -> Iterator[list[dict[str, Any]]]:
        """Yield pages of tasks as JSON, by id.

        Each page starts behind the last id seen: with page numbers, a task deleted meanwhile would move another one
        out of sight, and it would be created a second time.
        """
        last = 0
        while True:
            behind = [*filters, condition("id", "greater", "Number", last)]
            tasks, total = self._page(project_id, behind, order="tasks:id", **options)
            yield tasks
            if len(tasks) >= total:
                return
            last = int(tasks[-1]["id"])

    def _page(
        self, project_id: int, filters: Conditions, *, order: str = "-tasks:id", **options: Any
    ) -> tuple[list[dict[str, Any]], int]:
        """Return the first tasks that meet all conditions, by default the newest, and how many do."""
        query = json.dumps({"filters": {"conjunction": "and", "items": filters}, "ordering": [order]})
        params = {"project": project_id, "query": query, "page": 1, "page_size": 1, "fields": "task_only"} | options

        def tasks() -> tuple[list[dict[str, Any]], int]:
            answer = self.connection.json("api/tasks/", params)
            return answer["tasks"], int(answer["total"])

        return self.connection.read(f"list the tasks of project {project_id}", tasks)

    def _annotator(self, raw: dict[str, Any]) -> str:
        """Return the login of who answered; ids mean nothing outside of this server.

        Whoever has no account any more is nobody's equal: without a login each annotation is by a person of its own.
        """
        person = raw.get("completed_by")
        if isinstance(person, dict):
            return str(person.get("email") or person.get("id"))
        if raw.get("import_id") is not None:
            # The server gives it to whoever has the number that its author had elsewhere.
            return unknown_author(raw["import_id"])
        if person is None:
            return unknown_author(raw["id"])
        if person not in self._usernames:
            self._usernames = self._logins()
        return self._usernames.get(int(person)) or unknown_author(raw["id"])

    def _logins(self) -> dict[int, str]:
        """Return the login of each person; everybody who was taken out of the organization is shown by one name."""
        users = self.connection.read("list the users", lambda: self.connection.sdk.users.list())
        return {user.id: user.email for user in users if user.id and user.email and user.email != REMOVED}


def _project(raw: Any) -> Project:
    """Return what the SDK's model of a project tells."""
    return Project(int(raw.id), str(raw.title), raw.created_at, *marks(raw.description or ""))
