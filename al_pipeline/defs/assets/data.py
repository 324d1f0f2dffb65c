"""The data group: which images there are, and their features."""

import dagster as dg
import pandas as pd

from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.report import describe
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.pool_metadata import pool_metadata
from al_pipeline.loop.classes import declare, listing_options
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.samples import StoredSamples


@dg.asset(group_name="data", kinds={"python"}, io_manager_key="tables")
def image_pool(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[pd.DataFrame]:
    """Every image that may be labeled, one row per file: id, place, size, split, perceptual hash.

    Files that cannot be used stay in the table with the split `excluded` and the reason. Materialize it again after
    adding images; ids are content hashes, so nothing that is labeled is lost.
    """
    settings = deployment.settings
    if settings.images is None:
        raise InputError("No folder of images is set: set AL_IMAGES (or `images` in al.toml) to your folder")
    options = listing_options(settings)
    manifest = scan(settings.images, max_excluded_share=settings.max_excluded_share, **options)
    # Before anything is stored: what is declared may be refused.
    names = declare(deployment.ledger, manifest, settings).names
    deployment.ledger.register(manifest)

    report = describe(manifest, settings.images, rule=settings.group)
    for subject, text in report.facts():
        context.log.info("%s: %s", subject, text)
    for each in report.set_aside:
        context.log.warning("%d set aside: %s, for example %s", each.files, each.reason, each.example)
    return dg.MaterializeResult(value=manifest, metadata=pool_metadata(report, manifest, names))


@dg.asset(group_name="data", kinds={"pytorch"}, pool="train")
def embeddings(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """Features of every sample from the network's starting weights; only samples not seen before are computed."""
    samples = StoredSamples(image_pool, deployment, training, round_config.seed, context.log)
    computed = samples.complete(list(samples.uris))
    return dg.MaterializeResult(
        metadata={
            "samples": len(samples.uris),
            "computed": computed,
            "reused": len(samples.uris) - computed,
            "weights": f"{training.weights} ({samples.start.info.backbone_hash[:16]})",
            "store": dg.MetadataValue.path(str(samples.store.folder)),
        }
    )
