"""“Materialize all” is stopped before it runs; what people choose by hand goes on."""

from collections.abc import Sequence

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from al_pipeline.defs.assets.simulation import cells
from al_pipeline.defs.backfills import materialize_all_stopped, refusal
from al_pipeline.defs.jobs import ROUND_ASSETS, SETUP_ASSETS
from al_pipeline_tests.defs.worlds import World

EVERY = cells.get_partition_keys()


@pytest.mark.parametrize(
    ("assets", "studies", "why"),
    [
        ({*SETUP_ASSETS, *ROUND_ASSETS, "simulation"}, len(EVERY), "every strategy with every seed"),
        ({"simulation", "strategy_comparison"}, len(EVERY), "every strategy with every seed"),
        ({*SETUP_ASSETS, *ROUND_ASSETS}, 0, "train every round again"),
        ({*ROUND_ASSETS, "learning_curve"}, 0, None),
        (SETUP_ASSETS, 0, None),
        ({"simulation", "strategy_comparison"}, 15, None),
    ],
)
def test_only_what_nobody_can_have_meant_is_refused(assets: set[str], studies: int, why: str | None) -> None:
    found = refusal(assets, studies)
    assert found is None if why is None else found is not None and why in found


def launch(world: World, name: str, keys: Sequence[str]) -> None:
    """Record a backfill of studies as the UI does."""
    subset = AssetGraphSubset(
        partitions_subsets_by_asset_key={dg.AssetKey("simulation"): cells.subset_with_partition_keys(keys)}
    )
    world.instance.add_backfill(
        PartitionBackfill.from_asset_graph_subset(
            backfill_id=name,
            asset_graph_subset=subset,
            dynamic_partitions_store=world.instance,
            tags={},
            backfill_timestamp=1.0,
            title=None,
            description=None,
            run_config=None,
        )
    )


def test_the_sensor_stops_all_studies_and_leaves_some(world: World) -> None:
    launch(world, "every", EVERY)
    launch(world, "some", EVERY[:6])

    told = materialize_all_stopped(dg.build_sensor_context(instance=world.instance))

    assert isinstance(told, dg.SkipReason)
    assert told.skip_message == "Stopped: every"
    stopped, left = (world.instance.get_backfill(name) for name in ("every", "some"))
    assert stopped is not None
    assert left is not None
    assert (stopped.status, left.status) == (BulkActionStatus.FAILING, BulkActionStatus.REQUESTED)
    assert stopped.error is not None
    assert "`next_round`" in stopped.error.message
