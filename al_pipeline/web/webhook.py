"""The receiver of Label Studio's webhooks.

Label Studio sends one while the annotator waits, and never again. So the answer comes before any work, and nothing in
the request is believed but its secret: it wakes somebody who looks.
"""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from al_pipeline.labelstudio.callbacks import SECRET_HEADER
from al_pipeline.web.serve import CLOSE, read_body
from al_pipeline.web.wakes import Waker

# Ours has 40 bytes; one that people have set up to send everything may have a project's whole label config.
MAX_BODY = 1 << 20


def receiver(secret: str, waker: Waker) -> Starlette:
    """Return the application: POST /webhook wakes, GET /health says that it is there.

    Parameters
    ----------
    secret : str
        Expected in the header ``X-AL-Webhook-Secret``.
    waker : Waker
        Started and stopped with the application.
    """
    expected = secret.encode()

    async def webhook(request: Request) -> Response:
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode("latin-1"), expected):
            raise HTTPException(401, f"the header {SECRET_HEADER} lacks the secret", headers=CLOSE)
        await read_body(request, MAX_BODY)
        waker.wake()
        return JSONResponse({"status": "ACCEPTED"}, 202)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "UP"})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        waker.start()
        try:
            yield
        finally:
            waker.stop()

    routes = [Route("/webhook", webhook, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)
