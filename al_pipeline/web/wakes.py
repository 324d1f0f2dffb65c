"""One thread that works when it is woken: however often it is woken while it works, it works once more."""

import logging
import threading
from collections.abc import Callable

from al_pipeline.core.errors import ALError

log = logging.getLogger(__name__)
# Seconds between two pieces of work: several people who answer at once are no reason to ask Label Studio all the time.
REST = 0.5
# Seconds that a piece of work may still take at the end; it can be left at any point.
LAST_WORK = 5.0


class Waker:
    """A background thread and its wakes.

    Parameters
    ----------
    work : callable
        Called once per wake, from the thread. What it raises is logged, in one line.
    rest : float
        Least seconds between the end of one call and the begin of the next.
    """

    def __init__(self, work: Callable[[], object], *, rest: float = REST) -> None:
        self._work, self._rest = work, rest
        self._wanted, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="waker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have the work done soon; returns at once."""
        self._wanted.set()

    def stop(self) -> None:
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
            try:
                self._work()
            except ALError as error:
                log.error("Nothing is decided, the sensor looks again: %s", _line(str(error)))
            except Exception as error:  # noqa: BLE001 (whatever it is, the next wake must find somebody)
                log.error("Nothing is decided: %s", _line(f"{type(error).__name__}: {error}"))
            self._over.wait(self._rest)


def _line(text: str) -> str:
    return " ".join(text.split())
