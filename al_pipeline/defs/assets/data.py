"""The data group: which images there are, and their features."""

import dagster as dg
import pandas as pd

from al_pipeline.core.data.groups import torn_groups
from al_pipeline.core.data.report import describe
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.metadata import absent, for_people
from al_pipeline.defs.pool_metadata import pool_metadata
from al_pipeline.loop.answers import asked_blind
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.fan_out import complete_features
from al_pipeline.loop.scan import Pace, scan_images
from al_pipeline.loop.weights import settle_weights


@dg.asset(group_name="data", kinds={"python"}, io_manager_key="tables")
def image_pool(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[pd.DataFrame]:
    """Every image that may be labeled, one row per file: id, place, size, split, perceptual hash.

    Files that cannot be used stay in the table with the split `excluded` and the reason. Materialize it again after
    adding images; ids are content hashes, so nothing that is labeled is lost.
    """
    scanned = scan_images(deployment, progress=Pace(context.log.info))
    manifest = scanned.manifest
    for sentence in scanned.sentences():
        context.log.info(sentence)
    report = describe(manifest, scanned.root, scanned.listing, rule=deployment.settings.group, how=scanned.how)
    for subject, text in report.facts():
        context.log.info("%s: %s", subject, text)
    for each in report.set_aside:
        context.log.warning("%d set aside: %s, for example %s", each.files, each.reason, each.example)
    metadata = pool_metadata(report, manifest, scanned.classes.names, scanned.how)
    if drawn := asked_blind(deployment.ledger):
        metadata["holdout_drawn"] = len(drawn)
    if scanned.reading:
        metadata["reading"] = "\n".join(scanned.reading)
    for remark in report.remarks:
        context.log.warning(remark)
    if torn := torn_groups(manifest):
        metadata["holdout_with_mates_in_the_pool"] = f"{len(torn)} of {(manifest['split'] == 'holdout').sum()}"
    return dg.MaterializeResult(value=manifest, metadata=for_people(metadata))


@dg.asset(group_name="data", kinds={"pytorch"}, pool="train")
def embeddings(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """Features of every sample from the network's starting weights; only samples not seen before are computed.

    Where rounds start from a network that was refined while people labeled, its features, too.
    """
    start = settle_weights(training, deployment.settings, again=True)
    context.log.info(start.said)
    if start.warning:
        context.log.warning(start.warning)
    done = complete_features(deployment, image_pool, training, round_config.seed, context.log)
    return dg.MaterializeResult(
        metadata={
            "samples": len(done.found.there),
            "computed": done.computed,
            "reused": len(done.found.there) - done.computed,
            **absent(done.found, "samples_without_image"),
            "weights": f"{done.samples.training.weights} ({done.samples.start.info.backbone_hash[:16]})",
            "arithmetic": done.samples.start.info.arithmetic,
            "store": dg.MetadataValue.path(str(done.samples.store.folder)),
        }
    )
