"""What people have answered so far, read from the ledger: agreed labels, the holdout, who was asked about what."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from al_pipeline.core.data.known_pool import known_pool
from al_pipeline.core.labels.annotation import DEALT_WITH, VOTES
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import Consensus, consensus, current_answers
from al_pipeline.core.rounds import round_number
from al_pipeline.ledger.queries import NO_ANSWERS
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.classes import translated
from al_pipeline.loop.together import asked_beside

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger

PURPOSES = ("sample_id", "purpose")


def agreed_labels(ledger: "Ledger", classes: ClassSet, min_votes: int, *, purpose: str) -> Consensus:
    """Return what people agree on about the samples they were asked about for one purpose, query or holdout."""
    answers = ledger.answers(purpose=purpose, class_set=classes)
    return consensus(answers, class_names=classes.names, min_votes=min_votes)


def planned_before(ledger: "Ledger", number: int, *, purpose: str | None = None) -> set[str]:
    """Return the samples that rounds before `number` have asked about, for one purpose or any, and not withdrawn.

    What a task shows beside its sample is asked about by it, too.
    """
    planned = ledger.planned()
    planned = planned[planned["purpose"] != REVIEW]
    if purpose is not None:
        planned = planned[planned["purpose"] == purpose]
    earlier = planned["round"].map(round_number) < number
    asked = set(planned.loc[earlier & planned["withdrawn_at"].isna(), "sample_id"])
    return asked | asked_beside(ledger, number) if purpose in {None, "query"} else asked


def asked_blind(ledger: "Ledger") -> set[str]:
    """Return the samples that were ever asked about for the holdout, or will be."""
    planned = ledger.planned(columns=(*PURPOSES, "pushed_at", "withdrawn_at"))
    # Whose image was away when it was to be shown was not asked about.
    never = planned["withdrawn_at"].notna() & planned["pushed_at"].isna()
    return set(planned.loc[(planned["purpose"] == "holdout") & ~never, "sample_id"])


def trainable(ledger: "Ledger", labeled_pool: pd.DataFrame) -> "pd.Series[str]":
    """Return the labels that may be trained on, by sample id: not those of who belongs to a group of the holdout."""
    held_back = ledger.held_back()
    return labeled_pool[~labeled_pool["sample_id"].isin(held_back)].set_index("sample_id")["label"]


def changed_labels(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """Return the samples whose label is another one than in the last round, or is no label any more."""
    old = before.set_index("sample_id")["label"]
    new = after.set_index("sample_id")["label"].reindex(old.index)
    return old.index[(old != new) | new.isna()].tolist()


def answered_samples(
    ledger: "Ledger",
    key: str,
    min_votes: int,
    class_names: Sequence[str] | None = None,
    *,
    given: pd.DataFrame | None = None,
) -> dict[str, bool]:
    """Return the samples of a round that people have dealt with, as far as pulled: True for a label, False for a skip.

    What the ledger holds is known even when Label Studio has lost it. A label counts whichever round's task it was
    given to, but for a review, which asks about a label that is there. A skip, or what names no class, counts for its
    own round alone: after that the sample has returned to the pool, and this round may be the one that asks again.

    Parameters
    ----------
    ledger : Ledger
    key : str
        The round.
    min_votes : int
        People who have to have answered a sample, and votes of a label: people, however often one of them answers.
    class_names : sequence of str, optional
        Only these values are votes; by default all that were given.
    given : DataFrame, optional
        `Ledger.answers` about this round's samples, where they were read already.
    """
    answers = ledger.answers(round_key=key) if given is None else given[~given["kind"].isin(NO_ANSWERS)]
    reviews = ledger.planned(key, purpose=REVIEW, columns=("sample_id",))["sample_id"]
    # A task that was made by hand asks nothing of ours.
    answers = answers[answers["purpose"].notna()]
    named = answers["kind"].isin(VOTES) & answers["value"].notna()
    here = answers[(answers["round"] == key) & (named | answers["kind"].isin(DEALT_WITH))]
    current = current_answers(answers)
    votes = current[current["kind"].isin(VOTES) & current["value"].notna()]
    if class_names is not None:
        votes = votes[votes["value"].isin(list(class_names))]
    votes = votes[(votes["round"] == key) | ~votes["sample_id"].isin(reviews)]
    people = pd.concat([here, votes]).groupby("sample_id")["annotator"].nunique()
    enough = votes.groupby("sample_id").size() >= min_votes
    labeled = set(enough.index[enough]) | set(votes.loc[votes["kind"] == "correction", "sample_id"])
    return {str(sample): sample in labeled for sample in people.index[people >= min_votes].union(sorted(labeled))}


def holdout_labels(manifest: pd.DataFrame, ledger: "Ledger", classes: ClassSet, min_votes: int) -> pd.DataFrame:
    """Return ``sample_id, uri, label`` of every holdout sample whose class is known: by its folder, or by people.

    A holdout that was drawn before the images brought one counts beside it; where both know an image, its folder does.
    """
    known = manifest[["sample_id", "uri", "label"]].iloc[known_pool(manifest).holdout_rows]
    known = known.astype({"uri": object}).assign(label=translated(known["label"], classes))
    known = known[known["label"].isin(classes.names)]
    answered = agreed_labels(ledger, classes, min_votes, purpose="holdout").labels[["sample_id", "label"]]
    uris = known_pool(manifest).column("uri")
    # Whose image is gone has a label still, and no place.
    drawn = answered[~answered["sample_id"].isin(known["sample_id"])]
    drawn = drawn.assign(uri=np.array([uris.get(sample) for sample in drawn["sample_id"]], dtype=object))
    return pd.concat([known, drawn[["sample_id", "uri", "label"]]]).sort_values("sample_id", ignore_index=True)
