"""ImageNet weights come from a server that may be slow, silent, wrong or away: whole, or with a sentence."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torchvision

from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.learning import hub
from al_pipeline.core.learning.checkpoint import build
from al_pipeline_tests.core.learning.hub import made_up

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return made_up(tmp_path / "hub", monkeypatch)


@contextmanager
def serving(file: Path, answer: Answer) -> Iterator[str]:
    """Serve one file at its name, in a way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == f"/{file.name}":
                answer(self, file.read_bytes())
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def whole(request: BaseHTTPRequestHandler, content: bytes, *, length: int | None = None) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(content) if length is None else length))
    request.end_headers()
    request.wfile.write(content)


def test_names_are_those_of_torchvision() -> None:
    for architecture, name in hub.FILES.items():
        url: str = torchvision.models.get_model_weights(architecture).DEFAULT.url  # type: ignore[attr-defined]
        assert url == hub.HUB + name


def test_weights_are_downloaded_once_with_progress_and_then_found(file: Path) -> None:
    told: list[tuple[int, int]] = []
    with serving(file, whole) as address:
        path = hub.fetch("resnet18", address, lambda done, total: told.append((done, total)))
    size = file.stat().st_size
    assert (told[0], told[-1]) == ((0, size), (size, size))
    assert path.read_bytes() == file.read_bytes()
    assert build("resnet18", 2, weights="imagenet", seed=0).layer1[0].conv1.weight.any().item() is False  # type: ignore
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        hub.fetch("resnet18", address)
    assert hub.fetch("resnet18", file.parent.as_uri()).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda request, content: whole(request, content + b"!"), "its SHA-256 begins with [0-9a-f]{8}, not with"),
        (lambda request, content: whole(request, content, length=10**6), "cut off after [0-9]+ of 1000000 bytes"),
        (lambda request, content: request.send_error(503), "Service Unavailable"),
    ],
    ids=["another file", "cut off", "out of order"],
)
def test_what_is_not_the_file_is_refused_and_leaves_nothing(file: Path, answer: Answer, said: str) -> None:
    with serving(file, answer) as address, pytest.raises(CheckpointError, match=said) as refused:
        hub.fetch("resnet18", address)
    assert f"put {file.name} into {hub.place('resnet18').parent}, name another address in AL_WEIGHTS_URL" in str(
        refused.value
    )
    assert not list(hub.place("resnet18").parent.glob("*")), "neither the file nor a part of it"


def test_nobody_waits_for_a_server_that_says_nothing_or_next_to_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    monkeypatch.setattr(hub, "HEAD_START", 0.1)

    def silent(request: BaseHTTPRequestHandler, content: bytes) -> None:
        released.wait(20)

    def slow(request: BaseHTTPRequestHandler, content: bytes) -> None:
        request.send_response(200)
        request.end_headers()
        while not released.wait(0.05):
            request.wfile.write(b"0")

    began = time.monotonic()
    for answer, said in ((silent, "no answer within|timed out"), (slow, "only 0.0 MB came in")):
        released.clear()
        with serving(file, answer) as address:
            with pytest.raises(CheckpointError, match=said):
                hub.fetch("resnet18", address)
            released.set()
    assert time.monotonic() - began < 20, "the server would have gone on for ever"
