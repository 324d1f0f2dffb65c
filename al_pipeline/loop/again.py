"""Samples that are asked about once more, because what people did brought no label, and why."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from al_pipeline.core.labels.annotation import DEALT_WITH, VOTES
from al_pipeline.core.labels.consensus import current_answers
from al_pipeline.core.rounds import RoundPolicy, round_number
from al_pipeline.ledger.queries import NO_ANSWERS, RETIRED
from al_pipeline.ledger.schema import AGAIN, REVIEW
from al_pipeline.loop.together import waiting_alone

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger

# The sample returns to the pool and may be drawn; whatever has another reason is asked about by the next round.
SKIPPED = "it was skipped"
MIXED, TWICE, GONE, EMPTY, HASTY, LEFT_OPEN, GUESSED, COPIED = (
    "what was shown with it is not the same",
    "one person has answered twice, and nobody else is asked",
    "its class is none any more",
    "its answer names no class, or several",
    "it was answered sooner than a person can look",
    "it was left open",
    "a guess was made its answer, and nobody else is asked",
    "its answer is a copy of one that counts no more, and nobody else is asked",
)


def reasons(
    given: pd.DataFrame, asked: pd.DataFrame, class_names: Sequence[str] | None, policy: RoundPolicy, overlap: int
) -> dict[str, str]:
    """Return the samples that no answer to their task will bring a label any more, and why.

    Label Studio gives a task to people until it has `overlap` answers, by whomever and whatever they say. People who
    have dealt with a sample are counted here.

    Parameters
    ----------
    given : DataFrame
        `Ledger.answers(nobodys=True)`: everything that stands, guesses too.
    asked : DataFrame
        ``round, sample_id``: the task of each sample that is looked at.
    class_names : sequence of str, optional
        By default every value is a class.
    policy : RoundPolicy
    overlap : int
        Answers after which Label Studio gives a task to nobody else.
    """
    # A task that was made by hand asks nothing of ours.
    given = given[given["sample_id"].isin(asked["sample_id"]) & given["purpose"].notna()]
    answers = given[~given["kind"].isin(NO_ANSWERS)]
    people = current_answers(answers)
    names_class = people["value"].notna() if class_names is None else people["value"].isin(list(class_names))
    people = people.assign(vote=people["kind"].isin(VOTES) & names_class, corrected=people["kind"] == "correction")
    counts = people.groupby("sample_id").agg(votes=("vote", "sum"), corrected=("corrected", "any"))
    labeled = set(counts.index[(counts["votes"] >= policy.min_votes) | counts["corrected"]])
    voted = set(counts.index[counts["votes"] > 0])
    # Every time counts, also of one person.
    foreign = answers["kind"].isin(VOTES) & answers["value"].notna()
    foreign &= ~answers["value"].isin(list(class_names)) if class_names is not None else False
    skipped = answers["kind"].isin(DEALT_WITH) & ~answers["kind"].isin(["hasty", "mixed", "left_open"])
    skips = answers[skipped | foreign].groupby("sample_id").size()
    quick, left = (answers[answers["kind"] == kind].groupby("sample_id").size() for kind in ("hasty", "left_open"))

    theirs = given.merge(asked[["round", "sample_id"]], on=["round", "sample_id"])
    # Who says so is right, whatever others say of all together.
    mixed = set(theirs.loc[theirs["kind"] == "mixed", "sample_id"])
    found = {str(sample): MIXED for sample in sorted(mixed)}
    for sample, rows in theirs[~theirs["sample_id"].isin(labeled | mixed)].groupby("sample_id"):
        own, kinds = rows[~rows["kind"].isin(NO_ANSWERS)], set(rows["kind"])
        full, filled = (int((~each["cancelled"].astype(bool)).sum()) >= overlap for each in (own, rows))
        if RETIRED in kinds:
            found[str(sample)] = GONE
        elif "hasty" in kinds and full and quick.get(sample, 0) <= policy.max_skips:
            found[str(sample)] = HASTY
        elif "left_open" in kinds and full and left.get(sample, 0) <= policy.max_skips:
            found[str(sample)] = LEFT_OPEN
        elif "empty" in kinds and full:
            found[str(sample)] = EMPTY
        elif full and own["annotator"].duplicated().any():
            found[str(sample)] = TWICE
        elif filled and kinds & set(NO_ANSWERS):
            found[str(sample)] = GUESSED if "guess" in kinds else COPIED
        elif (full or sample not in voted) and 0 < skips.get(sample, 0) < policy.max_skips:
            found[str(sample)] = SKIPPED
        elif int((rows["kind"] == "copy").sum()) >= overlap and not skips.get(sample, 0):
            # A skip that is imported stops Label Studio from asking, where one that a person makes does not.
            found[str(sample)] = COPIED
    return found


def withdraw_unusable(
    ledger: "Ledger", before: int, class_names: Sequence[str] | None, policy: RoundPolicy, overlap: int
) -> dict[str, str]:
    """Withdraw the tasks that bring no label: their samples may be asked about again. Returns these, and why.

    Parameters
    ----------
    ledger : Ledger
    before : int
        Rounds with a smaller number are looked at.
    class_names, policy, overlap
        As of `reasons`.
    """
    planned = ledger.planned(columns=("round", "sample_id", "purpose", "withdrawn_at"))
    live = planned[planned["withdrawn_at"].isna() & (planned["purpose"] != REVIEW)]
    live = live[live["round"].map(round_number) < before]
    found = reasons(ledger.answers(nobodys=True), live, class_names, policy, overlap)
    # Of the holdout, what people skip stays without a label: to ask until somebody answers would leave out the hard.
    blind = set(live.loc[live["purpose"] == "holdout", "sample_id"])
    found = {sample: why for sample, why in found.items() if not (why == SKIPPED and sample in blind)}
    for key, rows in live[live["sample_id"].isin(found)].groupby("round"):
        ledger.withdraw(str(key), rows["sample_id"], datetime.now(UTC))
    return found


def again_rows(
    ledger: "Ledger",
    number: int,
    class_names: Sequence[str],
    policy: RoundPolicy,
    overlap: int,
    *,
    most: int,
    seed: int,
    there: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the plan rows of samples that a round has to ask about again: all of the holdout, at most so many others.

    That goes for each by itself of those that were shown together and are not all the same.

    Parameters
    ----------
    ledger : Ledger
    number : int
        The round.
    class_names, policy, overlap
        As of `reasons`.
    most : int
    seed : int
    there : collection of str, optional
        Samples whose image is there; by default all. The others wait until it is back, and hold up nobody.
    """
    planned = ledger.planned(columns=("round", "sample_id", "purpose", "withdrawn_at"))
    asked = planned[(planned["purpose"] != REVIEW) & (planned["round"].map(round_number) < number)]
    newest = asked.sort_values("round").drop_duplicates("sample_id", keep="last")
    newest = newest[newest["withdrawn_at"].notna()]
    if there is not None:
        newest = newest[newest["sample_id"].isin(list(there))]
    why = reasons(ledger.answers(nobodys=True), newest, class_names, policy, overlap)
    rows = newest[newest["sample_id"].isin([sample for sample, reason in why.items() if reason != SKIPPED])]
    parted = waiting_alone(ledger, number).assign(purpose="query")
    rows = pd.concat([rows, parted[~parted["sample_id"].isin(rows["sample_id"])]])
    why |= dict.fromkeys(parted["sample_id"], MIXED)
    blind = rows["purpose"] == "holdout"
    # Whoever waits longest is asked about first.
    chosen = pd.concat([rows[blind], rows[~blind].sort_values(["round", "sample_id"]).head(most)])
    return [
        {
            "sample_id": row.sample_id,
            "purpose": row.purpose,
            "rank": rank,
            "strategy": f"{AGAIN}: {why[str(row.sample_id)]}",
            "seed": seed,
        }
        for rank, row in enumerate(chosen.itertuples())
    ]
