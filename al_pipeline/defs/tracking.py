"""Each round as a run of MLflow, in a run of its own after the round's: nobody waits for it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from al_pipeline.core.options import Options
from al_pipeline.defs.jobs import WAITS, retrain_job, round_job
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.kept_predictions import stored_rounds
from al_pipeline.loop.tracking import send, write_down

# On a run of `track`: the run of the round that it tells of.
TELLS_TAG = "al_pipeline/tells"


def settings_of(deployment: Deployment, run: dg.DagsterRun) -> Mapping[str, Options]:
    """Return the settings of a run of a round: those of the deployment, with what its config changed."""
    settings = deployment.settings
    given: Mapping[str, Any] = dict(run.run_config).get("resources", {})  # type: ignore[assignment]
    groups: dict[str, tuple[str, Options]] = {
        "round": ("round_config", settings.round),
        "training": ("training", settings.training),
        "policy": ("policy", settings.policy),
    }
    changes: dict[str, dict[str, Any]] = {name: found.get("config", {}) for name, found in given.items()}
    return {name: group.but(**changes.get(resource, {})) for name, (resource, group) in groups.items()}


@dg.op(pool="track")
def tell_mlflow(context: dg.OpExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Write down what MLflow is to be told of a round, and send all that it has not been told; if it is down, warn."""
    run = context.instance.get_run_by_id(context.run.tags.get(TELLS_TAG, ""))
    of_run = {} if run is None else {run.tags.get("dagster/partition"): settings_of(deployment, run)}
    for key in stored_rounds(deployment.artifacts.evaluations):
        write_down(deployment, key, of_run.get(key), datetime.now(UTC))
    outcome = send(deployment)
    told = ", ".join(outcome.rounds)
    if told:
        context.log.info("MLflow was told of %s", told)
    if outcome.problem:
        context.log.warning("%s. What is missing is sent after the next round", outcome.problem)
    context.add_output_metadata({"told": told or "nothing new", "problem": outcome.problem or "none"})


@dg.job(name="track", tags=WAITS)
def track_job() -> None:
    """Tell MLflow of the rounds that it has not been told of (AL_TRACKING__URI); after each round it runs by itself."""
    tell_mlflow()


@dg.run_status_sensor(
    name="rounds_tracked",
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[round_job, retrain_job],
    request_job=track_job,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Launches the job track after each round: MLflow is told of it.",
)
def rounds_tracked(context: dg.RunStatusSensorContext) -> dg.RunRequest:
    """Request the run that tells MLflow of a round, once."""
    number = context.dagster_run.run_id
    return dg.RunRequest(run_key=number, tags={TELLS_TAG: number})
