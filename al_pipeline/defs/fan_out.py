"""The runs that help `embeddings` with the features of a large pool, where `compute.engine` is parts."""

import dagster as dg

from al_pipeline.defs.assets.feature_parts import POOL, feature_parts
from al_pipeline.defs.jobs import WAITS
from al_pipeline.defs.pods import with_pods
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.fan_out import asked
from al_pipeline.settings import Settings

# Runs that wait, for each that is at it.
AHEAD = 2
compute_features_job = dg.define_asset_job(
    "compute_features",
    selection=[feature_parts],
    tags=WAITS,
    description="Features of a large pool, a part in each run, after image_pool. The sensor feature_parts_wanted "
    "launches those that `setup` lacks; by hand choose partitions, or all of them as a backfill.",
)


@dg.sensor(
    name="feature_parts_wanted",
    job=compute_features_job,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="While embeddings computes the features of a large pool, launches a run of feature_parts for each part "
    "that lacks some, so that other machines help (compute.engine = parts). compute.workers of them run at a time. "
    "Switched off, embeddings computes them all.",
)
def feature_parts_wanted(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult | dg.SkipReason:
    """Launch the runs that are wanted, once each, and few ahead: what waits when all is done was for nothing."""
    wanted = asked(deployment.artifacts)
    if wanted is None:
        return dg.SkipReason("No features are waited for")
    name, parts = wanted
    of, _, number = (context.cursor or "").partition(" ")
    begun, workers = int(number or 0) if of == name else 0, deployment.settings.compute.workers or 1
    # embeddings begins with the first part.
    if not (left := parts[::-1][begun:]):
        return dg.SkipReason(f"Runs for {len(parts)} parts are launched")
    # How many runs are at it at once; Dagster queues the others.
    context.instance.event_log_storage.set_concurrency_slots(POOL, workers)
    waiting = dg.RunsFilter(job_name=compute_features_job.name, statuses=[dg.DagsterRunStatus.QUEUED])
    some = left[: max(0, AHEAD * workers - context.instance.get_runs_count(waiting))]
    runs = [dg.RunRequest(run_key=f"{name}-{part}", partition_key=part) for part in some]
    return dg.SensorResult(run_requests=runs, cursor=f"{name} {begun + len(some)}")


def parts_if_wanted(settings: Settings) -> dg.Definitions:
    """Return what computes features in parts, or nothing."""
    if settings.compute.engine != "parts":
        return dg.Definitions()
    assets = [*with_pods([feature_parts], settings.kubernetes)]
    return dg.Definitions(assets=assets, jobs=[compute_features_job], sensors=[feature_parts_wanted])
