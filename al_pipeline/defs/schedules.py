"""Every night a partly answered round is closed, if the schedule is on: the sensor's decision with a deadline."""

from datetime import UTC, datetime

import dagster as dg

from al_pipeline.core.rounds import Open, decide, round_key
from al_pipeline.defs.jobs import round_job
from al_pipeline.defs.observe import observe, policy_of
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.resources import Deployment
from al_pipeline.defs.sensors import request
from al_pipeline.settings import PolicySettings, settings


@dg.schedule(
    name="nightly_round",
    job=round_job,
    cron_schedule=settings().nightly_cron,
    execution_timezone=settings().timezone,
)
def nightly_round(
    context: dg.ScheduleEvaluationContext,
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[PolicySettings],
) -> dg.RunRequest | dg.SkipReason:
    """Open the next round with the answers there are, at least one, however many are still missing."""
    decision = decide(
        observe(context.instance, deployment, policy).status, policy_of(policy), datetime.now(UTC), deadline=True
    )
    if not isinstance(decision, Open):
        return dg.SkipReason(decision.reason)
    key = round_key(decision.round_number)
    if not context.instance.has_dynamic_partition(str(rounds.name), key):
        context.instance.add_dynamic_partitions(str(rounds.name), [key])
    return request(decision)
