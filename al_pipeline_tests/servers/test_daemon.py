"""The daemon's queue: it looks when something is written, and everything else is Dagster's own."""

import threading
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import dagster._daemon.controller as controller
from dagster._core.test_utils import create_run_for_test

from al_pipeline.servers.daemon import PromptQueue

BOUND = 20.0


class Counted(PromptQueue):
    """A queue whose looks can be waited for."""

    def __init__(self) -> None:
        super().__init__(interval_seconds=3600)
        self.looks = threading.Semaphore(0)

    def run_iteration(self, *_: Any, **__: Any) -> Generator[None]:
        self.looks.release()
        yield None


def test_the_name_it_replaces_is_there() -> None:
    assert controller.create_daemon_of_type.__code__.co_names.count("QueuedRunCoordinatorDaemon") == 1
    assert issubclass(PromptQueue, vars(controller)["QueuedRunCoordinatorDaemon"])


def test_a_run_that_is_created_is_looked_at_long_before_the_interval_is_over(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        queue, over = Counted(), threading.Event()
        context = cast(Any, SimpleNamespace(instance=instance))

        def run() -> None:
            for _ in queue.core_loop(context, over):
                if over.is_set():
                    return

        thread = threading.Thread(target=run)
        thread.start()
        assert queue.looks.acquire(timeout=BOUND)
        while queue.looks.acquire(timeout=0.2):
            pass
        create_run_for_test(instance, job_name="round")
        assert queue.looks.acquire(timeout=BOUND)
        over.set()
        thread.join(BOUND)
        assert not thread.is_alive()
