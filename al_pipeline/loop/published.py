"""The images that Label Studio serves, when those they were made of moved, were written over or are read otherwise."""

import json
import logging
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from al_pipeline.core.data.folder_names import counted
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.images import default_workers
from al_pipeline.core.errors import ImageError
from al_pipeline.core.files import whole_file
from al_pipeline.loop.copies import Copies
from al_pipeline.loop.how_read import how_of_home

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.deployment import Artifacts, Deployment
    from al_pipeline.settings import Settings

# Of what `labelstudio.images.publish` makes of a file: with another number, what is published is looked at once.
RULE = 1
# Pictures of so many pixels are shown reduced, but for those so many times as long as wide: people look into them.
LARGE, LONG = 12_000_000, 4


@dataclass(frozen=True)
class PublishedAs:
    """By which rule, read how and how large the pictures of a home are published; rule 0: nobody wrote it down."""

    rule: int
    how: HowRead
    # The longer side of what is LARGE; 0: as it is.
    shown_px: int = 0


def published_as(artifacts: "Artifacts") -> PublishedAs:
    """Return what the last scan left; before there was a note of it, how the home had its images read."""
    try:
        found = json.loads(artifacts.published_as.read_text())
        return PublishedAs(int(found["rule"]), HowRead.from_dict(found["how"]), int(found.get("shown_px", 0)))
    except (OSError, ValueError, TypeError, KeyError):
        return PublishedAs(0, how_of_home(artifacts))


def is_shown_otherwise(settings: "Settings") -> bool:
    """Say whether pictures are published that this version, these settings or today's reading would make otherwise."""
    from al_pipeline.loop.deployment import Artifacts

    artifacts = Artifacts.of(settings)
    now = PublishedAs(RULE, how_of_home(artifacts), shown_px(settings))
    return artifacts.image_pool.exists() and published_as(artifacts) != now


def shown_px(settings: "Settings") -> int:
    """Return the pixels of the longer side of large pictures, no fewer than the network sees; 0 shows them whole."""
    return max(settings.shown_px, settings.training.image_size or 0) if settings.shown_px else 0


def reduced(manifest: pd.DataFrame, side: int) -> dict[str, int | None]:
    """Return the longer side, as `publish` takes it, of the samples of a manifest that are to be shown reduced."""
    if not side or "width" not in manifest:
        return {}
    width, height = manifest["width"].to_numpy(), manifest["height"].to_numpy()
    long, short = np.maximum(width, height), np.minimum(width, height)
    rows = (long * short >= LARGE) & (long > side) & (long <= LONG * short) & (manifest["split"] != "excluded")
    return dict.fromkeys(manifest.loc[rows, "sample_id"], side)


def show_as_read(deployment: "Deployment", manifest: pd.DataFrame, before: PublishedAs, how: HowRead) -> list[str]:
    """Publish anew, under their names, the pictures that show what is read otherwise now; return what is to be told.

    Person and model are to see the same. Files that browsers show as they are don't depend on how others are read; and
    of another rule than today's, only what a task that is open shows is made anew for sure, all else where it is not
    plain. That nothing has changed is known without looking at any file.

    Parameters
    ----------
    deployment : Deployment
    manifest : DataFrame
        The image pool, just scanned.
    before : PublishedAs
        How all was published until now.
    how : HowRead
        How images are read from now on.
    """
    artifacts, folder, ledger = deployment.artifacts, deployment.settings.published_images, deployment.ledger
    now = PublishedAs(RULE, how, shown_px(deployment.settings))
    usable, told = manifest[manifest["split"] != "excluded"], list[str]()
    if sides := reduced(usable, now.shown_px):
        told.append(
            f"People see {counted(len(sides), 'picture')} of {LARGE / 1e6:g} megapixels and more at {now.shown_px:,} "
            "pixels: set AL_SHOWN_PX=0 to show them whole"
        )
    if before == now:
        return told
    uris = dict(zip(usable["sample_id"], usable["uri"], strict=True))
    shown = {*asked_about(ledger), *uris}
    with Copies(deployment.settings).following(shown):
        served = {i: entry.path for i, entry in _served(shown, folder).items()}
        anew, looked_at = _read_otherwise(usable, before.how, how), set[str]()
        if before.rule != RULE:
            looked_at = _converted(usable) | (served.keys() - uris.keys())
            anew |= looked_at & _open(ledger)
        together = _together(ledger, folder, served | uris, anew, how)
        if before.shown_px != now.shown_px:
            anew |= sides.keys() | reduced(usable, before.shown_px).keys()
        work = dict[str, Callable[[], bool]]()
        for i in sorted(served.keys() & (anew | looked_at)):
            uri, again = uris.get(i, served[i]), i in anew and i in uris
            work[i] = partial(_publish, uri, i, Path(served[i]), how, anew=again, side=sides.get(i))
        made, problems = _done(work | together)
    told += [f"{made:,} published pictures are made anew, as images are read now"] if made else []
    if problems:
        told.append(f"{len(problems):,} published pictures stay as they were: {next(iter(problems.values()))}")
    if uris.keys().isdisjoint(problems):
        # Else the next scan tries again; what has left the pool may be beyond help.
        with whole_file(artifacts.published_as, "How images are published") as file:
            file.write_text(json.dumps(asdict(now)))
    return told


