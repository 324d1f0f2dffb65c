"""The images that Label Studio serves, when those they were made of have moved, or were written over."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.errors import ImageError

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger


def publish_again(
    ledger: "Ledger", manifest: pd.DataFrame, folder: Path, log: logging.Logger, how: HowRead = AS_EVER
) -> int:
    """Publish what people were asked about and is not served any more; return how many images that are.

    A task names its image by the sample, so it shows it wherever the original lies today. What is served of a picture
    that has left the folder stays, unless its file shows another picture by now: a hard link shows what is written
    over the original.

    Parameters
    ----------
    ledger : Ledger
    manifest : DataFrame
        The image pool.
    folder : Path
        Of the published images.
    log : Logger
    how : HowRead
    """
    from al_pipeline.labelstudio.images import publish

    usable = manifest[manifest["split"] != "excluded"]
    asked = {*ledger.planned(columns=("sample_id",))["sample_id"], *ledger.members()["member_id"]}
    # The examples of the guideline lie there too.
    served = {i: entry for entry in os.scandir(folder) if (i := Path(entry.name).stem) in asked}
    for i, uri in _written_over(usable, served):
        log.warning("The published image of %s is taken away: %s holds another picture now", i, uri)
        Path(served.pop(i).path).unlink()
    uris = dict(zip(usable["sample_id"], usable["uri"], strict=True))
    missing = [i for i in sorted(asked) if i not in served and i in uris]
    for i in missing:
        try:
            publish(uris[i], i, folder, how)
        except ImageError as error:
            log.warning("The image of %s is not shown in Label Studio: %s", i, error)
    if missing:
        log.info("%d images that people were asked about are published again", len(missing))
    return len(missing)


def _written_over(usable: pd.DataFrame, served: dict[str, os.DirEntry[str]]) -> list[tuple[str, str]]:
    """Return the samples whose published file is, as a hard link, the file of another sample now."""
    if "inode" not in usable:
        return []
    holds = dict(zip(usable["inode"], zip(usable["sample_id"], usable["uri"], strict=True), strict=True))
    found = []
    for i, entry in served.items():
        # As the manifest has it, which knows no unsigned numbers.
        inode = (entry.inode() + 2**63) % 2**64 - 2**63
        now, uri = holds.get(inode, (i, ""))
        # On another file system the same number is another file's.
        if now != i and Path(uri).exists() and Path(uri).samefile(entry.path):
            found.append((i, uri))
    return found
