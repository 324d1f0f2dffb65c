"""A proxy before Label Studio that fails as networks and servers do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from al_pipeline_tests.labelstudio.servers import Answer, Request, TinyServer, answering, forward

Failure = Callable[["FaultProxy", Request], Answer | None]


@dataclass
class FaultProxy:
    """Passes requests on, but for the next ones that a fault is set for.

    Attributes
    ----------
    to : str
        The real server.
    failed : int
        Requests that were failed so far.
    """

    to: str
    server: TinyServer | None = None
    failed: int = 0
    _fault: "Fault | None" = None
    _path: str = ""
    _left: int = field(default=0)

    def fail(self, fault: "Fault", method_and_path: str, times: int = 1) -> None:
        """Fail the next requests of a kind, for example ``"GET /api/tasks"``."""
        self._fault, self._path, self._left = fault, method_and_path, times

    def answer(self, request: Request) -> Answer | None:
        """Answer one request."""
        if self._fault is None or not self._left or not f"{request.method} {request.path}".startswith(self._path):
            return forward(request, self.to)
        self._left -= 1
        self.failed += 1
        return self._fault.failure(self, request)

    def stall(self) -> None:
        """Wait until the test is over or has given up."""
        assert self.server is not None
        self.server.over.wait(60)


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Attributes
    ----------
    name : str
    failure : callable
        What is answered; None closes the connection.
    acts : bool
        Whether the real server does what it was asked.
    slow : bool
        Whether the client has to wait until its patience is over.
    heals : bool
        Whether reading once more helps: false for what a server says on purpose, or what is no answer at all.
    """

    name: str
    failure: Failure
    acts: bool = False
    slow: bool = False
    heals: bool = True


def _says(status: int, body: object = None, kind: str = "application/json", **headers: str) -> Failure:
    return lambda _proxy, _request: Answer(status, {} if body is None else body, kind, headers=headers)


def _acts_and(change: Callable[[Answer], Answer | None]) -> Failure:
    return lambda proxy, request: change(forward(request, proxy.to))


def _stalls(proxy: FaultProxy, request: Request) -> None:
    proxy.stall()


def _acts_and_stalls(proxy: FaultProxy, request: Request) -> None:
    forward(request, proxy.to)
    proxy.stall()


FAULTS = (
    Fault("the connection is closed", lambda _proxy, _request: None),
    Fault("the server acts, its answer is lost", _acts_and(lambda _: None), acts=True),
    Fault(
        "the connection breaks within the answer",
        _acts_and(lambda answer: replace(answer, cut_at=len(answer.content) // 2)),
        acts=True,
    ),
    Fault("500", _says(500)),
    Fault("the server acts and says 500", _acts_and(lambda _: Answer(500, {})), acts=True),
    Fault("502", _says(502, b"<html>Bad Gateway</html>", "text/html")),
    Fault("the server acts, the proxy says 502", _acts_and(lambda _: Answer(502, b"<html>", "text/html")), acts=True),
    Fault("503 with Retry-After", _says(503, **{"Retry-After": "1"})),
    Fault("the server acts, the proxy says 504", _acts_and(lambda _: Answer(504, b"", "text/html")), acts=True),
    Fault("429 with Retry-After", _says(429, {"detail": "throttled"}, **{"Retry-After": "1"})),
    Fault("408", _says(408)),
    Fault("401 once", _says(401, {"detail": "Invalid token."}), heals=False),
    Fault("403 once", _says(403, {"detail": "Forbidden."}), heals=False),
    Fault("404 once", _says(404, {"detail": "Not found."}), heals=False),
    Fault("the server stalls", _stalls, slow=True),
    Fault("the server acts and stalls", _acts_and_stalls, acts=True, slow=True),
    Fault(
        "the JSON is cut short",
        _acts_and(lambda answer: replace(answer, body=answer.content[: len(answer.content) // 2])),
        acts=True,
        heals=False,
    ),
    Fault("200 without a body", _says(200, b""), heals=False),
    Fault("200 with a login page", _says(200, b"<html>Log in</html>", "text/html"), heals=False),
    Fault("200 with another JSON", _says(200, {"hello": "world"}), heals=False),
)


@contextmanager
def fault_proxy(to: str) -> Iterator[FaultProxy]:
    """Run a proxy before a real server."""
    proxy = FaultProxy(to)
    # Looked up at each request: a test may put another method there.
    with answering(lambda request: proxy.answer(request)) as server:
        proxy.server = server
        yield proxy
