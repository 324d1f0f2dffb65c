"""The webhook with which Label Studio tells our receiver that people did something."""

from typing import Any

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.errors import LabelStudioAuthError

SECRET_HEADER = "X-AL-Webhook-Secret"  # noqa: S105 (the name of the header, not what is in it)
# What can change how far a round is. A task that is created cannot.
ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "TASKS_DELETED")


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

    def webhooks() -> Any:
        return connection.sdk.webhooks

    known = connection.read("list the webhooks", lambda: webhooks().list(project=str(project_id)))
    ours = sorted(hook.id for hook in known if hook.url == url or SECRET_HEADER in (hook.headers or {}))
    try:
        if not ours:
            what = f"create the webhook to {url}"
            return int(connection.send(what, lambda: webhooks().create(project=project_id, **wanted)).id)
        connection.read(f"update the webhook to {url}", lambda: webhooks().update(id=ours[0], **wanted))
    except LabelStudioAuthError as error:
        raise LabelStudioAuthError(
            f"{error}. Or does the address {url} (AL_WEBHOOK_URL) lead to Label Studio's own machine or network? It "
            "refuses that unless it is started with SSRF_PROTECTION_ENABLED=false"
        ) from None
    for webhook_id in ours[1:]:
        connection.read("delete a doubled webhook", lambda webhook_id=webhook_id: webhooks().delete(id=webhook_id))
    return ours[0]
