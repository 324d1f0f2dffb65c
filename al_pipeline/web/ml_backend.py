"""Label Studio's ML backend protocol: it asks for guesses about tasks, the network that serves answers.

What it asks and which answers it takes is in its own source (label_studio/ml/api_connector.py and models.py).
"""

import base64
import hmac
import json
import logging
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from al_pipeline.core.errors import ALError
from al_pipeline.labelstudio.callbacks import USER
from al_pipeline.labelstudio.config import classes_in, guess, shows_guesses
from al_pipeline.web.guesses import Guess, Guesses
from al_pipeline.web.serve import CLOSE, read_body

log = logging.getLogger(__name__)
# A task has about 1 kB with an answer, and "Retrieve predictions" sends all that are selected at once.
MAX_BODY = 64 << 20


def backend(guesses: Guesses, password: str | None) -> Starlette:
    """Return the application.

    Parameters
    ----------
    guesses : Guesses
    password : str or None
        Asked for, with the user `USER`, by everything but /webhook: Label Studio sends it no credentials, and it does
        nothing.
    """

    expected = base64.b64encode(f"{USER}:{password}".encode())

    def check(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("latin-1"), expected) and scheme.lower() == "basic"
        if password is not None and not known:
            said = "the password is missing or wrong (AL_ML_BACKEND_PASSWORD)"
            raise HTTPException(401, said, {"WWW-Authenticate": "Basic"} | CLOSE)

    async def health(request: Request) -> Response:
        check(request)
        return JSONResponse({"status": "UP"})

    async def setup(request: Request) -> Response:
        check(request)
        # The request has the token of the project's owner: it is not even read.
        return JSONResponse({"model_version": await run_in_threadpool(guesses.version)})

    async def versions(request: Request) -> Response:
        check(request)
        return JSONResponse({"versions": [await run_in_threadpool(guesses.version)]})

    async def predict(request: Request) -> Response:
        check(request)
        tasks, classes = _asked(await read_body(request, MAX_BODY))
        samples = [task["data"].get("sample_id") for task in tasks]
        found, version = await run_in_threadpool(guesses.guess, samples)
        results = [_result(each, version, classes) for each in found]
        return JSONResponse({"results": results, "model_version": version})

    async def webhook(request: Request) -> Response:
        # Label Studio tells every ML backend of everything. The loop trains through Dagster, nothing is to be done.
        await read_body(request, MAX_BODY)
        return JSONResponse({"status": "IGNORED"})

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/setup", setup, methods=["POST"]),
            Route("/versions", versions),
            Route("/predict", predict, methods=["POST"]),
            Route("/webhook", webhook, methods=["POST"]),
        ],
        exception_handlers={ALError: _failed},
    )


def _asked(body: bytes) -> tuple[list[dict[str, Any]], set[str] | None]:
    """Return the tasks of a request, and the classes that may be guessed, None if their project does not say."""
    try:
        document = json.loads(body)
        tasks, config = document["tasks"], document.get("label_config")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise HTTPException(400, 'the body is no JSON object with "tasks"') from None
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise HTTPException(400, '"tasks" is no list of objects with "data"')
    if not isinstance(config, str) or not config:
        return tasks, None
    if not shows_guesses(config):
        log.warning("The project's interface is of an earlier version and shows no guesses: launch the job `setup`")
        return tasks, set()
    return tasks, set(classes_in(config))


def _result(found: Guess | None, version: str, classes: set[str] | None) -> dict[str, Any] | list[Any]:
    """Return what Label Studio stores for one task.

    No guess is an empty list: of an object with an empty result it would make a prediction that says nothing. Neither
    does it get a class that the project has no more.
    """
    if found is None or (classes is not None and found.name not in classes):
        return []
    return {"result": [guess(found.name)], "score": found.probability, "model_version": version}


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s: %s", request.url.path, " ".join(str(error).split()))
    return JSONResponse({"error": str(error)}, 503)
