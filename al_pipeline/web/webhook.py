"""The receiver of Label Studio's webhooks.

Label Studio sends one while the annotator waits, and never again. So the answer comes before any work, and nothing in
the request is believed but its secret: it wakes somebody who looks.
"""

import hmac
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from al_pipeline.core.errors import ALError
from al_pipeline.labelstudio.callbacks import SECRET_HEADER
from al_pipeline.web.serve import CLOSE, read_body

log = logging.getLogger(__name__)
# Ours has 40 bytes; one that people have set up to send everything may have a project's whole label config.
MAX_BODY = 1 << 20
# Seconds between two pieces of work, at most: people who answer all at once are no reason to ask Label Studio all the
# time, and whoever has given the last answer is not to wait for it.
REST = 0.5
# Seconds that a piece of work may still take at the end; it can be left at any point.
LAST_WORK = 1.0


class Waker:
    """A background thread and its wakes: however often it is woken while it works, it works once more.

    Parameters
    ----------
    work : callable
        Called once per wake, from the thread. What it raises is logged, in one line.
    rest : float
        Seconds between the end of one call and the begin of the next: as many as the call took, and these at most.
    """

    def __init__(self, work: Callable[[], object], *, rest: float = REST) -> None:
        self._work, self._rest = work, rest
        self._wanted, self._over = threading.Event(), threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="waker", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def wake(self) -> None:
        """Have the work done soon; returns at once."""
        self._wanted.set()

    def __exit__(self, *_: object) -> None:
        """End the thread; a wake that it has not come to is dropped."""
        self._over.set()
        self._wanted.set()
        self._thread.join(LAST_WORK)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            # Cleared before the work: a wake during it may be about what it has not seen any more.
            self._wanted.clear()
            if self._over.is_set():
                return
            began = time.monotonic()
            try:
                self._work()
                self._told = ""
            except ALError as error:
                self._tell("Nothing is decided, the sensor looks again: %s", str(error))
            except Exception as error:  # noqa: BLE001 (whatever it is, the next wake must find somebody)
                self._tell("Nothing is decided: %s", f"{type(error).__name__}: {error}")
            self._over.wait(min(self._rest, time.monotonic() - began))

    def _tell(self, text: str, problem: str) -> None:
        # At the end the servers that are asked end too. And people go on answering, whatever hinders all of it: that is
        # said once, until it is another or over.
        if not self._over.is_set() and problem != self._told:
            self._told = problem
            log.error(text, " ".join(problem.split()))


def receiver(secret: str, waker: Waker) -> Starlette:
    """Return the application: POST /webhook wakes, GET /health says that it is there.

    Parameters
    ----------
    secret : str
        Expected in the header ``X-AL-Webhook-Secret``.
    waker : Waker
        Entered and left with the application.
    """
    expected = secret.encode()

    async def webhook(request: Request) -> Response:
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode("latin-1"), expected):
            raise HTTPException(401, f"the header {SECRET_HEADER} lacks the secret", headers=CLOSE)
        await read_body(request, MAX_BODY)
        waker.wake()
        return JSONResponse({"status": "ACCEPTED"}, 202)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with waker:
            yield

    health = Route("/health", lambda _: JSONResponse({"status": "UP"}))
    return Starlette(routes=[Route("/webhook", webhook, methods=["POST"]), health], lifespan=lifespan)
