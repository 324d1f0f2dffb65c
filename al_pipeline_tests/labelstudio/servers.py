"""Small real HTTP servers on loopback: one that answers as told, one that stands between us and Label Studio."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@dataclass(frozen=True)
class Request:
    """What a server was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What it says; a body that is no bytes is sent as JSON."""

    status: int = 200
    body: Any = None
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    # Bytes after which the connection breaks.
    cut_at: int | None = None

    @property
    def content(self) -> bytes:
        """The body as sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


# None: the connection is closed without an answer.
Handler = Callable[[Request], Answer | None]


@dataclass
class TinyServer:
    """A running server, and what it was asked so far."""

    url: str
    requests: list[Request] = field(default_factory=list)
    # Set when the test ends: whoever holds an answer back waits for it.
    over: threading.Event = field(default_factory=threading.Event)

    def count(self, method: str, path: str = "") -> int:
        """Return how many requests of this method had `path` in their path."""
        return sum(r.method == method and path in r.path for r in self.requests)


@contextmanager
def answering(handler: Handler) -> Iterator[TinyServer]:
    """Run a server whose answers `handler` gives."""

    class Responder(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length))
            tiny.requests.append(request)
            answer = handler(request)
            if answer is None:
                self.close_connection = True
                return
            # The client may have given up on us.
            with contextlib.suppress(ConnectionError):
                if "Date" in answer.headers:
                    self.send_response_only(answer.status)
                else:
                    self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(answer.content)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content[: answer.cut_at])
                self.close_connection = answer.cut_at is not None

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = respond  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Responder)
    tiny = TinyServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield tiny
    finally:
        tiny.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def forward(request: Request, to: str) -> Answer:
    """Pass a request on to a real server and return its answer."""
    headers = {k: v for k, v in request.headers.items() if k.lower() in {"authorization", "content-type"}}
    answer = httpx.request(request.method, to + request.path, headers=headers, content=request.body, timeout=60)
    return Answer(answer.status_code, answer.content, answer.headers.get("content-type", ""), _kept(answer.headers))


def _kept(headers: httpx.Headers) -> dict[str, str]:
    return {"Date": headers["date"]} if "date" in headers else {}
