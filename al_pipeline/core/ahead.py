"""Objects of buckets that are read before they are asked for, in the place of files."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from al_pipeline.core.places import AT_A_TIME, Loaded, is_address, load


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
        self._lock, self._pool = threading.Lock(), None
        if any(map(is_address, paths)):
            self._pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="objects")
            self._begin(at_a_time)

    def take(self, row: int) -> Any:
        """Return a file as it was given, an object as a `Loaded`; errors are those of `load`."""
        if self._pool is None:
            return self._paths[row]
        with self._lock:
            self._begin(row + self._ahead)
            read = self._read.pop(row, None)
        if read is not None:
            return read.result()
        return load(self._paths[row]) if is_address(self._paths[row]) else self._paths[row]

    def close(self) -> None:
        """Read no more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, stop: int) -> None:
        assert self._pool is not None
        for row in range(self._next, min(stop, len(self._paths))):
            if is_address(self._paths[row]):
                self._read[row] = self._pool.submit(load, self._paths[row])
        self._next = max(self._next, stop)
