"""Where Label Studio has images from: a folder of its machine, or a bucket that it streams to whoever is logged in."""

import base64
from typing import Any
from urllib.parse import quote

from al_pipeline.core.data.places import Place
from al_pipeline.labelstudio.connection import (
    Connection,
    LabelStudioAuthError,
    LabelStudioError,
    LabelStudioNotFoundError,
)

# No key of a bucket matches: "Sync" in Label Studio's settings would make a task of each picture.
NOTHING = "^$"
SET_KEYS = (
    "set S3_ENDPOINT, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in Label Studio's environment (with `al up` "
    "LABEL_STUDIO_AWS_ACCESS_KEY_ID and LABEL_STUDIO_AWS_SECRET_ACCESS_KEY in that of `al up`)"
)


def connect_folder(connection: Connection, project_id: int, folder: str) -> None:
    """Let a project serve the images in a folder of Label Studio's machine; a known folder stays as it is."""
    # Label Studio takes a trailing slash for another folder, and refuses every image in it.
    folder = folder.rstrip("/") or "/"
    new = {"path": folder, "title": "images", "use_blob_urls": True}
    known = connection.read(
        "list the image folders", lambda: connection.sdk.import_storage.local.list(project=project_id)
    )
    if all((storage.path or "").rstrip("/") != folder for storage in known):
        connect = f"connect the folder {folder} (AL_LABEL_STUDIO_IMAGES)"
        connection.send(connect, lambda: connection.sdk.import_storage.local.create(project=project_id, **new))


def connect_bucket(connection: Connection, project_id: int, place: Place) -> None:
    """Let a project stream the images of a bucket, which holds something already; a known one stays as it is.

    Its keys and its endpoint are those of Label Studio's own environment: they are in no request and no database, and
    it would refuse an endpoint of a private network that a request names.

    Raises
    ------
    LabelStudioError
        Label Studio cannot list the bucket.
    """
    _, _, rest = place.url.partition("://")
    bucket, _, prefix = rest.partition("/")
    # Streamed by Label Studio itself: an address that is signed is good for whoever has it.
    new: dict[str, Any] = {"bucket": bucket, "prefix": prefix, "presign": False, "title": "published images"}
    new |= {"use_blob_urls": True, "regex_filter": NOTHING}
    storages = connection.sdk.import_storage.s3
    known = connection.read("list the buckets", lambda: storages.list(project=project_id))
    if any((each.bucket, each.prefix or "", each.presign) == (bucket, prefix, False) for each in known):
        return
    try:
        connection.send(f"connect {place} (AL_PUBLISHED)", lambda: storages.create(project=project_id, **new))
    except (LabelStudioAuthError, LabelStudioNotFoundError):
        raise
    except LabelStudioError as error:
        raise type(error)(
            f"{error}. Label Studio reads the bucket by itself: {SET_KEYS}, of a key that may list and read this bucket"
        ) from None


def in_guideline(place: Place, name: str) -> str:
    """Return where a project's pages find an image of a bucket; tasks have its address, guidelines cannot."""
    return f"resolve/?fileuri={_encoded(f'{place}/{name}')}"


def image_problem(connection: Connection, task: dict[str, Any]) -> str | None:
    """Fetch a task's image as a browser would; return what is wrong, None if nothing is.

    Parameters
    ----------
    connection : Connection
    task : dict
        Its ``id``, and its ``data`` as it was given to Label Studio.
    """
    path = str(task["data"].get("image"))
    remedy = (
        "connect the folder of published images ($AL_HOME/published/images) to the project as local storage (`setup` "
        "does), and set AL_LABEL_STUDIO_IMAGES to its path on Label Studio's machine"
    )
    if path.startswith("s3://"):
        remedy = (
            f"that is {path}. Launch `setup`, which connects the bucket to the project, and {SET_KEYS}, of a key that "
            "may read it"
        )
        path = f"/tasks/{task['id']}/resolve/?fileuri={_encoded(path)}"
    if not path.startswith("/"):
        return f"The newest task's image is {path!r}, which this server does not serve: was it imported by hand?"
    url = f"{connection.url}{path}"
    answer = connection.read("fetch an image", lambda: connection.get(url))
    kind = answer.headers.get("content-type", "")
    if answer.status_code == 200 and kind.startswith("image/"):
        return None
    return f"{url} answers {answer.status_code} ({kind or 'no content type'}) instead of an image: {remedy}"


def _encoded(uri: str) -> str:
    return quote(base64.urlsafe_b64encode(uri.encode()).decode())
