"""How a home reads its images: as set, with the levels of its pool, which stay once something is learned."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.levels import Levels, Note, White, largest, pool_levels
from al_pipeline.core.errors import CheckpointError, FileError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.provenance import read_info
from al_pipeline.core.rounds import is_round

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Artifacts
    from al_pipeline.settings import Settings


@dataclass(frozen=True)
class Kept:
    """How a home reads its images, and by which setting white was found; None: as before there was a choice."""

    how: HowRead
    white: White | None


def asked_for(settings: "Settings") -> HowRead:
    """Return how files are to be read, without levels: they are of a pool."""
    channels = tuple(int(number) for number in (settings.channels or "").split(",") if number)
    return HowRead(channels=channels, truncated=settings.truncated, plane=settings.plane)


def notes_of(manifest: pd.DataFrame) -> list[Note]:
    """Return what a scan has noted of the values of usable files; of a manifest of an older version nothing."""
    if "levels" not in manifest:
        return []
    usable = manifest.loc[manifest["split"] != "excluded", "levels"]
    return [Note.unpacked(packed) for packed in usable if packed]


def settle(settings: "Settings", artifacts: "Artifacts", manifest: pd.DataFrame) -> tuple[Kept, list[str]]:
    """Return how a home reads its images from a scan on, and what is to be said of it.

    Levels that a checkpoint has learned with stay, whatever comes to the pool, until the setting changes.

    Parameters
    ----------
    settings : Settings
    artifacts : Artifacts
        Of the home.
    manifest : DataFrame
        Of the scan.
    """
    notes, before = notes_of(manifest), stored(artifacts)
    found, asked = pool_levels(notes, settings.white), asked_for(settings)
    learned = has_learned(artifacts)
    if before is None and learned and settings.white == "auto":
        told = (
            "Values of more than 8 bits stay as the rounds so far have seen them: set AL_WHITE to percentile or to a "
            "number to change that"
        )
        return Kept(asked, None), [told] if found != Levels() else []
    if before is None or not learned or settings.white not in (before.white, "auto" if before.white is None else ""):
        changed = before is not None and before.how.levels != found
        return Kept(replace(asked, levels=found), settings.white), [_told(found, changed)] if found != Levels() else []
    levels = before.how.levels
    if before.white is not None:
        # Nothing was learned of kinds of values that there were none of.
        levels = Levels(
            *((found.white, found.black) if levels.white is None else (levels.white, levels.black)),
            *((found.high, found.low) if levels.high is None else (levels.high, levels.low)),
        )
    told = []
    if levels.white is not None and (most := largest(notes)) > levels.white:
        told.append(
            f"Values reach {most:g}, above white ({levels.white:g}), and are shown as white: the checkpoints have "
            f"learned with it. AL_WHITE={most:g} shows them, and has all features computed again"
        )
    return Kept(replace(asked, levels=levels), before.white), told


def _told(found: Levels, changed: bool) -> str:
    return f"Values of more than 8 bits are shown {_ranges(found)}{', another range than before' * changed}"


def _ranges(levels: Levels) -> str:
    return " and ".join(
        f"from {low:g} to {high:g} ({what})"
        for low, high, what in (
            (levels.black, levels.white, "whole numbers"),
            (levels.low, levels.high, "floats and numbers with a sign"),
        )
        if high is not None and low is not None
    )


def in_words(how: HowRead) -> str:
    """Say how images are read where that is not as ever; "" if it is."""
    told = [_told(how.levels, changed=False)] if how.levels != Levels() else []
    if how.channels:
        told.append(f"of several channels {', '.join(map(str, how.channels))} are shown")
    if how.truncated == "use":
        told.append("files that are cut off are used")
    return ("; ".join(told)[:1].upper() + "; ".join(told)[1:]) if told else ""


def stored(artifacts: "Artifacts") -> Kept | None:
    """Return how the last scan of a home has its images read; None before there was one.

    Raises
    ------
    FileError
        The file is damaged.
    """
    path = artifacts.how_read
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return Kept(HowRead.from_dict(found["how"]), found["white"])
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"{path} cannot be read ({error}): delete it, and launch the job `setup`") from None


def keep(artifacts: "Artifacts", kept: Kept) -> None:
    """Write down how a home reads its images."""
    with whole_file(artifacts.how_read, "How images are read") as file:
        file.write_text(json.dumps({"white": kept.white, "how": asdict(kept.how)}))


def how_of_home(artifacts: "Artifacts") -> HowRead:
    """Return how a home reads its images."""
    kept = stored(artifacts)
    return HowRead() if kept is None else kept.how


def has_learned(artifacts: "Artifacts") -> bool:
    """Say whether a round's checkpoint has learned from images."""
    for path in (each for each in artifacts.checkpoints.glob("*.safetensors") if is_round(each.stem)):
        # What is damaged is told where it is used.
        with suppress(CheckpointError):
            if read_info(path).trained:
                return True
    return False
