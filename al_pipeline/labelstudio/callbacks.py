"""Where Label Studio reaches us: the webhook for what people do, and the ML backend that it asks for guesses."""

from typing import Any

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import MODEL
from al_pipeline.labelstudio.connection import (
    Connection,
    LabelStudioAuthError,
    LabelStudioError,
    LabelStudioNotFoundError,
    LabelStudioUnavailableError,
)

SECRET_HEADER = "X-AL-Webhook-Secret"  # noqa: S105 (the name of the header, not what is in it)
# What can change how far a round is. A task that is created cannot.
ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "TASKS_DELETED")
# Label Studio takes the title for the name of the model version to show.
TITLE = MODEL
USER = "al_pipeline"


def register_webhook(client: LabelStudio, project_id: int, url: str, secret: str) -> int:
    """Make the project tell `url`, and return the webhook's id; there is one, however often this is called.

    A webhook that has our header is ours, wherever it points: after a change of the port the old one is moved. Whatever
    else people have set up stays.

    Parameters
    ----------
    client : LabelStudio
    project_id : int
    url : str
        Address of the receiver's POST /webhook as Label Studio reaches it.
    secret : str
        Sent in the header `SECRET_HEADER`. Label Studio shows it to members of its organization.

    Raises
    ------
    LabelStudioError
        Label Studio refuses, for example because the address is of its own machine.
    """
    connection = client.connection
    # Only the action is sent, no answers: the receiver looks for itself, and nobody waits for a large request.
    wanted: dict[str, Any] = {
        "url": url,
        "headers": {SECRET_HEADER: secret},
        "actions": list(ACTIONS),
        "is_active": True,
        "send_payload": False,
        "send_for_all_actions": False,
    }
    known = connection.read("list the webhooks", lambda: connection.sdk.webhooks.list(project=str(project_id)))
    ours = sorted(hook.id for hook in known if hook.url == url or SECRET_HEADER in (hook.headers or {}))
    try:
        return _keep_one(connection, f"the webhook to {url}", "webhooks", ours, wanted, project=project_id)
    except LabelStudioAuthError as error:
        raise LabelStudioAuthError(
            f"{error}. Or does the address {url} (AL_WEBHOOK_URL) lead to Label Studio's own machine or network? It "
            "refuses that unless it is started with SSRF_PROTECTION_ENABLED=false"
        ) from None


def register_backend(client: LabelStudio, project_id: int, url: str, password: str | None) -> int:
    """Connect the project to the ML backend and return the connection's id; there is one, however often called.

    Parameters
    ----------
    client : LabelStudio
    project_id : int
    url : str
        Address of the backend as Label Studio reaches it. It must run: Label Studio tries it before it agrees.
    password : str or None
        For basic authentication, as `USER`.

    Raises
    ------
    LabelStudioError
        Label Studio does not reach the backend there, or refuses the address.
    """
    connection = client.connection
    wanted: dict[str, Any] = {
        "url": url,
        "project": project_id,
        "title": TITLE,
        "description": "The newest checkpoint of the loop; holdout images get no guess.",
        "is_interactive": False,
        "auth_method": "NONE",
        "basic_auth_user": "",
    }
    if password is not None:
        wanted |= {"auth_method": "BASIC_AUTH", "basic_auth_user": USER, "basic_auth_pass": password}
    known = connection.read("list the ML backends", lambda: connection.sdk.ml.list(project=project_id))
    ours = sorted(each.id for each in known if each.url == url or each.title == TITLE)
    try:
        return _keep_one(connection, f"the ML backend {url}", "ml", ours, wanted)
    except (LabelStudioUnavailableError, LabelStudioNotFoundError):
        raise
    except LabelStudioError as error:
        # Its own reason is lost in what it says.
        raise type(error)(
            f"{error}. Does Label Studio's machine reach {url} (AL_ML_BACKEND_URL), does that server have the same "
            "AL_ML_BACKEND_PASSWORD, and if the address is of Label Studio's own machine or network, was it started "
            "with ML_BLOCK_LOCAL_IP=false?"
        ) from None


def _keep_one(connection: Connection, what: str, name: str, ours: list[int], wanted: dict[str, Any], **new: Any) -> int:
    """Have the first of ours as it is wanted, and no others; made if there is none. Returns its id."""

    def api() -> Any:
        return getattr(connection.sdk, name)

    if not ours:
        return int(connection.send(f"connect {what}", lambda: api().create(**wanted, **new)).id)
    connection.read(f"update {what}", lambda: api().update(id=ours[0], **wanted))
    for doubled in ours[1:]:
        connection.read(f"delete a double of {what}", lambda doubled=doubled: api().delete(id=doubled))
    return ours[0]
