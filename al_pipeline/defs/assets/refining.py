"""The network that is refined while people label; the rounds after it start from it."""

from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.evaluation.metrics import METRICS, Difference
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.metadata import for_people
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.refining import goes_first
from al_pipeline.loop.beside import GiveWay, at_lowest_priority
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.refined import served
from al_pipeline.loop.refining import Refinement, Refining


@dg.asset(group_name="model", kinds={"pytorch"}, partitions_def=rounds, pool="refine", deps=["checkpoint"])
def refined_checkpoint(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    policy: dg.ResourceParam[RoundPolicy],
    image_pool: pd.DataFrame,
    labeled_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """The whole network fine-tuned on this round's labels while people label; later rounds start from its features.

    It waits while a round or a scan is due, and goes on where it was, also after its process was killed. Whether it is
    better than the classifier alone is judged by labels that neither has learned from; what the holdout says of it is
    told, and plays no part. It is made once: one that is whole stays as it is.
    """
    give_way = GiveWay(lambda: goes_first(context.instance, context.run.run_id), context.log.info)
    task = Refining(
        *(deployment, image_pool, labeled_pool, training, round_config.seed, policy.min_votes),
        *(context.partition_key, context.log, give_way),
    )
    done = at_lowest_priority(task.run, give_way.stop)
    network = done.network
    context.log.info(network.sentence)
    serves = served(deployment.artifacts)
    metadata: dict[str, Any] = {
        "checkpoint": network.checkpoint,
        "better": network.better,
        "evidence": network.sentence,
        "reused": done.reused,
        "waited_seconds": round(give_way.waited, 1),
        "serves": "" if serves is None else serves.sentence,
        **_figures(done),
    }
    return dg.MaterializeResult(metadata=for_people(metadata))


def _figures(done: Refinement) -> dict[str, Any]:
    """Return what was measured, where it was made in this run."""
    if done.reused:
        return {}
    figures, seconds = done.figures, done.figures["seconds"]
    told: dict[str, Any] = {"labels": figures["labels"], "training_seconds": seconds["training"]}
    if done.network.better:
        told |= {"features_computed": figures["computed"], "features_seconds": seconds["features"]}
    compared = figures["holdout"] or {}
    for metric in METRICS:
        if compared.get(metric.name) is not None:
            found = Difference(**compared[metric.name])
            span = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
            told[f"{metric.name}_against_the_head"] = f"{span}: {found.verdict}"
    return told
