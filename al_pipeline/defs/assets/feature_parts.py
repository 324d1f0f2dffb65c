"""The features of large pools, a part in each run: there where `compute.engine` is parts."""

import dagster as dg
import pandas as pd

from al_pipeline.core.data.parts import PARTS
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.loop.deployment import Deployment

POOL = "features"
parts = dg.StaticPartitionsDefinition(PARTS)


@dg.asset(
    group_name="data",
    kinds={"pytorch"},
    partitions_def=parts,
    pool=POOL,
    # A bucket that was away, or a machine short of memory: what was stored until then stays.
    retry_policy=dg.RetryPolicy(max_retries=2, delay=15),
)
def feature_parts(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """Features of a 256th of the pool: the samples whose ids begin with the partition's two digits.

    Launch any of them, or all, on any machine and at any time: what is stored, or what another run is at, is not
    computed again. `embeddings` asks for those that are missing, and finds them.
    """
    from al_pipeline.loop.fan_out import complete_features

    done = complete_features(
        deployment, image_pool, training, round_config.seed, context.log, part=context.partition_key
    )
    return dg.MaterializeResult(
        metadata={
            "samples": len(done.found.there),
            "computed": done.computed,
            "arithmetic": done.samples.start.info.arithmetic,
            "store": dg.MetadataValue.path(str(done.samples.store.folder)),
        }
    )
