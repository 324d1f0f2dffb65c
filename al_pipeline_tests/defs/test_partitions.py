"""Keys that people type in Dagster's dialog, on a real instance: they stop neither the sensor nor `al status`."""

import logging

import dagster as dg
import pytest

from al_pipeline.defs.observe import attempts_of, newest_round, observe
from al_pipeline.defs.sensors import annotations_landed
from al_pipeline.loop.kept_predictions import stored_rounds
from al_pipeline_tests.defs.rounds import errors_of, freeze
from al_pipeline_tests.defs.worlds import World

STRAY = ["foo", "r99999", "R0001", ""]


def begin(world: World, key: str, status: dg.DagsterRunStatus | None = None) -> None:
    """Freeze a round's labels, and record a run of it."""
    world.instance.add_dynamic_partitions("rounds", [key])
    freeze(world, key, 2)
    if status is not None:
        record_run(world, key, status)


def record_run(world: World, key: str, status: dg.DagsterRunStatus) -> str:
    run = dg.DagsterRun(job_name="round", status=status, tags={"dagster/partition": key})
    return world.instance.add_run(run).run_id


def launch(world: World, key: str, job: str = "round") -> dg.ExecuteInProcessResult:
    """Launch a job as the dialog does: the key is added, then its run begins."""
    if not world.instance.has_dynamic_partition("rounds", key):
        world.instance.add_dynamic_partitions("rounds", [key])
    return world.defs.resolve_job_def(job).execute_in_process(
        instance=world.instance, partition_key=key, raise_on_error=False
    )


def tick(world: World, cursor: str | None) -> tuple[dg.SensorResult, list[str]]:
    """Return what the sensor says and what it logs as a warning."""
    context = dg.build_sensor_context(
        instance=world.instance,
        cursor=cursor,
        resources={"deployment": world.deployment, "policy": world.settings.policy},
    )
    warned: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.WARNING:
                warned.append(record.getMessage())

    context.log.addHandler(Kept())
    result = annotations_landed(world.settings)(context)
    assert isinstance(result, dg.SensorResult)
    return result, warned


def newest(world: World) -> int | None:
    return newest_round(world.instance, world.deployment.ledger)


def test_the_sensor_goes_on_beside_keys_that_are_no_rounds_and_warns_once(scanned: World) -> None:
    begin(scanned, "r0000", dg.DagsterRunStatus.FAILURE)
    scanned.instance.add_dynamic_partitions("rounds", STRAY)
    result, warned = tick(scanned, None)
    assert [request.run_key for request in result.run_requests or []] == ["r0000-attempt-2"]
    [told] = warned
    assert all(repr(key) in told for key in STRAY)
    assert "Delete partitions" in told
    again, warned = tick(scanned, result.cursor)
    assert (again.cursor, warned) == (result.cursor, [])
    assert again.run_requests
    scanned.instance.add_dynamic_partitions("rounds", ["bar"])
    result, [told] = tick(scanned, result.cursor)
    assert "'bar'" in told
    for key in [*STRAY, "bar"]:
        scanned.instance.delete_dynamic_partition("rounds", key)
    gone, warned = tick(scanned, result.cursor)
    assert warned == gone.asset_events == []


@pytest.mark.parametrize("key", ["foo", "r99999", "R0001", "r0042"])
def test_a_run_of_a_key_that_is_not_next_fails_at_once_and_says_which_one_is(scanned: World, key: str) -> None:
    begin(scanned, "r0000", dg.DagsterRunStatus.STARTED)
    result = launch(scanned, key)
    assert not result.success
    assert "the newest round is r0000, the next one is r0001" in errors_of(result)
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert newest(scanned) == 0
    assert scanned.deployment.ledger.rounds() == {"r0000"}
    assert tick(scanned, None)[0].skip_reason == dg.SkipReason("r0000: its run is in progress")


def test_what_retrains_refuses_such_a_key_too(scanned: World) -> None:
    assert "the first one is r0000" in errors_of(launch(scanned, "r0001", "retrain"))


def test_a_round_that_was_launched_too_early_waits_for_its_turn_and_the_early_run_is_no_attempt(scanned: World) -> None:
    begin(scanned, "r0000", dg.DagsterRunStatus.SUCCESS)
    early = launch(scanned, "r0002")
    assert not early.success
    begin(scanned, "r0001", dg.DagsterRunStatus.STARTED)
    assert newest(scanned) == 1
    assert attempts_of(scanned.instance, "r0002").state == "none"
    # A run that re-executes the early one inherits its tags, and is an attempt all the same.
    tags = scanned.instance.get_runs(dg.RunsFilter(run_ids=[early.run_id]))[0].tags
    scanned.instance.add_run(dg.DagsterRun(job_name="round", status=dg.DagsterRunStatus.STARTED, tags=tags))
    assert newest(scanned) == 2
    assert attempts_of(scanned.instance, "r0002").count == 1


def test_the_next_round_that_somebody_launches_is_the_newest_from_its_run_on(scanned: World) -> None:
    begin(scanned, "r0000", dg.DagsterRunStatus.SUCCESS)
    scanned.instance.add_dynamic_partitions("rounds", ["r0001"])
    assert newest(scanned) == 0
    run = record_run(scanned, "r0001", dg.DagsterRunStatus.FAILURE)
    assert newest(scanned) == 1
    status = observe(scanned.instance, scanned.deployment, scanned.settings.policy).status
    assert (status.run_state, status.attempts, status.failed_run_id) == ("failed", 1, run)


def test_files_beside_a_rounds_documents_are_ignored(scanned: World) -> None:
    folder = scanned.settings.artifact_folder / "evaluation"
    folder.mkdir(parents=True)
    for name in ("r0001.json", "r0000.json", "foo.json", "r0001 (copy).json", ".r0002.json.tmp", "r0003.txt"):
        (folder / name).write_text("{}")
    assert list(stored_rounds(folder)) == ["r0000", "r0001"]
