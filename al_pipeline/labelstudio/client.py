"""A small client over label-studio-sdk: a timeout on every call, typed errors, retries where they are safe."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from al_pipeline.labelstudio.config import classes_in, instructions, label_config
from al_pipeline.labelstudio.errors import (
    LabelStudioAuthError,
    LabelStudioError,
    LabelStudioNotFoundError,
    LabelStudioUnavailableError,
)
from al_pipeline.labelstudio.events import (
    AnnotationEvent,
    ProjectCounts,
    ServerInfo,
    TaskStatus,
    moment,
    parse_annotation,
)
from al_pipeline.labelstudio.tasks import choice

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio as Sdk

__all__ = [
    "AnnotationEvent",
    "LabelStudio",
    "LabelStudioAuthError",
    "LabelStudioError",
    "LabelStudioNotFoundError",
    "LabelStudioUnavailableError",
    "ProjectCounts",
    "ServerInfo",
    "TaskStatus",
]

IMPORT_CHUNK = 250
PAGE = 500
# The sensor has 60 s for a tick: three tries of 10 s leave room.
TRIES = 3
# The SDK would repeat a POST that was answered with 5xx, and make a second task or annotation of it.
ONCE: Any = {"max_retries": 0}


class LabelStudio:
    """One Label Studio server, asked with one person's token.

    Parameters
    ----------
    url : str
        For example ``http://127.0.0.1:8080``.
    token : str
        A legacy token or a personal access token; it is never part of a message.
    timeout : float
        Seconds that one request may take.
    """

    def __init__(self, url: str, token: str, *, timeout: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self._token, self._timeout = token, timeout
        self._usernames: dict[int, str] = {}

    def __repr__(self) -> str:
        """Name the server, not the token."""
        return f"LabelStudio({self.url!r})"

    @cached_property
    def _sdk(self) -> "Sdk":
        if not self._token:
            raise LabelStudioAuthError(
                f"No access token is set for Label Studio at {self.url}: set AL_LABEL_STUDIO_TOKEN to one from "
                "Label Studio, Account & Settings"
            )
        from label_studio_sdk import LabelStudio as Sdk

        return Sdk(base_url=self.url, api_key=self._token, timeout=self._timeout)

    def check(self) -> ServerInfo:
        """Return the server's version and whose token this is."""
        user = self._read("ask who we are", lambda: self._sdk.users.whoami(request_options=ONCE))
        version = self._read("ask for the version", lambda: self._sdk.versions.get(request_options=ONCE))
        return ServerInfo(version=str(version.release), username=str(user.email))

    def find_project(self, title: str) -> int | None:
        """Return the id of the project with this title, None if there is none.

        Raises
        ------
        LabelStudioError
            Several projects have the title.
        """

        def look() -> list[Any]:
            return list(self._sdk.projects.list(title=title, page_size=PAGE, request_options=ONCE))

        ids = sorted(p.id for p in self._read(f"look for the project {title!r}", look) if p.title == title)
        if len(ids) > 1:
            raise LabelStudioError(
                f"Label Studio at {self.url} has {len(ids)} projects titled {title!r} (ids {ids}): rename or delete "
                "all but one, or set AL_LABEL_STUDIO_PROJECT to another title"
            )
        return ids[0] if ids else None

    def ensure_project(self, title: str, class_names: Sequence[str], *, overlap: int = 1) -> int:
        """Create the project, or bring its interface up to date, and return its id.

        Raises
        ------
        LabelStudioError
            Existing annotations use a class that is not among `class_names` any more.
        """
        wanted: dict[str, Any] = {
            "title": title,
            "label_config": label_config(class_names),
            "expert_instruction": instructions(class_names),
            "show_instruction": False,
            "show_skip_button": True,
            "enable_empty_annotation": False,
            "show_collab_predictions": True,
            "maximum_annotations": overlap,
        }
        project_id = self.find_project(title)
        if project_id is None:
            with self._errors(f"create the project {title!r}"):
                return int(self._sdk.projects.create(**wanted, request_options=ONCE).id)
        self._refuse_lost_classes(project_id, class_names)
        self._read(
            f"update the project {title!r}",
            lambda: self._sdk.projects.update(id=project_id, **wanted, request_options=ONCE),
        )
        return project_id

    def _refuse_lost_classes(self, project_id: int, class_names: Sequence[str]) -> None:
        """Raise if a class that goes away has been used: Label Studio itself would let the answers dangle."""
        project = self._read("read the project", lambda: self._sdk.projects.get(id=project_id, request_options=ONCE))
        gone = set(classes_in(project.label_config or "")) - set(class_names)
        if not gone or not project.total_annotations_number:
            return
        used = sorted({event.value for event in self.annotations(project_id) if event.value in gone})
        if used:
            raise LabelStudioError(
                f"The project at {self.project_url(project_id)} has answers with the classes {used[:10]}, which are "
                "not among the classes any more: name them again in AL_CLASSES (or give them a folder), or change "
                "those answers in Label Studio first"
            )

    def connect_images(self, project_id: int, folder: str) -> None:
        """Let the project serve the images in a folder of Label Studio's machine; a known folder stays as it is."""
        storages = self._read(
            "list the image folders",
            lambda: self._sdk.import_storage.local.list(project=project_id, request_options=ONCE),
        )
        if any(storage.path == folder for storage in storages):
            return
        with self._errors(f"connect the folder {folder} (AL_LABEL_STUDIO_IMAGES)"):
            self._sdk.import_storage.local.create(
                project=project_id, path=folder, title="images", use_blob_urls=True, request_options=ONCE
            )

    def project_counts(self, project_id: int) -> ProjectCounts:
        """Return the project's counters."""
        p = self._read("count", lambda: self._sdk.projects.get(id=project_id, request_options=ONCE))
        return ProjectCounts(
            tasks=p.task_number or 0,
            labeled=p.num_tasks_with_annotations or 0,
            finished=p.finished_task_number or 0,
            annotations=p.total_annotations_number or 0,
            skipped=p.skipped_annotations_number or 0,
        )

    def tasks(self, project_id: int, round_key: str | None = None) -> list[TaskStatus]:
        """Return the project's tasks, of one round or all, with their counts of answers."""
        filters = [] if round_key is None else [_item("data.round", "equal", "String", round_key)]
        return [
            TaskStatus(
                task_id=int(task["id"]),
                sample_id=str(task["data"].get("sample_id")),
                round=str(task["data"].get("round")),
                annotations=int(task["total_annotations"]),
                cancelled=int(task["cancelled_annotations"]),
                updated_at=moment(task["updated_at"]),
            )
            for task in self._list_tasks(
                project_id,
                filters,
                fields="task_only",
                include="id,data,total_annotations,cancelled_annotations,updated_at",
            )
        ]

    def annotations(self, project_id: int, *, updated_since: datetime | None = None) -> list[AnnotationEvent]:
        """Return the annotations, skips too, of all tasks that changed since a moment (aware), or of all tasks."""
        filters = []
        if updated_since is not None:
            filters = [_item("updated_at", "greater", "Datetime", updated_since.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))]
        return [
            parse_annotation(raw, task_id=int(task["id"]), data=task["data"], annotator=self._annotator(raw))
            for task in self._list_tasks(project_id, filters, fields="all")
            for raw in task.get("annotations") or []
        ]

    def import_tasks(self, project_id: int, payloads: Sequence[dict[str, Any]]) -> list[int]:
        """Create tasks and return their ids. Sent once: after a timeout look what arrived before sending again."""
        ids: list[int] = []
        for begin in range(0, len(payloads), IMPORT_CHUNK):
            chunk: Any = list(payloads[begin : begin + IMPORT_CHUNK])
            with self._errors(f"create {len(chunk)} tasks in project {project_id}"):
                answer = self._sdk.projects.import_tasks(
                    project_id, request=chunk, return_task_ids=True, request_options=ONCE
                )
                ids += [int(i) for i in answer.task_ids or []]
        return ids

    def delete_tasks(self, task_ids: Sequence[int]) -> None:
        """Delete tasks with their annotations; one that is gone already is no error."""
        for task_id in task_ids:
            try:
                self._read(
                    f"delete task {task_id}",
                    lambda task_id=task_id: self._sdk.tasks.delete(str(task_id), request_options=ONCE),
                )
            except LabelStudioNotFoundError:
                continue

    def annotate(self, task_id: int, name: str | None, *, lead_time: float = 0.0) -> int:
        """Answer a task with a class, or skip it with None; returns the annotation's id."""
        with self._errors(f"answer task {task_id}"):
            return int(
                self._sdk.annotations.create(
                    id=task_id,
                    result=[] if name is None else [choice(name)],
                    was_cancelled=name is None,
                    lead_time=lead_time,
                    ground_truth=False,
                    request_options=ONCE,
                ).id
            )

    @property
    def secret(self) -> str:
        """The token, for deriving other secrets from it; never to be shown."""
        return self._token

    def invitation(self) -> str:
        """Return the path of the form with which a new user joins the organization."""

        def request() -> httpx.Response:
            return self._sdk._client_wrapper.httpx_client.request("api/invite", method="GET", request_options=ONCE)

        return str(self._read("make an invitation", request, json=True)["invite_url"])

    def project_url(self, project_id: int) -> str:
        """Return where people open the project."""
        return f"{self.url}/projects/{project_id}/data"

    def task_url(self, project_id: int, task_id: int) -> str:
        """Return where people open one task."""
        return f"{self.url}/projects/{project_id}/data?task={task_id}"

    def image_problem(self, project_id: int) -> str | None:
        """Fetch the image of the project's newest task as a browser would; return what is wrong, None if nothing is."""
        tasks = self._list_tasks(project_id, [], fields="task_only", include="id,data", limit=1)
        if not tasks:
            return None
        path = str(tasks[0]["data"].get("image"))
        url = path if path.startswith("http") else f"{self.url}{path}"

        def fetch() -> httpx.Response:
            return self._sdk._client_wrapper.httpx_client.httpx_client.get(
                url, headers=self._sdk._client_wrapper.get_headers(), timeout=self._timeout
            )

        answer = self._read("fetch an image", fetch)
        kind = answer.headers.get("content-type", "")
        if answer.status_code == 200 and kind.startswith("image/"):
            return None
        return (
            f"{url} answers {answer.status_code} ({kind or 'no content type'}) instead of an image: connect the folder "
            "of published images ($AL_HOME/images) to the project as local storage (the job `setup` does), and set "
            "AL_LABEL_STUDIO_IMAGES to its path on Label Studio's machine"
        )

    def _list_tasks(self, project_id: int, filters: list[dict[str, str]], **options: Any) -> list[dict[str, Any]]:
        """Return tasks as JSON. Pages are read in one go each: validating thousands of models would take seconds."""
        limit = options.pop("limit", None)
        query = json.dumps({"filters": {"conjunction": "and", "items": filters}, "ordering": ["-tasks:id"]})
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            params = {"project": project_id, "query": query, "page": page, "page_size": limit or PAGE, **options}

            def request(params: dict[str, Any] = params) -> httpx.Response:
                wrapper = self._sdk._client_wrapper.httpx_client
                return wrapper.request("api/tasks/", method="GET", params=params, request_options=ONCE)

            body = self._read("list the tasks", request, json=True)
            found += body["tasks"]
            if limit or len(found) >= body["total"] or not body["tasks"]:
                return found
            page += 1

    def _annotator(self, raw: dict[str, Any]) -> str:
        """Return the login of who answered; ids mean nothing outside of this server."""
        person = raw.get("completed_by")
        if isinstance(person, dict):
            return str(person.get("email") or person.get("id"))
        if person not in self._usernames:
            users = self._read("list the users", lambda: self._sdk.users.list(request_options=ONCE))
            self._usernames = {user.id: user.email for user in users if user.id and user.email}
        return self._usernames.get(int(person or 0), f"user {person}")

    def _read(self, what: str, call: Callable[[], Any], *, json: bool = False) -> Any:
        """Make a call that may safely be repeated, up to three times while the server is in trouble."""
        for attempt in Retrying(
            retry=retry_if_exception_type(LabelStudioUnavailableError),
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential_jitter(initial=0.2, max=2),
            reraise=True,
        ):
            with attempt, self._errors(what):
                answer = call()
                if json:
                    _raise_for_status(answer)
                    answer = answer.json()
        return answer

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn whatever the SDK raises into one of our errors. None of them quotes headers: they hold the token."""
        from label_studio_sdk.core.api_error import ApiError

        where = f"Label Studio at {self.url} could not {what}"
        try:
            yield
        except LabelStudioError:
            raise
        except httpx.TimeoutException:
            raise LabelStudioUnavailableError(
                f"{where}: no answer within {self._timeout:.0f} s. Is it overloaded? "
                "AL_LABEL_STUDIO_TIMEOUT sets the limit"
            ) from None
        except httpx.HTTPError as error:
            raise LabelStudioUnavailableError(
                f"{where}: {type(error).__name__}. Does it run, and is AL_LABEL_STUDIO_URL right?"
            ) from None
        except ApiError as error:
            raise _translate(where, error.status_code or 0, error.body) from None
        except (ValueError, KeyError, TypeError) as error:
            # A page that is no JSON, or a token that cannot be decoded.
            raise LabelStudioError(
                f"{where}: its answer makes no sense ({type(error).__name__}). Is AL_LABEL_STUDIO_URL a Label Studio, "
                "and AL_LABEL_STUDIO_TOKEN one of its tokens?"
            ) from None


def _raise_for_status(answer: httpx.Response) -> None:
    from label_studio_sdk.core.api_error import ApiError

    if answer.status_code >= 400:
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        raise ApiError(status_code=answer.status_code, body=body)


def _translate(where: str, status: int, body: Any) -> LabelStudioError:
    detail = " ".join(str(body.get("detail") or body if isinstance(body, dict) else body).split())[:300]
    if status == 401:
        return LabelStudioAuthError(
            f"{where}: 401, the token is wrong, expired or of another server. Make a new one in Label Studio, "
            "Account & Settings, and set AL_LABEL_STUDIO_TOKEN"
        )
    if status == 403:
        return LabelStudioAuthError(
            f"{where}: 403, the token's owner is not allowed to. Use the token of somebody who may manage the project"
        )
    if status == 404:
        return LabelStudioNotFoundError(
            f"{where}: 404, it is not there: {detail}. Was the project deleted? Launch `setup`"
        )
    if status >= 500 or status == 429:
        return LabelStudioUnavailableError(f"{where}: {status}, the server is in trouble; look at its log")
    return LabelStudioError(f"{where}: {status} {detail}")


def _item(column: str, operator: str, kind: str, value: str) -> dict[str, str]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
