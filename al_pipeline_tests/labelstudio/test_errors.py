"""Whatever goes wrong with the server or the token becomes an error that says what, where and what to do.

What is wrong here is real: servers on loopback that refuse, stay silent, hang up or talk nonsense.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.connection import (
    LabelStudioAuthError,
    LabelStudioError,
    LabelStudioNotFoundError,
    LabelStudioUnavailableError,
)
from al_pipeline.servers.processes import free_port
from al_pipeline_tests.labelstudio.servers import Answer, Request, answering

# The SDK reads the exchanged token in a way that pydantic has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")
TOKEN = "a" * 12 + "legacy" + "b" * 22
EMPTY = Answer(body={"tasks": [], "total": 0, "total_annotations": 0, "total_predictions": 0})
TASK = {"data": {"sample_id": "5e", "round": "r0000", "image": "x"}}

Call = Callable[[LabelStudio], Any]
READS: dict[str, Call] = {
    "check": lambda c: c.check(),
    "find_project": lambda c: c.find_project("x"),
    "project_counts": lambda c: c.project_counts(7),
    "tasks": lambda c: c.tasks(7, "r0000"),
    "annotations": lambda c: c.annotations(7),
    "image_problem": lambda c: c.image_problem(7),
}
WRITES: dict[str, Call] = {
    "import_tasks": lambda c: c.import_tasks(7, [TASK]),
    "annotate": lambda c: c.annotate(7, "a", lead_time=1.0),
}
CALLS = READS | WRITES


def failure(call: Call, client: LabelStudio, kind: type[LabelStudioError]) -> str:
    """Make a call that must fail and return what the error says, all of it free of the token."""
    with pytest.raises(kind) as caught:
        call(client)
    said = str(caught.value)
    assert client.url in said
    for secret in (client.secret, client.secret.strip()):
        assert not secret or secret not in said + repr(caught.value) + repr(client)
    return said


@pytest.mark.parametrize("name", CALLS)
def test_a_server_that_is_down_is_unavailable(name: str) -> None:
    client = LabelStudio(f"http://127.0.0.1:{free_port()}", TOKEN)
    assert "AL_LABEL_STUDIO_URL" in failure(CALLS[name], client, LabelStudioUnavailableError)


@pytest.mark.parametrize("name", CALLS)
def test_a_slow_server_is_unavailable_after_the_timeout(name: str) -> None:
    def stay_silent(_: Request) -> Answer:
        slow.over.wait(30)
        return EMPTY

    with answering(stay_silent) as slow:
        client = LabelStudio(slow.url, TOKEN, timeout=0.2)
        assert "AL_LABEL_STUDIO_TIMEOUT" in failure(CALLS[name], client, LabelStudioUnavailableError)
        assert len(slow.requests) == (3 if name in READS else 1)


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (401, LabelStudioAuthError, "AL_LABEL_STUDIO_TOKEN"),
        (403, LabelStudioAuthError, "not allowed"),
        (404, LabelStudioNotFoundError, "setup"),
        (400, LabelStudioError, "the reason"),
    ],
)
@pytest.mark.parametrize("name", CALLS)
def test_a_refusal_is_told_and_not_repeated(name: str, status: int, kind: type[LabelStudioError], advice: str) -> None:
    with answering(lambda _: Answer(status, {"detail": "the reason"})) as server:
        said = failure(CALLS[name], LabelStudio(server.url, TOKEN), kind)
    assert str(status) in said
    assert advice in said
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_in_trouble_is_asked_three_times(status: int) -> None:
    with answering(lambda _: Answer(status, b"<html>Bad Gateway</html>", "text/html")) as server:
        assert str(status) in failure(READS["tasks"], LabelStudio(server.url, TOKEN), LabelStudioUnavailableError)
    assert len(server.requests) == 3


def test_a_server_that_recovers_in_time_is_not_even_noticed() -> None:
    answers = iter([Answer(503, {}), Answer(503, {}), EMPTY])
    with answering(lambda _: next(answers)) as server:
        assert LabelStudio(server.url, TOKEN).tasks(7, "r0000") == []


@pytest.mark.parametrize("trouble", [Answer(500, {}), Answer(502, b"x", "text/html"), Answer(409, {}), None])
@pytest.mark.parametrize("name", WRITES)
def test_what_creates_something_is_sent_once_whatever_comes_back(name: str, trouble: Answer | None) -> None:
    with answering(lambda _: trouble) as server:
        failure(WRITES[name], LabelStudio(server.url, TOKEN), LabelStudioError)
        assert server.count("POST") == 1


@pytest.mark.parametrize("name", READS)
def test_another_kind_of_server_is_told_from_label_studio(name: str) -> None:
    with answering(lambda _: Answer(200, b"<html>Welcome to nginx</html>", "text/html")) as server:
        assert "AL_LABEL_STUDIO_URL" in failure(READS[name], LabelStudio(server.url, TOKEN), LabelStudioError)


def test_a_url_that_is_none_is_told() -> None:
    for url in ("127.0.0.1:8080", "http://[half", "ftp://127.0.0.1"):
        assert "AL_LABEL_STUDIO_URL" in failure(READS["tasks"], LabelStudio(url, TOKEN), LabelStudioError)


@pytest.mark.parametrize("token", ["", "  \n"])
def test_a_missing_token_is_told_before_anything_is_asked(token: str) -> None:
    with answering(lambda _: EMPTY) as server:
        assert "AL_LABEL_STUDIO_TOKEN" in failure(READS["tasks"], LabelStudio(server.url, token), LabelStudioAuthError)
    assert server.requests == []


def test_a_line_end_behind_the_token_does_no_harm() -> None:
    with answering(lambda _: EMPTY) as server:
        assert LabelStudio(server.url, TOKEN + "\n").tasks(7) == []
    assert server.requests[0].headers["Authorization"] == f"Token {TOKEN}"


def personal(kind: str = "refresh", *, seconds: float = 3600, number: int = 0) -> str:
    """Return a token as Label Studio makes them: a JWT that ends `seconds` from now."""
    claims = {"token_type": kind, "exp": datetime.now(UTC) + timedelta(seconds=seconds), "jti": f"{kind} {number}"}
    return jwt.encode(claims, "k" * 32, algorithm="HS256")


class Issuer:
    """A server that exchanges a personal token for access tokens of `seconds`, and takes those in `accepted`."""

    def __init__(self, *, seconds: float = 300, accepted: Callable[[int], bool] = lambda _: True) -> None:
        self.seconds, self.accepted, self.issued = seconds, accepted, 0

    def __call__(self, request: Request) -> Answer:
        if request.path == "/api/token/refresh/":
            self.issued += 1
            return Answer(body={"access": personal("access", seconds=self.seconds, number=self.issued)})
        header = request.headers.get("Authorization", "")
        if not header.startswith("Bearer "):
            return Answer(401, {"detail": "Authentication credentials were not provided."})
        claims = jwt.decode(header.removeprefix("Bearer "), options={"verify_signature": False})
        if claims["token_type"] != "access" or not self.accepted(int(claims["jti"].split()[1])):
            return Answer(401, {"detail": "Given token not valid for any token type"})
        return EMPTY


def test_a_personal_token_is_exchanged_once_for_many_requests() -> None:
    with answering(Issuer()) as server:
        client = LabelStudio(server.url, personal())
        for _ in range(3):
            assert client.tasks(7) == []
    assert (server.count("POST"), server.count("GET")) == (1, 3)


def test_an_access_token_that_has_run_out_is_renewed() -> None:
    with answering(Issuer(seconds=-1)) as server:
        client = LabelStudio(server.url, personal())
        client.tasks(7)
        client.tasks(7)
    assert server.count("POST") >= 2


def test_an_access_token_that_the_server_no_longer_takes_is_renewed_once() -> None:
    """The server's clock may be ahead of ours, or its key be a new one: then our copy only looks valid."""
    with answering(Issuer(accepted=lambda number: number != 1)) as server:
        client = LabelStudio(server.url, personal())
        assert client.tasks(7) == []
        assert server.count("POST") == 2


