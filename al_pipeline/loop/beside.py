"""Long work beside what people wait for: it gives way, computes at the lowest priority, and stops when told to."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from al_pipeline.core.errors import ALError

Result = TypeVar("Result")
# Seconds between two questions of what is due: what is asked costs milliseconds, and people wait for no more than this.
EVERY = 0.5
LOWEST_PRIORITY = 19


class StoppedError(ALError):
    """The work was told to stop."""


class GiveWay:
    """Called between the steps of long work: it returns at once, or as soon as nothing is due any more.

    Parameters
    ----------
    due : callable
        Returns what goes first now, in words, or None.
    say : callable
        Told what is waited for, and when the work goes on.
    every : float
        Seconds from one question to the next.

    Attributes
    ----------
    waited : float
        Seconds, in all.
    """

    def __init__(self, due: Callable[[], str | None], say: Callable[[str], object], *, every: float = EVERY) -> None:
        self._due, self._say, self._every = due, say, every
        self._asked = -every
        self._stopped = threading.Event()
        self.waited = 0.0

    def __call__(self) -> None:
        """Return once the work may go on.

        Raises
        ------
        StoppedError
            It is to stop.
        """
        if self._stopped.is_set():
            raise StoppedError("stopped")
        began = time.monotonic()
        if began - self._asked < self._every:
            return
        first = self._due()
        if first is not None:
            self._say(f"Waits: {first} goes first")
            while self._due() is not None:
                if self._stopped.wait(self._every):
                    raise StoppedError("stopped while it waited")
            seconds = time.monotonic() - began
            self.waited += seconds
            self._say(f"Goes on after {seconds:.1f} s")
        self._asked = time.monotonic()

    def stop(self) -> None:
        """Have the work end at its next step."""
        self._stopped.set()


def at_lowest_priority(work: Callable[[], Result], stop: Callable[[], object]) -> Result:
    """Do the work in a thread that gets what computing time others leave; on Linux, where threads have priorities.

    Parameters
    ----------
    work : callable
    stop : callable
        Has the work end soon; called when this thread is interrupted.
    """
    with ThreadPoolExecutor(1, "beside", initializer=_step_back) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except BaseException:
            stop()
            raise


def _step_back() -> None:
    # Threads that this one starts have its priority.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
