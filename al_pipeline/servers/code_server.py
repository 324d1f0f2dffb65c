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

import multiprocessing
import multiprocessing.forkserver
import os
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from threading import Thread

import dagster
import dagster._cli
import dagster._grpc.server as server

from al_pipeline.defs.partitions import INTERRUPTED_TAG
from al_pipeline.servers.dagster_api import LOCATION, STOPPED
from al_pipeline.servers.outputs import forget_outputs

RUNS = "al_pipeline.servers.preload"
SENSORS = ("al_pipeline.ledger", "al_pipeline.loop.local", "label_studio_sdk.client")
# Runs whose process is gone: without a word about them they would count as in progress, and the loop wait for ever.
IN_A_PROCESS = [dagster.DagsterRunStatus.STARTED, dagster.DagsterRunStatus.CANCELING]
MESSAGE = (
    "The code server that ran it has ended and taken this run's process along (a reboot, no memory). "
    "Nothing of it is lost: what had been stored is kept, and the round can be run again."
)
ON_PURPOSE = "The servers were stopped while it ran. What had been stored is kept, and it can be run again."


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


def start_warm_servers() -> None:
    """Have the servers that this process starts be warm."""
    names: dict[str, object] = server.__dict__
    names["DagsterApiServer"] = WarmServer


def end_orphaned_runs(instance: dagster.DagsterInstance, location: str, *, on_purpose: bool = False) -> list[str]:
    """Report every run of a code location that is said to be in a process; return their ids.

    To be called when the location's code server starts: run processes are its children and end with it, so none of
    these can be alive. A run reported as failed is retried by Dagster (``run_retries``) or by the sensor; one that a
    person was canceling is canceled. One that ended with servers which were told to (`on_purpose`) is no attempt that
    failed.
    """
    ended = []
    for run in instance.get_runs(dagster.RunsFilter(statuses=IN_A_PROCESS)):
        origin = run.remote_job_origin
        if origin is None or origin.repository_origin.code_location_origin.location_name != location:
            continue
        if run.status == dagster.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message=MESSAGE)
        else:
            if on_purpose:
                instance.add_run_tags(run.run_id, {INTERRUPTED_TAG: run.run_id})
            instance.report_run_failed(run, message=ON_PURPOSE if on_purpose else MESSAGE)
        ended.append(run.run_id)
    return ended


def excuse_stopped_runs(instance: dagster.DagsterInstance, since: float) -> None:
    """Mark the runs that have failed since the servers were told to stop: they are no attempts that failed.

    The process that runs are forked from may end before the server does, which then reports its runs as failed.

    Parameters
    ----------
    instance : DagsterInstance
    since : float
        Unix time.
    """
    failed = dagster.RunsFilter(
        statuses=[dagster.DagsterRunStatus.FAILURE], updated_after=datetime.fromtimestamp(since, UTC)
    )
    for run in instance.get_runs(failed):
        instance.add_run_tags(run.run_id, {INTERRUPTED_TAG: run.run_id})


def main() -> None:
    """Run a command of `dagster` in this process."""
    # macOS's frameworks do not survive a fork.
    if sys.platform == "linux":
        start_warm_servers()
    if sys.argv[1:3] == ["api", "grpc"] and (home := os.environ.get("DAGSTER_HOME")):
        stopped = Path(home) / STOPPED
        with dagster.DagsterInstance.get() as instance:
            if stopped.exists():
                excuse_stopped_runs(instance, stopped.stat().st_mtime)
            for run_id in end_orphaned_runs(instance, LOCATION, on_purpose=stopped.exists()):
                print(f"The run {run_id} was in progress when the last code server ended; it is reported as such.")
            forget_outputs(instance)
        stopped.unlink(missing_ok=True)
    sys.argv[0] = "dagster"
    dagster._cli.main()


if __name__ == "__main__":
    main()
