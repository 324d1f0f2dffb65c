"""Every night a partly answered round is closed, if the schedule is on: the sensor's decision with a deadline."""

from datetime import UTC, datetime

import dagster as dg

from al_pipeline.core.rounds import Open, RoundPolicy, decide, round_key
from al_pipeline.defs.jobs import round_job
from al_pipeline.defs.observe import observe
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.sensors import request
from al_pipeline.loop.deployment import Deployment
from al_pipeline.settings import Settings


def nightly_round(settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule, at the hour and in the time zone of the settings."""
    schedule = dg.schedule(
        name="nightly_round",
        job=round_job,
        cron_schedule=settings.nightly_cron,
        execution_timezone=settings.timezone,
        description="Closes a partly answered round at a fixed hour (nightly_cron, timezone) and opens the next one, "
        "if one answer at least is there. Off until you switch it on. By hand: the job next_round.",
    )
    return schedule(_close)


def _close(
    context: dg.ScheduleEvaluationContext,
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[RoundPolicy],
) -> dg.RunRequest | dg.SkipReason:
    """Open the next round with the answers there are, at least one, however many are still missing."""
    decision = decide(observe(context.instance, deployment, policy).status, policy, datetime.now(UTC), deadline=True)
    if not isinstance(decision, Open):
        return dg.SkipReason(decision.reason)
    key = round_key(decision.round_number)
    if not context.instance.has_dynamic_partition(str(rounds.name), key):
        context.instance.add_dynamic_partitions(str(rounds.name), [key])
    return request(decision)
