"""What steps of a run have handed to each other, on disk: of no use once the run has succeeded."""

import shutil
from pathlib import Path

import dagster

# Dagster keeps what a run's processes print in the same folder.
PRINTED = "compute_logs"


def forget_outputs(instance: dagster.DagsterInstance) -> int:
    """Delete what steps of runs that have succeeded have stored for later steps; return of how many runs.

    Runs of today hand on next to nothing, those of earlier versions whole tables. A run that goes on, has failed or was
    canceled keeps all: whoever re-executes it goes on from there. So do runs that Dagster does not know.
    """
    storage = Path(instance.storage_directory())
    found = (
        {folder.name: rest for folder in storage.iterdir() if (rest := _outputs(folder))} if storage.exists() else {}
    )
    if not found:
        return 0
    succeeded = dagster.RunsFilter(run_ids=[*found], statuses=[dagster.DagsterRunStatus.SUCCESS])
    over = instance.get_runs(succeeded)
    for run in over:
        for folder in found[run.run_id]:
            shutil.rmtree(folder, ignore_errors=True)
    return len(over)


def _outputs(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_dir() and each.name != PRINTED] if folder.is_dir() else []
