"""After a round a run of its own tells MLflow, with the settings that the round ran with; a server that is down is one
warning.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from al_pipeline.defs.tracking import TELLS_TAG, rounds_tracked
from al_pipeline.loop.tracking import MANNERS
from al_pipeline_tests.defs.rounds import freeze
from al_pipeline_tests.defs.worlds import World
from al_pipeline_tests.loop.mlflow_server import MemoryMLflow, served

pytest.importorskip("mlflow", reason="MLflow's client is not installed (the extra `mlflow`)")


def test_a_round_is_told_after_its_own_run_and_what_was_missed_with_the_next(
    go_on: Callable[..., World], once_scanned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in MANNERS.items():
        monkeypatch.setenv(name, value)
    state = MemoryMLflow()
    with served(state) as uri:
        pass
    world = go_on(once_scanned, tracking={"uri": uri})
    freeze(world, "r0000", per_class=3)
    trained = world.run("retrain", "r0000", training={"epochs": 1})
    request = requested(world, trained)
    assert request.run_key == trained.run_id
    first = track(world, request)
    assert first.success
    logged = world.instance.all_logs(first.run_id)
    said = [entry.user_message for entry in logged if int(entry.level) >= logging.WARNING]
    assert said == [
        f"MLflow at {uri} was not told: [Errno 111] Connection refused. What is missing is sent after the next round"
    ]
    assert state.runs == {}

    with served(state, int(uri.rpartition(":")[2])):
        assert track(world, request).success
        assert track(world, request).success
    [run] = state.runs.values()
    params = {param["key"]: param["value"] for param in run["data"]["params"]}
    assert params["training.epochs"] == "1", "of the run, where the deployment has 2"
    assert params["round.strategy"] == "low_certainty"
    assert params["checkpoint.architecture"] == "resnet18"
    assert {tag["key"]: tag["value"] for tag in run["data"]["tags"]}["al.round"] == "r0000"


def test_without_an_address_nothing_is_told(scanned: World) -> None:
    repository = scanned.defs.get_repository_def()
    assert "track" not in repository.job_names
    assert "rounds_tracked" not in {sensor.name for sensor in repository.sensor_defs}


def requested(world: World, result: dg.ExecuteInProcessResult) -> dg.RunRequest:
    """Return what the sensor requests after a round."""
    context = dg.build_run_status_sensor_context(
        sensor_name="rounds_tracked",
        dagster_instance=world.instance,
        dagster_run=result.dagster_run,
        dagster_event=next(event for event in result.all_events if event.is_successful_output),
    )
    request: Any = rounds_tracked(context)
    return request


def track(world: World, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """Run the job, as Dagster launches it."""
    assert request.tags[TELLS_TAG] == request.run_key
    return world.defs.resolve_job_def("track").execute_in_process(instance=world.instance, tags=dict(request.tags))
