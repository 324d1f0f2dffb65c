"""Local servers start, tell why they did not, and leave no orphan."""

import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from al_pipeline.servers import processes
from al_pipeline.servers.processes import Service, ServiceError, answers, free_port, port_in_use, undisturbed


def service(tmp_path: Path, code: str, health: Callable[[], bool] = lambda: True) -> Service:
    return Service("thing", [sys.executable, "-c", code], log=tmp_path / "thing.log", health=health)


def test_a_server_that_dies_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    dying = service(tmp_path, "print('the port is taken'); raise SystemExit(3)", health=lambda: False)
    dying.start()
    with pytest.raises(ServiceError, match=r"exit code 3(?s:.)*the port is taken"):
        dying.wait_ready(20)


def test_a_server_that_does_not_answer_in_time_is_reported(tmp_path: Path) -> None:
    slow = service(tmp_path, "import time; time.sleep(60)", health=lambda: False)
    slow.start()
    try:
        with pytest.raises(ServiceError, match="did not answer within 1 s"):
            slow.wait_ready(1)
    finally:
        slow.stop()


def test_stop_ends_grandchildren_too_even_those_that_ignore_sigterm(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    parent = service(
        tmp_path, f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    )
    parent.start()
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    grandchild = psutil.Process(int(pid_file.read_text()))
    parent.stop(timeout=1)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    assert not parent.running


def test_a_server_ends_when_it_is_told_to_whatever_its_parent_ignores(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    outside = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    request.addfinalizer(lambda: signal.signal(signal.SIGTERM, outside))
    server = service(tmp_path, "import time; time.sleep(60)")
    server.start()
    process = server.process
    assert process is not None
    server.stop(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_what_is_being_ended_is_not_disturbed_by_another_signal(request: pytest.FixtureRequest) -> None:
    # It is ignored by what a shell starts in the background.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, outside))
    # To this thread: of what is sent to the process another thread may take notice, a moment later.
    with undisturbed():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_server_that_takes_long_tells_what_it_is_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "TELL", 0.2)
    told: list[str] = []
    code = r"import time; print('\x1b[32mfetching\x1b[0m', flush=True); time.sleep(60)"
    slow = service(tmp_path, code, health=lambda: "fetching" in str(told))
    slow.start()
    try:
        slow.wait_ready(20, told.append)
    finally:
        slow.stop()
    assert re.fullmatch(r"thing has been starting for \d+ s: fetching", told[-1])


def test_a_server_with_a_page_answers_and_a_closed_port_does_not(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    assert not answers(url)
    assert not port_in_use(port)
    web = Service(
        "web",
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)],
        log=tmp_path / "web.log",
        health=lambda: answers(url),
    )
    web.start()
    try:
        assert web.wait_ready(20) >= 0
        assert port_in_use(port)
    finally:
        web.stop()
    assert not answers(url)


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    foreign, elsewhere = free_port(), free_port()

    def server(port: int) -> Service:
        return Service(
            "thing",
            [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)],
            log=tmp_path / "thing.log",
            health=lambda: answers(f"http://127.0.0.1:{foreign}/"),
            port=foreign,
        )

    first, late, moved = server(foreign), server(foreign), server(elsewhere)
    try:
        first.start()
        first.wait_ready(20)
        late.start()
        with pytest.raises(ServiceError, match=r"exit code 1(?s:.)*in use"):
            late.wait_ready(20)
        moved.start()
        with pytest.raises(ServiceError, match=f"listens on port {elsewhere} instead of {foreign}"):
            moved.wait_ready(20)
    finally:
        for each in (first, late, moved):
            each.stop()
