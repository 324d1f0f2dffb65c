"""Objects of buckets that are read before they are asked for, in the place of files."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from al_pipeline.core.data.places import AT_A_TIME, Loaded, is_address, load


class Ahead:
    """Files and objects in the order in which they are taken, where objects are being read before.

    Parameters
    ----------
    paths : sequence of path-like
        Files, and addresses of objects.
    at_a_time : int
        How many objects are read, or wait to be taken, at a time.
    """

    def __init__(self, paths: Sequence[Any], at_a_time: int = AT_A_TIME) -> None:
        self._paths, self._next, self._ahead = paths, 0, at_a_time
        self._read: dict[int, Future[Loaded]] = {}
        self._lock, self._any = threading.Lock(), any(map(is_address, paths))
        if self._any:
            self._begin(at_a_time)

    def take(self, row: int) -> Any:
        """Return a file as it was given, an object as a `Loaded`; errors are those of `load`."""
        if not self._any:
            return self._paths[row]
        with self._lock:
            self._begin(row + self._ahead)
            read = self._read.pop(row, None)
        if read is not None:
            return read.result()
        return load(self._paths[row]) if is_address(self._paths[row]) else self._paths[row]

    def close(self) -> None:
        """Read no more."""
        with self._lock:
            self._next = len(self._paths)
            for read in self._read.values():
                read.cancel()
            self._read.clear()

    def _begin(self, stop: int) -> None:
        for row in range(self._next, min(stop, len(self._paths))):
            if is_address(self._paths[row]):
                self._read[row] = _threads().submit(load, self._paths[row])
        self._next = max(self._next, stop)


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    """Return the threads that read, of all who ask in this process: they wait for a service most of the time."""
    return ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="objects")
