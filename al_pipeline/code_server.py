"""The `dagster` command, with one difference: its code servers are warm.

Dagster's code server starts each run in a new interpreter, which imports torch, torchvision, scikit-learn and
matplotlib anew: ten seconds of every round. Here runs are forked from a process that has imported them
(`multiprocessing`'s fork server), and nothing else is shared between runs. What sensors need is imported while nobody
waits, not at the first tick that needs it.

    python -m al_pipeline.code_server code-server start --module-name al_pipeline.definitions --port 4000

Dagster has no setting for it, so this replaces two names inside of its server. Where a later version has renamed
them, runs start as Dagster starts them, later but well; a test says so.
"""

import multiprocessing
import multiprocessing.forkserver
import sys
from importlib import import_module
from threading import Thread

import dagster._cli
import dagster._grpc.server as server

MODULE = "al_pipeline.code_server"
RUNS = "al_pipeline.preload"
SENSORS = ("al_pipeline.ledger", "al_pipeline.local", "label_studio_sdk.client")


class WarmServer(server.DagsterApiServer):
    """Dagster's code server, whose runs are forked from a warm process."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([RUNS])
        # Starts importing now, so that the first run finds it done.
        multiprocessing.forkserver.ensure_running()
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._mp_ctx = context
        Thread(target=lambda: [import_module(name) for name in SENSORS], daemon=True).start()


def main() -> None:
    """Run a command of `dagster` in this process; the servers that it starts are warm too."""
    names: dict[str, object] = server.__dict__
    names["DagsterApiServer"] = WarmServer
    names["get_python_environment_entry_point"] = lambda executable: [executable, "-m", MODULE]
    sys.argv[0] = "dagster"
    dagster._cli.main()


if __name__ == "__main__":
    # macOS's frameworks do not survive a fork.
    if sys.platform == "linux":
        main()
    else:
        dagster._cli.main()