def _read_otherwise(usable: pd.DataFrame, before: HowRead, how: HowRead) -> set[str]:
    if before == how:
        return set()
    if replace(before, levels=how.levels) == how:
        return set(usable.loc[usable["levels"].map(bool).to_numpy(dtype=bool), "sample_id"])
    return _converted(usable)


def _converted(usable: pd.DataFrame) -> set[str]:
    """Return the samples that are published as decoded pixels."""
    return set(usable.loc[usable["notes"].map(bool).to_numpy(dtype=bool), "sample_id"])


def _open(ledger: "Ledger") -> set[str]:
    """Return what is shown by tasks with which nobody has dealt."""
    tasks, members = ledger.open_tasks(), ledger.members()
    shown = zip(members["round"], members["sample_id"], members["member_id"], strict=True)
    return {sample for _, sample in tasks} | {member for key, one, member in shown if (key, one) in tasks}


def _publish(uri: str, sample: str, published: Path, how: HowRead, *, anew: bool, side: int | None) -> bool:
    """Publish a sample that is published already; say whether its file is another one now."""
    from al_pipeline.labelstudio.images import publish

    before = published.stat().st_ino
    publish(uri, sample, published.parent, how, anew=anew, shown_px=side)
    return published.stat().st_ino != before


def _together(
    ledger: "Ledger", folder: Path, places: Mapping[str, str], anew: set[str], how: HowRead
) -> dict[str, Callable[[], bool]]:
    """Return what makes the pictures of several samples anew of which one is read otherwise and none is gone."""
    from al_pipeline.labelstudio.images import together_anew

    work: dict[str, Callable[[], bool]] = {}
    for (key, one), others in ledger.members().groupby(["round", "sample_id"])["member_id"]:
        shown = [str(one), *others]
        if not anew.isdisjoint(shown) and places.keys() >= set(shown):
            work[f"{one} in {key}"] = partial(together_anew, {i: places[i] for i in shown}, folder, how)
    return work


def _done(work: Mapping[str, Callable[[], bool]]) -> tuple[int, dict[str, str]]:
    """Do the work in threads; return how much of it changed a file, and what went wrong with the rest."""

    def one(job: Callable[[], bool]) -> bool | str:
        try:
            return job()
        except (ImageError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(default_workers()) as pool:
        results = dict(zip(work, pool.map(one, work.values()), strict=True))
    return sum(found is True for found in results.values()), {
        name: found for name, found in results.items() if isinstance(found, str)
    }


def publish_again(
    ledger: "Ledger",
    manifest: pd.DataFrame,
    folder: Path,
    log: logging.Logger,
    how: HowRead = AS_EVER,
    side: int = 0,
    copied: Collection[str] = (),
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
    side : int
        As `shown_px` returns it.
    copied : collection of str
        Samples whose copies are served, whatever the folder holds.
    """
    from al_pipeline.labelstudio.images import publish

    usable = manifest[manifest["split"] != "excluded"]
    asked = asked_about(ledger)
    served = _served(asked, folder)
    for i, uri in _written_over(usable, served):
        log.warning("The published image of %s is taken away: %s holds another picture now", i, uri)
        Path(served.pop(i).path).unlink()
    uris = dict(zip(usable["sample_id"], usable["uri"], strict=True))
    missing = [i for i in sorted(asked) if i not in served and i in uris and i not in copied]
    sides = reduced(usable, side)
    for i in missing:
        try:
            publish(uris[i], i, folder, how, shown_px=sides.get(i))
        except ImageError as error:
            log.warning("The image of %s is not shown in Label Studio: %s", i, error)
    if missing:
        log.info("%d images that people were asked about are published again", len(missing))
    return len(missing)


def asked_about(ledger: "Ledger") -> set[str]:
    """Return the samples that people were asked about, by themselves or beside others."""
    return {*ledger.planned(columns=("sample_id",))["sample_id"], *ledger.members()["member_id"]}


def _served(samples: set[str], folder: Path) -> dict[str, os.DirEntry[str]]:
    """Return the published files of these samples; the examples of the guideline lie there too."""
    if not folder.is_dir():
        return {}
    return {i: entry for entry in os.scandir(folder) if (i := Path(entry.name).stem) in samples}


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
