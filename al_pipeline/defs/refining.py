"""When a network is refined while people label, and what it gives way to."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterRunStatus as Status

from al_pipeline.core.learning.options import worth_refining
from al_pipeline.core.learning.provenance import provenance
from al_pipeline.core.rounds import is_round
from al_pipeline.defs.closing import next_round_job
from al_pipeline.defs.images import UNDER_WAY
from al_pipeline.defs.jobs import ROUND_ASSETS, SETUP_ASSETS, refine_job, retrain_job, round_job, setup_job
from al_pipeline.defs.partitions import INTERRUPTED_TAG
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.presence import is_away
from al_pipeline.loop.refined import refined_network
from al_pipeline.loop.refining import FEWEST_LABELS
from al_pipeline.settings import Settings

REFINE_MEANWHILE = "refine_while_labeling"
INTERVAL = 10
ATTEMPTS = 3
FIRST = (round_job.name, next_round_job.name, setup_job.name, retrain_job.name)
BY_HAND = "__ASSET_JOB"
PARTITION_TAG = "dagster/partition"
# Minutes from which on people are told why a refinement takes long: 20 to 200 labels take a few on an idle core.
LONG = 60


@dataclass(frozen=True)
class Pushed:
    """The newest round that is with the annotators, or that has asked nobody.

    Attributes
    ----------
    key : str
    by_head : bool
        Whether it has learned a head in a way that leaves a network to be refined.
    labels : int
        That it has learned from.
    refined_on : int
        Labels that the newest refined network before it has learned from; 0 without one.
    refined : bool
        Its own network is whole.
    """

    key: str
    by_head: bool
    labels: int
    refined_on: int = 0
    refined: bool = False


def may_refine(settings: Settings) -> bool:
    """Say whether the settings allow for a network that is refined."""
    training = settings.training
    return training.refine == "auto" and training.mode == "auto" and training.weights != "none"


def refine_while_labeling() -> dg.SensorDefinition:
    """Return the sensor."""
    sensor = dg.sensor(
        name=REFINE_MEANWHILE,
        job=refine_job,
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has the whole network fine-tuned while people label (training.refine), one at a time; it waits "
        "while a round is due. Its last tick says why none is made now.",
    )

    def look(
        context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
    ) -> dg.RunRequest | dg.SkipReason:
        """Look at the newest round with the annotators; request its refinement once nothing else is under way."""
        if first := goes_first(context.instance):
            return dg.SkipReason(f"Nothing is refined now: {first} goes first")
        if is_away(deployment.settings):
            return dg.SkipReason(f"Nothing is refined before {deployment.settings.images} is there again")
        pushed = newest_pushed(deployment)
        if pushed is None:
            return dg.SkipReason("No round is with the annotators yet")
        records = context.instance.get_run_records(dg.RunsFilter(job_name=refine_job.name), limit=50)
        runs = [(each.dagster_run.run_id, each.dagster_run.status, each.dagster_run.tags) for each in records]
        begun = [each.start_time for each in records if each.start_time and each.dagster_run.status in UNDER_WAY]
        return decide(pushed, runs, (time.time() - min(begun)) / 60 if begun else 0.0)

    return sensor(look)


def newest_pushed(deployment: Deployment) -> Pushed | None:
    """Return what is known of the newest round whose batch is in Label Studio or is empty; None before there is one."""
    ledger, artifacts = deployment.ledger, deployment.artifacts
    key = ledger.newest_pushed()
    # The last round has learned from all labels and asks nobody: what is refined on them is what people take home.
    last = max((path.stem for path in artifacts.round_starts.glob("*.json") if is_round(path.stem)), default="")
    if last > (key or "") and ledger.is_planned(last) and not ledger.count_planned(last):
        key = last
    if key is None:
        return None
    own = provenance(artifacts.checkpoints / f"{key}.safetensors")
    # Written by rounds that can be refined; a GPU is nothing that a sensor knows of.
    can_be = (artifacts.round_starts / f"{key}.json").exists()
    found = (path for path in artifacts.refined.glob("*.json") if is_round(path.stem))
    earlier = max((path for path in found if path.stem < key), default=None)
    before = {} if earlier is None else provenance(earlier.with_suffix(".safetensors"))
    by_head = can_be and own.get("mode") == "head"
    labels, refined_on = (int(found.get("n_labels", 0)) for found in (own, before))
    return Pushed(key, by_head, labels, refined_on, refined_network(artifacts, key) is not None)


def decide(
    pushed: Pushed, runs: Sequence[tuple[str, Status, Mapping[str, str]]], minutes: float = 0.0
) -> dg.RunRequest | dg.SkipReason:
    """Return what follows from a look.

    Parameters
    ----------
    pushed : Pushed
    runs : sequence of (id, status, tags)
        The last runs of `refine`, the newest first.
    minutes : float
        Since the one that is under way began.
    """
    key = pushed.key
    if under_way := next((tags.get(PARTITION_TAG) for _, status, tags in runs if status in UNDER_WAY), None):
        long = ""
        if minutes >= LONG:
            long = (
                f", for {minutes:.0f} minutes: it gets the computing time that others leave, and rounds go on without "
                'it; where they leave none, training.refine = "off" does without'
            )
        return dg.SkipReason(f"A network is being refined on the labels of {under_way}{long}")
    if pushed.refined:
        return dg.SkipReason(f"{key} is refined; the next round with new labels will be")
    if not pushed.by_head:
        return dg.SkipReason(f"{key} was not trained in a way that leaves something to refine (training.mode)")
    if pushed.labels < FEWEST_LABELS:
        return dg.SkipReason(f"{key} has {pushed.labels} labels, fewer than {FEWEST_LABELS}: too few to refine on")
    if not worth_refining(pushed.labels, pushed.refined_on):
        few = f"{pushed.labels} labels, and {pushed.refined_on} had the last network that was refined"
        return dg.SkipReason(f"{key} has {few}: too few more to refine again")
    own = [(run_id, status, tags) for run_id, status, tags in runs if tags.get(PARTITION_TAG) == key]
    if own and own[0][1] == Status.CANCELED:
        return dg.SkipReason(f"{key}: somebody ended run {own[0][0]}; the next round will be refined")
    failed = sum(tags.get(INTERRUPTED_TAG) != run_id for run_id, _, tags in own)
    if failed >= ATTEMPTS:
        return dg.SkipReason(
            f"{key}: {failed} attempts to refine failed, the last as run {own[0][0]}; rounds go on without. The next "
            "round will be tried"
        )
    # A run key counts once for ever.
    attempt = len(own) + 1
    tags = {"al_pipeline/attempt": str(attempt)}
    return dg.RunRequest(run_key=f"{key}-refine-{attempt}", partition_key=key, tags=tags)


def goes_first(instance: dg.DagsterInstance, own: str = "") -> str | None:
    """Return what a refinement gives way to, in words; None if nothing is due. A few milliseconds.

    Parameters
    ----------
    instance : dagster.DagsterInstance
    own : str
        The id of the run that asks.
    """
    for job in FIRST:
        if instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=list(UNDER_WAY))):
            return f"the job {job}"
    for run in instance.get_runs(dg.RunsFilter(job_name=BY_HAND, statuses=list(UNDER_WAY))):
        made = {key.to_user_string() for key in run.asset_selection or ()}
        if run.run_id != own and made & (ROUND_ASSETS | SETUP_ASSETS):
            return f"run {run.run_id}"
    return None
