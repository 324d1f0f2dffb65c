"""What steps have handed to each other goes with the run that has succeeded, and of no other."""

from pathlib import Path

import dagster as dg
from dagster import DagsterRunStatus as Status
from dagster._core.test_utils import create_run_for_test

from al_pipeline.servers.outputs import forget_outputs

STEP = "uncertainty_scores.predict_candidates"


def test_outputs_of_runs_that_have_succeeded_go_and_all_else_stays(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert forget_outputs(instance) == 0
        statuses = (Status.SUCCESS, Status.FAILURE, Status.CANCELED, Status.STARTED)
        runs = {status: create_run_for_test(instance, status=status).run_id for status in statuses}
        storage = Path(instance.storage_directory())
        for run in [*runs.values(), "of nobody"]:
            for file in (f"{STEP}/result", "compute_logs/printed.out"):
                path = storage / run / file
                path.parent.mkdir(parents=True)
                path.write_text("kept")
        assert forget_outputs(instance) == 1
        left = sorted(path.relative_to(storage).as_posix() for path in storage.rglob("*") if path.is_file())
        others = [run for status, run in runs.items() if status != Status.SUCCESS] + ["of nobody"]
        printed = [f"{run}/compute_logs/printed.out" for run in [*runs.values(), "of nobody"]]
        assert left == sorted([f"{run}/{STEP}/result" for run in others] + printed)
        assert forget_outputs(instance) == 0
