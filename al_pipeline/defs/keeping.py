"""After each round the checkpoints of old ones are deleted, but those that `loop.keeping` names."""

import dagster as dg

from al_pipeline.core.rounds import is_round, round_key, round_number
from al_pipeline.defs.jobs import round_job
from al_pipeline.loop.deployment import Deployment

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def used_by_runs(instance: dg.DagsterInstance) -> set[str]:
    """Return the rounds of the runs that have not ended, and those before them, which training may go on from."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    keys = {key for run in runs if (key := run.tags.get("dagster/partition")) and is_round(key)}
    return keys | {round_key(round_number(key) - 1) for key in keys if round_number(key)}


@dg.run_status_sensor(
    name="old_checkpoints_deleted",
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[round_job],
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="After each round deletes old checkpoints: the newest five stay (keep_checkpoints), the best, exported "
    "ones, and those of rounds with unanswered tasks or a run under way. Of refined networks the newest five, what "
    "serves, exported ones, and what rounds stand on whose checkpoint stays. Switch it off to keep all of them.",
)
def old_checkpoints_deleted(
    context: dg.RunStatusSensorContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SkipReason:
    """Delete the checkpoints and refined networks that nobody needs any more; what each was stays readable."""
    from al_pipeline.loop.keeping import delete_spare, delete_spare_networks

    used = used_by_runs(context.instance)
    deleted, networks = delete_spare(deployment, used), delete_spare_networks(deployment, used)
    said = f"Deleted the checkpoints of {', '.join(deleted)}" if deleted else "All checkpoints are kept"
    return dg.SkipReason(said + (f"; deleted the networks refined in {', '.join(networks)}" if networks else ""))
