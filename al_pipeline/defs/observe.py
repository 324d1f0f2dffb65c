"""Read the facts of the newest round: from Dagster's runs, the ledger and Label Studio."""

from dataclasses import dataclass

import dagster as dg
from dagster import DagsterRunStatus as Status

from al_pipeline.core.rounds import RoundPolicy, RoundStatus, RunState, round_key, round_number
from al_pipeline.defs.partitions import rounds
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.progress import Facts, pushed

PARTITION_TAG = "dagster/partition"
WILL_RETRY_TAG = "dagster/will_retry"
# Runs that turn the loop: the job itself, or "Materialize" on the asset graph. A retraining is not an attempt.
ROUND_JOBS = {"round", "__ASSET_JOB"}


@dataclass(frozen=True)
class Attempts:
    """The runs a round has had so far."""

    state: RunState
    count: int
    failed_run_id: str | None


def newest_round(instance: dg.DagsterInstance) -> int | None:
    """Return the number of the newest round, or None before round 0."""
    return max(map(round_number, instance.get_dynamic_partitions(str(rounds.name))), default=None)


def attempts_of(instance: dg.DagsterInstance, key: str) -> Attempts:
    """Return what became of the runs of a round; it has succeeded once its batch is in Label Studio."""
    runs = [
        run
        for run in instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: key}), limit=100)
        if run.job_name in ROUND_JOBS
    ]
    ended = {Status.SUCCESS, Status.FAILURE, Status.CANCELED}
    if any(run.status not in ended or _to_be_retried(run, runs) for run in runs):
        return Attempts("in_progress", len(runs), None)
    if key in instance.get_materialized_partitions(dg.AssetKey("labeling_tasks")):
        return Attempts("succeeded", len(runs), None)
    if not runs:
        return Attempts("none", 0, None)
    newest = runs[0]
    return Attempts("canceled" if newest.status == Status.CANCELED else "failed", len(runs), newest.run_id)


def _to_be_retried(run: dg.DagsterRun, runs: list[dg.DagsterRun]) -> bool:
    """Say whether Dagster has promised to retry a crashed run and has not created the new one yet."""
    return run is runs[0] and run.status == Status.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"


def observe(instance: dg.DagsterInstance, deployment: Deployment, policy: RoundPolicy) -> Facts:
    """Return the facts that `decide` needs.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read. That is not the same as having read that nothing is there.
    """
    number = newest_round(instance)
    if number is None:
        return Facts(RoundStatus())
    key = round_key(number)
    attempts = attempts_of(instance, key)
    if attempts.state != "succeeded":
        return Facts(
            RoundStatus(
                round_number=number,
                run_state=attempts.state,
                attempts=attempts.count,
                failed_run_id=attempts.failed_run_id,
            )
        )

    return pushed(deployment, policy, number, attempts=attempts.count)
