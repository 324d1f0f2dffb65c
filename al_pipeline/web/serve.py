"""Run a small web application on a port of this machine, and read no more of a request than agreed."""

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

# The rest of a body that is refused is not waited for.
CLOSE = {"Connection": "close"}
# Seconds that a start may take, and that requests in progress get at the end.
STARTING, ENDING = 30.0, 5


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def serving(app: "ASGIApp", host: str, port: int) -> Iterator[int]:
    """Serve the application from a thread of its own; yields the port once it answers.

    Parameters
    ----------
    app : ASGI application
    host : str
        Address to listen on.
    port : int
        0 takes any free one.

    Raises
    ------
    InputError
        Nothing can listen there.
    """
    import uvicorn

    listener = listen(host, port)
    # No access log: a line per annotation tells nobody anything.
    config = uvicorn.Config(
        app, ws="none", log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=ENDING
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web server", daemon=True)
    bound = int(listener.getsockname()[1])
    thread.start()
    try:
        deadline = time.monotonic() + STARTING
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise InputError(f"The server on port {bound} of {host} did not start; what is above says why")
            time.sleep(0.01)
        yield bound
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises
    ------
    InputError
        Nothing can listen there.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(
            f"Nothing can listen on port {port} of {host} (--port, --host): {error.strerror or error}. End what "
            "listens there, or choose another port; the host must be an address of this machine"
        ) from None


async def read_body(request: "Request", limit: int) -> bytes:
    """Return the body of at most `limit` bytes.

    Raises
    ------
    HTTPException
        413 if it is larger, or says that it will be; 400 if the client leaves before its end.
    """
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    def too_large() -> HTTPException:
        return HTTPException(413, f"the body is larger than {limit:,} bytes", headers=CLOSE)

    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large()
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise too_large()
    except ClientDisconnect:
        raise HTTPException(400, "the request ended before its body did") from None
    return bytes(body)
