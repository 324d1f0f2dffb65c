"""The connection with which Label Studio asks our ML backend for guesses."""

from typing import Any

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.errors import LabelStudioError, LabelStudioNotFoundError, LabelStudioUnavailableError

# Label Studio takes the title for the name of the model version to show.
TITLE = "al_pipeline"
USER = "al_pipeline"


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
        "auth_method": "NONE" if password is None else "BASIC_AUTH",
        "basic_auth_user": "" if password is None else USER,
    }
    if password is not None:
        wanted["basic_auth_pass"] = password

    def backends() -> Any:
        return connection.sdk.ml

    known = connection.read("list the ML backends", lambda: backends().list(project=project_id))
    ours = sorted(each.id for each in known if each.url == url or each.title == TITLE)
    try:
        if not ours:
            made = connection.send(f"connect the ML backend {url}", lambda: backends().create(**wanted))
            return int(made.id)
        connection.read(f"update the ML backend {url}", lambda: backends().update(id=ours[0], **wanted))
    except (LabelStudioUnavailableError, LabelStudioNotFoundError):
        raise
    except LabelStudioError as error:
        # Its own reason is lost in what it says.
        raise type(error)(
            f"{error}. Does Label Studio's machine reach {url} (AL_ML_BACKEND_URL), does that server have the same "
            "AL_ML_BACKEND_PASSWORD, and if the address is of Label Studio's own machine or network, was it started "
            "with ML_BLOCK_LOCAL_IP=false?"
        ) from None
    for backend_id in ours[1:]:
        connection.read("delete a doubled ML backend", lambda backend_id=backend_id: backends().delete(id=backend_id))
    return ours[0]
