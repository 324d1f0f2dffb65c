"""Run a round up to its query batch, look at what it shows, and look as the sensor does."""

from collections.abc import Collection
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.defs.sensors import annotations_landed
from al_pipeline_tests.defs.worlds import World

BEFORE_PUSH = ["labeled_pool", "checkpoint", "evaluation", "uncertainty_scores", "query_batch"]


def freeze(world: World, key: str, per_class: int, *, but: Collection[str] = ()) -> pd.DataFrame:
    """Freeze labels of a round, as if people had given them, so that nothing has to be pulled."""
    pool = world.value("image_pool").query("split == 'pool'")
    pool = pool[~pool["sample_id"].isin(but)].groupby("label").head(per_class)
    rows = pd.DataFrame(
        {
            "sample_id": pool["sample_id"],
            "label": pool["label"],
            "votes": 1,
            "n_votes": 1,
            "weight": 1.0,
            "annotation_ids": "1",
            "first_round": "r0000",
        }
    )
    return world.deployment.ledger.snapshot(key, rows)


def run_round(
    world: World, key: str, assets: Collection[str] = BEFORE_PUSH, **resources: dict[str, Any]
) -> dg.ExecuteInProcessResult:
    """Run a round up to its query batch, or some of its assets."""
    if not world.instance.has_dynamic_partition("rounds", key):
        world.instance.add_dynamic_partitions("rounds", [key])
    return world.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=world.instance,
        partition_key=key,
        asset_selection=[dg.AssetKey(name) for name in assets],
        run_config={"resources": {name: {"config": config} for name, config in resources.items()}},
        raise_on_error=False,
    )


def errors_of(result: dg.ExecuteInProcessResult) -> str:
    """Return what failed and why."""
    return "\n".join(
        f"{event.step_key}: {event.event_specific_data.error.to_string()}"  # type: ignore[union-attr]
        for event in result.all_events
        if event.is_step_failure
    )


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {f"{e.asset_key.to_user_string()}.{e.check_name}": e.passed for e in result.get_asset_check_evaluations()}


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    [event] = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def shown_later(result: dg.ExecuteInProcessResult, asset: str, key: str) -> dict[str, Any]:
    """Return what the one observation of an asset in a run shows, which comes after the asset itself."""
    events = [e for e in result.all_events if e.asset_key == dg.AssetKey(asset)]
    kinds = [e.event_type_value for e in events]
    assert kinds.index("ASSET_MATERIALIZATION") < kinds.index("ASSET_OBSERVATION")
    [seen] = [e.asset_observation_data.asset_observation for e in events if e.is_asset_observation]
    assert seen.partition == key
    return {name: value.value for name, value in seen.metadata.items()}


def tick(world: World, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    """Have the sensor look once."""
    context = dg.build_sensor_context(
        instance=world.instance,
        cursor=cursor,
        resources={"deployment": world.deployment, "policy": world.settings.policy},
    )
    result = annotations_landed(world.settings)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def reason(result: dg.SensorResult | dg.SkipReason) -> str:
    """Return why a look has opened nothing; "" if it has."""
    told = result.skip_reason if isinstance(result, dg.SensorResult) else result
    return "" if told is None else str(told.skip_message)
