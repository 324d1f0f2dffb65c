"""Run a small web application on a port of this machine."""

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from al_pipeline.core.errors import InputError

# Seconds that a start may take, and that requests in progress get at the end.
STARTING, ENDING = 30.0, 5


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def serving(app: ASGIApp, host: str, port: int) -> Iterator[int]:
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
    listener = _listen(host, port)
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


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(
            f"Nothing can listen on port {port} of {host} (--port, --host): {error.strerror or error}. End what "
            "listens there, or choose another port; the host must be an address of this machine"
        ) from None
