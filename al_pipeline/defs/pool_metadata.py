"""What Dagster shows of a scan: the counts, tables and pictures that `al scan` shows in the terminal."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.places import start_of
from al_pipeline.core.data.pool import select_split
from al_pipeline.core.data.report import Report
from al_pipeline.core.study.page import escaped
from al_pipeline.defs.metadata import picture, table

THUMBNAILS = 40


def pool_metadata(
    report: Report, manifest: pd.DataFrame, names: Sequence[str], how: HowRead = AS_EVER
) -> dict[str, Any]:
    """Return the metadata of `image_pool`.

    Parameters
    ----------
    report : Report
    manifest : DataFrame
        What it is about.
    names : sequence of str
        The classes of the deployment; folders may lack for some.
    how : HowRead
        How images are read.
    """
    from al_pipeline.core.data.contact_sheet import contact_sheet
    from al_pipeline.core.evaluation.pool_figures import class_counts, size_histogram

    usable, pool = manifest[manifest["split"] != "excluded"], select_split(manifest, "pool")
    sample = pool.sample(min(THUMBNAILS, len(pool)), random_state=0)
    metadata: dict[str, Any] = {
        "samples": report.pool,
        "holdout": report.holdout,
        "excluded": report.excluded,
        "classes": dg.MetadataValue.json({"names": list(names[:100]), "count": len(names)}),
        "images": dg.MetadataValue.path(start_of(report.root).rstrip("/")),
        "found": table(pd.DataFrame(report.facts(), columns=["subject", "found"])),
        "images_by_class": table(report.counts.rename_axis("class").reset_index(), rows=100),
        "sizes": picture(size_histogram(usable["width"], usable["height"]), "sizes"),
        "thumbnails": picture(contact_sheet(sample["uri"].tolist(), how=how), "thumbnails"),
        "dagster/row_count": len(manifest),
    }
    if report.classes:
        metadata["class_sizes"] = picture(class_counts(report.counts.iloc[: len(report.classes)]), "images by class")
    if report.set_aside:
        metadata["set_aside"] = table(pd.DataFrame(report.set_aside))
    if report.left_out:
        rows = [(each.reason, each.images, ", ".join(each.folders[:5])) for each in report.left_out]
        metadata["left_out"] = table(pd.DataFrame(rows, columns=["reason", "images", "folders"]))
    if report.remarks:
        metadata["remarks"] = dg.MetadataValue.md("\n".join(f"- {escaped(remark)}" for remark in report.remarks))
    return metadata
