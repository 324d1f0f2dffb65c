"""Read the facts of the newest round: from Dagster's runs, the ledger and Label Studio."""

from dataclasses import dataclass, field

import dagster as dg
import pandas as pd
from dagster import DagsterRunStatus as Status

from al_pipeline.core.rounds import RoundPolicy, RoundStatus, RunState, awaited_round, round_key, round_number
from al_pipeline.defs.partitions import rounds
from al_pipeline.loop.answers import answered_samples
from al_pipeline.loop.deployment import Deployment

PARTITION_TAG = "dagster/partition"
WILL_RETRY_TAG = "dagster/will_retry"
# What is read of a round's plan at every tick.
PROGRESS = ("sample_id", "purpose", "task_id")
# Runs that turn the loop: the job itself, or "Materialize" on the asset graph. A retraining is not an attempt.
ROUND_JOBS = {"round", "__ASSET_JOB"}


@dataclass(frozen=True)
class Facts:
    """What is known about the newest round, and the counts worth recording when they change."""

    status: RoundStatus
    counts: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempts:
    """The runs a round has had so far."""

    state: RunState
    count: int
    failed_run_id: str | None


@dataclass(frozen=True)
class _Progress:
    """Samples of a round: labeled, skipped, without a task; and those labeled that are no holdout or review."""

    labeled: int = 0
    skipped: int = 0
    missing: int = 0
    labeled_queries: int = 0


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


def pushed(deployment: Deployment, policy: RoundPolicy, number: int, *, attempts: int = 1) -> Facts:
    """Return the facts of a round whose batch is in Label Studio.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read.
    """
    key, ledger = round_key(number), deployment.ledger
    planned = ledger.planned(key, columns=PROGRESS)
    awaited = awaited_round(number, policy)
    before = planned if awaited in {None, number} else ledger.planned(round_key(number - 1), columns=PROGRESS)
    ahead = before is not planned and not before.empty
    if ahead:
        key, planned = round_key(number - 1), before
    progress = _progress(deployment, planned, key, policy.min_votes)
    return Facts(
        RoundStatus(
            round_number=number,
            run_state="succeeded",
            attempts=attempts,
            planned=len(planned),
            labeled=progress.labeled,
            skipped=progress.skipped,
            withdrawn=progress.missing,
            opened_at=ledger.pushed_at(key),
            unlabeled_left=max(0, ledger.count_samples("pool") - ledger.count_asked()),
            # The awaited round's answers are counted where they are; the ledger gets them when the next round pulls.
            ahead=ahead,
            labels_total=ledger.count_labels(policy.min_votes, but=key) + progress.labeled_queries,
        ),
        counts={
            "round": key,
            "planned": len(planned),
            "labeled": progress.labeled,
            "skipped": progress.skipped,
            "missing": progress.missing,
        },
    )


def _progress(deployment: Deployment, planned: pd.DataFrame, key: str, min_votes: int) -> _Progress:
    """Count in Label Studio what people have done with a round, and what is gone."""
    from al_pipeline.labelstudio.counts import LISTED, count_round

    if planned.empty:
        return _Progress()
    client, project_id = deployment.label_studio, deployment.project_id()
    only_queries = bool((planned["purpose"] == "query").all())
    if len(planned) > LISTED and only_queries and planned["task_id"].notna().all():
        counts = count_round(client, project_id, key, planned["task_id"].tolist(), min_votes)
        if counts is not None:
            return _Progress(counts.labeled, counts.skipped, 0, counts.labeled)

    asked = set(planned["sample_id"])
    tasks = client.tasks(project_id, key)
    labeled = {task.sample_id for task in tasks if task.annotations >= min_votes} & asked
    skipped = ({task.sample_id for task in tasks if task.cancelled} & asked) - labeled
    missing = asked - {task.sample_id for task in tasks}
    if missing:
        # An answer that was pulled is known, whatever became of its task.
        known = answered_samples(deployment.ledger, key, min_votes)
        labeled |= {sample for sample in missing if known.get(sample) is True}
        skipped |= {sample for sample in missing if known.get(sample) is False}
        missing -= known.keys()
    query = set(planned.loc[planned["purpose"] == "query", "sample_id"])
    return _Progress(len(labeled), len(skipped), len(missing), len(labeled & query))
