"""Next round now: people close a partly answered round with the job `next_round`."""

from datetime import UTC, datetime

import dagster as dg

from al_pipeline.core.rounds import Open, RoundStatus, decide, round_key
from al_pipeline.defs.observe import observe
from al_pipeline.loop.deployment import Deployment

# On a run of `next_round`: the newest round when it was launched, which needs no more answers.
CLOSES_TAG = "al_pipeline/closes"


@dg.op
def close_round(context: dg.OpExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Have the next round opened with the answers there are; fail, and say why, where there is none to open."""
    # As the sensor goes by it.
    policy = deployment.settings.policy
    status = observe(context.instance, deployment, policy).status
    decision = decide(status, policy, datetime.now(UTC), deadline=True)
    if not isinstance(decision, Open):
        raise dg.Failure(f"No round can be opened now. {decision.reason}", allow_retries=False)
    assert status.round_number is not None
    context.instance.add_run_tags(context.run_id, {CLOSES_TAG: round_key(status.round_number)})
    context.log.info(
        "%s. The sensor annotations_landed opens %s within seconds", decision.reason, round_key(decision.round_number)
    )


@dg.job(name="next_round")
def next_round_job() -> None:
    """Next round now: train on the answers there are, one at least, and choose the next batch.

    Launch it where nobody is going to answer the rest of a batch: no partition to choose, no settings to change. What
    is answered late counts from the round after on. If nothing is answered yet, it fails and says so.
    """
    close_round()


def is_closed(instance: dg.DagsterInstance, status: RoundStatus) -> bool:
    """Say whether people have asked for the next round while this one was the newest."""
    if status.round_number is None:
        return False
    asked = dg.RunsFilter(job_name=next_round_job.name, tags={CLOSES_TAG: round_key(status.round_number)})
    return bool(instance.get_runs(asked, limit=1))
