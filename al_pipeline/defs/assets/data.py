"""The data group: which images there are, and their features."""

from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.data.groups import torn_groups
from al_pipeline.core.data.pool import select_split
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.metadata import png_markdown
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.samples import StoredSamples
from al_pipeline.loop.scan import Pace, scan_images


@dg.asset(group_name="data", kinds={"python"}, io_manager_key="tables")
def image_pool(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[pd.DataFrame]:
    """Every image that may be labeled, one row per file: id, place, size, split, perceptual hash.

    Files that cannot be used stay in the table with the split `excluded` and the reason. Materialize it again after
    adding images; ids are content hashes, so nothing that is labeled is lost.
    """
    from al_pipeline.core.data.images import contact_sheet

    scanned = scan_images(deployment, progress=Pace(context.log.info))
    manifest, names = scanned.manifest, scanned.classes.names
    for sentence in scanned.sentences():
        context.log.info(sentence)

    pool, holdout = select_split(manifest, "pool"), select_split(manifest, "holdout")
    excluded = manifest[manifest["split"] == "excluded"]
    sample = pool.sample(min(40, len(pool)), random_state=0)
    metadata: dict[str, Any] = {
        "samples": len(pool),
        "holdout": len(holdout),
        "excluded": len(excluded),
        "classes": dg.MetadataValue.json({"names": list(names[:100]), "count": len(names)}),
        "images": dg.MetadataValue.path(str(scanned.root)),
        "megabytes": round(float(manifest["bytes"].sum()) / 1e6, 1),
        "width": f"{pool['width'].min()} to {pool['width'].max()} px" if len(pool) else "none",
        "height": f"{pool['height'].min()} to {pool['height'].max()} px" if len(pool) else "none",
        "thumbnails": dg.MetadataValue.md(png_markdown(contact_sheet(sample["uri"].tolist()), "thumbnails")),
        "dagster/row_count": len(manifest),
    }
    if torn := torn_groups(manifest):
        # The split that the images bring is theirs: it is told, and not repaired.
        metadata["holdout_with_mates_in_the_pool"] = f"{len(torn)} of {len(holdout)}"
        context.log.warning(
            "%d of the %d images in the test split share a group (look-alikes, by default) with images of the pool, as "
            "%s does: what is measured on them flatters. Move whole groups, or remove the test split to have one drawn",
            *(len(torn), len(holdout), torn[0]),
        )
    if len(excluded):
        context.log.warning("%d files are excluded; the metadata lists them with their reasons", len(excluded))
        metadata["excluded_files"] = dg.MetadataValue.md(
            excluded.head(50)[["uri", "reason"]].rename(columns={"uri": "file"}).to_markdown(index=False)
        )
    return dg.MaterializeResult(value=manifest, metadata=metadata)


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
