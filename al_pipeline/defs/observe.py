"""Read the facts of the newest round: from Dagster's runs, the ledger and Label Studio."""

from dataclasses import dataclass, replace

import dagster as dg
from dagster import DagsterRunStatus as Status

from al_pipeline.core.rounds import RoundPolicy, RoundStatus, RunState, round_key
from al_pipeline.defs.partitions import INTERRUPTED_TAG, rounds
from al_pipeline.defs.round_keys import newest_of, no_rounds, refusal
from al_pipeline.ledger import Ledger
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.progress import Facts, keep_up, pushed

PARTITION_TAG = "dagster/partition"
WILL_RETRY_TAG = "dagster/will_retry"
# On a run whose partition was refused: its own id, since a run that re-executes another inherits the tags.
REFUSED_TAG = "al_pipeline/refused"
# Runs that turn the loop: the job itself, or "Materialize" on the asset graph. A retraining is not an attempt.
ROUND_JOBS = {"round", "__ASSET_JOB"}
# Rounds that tell how long the next one takes: the more labels, the longer.
RECENT = 3


@dataclass(frozen=True)
class Attempts:
    """The runs a round has had so far; those that ended with the servers, on purpose, are no failures."""

    state: RunState
    count: int
    failed_run_id: str | None
    interrupted: int = 0

    @property
    def failures(self) -> int:
        """How many of the runs count towards `max_attempts`."""
        return self.count - self.interrupted


def newest_round(instance: dg.DagsterInstance, ledger: Ledger) -> int | None:
    """Return the number of the newest round, or None before round 0."""
    keys = instance.get_dynamic_partitions(str(rounds.name))
    return newest_of(keys, ledger.rounds(), lambda key: attempts_of(instance, key).count > 0)


def refuse_other_keys(context: dg.AssetExecutionContext, ledger: Ledger) -> None:
    """Fail the run if its partition is no round, or one beyond the next: such a run is no attempt at a round."""
    if reason := refusal(context.partition_key, ledger.rounds()):
        context.instance.add_run_tags(context.run.run_id, {REFUSED_TAG: context.run.run_id})
        raise dg.Failure(reason, allow_retries=False)


def attempts_of(instance: dg.DagsterInstance, key: str) -> Attempts:
    """Return what became of the runs of a round; it has succeeded once its batch is in Label Studio."""
    runs = [
        run
        for run in instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: key}), limit=100)
        if run.job_name in ROUND_JOBS and run.tags.get(REFUSED_TAG) != run.run_id
    ]
    ended = {Status.SUCCESS, Status.FAILURE, Status.CANCELED}
    if any(run.status not in ended or _to_be_retried(run, runs) for run in runs):
        return Attempts("in_progress", len(runs), None)
    if key in instance.get_materialized_partitions(dg.AssetKey("labeling_tasks")):
        return Attempts("succeeded", len(runs), None)
    if not runs:
        return Attempts("none", 0, None)
    newest = runs[0]
    state = "canceled" if newest.status == Status.CANCELED else "failed"
    interrupted = sum(run.tags.get(INTERRUPTED_TAG) == run.run_id for run in runs)
    return Attempts(state, len(runs), newest.run_id, interrupted)


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
    facts = _observe(instance, deployment, policy)
    return replace(facts, warning=no_rounds(instance.get_dynamic_partitions(str(rounds.name))))


def _observe(instance: dg.DagsterInstance, deployment: Deployment, policy: RoundPolicy) -> Facts:
    number = newest_round(instance, deployment.ledger)
    if number is None:
        return Facts(RoundStatus())
    key = round_key(number)
    attempts = attempts_of(instance, key)
    if attempts.state != "succeeded":
        if attempts.state == "in_progress":
            keep_up(deployment, policy)
        return Facts(
            RoundStatus(
                round_number=number,
                run_state=attempts.state,
                attempts=attempts.count,
                interrupted=attempts.interrupted,
                failed_run_id=attempts.failed_run_id,
            )
        )

    seconds = seconds_per_round(instance, number) if policy.prefetch else None
    return pushed(deployment, policy, number, attempts=attempts.count, seconds=seconds)


def seconds_per_round(instance: dg.DagsterInstance, number: int) -> float | None:
    """Return the longest that one of the last rounds up to this took, from its request to its end; None if none did."""
    keys = [round_key(each) for each in range(max(0, number - RECENT + 1), number + 1)]
    done = dg.RunsFilter(job_name="round", statuses=[Status.SUCCESS], tags={PARTITION_TAG: keys})
    records = instance.get_run_records(done, limit=2 * RECENT)
    took = [record.end_time - record.create_timestamp.timestamp() for record in records if record.end_time]
    return max(took, default=None)
