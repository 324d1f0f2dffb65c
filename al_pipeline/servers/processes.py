"""Child processes that end with us: a local server with a log file, a health check and no orphans."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import httpx
import psutil

from al_pipeline.core.errors import ALError

HOST = "127.0.0.1"
PR_SET_PDEATHSIG = 1
# The priority of runs, where the server that they are forked from has 0, and what has the lowest 19.
BEHIND_SERVERS = 10
# Seconds between two words about a server that is still starting.
TELL = 10.0
# What programs write into their log to colour it on a terminal.
COLOUR = re.compile("\x1b\\[[0-9;]*m")


class ServiceError(ALError):
    """A local server that did not start, ended by itself or did not answer in time."""


def free_port() -> int:
    """Return a loopback TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_in_use(port: int) -> bool:
    """Say whether something already listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def answers(url: str) -> bool:
    """Say whether the URL answers with a status below 500 within two seconds."""
    try:
        return httpx.get(url, timeout=2, follow_redirects=False).status_code < 500
    except httpx.HTTPError:
        return False


def end_with_parent(by: int = signal.SIGTERM) -> None:
    """Run in the child: on Linux the kernel ends it when the parent dies, however that dies (prctl(2)).

    What the parent ignores or holds back its children would: a server has to end when it is told to.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)


def give_way() -> None:
    """Let the server that this process was forked from go before it: its looks at answers do not wait for a round.

    Where nothing else wants a core it takes them all. Of servers in sessions or containers of their own Linux may know
    no priority beside ours. A thread that has given way further stays there.
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(BEHIND_SERVERS, os.getpriority(os.PRIO_PROCESS, 0)))


@dataclass(eq=False, repr=False)
class Service:
    """One local server as a process group of its own.

    Parameters
    ----------
    name : str
        What a person calls it, for example ``"Label Studio"``.
    argv : sequence of str
        The command.
    log : Path
        Receives stdout and stderr, appended.
    health : callable
        Returns True once the server is ready for work.
    env : mapping, optional
        The child's whole environment; ours by default.
    port : int, optional
        Where it is to listen: another server that answers there is not taken for this one.
    """

    name: str
    argv: Sequence[str]
    _: KW_ONLY
    log: Path
    health: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    port: int | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the process; returns at once."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def wait_ready(self, timeout: float, say: Callable[[str], object] | None = None) -> float:
        """Wait until the server is healthy and return the seconds it took.

        Parameters
        ----------
        timeout : float
            Seconds.
        say : callable, optional
            Told every ten seconds what the server is doing, by the last line of its log.

        Raises
        ------
        ServiceError
            The process ended, did not answer within `timeout` seconds, or listens elsewhere than it was told to; the
            end of its log is in the message.
        """
        began = time.monotonic()
        told = 0.0
        # A port that is closed is found so in no time, a request takes a hundred times as much.
        while not ((self.port is None or port_in_use(self.port)) and self.health() and self._listens()):
            waited = time.monotonic() - began
            if self.process is not None and (code := self.process.poll()) is not None:
                raise ServiceError(f"{self.name} ended with exit code {code} before it was ready. {self.log_tail()}")
            if waited > timeout:
                raise ServiceError(f"{self.name} did not answer within {timeout:.0f} s. {self.log_tail()}")
            if say is not None and waited > told + TELL:
                told = waited
                doing = [line for line in self._last_lines(15) if "warn" not in line.lower()]
                say(f"{self.name} has been starting for {waited:.0f} s: {(doing or ['no word yet'])[-1].strip()}")
            time.sleep(0.1)
        return time.monotonic() - began

    def _listens(self) -> bool:
        """Say whether the process itself listens on its port, not somebody else."""
        if self.port is None or self.process is None:
            return True
        ports = set[int]()
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            for process in [parent, *parent.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    found = process.net_connections(kind="tcp")
                    ports |= {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN and each.laddr}
        if ports and self.port not in ports:
            raise ServiceError(
                f"{self.name} listens on port {min(ports)} instead of {self.port}, which another program took while it "
                "was starting: start again"
            )
        return self.port in ports

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the log with its path, for an error message."""
        if tail := self._last_lines(lines):
            return f"The end of {self.log}:\n" + "\n".join(tail)
        return f"No log was written to {self.log}."

    def _last_lines(self, lines: int) -> list[str]:
        with contextlib.suppress(OSError):
            return COLOUR.sub("", self.log.read_text(errors="replace")).splitlines()[-lines:]
        return []

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout: float = 15) -> None:
        """End the process and all its descendants: SIGTERM first, SIGKILL after `timeout` seconds."""
        stop_all([self], timeout)

    def _terminate(self) -> list[psutil.Process]:
        """Ask the process and its descendants to end, and return them: once it has gone nobody knows whose they are."""
        family = list[psutil.Process]()
        if self.process is not None and self.running:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(self.process.pid)
                family = [*parent.children(recursive=True), parent]
            self._signal(signal.SIGTERM)
        return family

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


def stop_all(services: Sequence[Service], timeout: float) -> None:
    """End several servers and their descendants at once: SIGTERM first, SIGKILL after `timeout` seconds in all."""
    family = [process for service in services for process in service._terminate()]
    alive = wait_until_ended(family, timeout)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for service in services:
        service._signal(signal.SIGKILL)
    wait_until_ended(alive, 5)
    for service in services:
        if service.process is not None:
            service.process.wait(timeout=5)
            service.process = None


def wait_until_ended(processes: Sequence[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait at most `timeout` seconds, and return the processes that run still.

    One that has ended need not have been waited for by its parent: it may have lost that, and the first process of a
    container takes its time.
    """
    until = time.monotonic() + timeout
    while (alive := [process for process in processes if _runs(process)]) and time.monotonic() < until:
        time.sleep(0.02)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM in the body, where this is the main thread: what is being ended is ended whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
