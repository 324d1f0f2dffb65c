"""The loop closes here: when people have answered a round, the next one is requested."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import ALError
from al_pipeline.core.rounds import Open, RoundPolicy, Stalled, Wait, decide, round_key
from al_pipeline.defs.closing import is_closed
from al_pipeline.defs.jobs import retrain_job, round_job, setup_job
from al_pipeline.defs.observe import Facts, observe
from al_pipeline.defs.partitions import rounds
from al_pipeline.loop.claims import Claims
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.presence import is_away
from al_pipeline.loop.waiting import tell_annotators
from al_pipeline.settings import Settings

ANNOTATIONS_LANDED = "annotations_landed"
UNREAD = "The state of the loop could not be read, nothing is decided"
# What the cursor holds beside the counts for whoever watches: the kind of decision, and its reason.
DECIDED = ("decision", "reason")


def annotations_landed(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor, as often as the settings say."""
    sensor = dg.sensor(
        name=ANNOTATIONS_LANDED,
        job=round_job,
        minimum_interval_seconds=settings.sensor_interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Opens the next round once enough of the newest one is answered. Its last tick says what the loop "
        "waits for. Switch it off to pause the loop; on again it goes on where it was. Next round now: launch the job "
        "next_round.",
    )
    return sensor(_look)


def _look(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment], policy: dg.ResourceParam[RoundPolicy]
) -> dg.SensorResult | dg.SkipReason:
    """Look at the newest round; once enough of its batch is answered, add the next round and request its run.

    Everything is read anew at every tick, so nothing is lost by a tick that fails: it says why and the next one looks
    again.
    """
    try:
        facts = observe(context.instance, deployment, policy)
    except ALError as error:
        return dg.SkipReason(f"{UNREAD}: {error}")
    now = datetime.now(UTC)
    decision = decide(facts.status, policy, now)
    if isinstance(decision, Wait) and is_closed(context.instance, facts.status):
        decision = decide(facts.status, policy, now, deadline=True)
    told = json.loads(context.cursor or "{}")
    for name in DECIDED:
        told.pop(name, None)
    notice = tell_annotators(deployment, facts.status, decision, told.pop("notice", ""))
    if facts.warning not in (None, told.pop("warning", None)):
        context.log.warning(facts.warning)
    remarks = " ".join(f"{remark}." for remark in facts.remarks)
    if remarks not in ("", told.pop("remarks", "")):
        context.log.warning(remarks)
        observations = _observations(facts, remarks)
    else:
        observations = _observations(facts, "") if facts.counts not in ({}, told) else []
    also = dict(zip(DECIDED, (type(decision).__name__, decision.reason), strict=True))
    also |= {"warning": facts.warning, "remarks": remarks, "notice": notice}
    cursor = json.dumps(facts.counts | {name: text for name, text in also.items() if text}, sort_keys=True)
    if not isinstance(decision, Open):
        if isinstance(decision, Stalled):
            context.log.error(decision.reason)
        reason = f"{decision.reason}. {remarks}" if remarks else decision.reason
        return dg.SensorResult(skip_reason=reason, asset_events=observations, cursor=cursor)
    if decision.attempt > 1 and is_away(deployment.settings):
        # Attempts are counted: what a share that is not mounted makes fail would fail again.
        images = deployment.settings.images
        remedy = "is its service there?" if isinstance(images, Place) else "is a share not mounted?"
        reason = f"{decision.reason}; not before {images} is there again: {remedy}"
        return dg.SensorResult(skip_reason=reason, asset_events=observations, cursor=cursor)
    key, run = round_key(decision.round_number), request(decision)
    try:
        # It may have taken it before, in a look whose run was not created: Dagster knows the run key.
        claim = Claims(deployment.artifacts.claims).take(str(run.run_key), ANNOTATIONS_LANDED)
    except ALError as error:
        return dg.SkipReason(f"{UNREAD}: {error}")
    if claim is None:
        # Nothing hinders it: whoever watches is told to wait.
        cursor = json.dumps(json.loads(cursor) | {DECIDED[0]: Wait.__name__}, sort_keys=True)
        reason = f"{decision.reason}; its run is being launched already"
        return dg.SensorResult(skip_reason=reason, asset_events=observations, cursor=cursor)
    context.log.info(decision.reason)
    new = not context.instance.has_dynamic_partition(str(rounds.name), key)
    return dg.SensorResult(
        run_requests=[run],
        dynamic_partitions_requests=[rounds.build_add_request([key])] if new else [],
        asset_events=observations,
        cursor=cursor,
    )


def request(decision: Open) -> dg.RunRequest:
    """Return the run of the round to open; the attempt is in the key because a run key counts once for ever."""
    key = round_key(decision.round_number)
    return dg.RunRequest(
        run_key=f"{key}-attempt-{decision.attempt}",
        partition_key=key,
        tags={"al_pipeline/attempt": str(decision.attempt)},
    )


def _observations(facts: Facts, remarks: str) -> list[dg.AssetObservation]:
    """Return what the pages of the annotations, and of the batch that they answer, show from now on."""
    counts: dict[str, Any] = dict(facts.counts)
    if not remarks:
        return [dg.AssetObservation("annotations", metadata=counts)]
    batch = dg.AssetObservation("labeling_tasks", partition=str(counts["round"]), metadata={"remarks": remarks})
    return [dg.AssetObservation("annotations", metadata=counts | {"remarks": remarks}), batch]


@dg.run_failure_sensor(
    name="round_failed",
    monitored_jobs=[round_job, retrain_job, setup_job],
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells people that a round or a scan has failed: in its log, and at AL_ALERT_URL if one is set.",
)
def round_failed(context: dg.RunFailureSensorContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Tell people that a round or a scan failed: in this sensor's log, and at AL_ALERT_URL if one is set."""
    run, key = context.dagster_run, context.partition_key
    text = f"{run.job_name} {key or ''} failed in run {run.run_id}: {context.failure_event.message}"
    context.log.error(text)
    if deployment.settings.alert_url is None:
        return
    import httpx

    # The address may hold a secret, and httpx logs each request's.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        answer = httpx.post(deployment.settings.alert_url.get_secret_value(), json={"text": text}, timeout=10)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        # So do its errors' messages tell it.
        context.log.warning("AL_ALERT_URL was not told: %s", type(error).__name__)
