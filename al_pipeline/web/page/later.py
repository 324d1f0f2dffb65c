"""What takes seconds is made once, in a thread, while the page says that it is on its way."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
# Values of earlier rounds that are kept.
MOST = 4
# Seconds that a request waits before it says so: most values are there by then, and people have not begun to wonder.
PATIENCE = 0.2


class Later(Generic[Key, Value]):
    """Values by their key, each made at the first question for it.

    Parameters
    ----------
    make : callable
        Key → value.
    """

    def __init__(self, make: Callable[[Key], Value]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: dict[Key, Future[Value]] = {}

    def whole(self, key: Key) -> Value:
        """Return the value, however long it takes."""
        found = self.get(key, None)
        assert found is not None
        return found

    def get(self, key: Key, patience: float | None = PATIENCE) -> Value | None:
        """Return the value, None while it is being made; raise what making it has raised, and try anew next time."""
        with self._lock:
            future = self._made.get(key)
            if future is None:
                while len(self._made) >= MOST:
                    del self._made[next(iter(self._made))]
                future = self._made[key] = Future()
                # Nothing at the end waits for it.
                threading.Thread(target=self._run, args=(key, future), name="page", daemon=True).start()
        try:
            return future.result(patience)
        except TimeoutError:
            if not future.done():
                return None
            raise
        finally:
            if future.done() and future.exception() is not None:
                with self._lock:
                    self._made.pop(key, None)

    def made(self, key: Key) -> Value | None:
        """Return the value if it is there, None if it is not; nothing is made."""
        with self._lock:
            future = self._made.get(key)
        return future.result() if future is not None and future.done() and future.exception() is None else None

    def _run(self, key: Key, future: "Future[Value]") -> None:
        try:
            future.set_result(self._make(key))
        except BaseException as error:  # noqa: BLE001 (it is raised where the value is asked for)
            future.set_exception(error)
