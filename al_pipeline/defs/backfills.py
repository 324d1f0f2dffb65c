"""“Materialize all” on the whole graph would scan, run every round again and compute every study: it is stopped."""

from collections.abc import Collection

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster_shared.error import SerializableErrorInfo

from al_pipeline.defs.assets.simulation import cells
from al_pipeline.defs.jobs import ROUND_ASSETS, SETUP_ASSETS

INSTEAD = (
    "Nothing of it is run. What to launch instead, on the page Jobs: `next_round` to go on now, `setup` to scan "
    "images, `retrain` for a round with other settings. To compare strategies open the asset group simulation: its "
    "“Materialize all” lets you choose two or three strategies and 5 to 10 seeds."
)


def refusal(assets: Collection[str], studies: int) -> str | None:
    """Return why a backfill is run by no mistake only, a sentence for people; None if it may go on.

    Dagster lets nobody choose partitions where some assets have none, or others: it takes all.

    Parameters
    ----------
    assets : collection of str
        What it materializes.
    studies : int
        How many partitions of `simulation`.
    """
    if studies >= len(cells.get_partition_keys()):
        return f"This would compute all {studies} studies, every strategy with every seed: hours or days. {INSTEAD}"
    if not ROUND_ASSETS.isdisjoint(assets) and not SETUP_ASSETS.isdisjoint(assets):
        return f"This would scan the images and train every round again, each in a run of its own. {INSTEAD}"
    return None


@dg.sensor(
    name="materialize_all_stopped",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="“Materialize all” on the whole asset graph would run every round again and compute every study. This "
    "stops it, and the backfill's page says what to launch instead. Switch it off if you do want all of it.",
)
def materialize_all_stopped(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Stop backfills that nobody can have meant."""
    stopped = []
    for backfill in context.instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
        reason = refusal(*_target(backfill))
        if reason is not None:
            error = SerializableErrorInfo(message=reason, stack=[], cls_name=None)
            context.instance.update_backfill(backfill.with_status(BulkActionStatus.FAILING).with_error(error))
            context.log.error("Backfill %s is stopped. %s", backfill.backfill_id, reason)
            stopped.append(backfill.backfill_id)
    return dg.SkipReason(f"Stopped: {', '.join(stopped)}" if stopped else "No backfill of everything is under way")


def _target(backfill: PartitionBackfill) -> tuple[set[str], int]:
    data = backfill.asset_backfill_data
    if data is None:
        # Of a job: its page has the partitions to choose from.
        return set(), 0
    assets = {key.to_user_string() for key in data.target_subset.asset_keys}
    simulated = data.target_subset.partitions_subsets_by_asset_key.get(dg.AssetKey("simulation"))
    return assets, 0 if simulated is None else len(simulated)
