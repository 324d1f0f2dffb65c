"""Images come, go and change: the sensor that has them scanned again."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import dagster as dg
from dagster import DagsterRunStatus as Status

from al_pipeline.core.data.changes import Changes
from al_pipeline.core.errors import ALError
from al_pipeline.defs.jobs import setup_job
from al_pipeline.defs.partitions import INTERRUPTED_TAG
from al_pipeline.loop.changes import Watch, watch
from al_pipeline.loop.classes import listing_options
from al_pipeline.settings import Settings

IMAGES_CHANGED = "images_changed"
# On a run of `setup`: the listing of the folder that it was requested for.
LISTING_TAG = "al_pipeline/listing"
ATTEMPTS = 3
# Dagster gives a look 60 s. What takes longer goes on meanwhile, and the next look has its result.
PATIENCE = 20.0
# Files that were written this many seconds ago or less may still grow.
SETTLED = 10.0
UNDER_WAY = {Status.QUEUED, Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING}


class ScanError(ALError):
    """Scanning the images once more would not help."""


def images_changed(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor, as often as the settings say."""
    look = watch(settings)

    def evaluate(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Look by names, sizes and moments whether the images are those of the last scan; if not, request `setup`.

        Everything is read anew at every tick. A folder that is away or hangs is not an empty one: nothing is decided.
        """
        return _look(context, look, settings)

    sensor = dg.sensor(
        name=IMAGES_CHANGED,
        job=setup_job,
        minimum_interval_seconds=max(1, round(settings.rescan_minutes * 60)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks every few minutes (rescan_minutes) whether images came, went or changed, and then has them "
        "scanned anew: the job setup. A folder that is away is not taken for an empty one.",
    )
    return sensor(evaluate)


def _look(
    context: dg.SensorEvaluationContext, look: Watch[Changes | None], settings: Settings
) -> dg.RunRequest | dg.SkipReason:
    if run := running_setup(context.instance):
        return dg.SkipReason(f"The images were being scanned at this look (run {run}); the next one compares again")
    try:
        changes = look.result(PATIENCE)
    except TimeoutError as error:
        return dg.SkipReason(f"The folder of images has been read for {error} and is not yet through, or hangs")
    except ALError as error:
        return dg.SkipReason(f"{error}. Nothing is scanned")
    if changes:
        # What the same files are refused for may have been mended: other classes, other settings.
        given = f"{changes.digest} {listing_options(settings)} {settings.group} {settings.max_gone_share}"
        given += f" {settings.max_excluded_share}"
        changes = replace(changes, digest=hashlib.sha256(given.encode()).hexdigest()[:32])
    runs = context.instance.get_runs(dg.RunsFilter(job_name=setup_job.name), limit=ATTEMPTS)
    try:
        return decide(changes, [(run.run_id, run.status, run.tags) for run in runs], time.time())
    except ScanError as error:
        context.log.error(str(error))
        return dg.SkipReason(str(error))


def running_setup(instance: dg.DagsterInstance) -> str | None:
    """Return the run that scans the images now, launched by whomever."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))
    scans = dg.AssetKey("image_pool")
    return next((r.run_id for r in runs if r.job_name == setup_job.name or scans in (r.asset_selection or ())), None)


def decide(
    changes: Changes | None, runs: Sequence[tuple[str, Status, Mapping[str, str]]], now: float
) -> dg.RunRequest | dg.SkipReason:
    """Return what follows from a look.

    Parameters
    ----------
    changes : Changes or None
    runs : sequence of (id, status, tags)
        The last runs of `setup`, the newest first; all have ended.
    now : float
        Unix time.

    Raises
    ------
    ScanError
        These files were scanned and still differ, or could not be scanned in three runs.
    """
    if changes is None:
        # Such a look is shown for minutes, until the next: long after `al up` has had them scanned.
        return dg.SkipReason("The images were never scanned when this look was: `al up` and `al open` have it done")
    if not changes:
        return dg.SkipReason(f"The folder of images is {changes.sentence}")
    if 0 <= now - changes.touched < SETTLED:
        return dg.SkipReason(f"Files are being written, the next look decides: {changes.sentence}")
    tried = 0
    for run_id, status, tags in runs:
        if tags.get(LISTING_TAG) != changes.digest:
            break
        if status == Status.SUCCESS:
            raise ScanError(
                f"Run {runs[0][0]} has scanned these very files, and they are not as it stored them: {changes.sentence}"
                ". Launch `setup` to scan them again"
            )
        tried += tags.get(INTERRUPTED_TAG) != run_id
    if tried >= ATTEMPTS:
        raise ScanError(
            f"These files could not be scanned in {tried} runs, the last is {runs[0][0]}: open it in Dagster, mend the "
            "cause and launch `setup`"
        )
    # A run key counts once for ever, and the same files may be there again: it names the run before, too.
    before = runs[0][0][:8] if runs else "none"
    tags = {LISTING_TAG: changes.digest, "al_pipeline/attempt": str(tried + 1), "al_pipeline/why": changes.sentence}
    return dg.RunRequest(run_key=f"{changes.digest}-after-{before}", tags=tags)
