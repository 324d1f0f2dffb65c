"""The holdout that is drawn where the images bring no test split: whole groups, blind, and growing with the set."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from al_pipeline.core.data.known_pool import known_pool
from al_pipeline.core.data.pool_column import Column
from al_pipeline.core.rng import generator

# The pool keeps at least three quarters of the images: they are what people's labels are spent on.
LARGEST_HOLDOUT_SHARE = 0.25


def groups_of(manifest: pd.DataFrame) -> Column:
    """Return the group of each sample that is not excluded; one without is alone, as all are in older manifests."""
    return known_pool(manifest).groups


def draw_holdout(manifest: pd.DataFrame, size: int, seed: int) -> list[str]:
    """Return the sample ids of the holdout drawn in round 0; none when the images bring a test split of their own.

    Groups are drawn, all with the same chance, until their images are enough; those of the last one that are too many
    are asked about by nobody. Whole groups are at most a quarter of the pool, so larger ones are never drawn.

    A pure function of the images, the size and the seed, so that the draw of candidates and the query batch, which
    run in different steps, speak of the same samples.
    """
    if (manifest["split"] == "holdout").any():
        return []
    known = known_pool(manifest)
    pool = known.by_id
    most, groups = int(len(pool) * LARGEST_HOLDOUT_SHARE), known.group_numbers[pool]
    # Members of a group stand together here, in the order of their ids.
    order = np.argsort(groups, kind="stable")
    grouped = groups[order]
    drawn: list[int] = []
    for i in generator(seed, 0, "holdout").permutation(len(pool)):
        if len(drawn) >= size:
            break
        # A group comes when its first sample does: a large one is no likelier than a small one.
        group = order[slice(*np.searchsorted(grouped, [groups[i], groups[i] + 1]))]
        if group[0] == i and len(drawn) + len(group) <= most:
            drawn += group.tolist()
    return known.ids[pool[drawn[:size]]].tolist()


def with_holdout(manifest: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return a manifest with a test split: its own, else a quarter of the pool, drawn by whole groups."""
    drawn = draw_holdout(manifest, len(manifest), seed)
    return manifest.assign(split=manifest["split"].mask(manifest["sample_id"].isin(drawn), "holdout"))


def grow_holdout(
    groups: Mapping[str, str], arrived: Mapping[str, Any], asked: Collection[str], *, rate: float, size: int, seed: int
) -> dict[str, float]:
    """Return the samples of later arrivals that belong to the holdout, and with which chance each was drawn.

    Whole groups are drawn; the samples are sorted. Whether a group belongs to it depends on its name and the seed
    alone, so that every round draws the same ones.

    Parameters
    ----------
    groups : mapping of str to str
        Sample → group, also of samples that are gone.
    arrived : mapping of str to a moment
        When each sample that came after round 0 was first seen.
    asked : collection of str
        Samples that people were asked about, or brought labels of: with their groups they stay what they are.
    rate : float
        Share of the pool that round 0 drew.
    size : int
        No arrival, nor any group in it, gets more of them than that.
    seed : int
    """
    at_once = Counter(arrived.values())
    members = dict[str, list[str]]()
    for sample, group in groups.items():
        members.setdefault(group, []).append(sample)
    drawn: dict[str, float] = {}
    for group, samples in members.items():
        if all(sample in arrived and sample not in asked for sample in samples):
            share = min(rate, *(size / at_once[arrived[sample]] for sample in samples))
            if _chance(group, seed) < share:
                drawn |= dict.fromkeys(sorted(samples)[:size], share)
    return dict(sorted(drawn.items()))


def holdout_mates(groups: Mapping[str, str], holdout: Iterable[str]) -> set[str]:
    """Return the samples that share a group with one of a drawn holdout, without these.

    They are neither asked about nor trained on: who has seen one picture of a scene knows the others.
    """
    blind = set(holdout)
    held = {groups[sample] for sample in blind if sample in groups}
    return {sample for sample, group in groups.items() if group in held} - blind


def _chance(group: str, seed: int) -> float:
    """Return a number from 0 to 1 that is drawn for a group, whatever other groups there are."""
    # A generator of its own for each of 100,000 groups would take seconds.
    return int.from_bytes(hashlib.sha256(f"holdout {seed} {group}".encode()).digest()[:8], "big") / 2**64
