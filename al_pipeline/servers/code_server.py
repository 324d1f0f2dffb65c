"""The `dagster` command, with one difference: its code servers are warm.

Dagster's code server starts each run in a new interpreter, which imports torch, torchvision, scikit-learn and
matplotlib anew: ten seconds of every round. Here runs are forked from a process that has imported them
(`multiprocessing`'s fork server), and nothing else is shared between runs. What sensors need is imported while nobody
waits, not at the first tick that needs it.

Before it serves, it reports the runs that the last server took along when it ended, and deletes what steps of runs that
have succeeded have handed to each other.

    python -m al_pipeline.servers.code_server api grpc --module-name al_pipeline.definitions --port 4000

It serves by itself: `dagster code-server start` puts a second process before such a one, which can load code that has
changed, and each of the two imports Dagster.

Dagster has no setting for warm runs, so this replaces a name inside of its server and the context that it starts runs
with. The pinned version has them; a test fails on the first version that has not.
"""

import ctypes
import multiprocessing
import multiprocessing.forkserver
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread

import dagster
import dagster._cli
import dagster._grpc.server as server

from al_pipeline.servers.dagster_api import LOCATION, STOPPED
from al_pipeline.servers.orphans import end_orphaned_runs, excuse_stopped_runs
from al_pipeline.servers.outputs import forget_outputs

# Of malloc.h.
M_ARENA_MAX = -8
RUNS = "al_pipeline.servers.preload"
SENSORS = ("al_pipeline.ledger", "al_pipeline.loop.local", "label_studio_sdk.client")


class WarmServer(server.DagsterApiServer):
    """Dagster's code server, whose runs are forked from a warm process; it takes the same arguments."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([RUNS])
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._mp_ctx = context
        # Starts importing once the code is loaded, for which all others wait, and before the first run.
        multiprocessing.forkserver.ensure_running()
        Thread(target=lambda: [import_module(name) for name in SENSORS], daemon=True).start()


def allocate_together() -> None:
    """Have all threads of this process allocate from one place; where there is no glibc nothing changes.

    By default each thread has one of its own, which keeps what the largest look of a sensor has taken, and looks go
    from thread to thread: of 20,000 open tasks that were 15 MB for each.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def start_warm_servers() -> None:
    """Have the servers that this process starts be warm."""
    names: dict[str, object] = server.__dict__
    names["DagsterApiServer"] = WarmServer


def main() -> None:
    """Run a command of `dagster` in this process."""
    allocate_together()
    # macOS's frameworks do not survive a fork.
    if sys.platform == "linux":
        start_warm_servers()
    if sys.argv[1:3] == ["api", "grpc"] and (home := os.environ.get("DAGSTER_HOME")):
        stopped = Path(home) / STOPPED
        with dagster.DagsterInstance.get() as instance:
            if stopped.exists():
                excuse_stopped_runs(instance, stopped.stat().st_mtime)
            end_orphaned_runs(instance, LOCATION, on_purpose=stopped.exists())
            forget_outputs(instance)
        stopped.unlink(missing_ok=True)
    sys.argv[0] = "dagster"
    dagster._cli.main()


if __name__ == "__main__":
    main()
