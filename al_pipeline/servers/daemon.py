"""The `dagster-daemon` command, with one difference: a run that is queued is looked at at once.

Dagster's daemon looks at its queue once a second at most, and people wait for it after their last answer. Here it looks
as soon as the database of runs has been written to, and once a second as ever; in between it only asks for the times of
two files.

Dagster has no setting below a second, so this replaces a name inside of its daemon. The pinned version has it; a test
fails on the first version that has not.
"""

import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

import dagster._daemon.cli
import dagster._daemon.controller as controller
from dagster._core.workspace.context import IWorkspaceProcessContext
from dagster._daemon.daemon import SpanMarker
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._utils.error import serializable_error_info_from_exc_info

# Seconds between two looks at the times of the files.
GLANCE = 0.05


class PromptQueue(QueuedRunCoordinatorDaemon):
    """Dagster's queue of runs, which looks at once when something has been written; it takes the same arguments."""

    def core_loop(self, workspace_process_context: IWorkspaceProcessContext, shutdown_event: Event) -> Any:
        """Look at the queue, wait until something is written or the interval is over, and again."""
        database = Path(workspace_process_context.instance.root_directory) / "history" / "runs.db"
        while True:
            seen, over = _written(database), time.monotonic() + self.interval_seconds
            yield SpanMarker.START_SPAN
            try:
                yield from self.run_iteration(workspace_process_context)
            except Exception:  # noqa: BLE001 (as Dagster's own: whatever it is, the next look may succeed)
                error = serializable_error_info_from_exc_info(sys.exc_info())
                self._logger.error("Caught error:\n%s", error)
                yield error
            yield SpanMarker.END_SPAN
            while time.monotonic() < over and _written(database) == seen and not shutdown_event.wait(GLANCE):
                yield None
            yield None


def _written(database: Path) -> list[tuple[int, int]]:
    """Return times and sizes of a database and its write-ahead log; one that is not there has none."""
    found: list[tuple[int, int]] = []
    for file in (database, database.with_name(f"{database.name}-wal")):
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((status.st_mtime_ns, status.st_size))
    return found


def main() -> None:
    """Run a command of `dagster-daemon` in this process."""
    names: dict[str, object] = controller.__dict__
    names["QueuedRunCoordinatorDaemon"] = PromptQueue
    dagster._daemon.cli.main()


if __name__ == "__main__":
    main()
