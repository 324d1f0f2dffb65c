"""The holdout in a round: drawn once, whole, and asked about bit by bit, mixed into what is asked to learn from."""

from collections.abc import Collection, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from al_pipeline.core.data.holdout import draw_holdout, groups_of, grow_holdout, holdout_mates
from al_pipeline.core.data.known_pool import known_pool
from al_pipeline.core.rng import generator
from al_pipeline.core.rounds import round_key, round_number

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger


def newly_drawn(ledger: "Ledger", manifest: pd.DataFrame, size: int, seed: int, number: int) -> dict[str, float]:
    """Return the samples that a round adds to the holdout, in their order, and with which probability each is drawn."""
    pool = known_pool(manifest).members
    if number == 0:
        drawn = draw_holdout(manifest, size, seed)
        return dict.fromkeys(drawn, len(drawn) / max(1, len(pool)))
    listed = ledger.drawn()
    first = ledger.planned(round_key(0), columns=("purpose", "propensity", "planned_at"))
    first = first[(first["purpose"] == "holdout") & first["propensity"].notna()]
    # Of a test split that the images bring there is no share to go by.
    if first.empty and listed.empty:
        return {}
    # What came later was drawn with no larger share.
    rate = float(np.nanmax([*first["propensity"], *listed["propensity"]]))
    since = min([*first["planned_at"], *listed["drawn_at"]])
    arrived = ledger.first_seen(after=since)
    if not arrived:
        return {}
    asked = set(ledger.planned(columns=("sample_id",))["sample_id"]) | ledger.imported()
    asked |= set(ledger.members()["member_id"]) | set(listed["sample_id"])
    drawn = grow_holdout(all_groups(ledger, manifest), arrived, asked, rate=rate, size=size, seed=seed)
    return {sample: share for sample, share in drawn.items() if sample in pool}


def kept_apart(ledger: "Ledger", manifest: pd.DataFrame, drawn: Mapping[str, float]) -> set[str]:
    """Return what nobody is asked about to learn from: what was drawn for the holdout, or is now, and all groups of it.

    Parameters
    ----------
    ledger : Ledger
    manifest : DataFrame
    drawn : mapping
        As of `newly_drawn`.
    """
    coming = drawn.keys() | holdout_mates(all_groups(ledger, manifest), drawn) if drawn else set[str]()
    return ledger.held_back() | set(ledger.drawn()["sample_id"]) | coming


def all_groups(ledger: "Ledger", manifest: pd.DataFrame) -> dict[str, str]:
    """Return the group of each sample, of those that are gone too."""
    return ledger.groups() | groups_of(manifest).to_dict()


def blind_rows(
    waiting: Mapping[str, float], there: Collection[str], others: int, share: float, seed: int, *, first: int
) -> list[dict[str, Any]]:
    """Return the plan rows of the test images that a round asks about: the next ones, as many as their share.

    Parameters
    ----------
    waiting : mapping
        What was drawn and nobody was asked about, in the order of asking, and with which probability it was drawn.
    there : collection of str
        The samples of the pool.
    others : int
        Tasks of the round that are asked to learn from. Where there is none, no share is left to keep to, and all are
        asked about.
    share : float
        Of the round's tasks, above 0 to 1.
    seed : int
    first : int
        Rank of the first row.
    """
    usable = islice((sample for sample in waiting if sample in there), how_many_blind(others, share))
    return [
        {
            "sample_id": sample,
            "purpose": "holdout",
            "rank": rank,
            "strategy": "random",
            "propensity": waiting[sample],
            "seed": seed,
        }
        for rank, sample in enumerate(usable, start=first)
    ]


def how_many_blind(others: int, share: float) -> int | None:
    """Return how many test images make up a share of the tasks with so many others, at least 1; None: all there are."""
    if share >= 1 or others < 1:
        return None
    return max(1, int(others * share / (1 - share) + 0.5))


def mixed(batch: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return a batch in the order in which people are asked: the test images at random places among the others.

    These keep their order. Nobody can tell a test image by when it comes, and who stops early has answered some.

    Parameters
    ----------
    batch : DataFrame
        Rows of a round's plan: ``purpose, seed``.
    key : str
        The round.
    """
    blind = (batch["purpose"] == "holdout").to_numpy()
    if not blind.any():
        return batch
    rng = generator(int(batch["seed"].iloc[0]), round_number(key), "order of the holdout")
    places = np.zeros(len(batch), dtype=bool)
    places[rng.choice(len(batch), int(blind.sum()), replace=False)] = True
    order = np.empty(len(batch), dtype=np.int64)
    order[places], order[~places] = np.flatnonzero(blind), np.flatnonzero(~blind)
    return batch.iloc[order]
