"""A checkpoint that was deleted after a round comes back, the same to the bit, from its frozen labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.defs.keeping import old_checkpoints_deleted, used_by_runs
from al_pipeline_tests.defs.rounds import errors_of, freeze
from al_pipeline_tests.defs.worlds import World

QUICK = {"epochs": 1}


def test_a_round_deletes_old_checkpoints_and_retraining_brings_one_back_to_the_bit(
    go_on: Callable[..., World], once_scanned: Path
) -> None:
    world = go_on(once_scanned, keep_checkpoints=1)
    checkpoints = world.deployment.artifacts.checkpoints
    for number, key in enumerate(("r0000", "r0001")):
        freeze(world, key, per_class=3 + number)
    trained = world.run("retrain", "r0000", training=QUICK)
    before = Checkpoint.load(checkpoints / "r0000.safetensors").hash
    world.run("retrain", "r0001", training=QUICK)

    running = dg.DagsterRun(job_name="retrain", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "r0001"})
    world.instance.add_run(running)
    assert used_by_runs(world.instance) == {"r0000", "r0001"}
    assert told(world, trained) == "All checkpoints are kept"
    world.instance.delete_run(running.run_id)
    assert told(world, trained) == "Deleted the checkpoints of r0000"
    assert {path.name for path in checkpoints.iterdir()} == {"r0000.deleted.json", "r0001.safetensors"}

    alone = world.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=world.instance, partition_key="r0000", asset_selection=[dg.AssetKey("evaluation")],
        raise_on_error=False,
    )  # fmt: skip
    assert "launch the job `retrain` for r0000" in errors_of(alone)
    assert world.run("retrain", "r0000", training=QUICK).success
    assert Checkpoint.load(checkpoints / "r0000.safetensors").hash == before


def told(world: World, result: dg.ExecuteInProcessResult) -> str | None:
    """Return what the sensor says after a round."""
    context = dg.build_run_status_sensor_context(
        sensor_name="old_checkpoints_deleted",
        dagster_instance=world.instance,
        dagster_run=result.dagster_run,
        dagster_event=next(event for event in result.all_events if event.is_successful_output),
    )
    said: Any = old_checkpoints_deleted(context, deployment=world.deployment)
    return said.skip_message