@pytest.mark.parametrize("name", CALLS)
def test_a_personal_token_that_is_never_taken_is_an_auth_error(name: str) -> None:
    with answering(Issuer(accepted=lambda _: False)) as server:
        failure(CALLS[name], LabelStudio(server.url, personal()), LabelStudioAuthError)
        assert len(server.requests) <= 4


@pytest.mark.parametrize("name", CALLS)
def test_an_expired_personal_token_is_told_without_a_request(name: str) -> None:
    with answering(Issuer()) as server:
        said = failure(CALLS[name], LabelStudio(server.url, personal(seconds=-60)), LabelStudioAuthError)
    assert "expired" in said
    assert server.requests == []


@pytest.mark.parametrize("name", CALLS)
def test_a_revoked_personal_token_is_an_auth_error(name: str) -> None:
    refusal = Answer(401, {"detail": "Token is blacklisted", "code": "token_not_valid"})
    with answering(lambda _: refusal) as server:
        failure(CALLS[name], LabelStudio(server.url, personal()), LabelStudioAuthError)


@pytest.mark.parametrize("answer", [Answer(502, b"<html>Bad Gateway</html>", "text/html"), Answer(503, {}), None])
def test_trouble_while_a_personal_token_is_exchanged_is_trouble_of_the_server(answer: Answer | None) -> None:
    with answering(lambda _: answer) as server:
        failure(READS["tasks"], LabelStudio(server.url, personal()), LabelStudioUnavailableError)


def test_a_label_studio_under_a_path_is_asked_there_for_tokens_too() -> None:
    issuer = Issuer()

    def under_a_path(request: Request) -> Answer:
        if not request.path.startswith("/studio/"):
            return Answer(404, {"detail": "nothing here"})
        return issuer(Request(request.method, request.path.removeprefix("/studio"), request.headers, request.body))

    with answering(under_a_path) as server:
        assert LabelStudio(f"{server.url}/studio", personal()).tasks(7) == []


def test_a_connection_without_tls_is_not_used_again() -> None:
    """Label Studio answers 40 ms later on one that is: it waits for our delayed acknowledgement."""
    ports: list[int] = []

    class KeepsAlive(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            ports.append(self.client_address[1])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), KeepsAlive)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        client = LabelStudio(f"http://127.0.0.1:{server.server_port}", "token")
        for _ in range(3):
            client.connection.json("api/tasks/", {})
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(set(ports)) == 3


@pytest.mark.parametrize("told", ["Sun, 29 Nov 2026 12:00:00 GMT", ""])
def test_where_the_server_tells_no_time_ours_stands_for_it(told: str) -> None:
    # uWSGI sends no Date, and every look read it.
    counters = {"task_number": 3, "total_annotations_number": 2, "skipped_annotations_number": 1, "label_config": "x"}
    with answering(lambda _: Answer(body=counters, headers={"Date": told})) as server:
        before = datetime.now(UTC)
        counts = LabelStudio(server.url, TOKEN).project_counts(7)
        after = datetime.now(UTC)
    assert (counts.tasks, counts.annotations, counts.skipped) == (3, 2, 1)
    assert counts.at == datetime(2026, 11, 29, 12, tzinfo=UTC) if told else before <= counts.at <= after
