"""Votes become labels: the latest answer of each person counts, a strict majority decides, a tie is a dispute."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import DEALT_WITH, SLIPS, VOTES

LABEL_COLUMNS = {
    "sample_id": object,
    "label": object,
    "votes": np.int64,
    "n_votes": np.int64,
    "weight": np.float64,
    "annotation_ids": object,
    "first_round": object,
    "asked_with": object,
}
NEEDED = ("sample_id", "round", "annotation_id", "annotator", "value", "kind", "updated_at")


@dataclass(frozen=True)
class Consensus:
    """What people agree on, and what they do not. A sample is in exactly one of the four states.

    Attributes
    ----------
    labels : DataFrame
        One row per agreed sample: ``sample_id, label, votes`` (agreeing), ``n_votes, weight`` (votes / n_votes),
        ``annotation_ids`` (of the agreeing votes, comma separated), ``first_round`` (earliest round of an agreeing
        vote), ``asked_with`` (None: the sample was asked about itself); sorted by ``sample_id``.
    disputed : DataFrame
        ``sample_id, n_votes, answers`` (for example ``"cat: 1, dog: 1"``): enough votes, no strict majority.
    skipped : list of str
        Samples with enough answers, of which too few are votes because people skipped them.
    open : list of str
        Samples with some answer, but too few to count.
    outside : DataFrame
        ``sample_id, annotation_id, annotator, value``: current answers that name no class of the set, or (``value``
        None) nothing at all. They are reported and count as not given.
    quality : dict of str to float
        Each annotator's, from 0 to 1, where annotators were weighted (`core.label_quality`); else empty.
    """

    labels: pd.DataFrame
    disputed: pd.DataFrame
    outside: pd.DataFrame
    skipped: list[str]
    open: list[str]
    quality: dict[str, float] = field(default_factory=dict)

    def only(self, sample_ids: Collection[str]) -> "Consensus":
        """Return it with the labels and disputes of these samples alone."""
        kept = (rows[rows["sample_id"].isin(list(sample_ids))] for rows in (self.labels, self.disputed))
        labels, disputed = (rows.reset_index(drop=True) for rows in kept)
        return replace(self, labels=labels, disputed=disputed)

    def beside(self, others: "Consensus") -> "Consensus":
        """Return it with the labels and disputes of others, about other samples, too."""
        if others.labels.empty and others.disputed.empty:
            return self
        tables = ((self.labels, others.labels), (self.disputed, others.disputed))
        labels, disputed = (pd.concat(pair).sort_values("sample_id", ignore_index=True) for pair in tables)
        return replace(self, labels=labels, disputed=disputed)


def consensus(events: pd.DataFrame, *, class_names: Sequence[str], min_votes: int = 1) -> Consensus:
    """Agree on labels.

    Parameters
    ----------
    events : DataFrame
        Annotation events, any number per person and sample, in any order: ``sample_id, round, annotation_id,
        annotator, value, kind, updated_at``. The latest per (sample, annotator) counts, people and not annotations;
        a correction replaces what was said before it, and is enough by itself.
    class_names : sequence of str
        Values outside of it are never labels.
    min_votes : int
        Votes a sample needs, at least 1. A label also needs more than half of them.

    Raises
    ------
    InputError
        `min_votes` is below 1 or a column is missing.
    """
    if min_votes < 1:
        raise InputError(f"min_votes must be at least 1, not {min_votes!r}")
    if missing := [column for column in NEEDED if column not in events.columns]:
        raise InputError(f"annotation events lack the columns {missing}; they have {list(events.columns)}")

    current = current_answers(events)
    skip = current["kind"].isin(DEALT_WITH)
    vote = current["kind"].isin(VOTES) & current["value"].isin(list(class_names))
    corrected = vote & (current["kind"] == "correction")

    answers = pd.DataFrame({"votes": vote, "skips": skip, "corrected": corrected}).groupby(current["sample_id"]).sum()
    enough = (answers["votes"] >= min_votes) | (answers["corrected"] > 0)
    tally = _tally(current[vote])
    tally = tally[tally["sample_id"].isin(answers.index[enough])]
    agreed = tally[2 * tally["votes"] > tally["n_votes"]]
    skipped = ~enough & (answers["skips"] > 0) & (answers["votes"] + answers["skips"] >= min_votes)

    outside = current.loc[~skip & ~vote, ["sample_id", "annotation_id", "annotator", "value"]]
    return Consensus(
        labels=labels_of(current[vote], agreed.assign(weight=agreed["votes"] / agreed["n_votes"])),
        disputed=disputes_of(current[vote], set(tally["sample_id"]) - set(agreed["sample_id"])),
        outside=outside.sort_values(["sample_id", "annotation_id"], ignore_index=True),
        skipped=sorted(answers.index[skipped]),
        open=sorted(answers.index[~enough & ~skipped]),
    )


def current_answers(events: pd.DataFrame) -> pd.DataFrame:
    """Return the latest event of each person about each sample, without those that a later correction replaces.

    A slip of the hand counts as the latest only of whoever has said nothing else.
    """
    current = events.sort_values(["updated_at", "annotation_id"], kind="stable", ignore_index=True)
    if (corrections := current["kind"] == "correction").any():
        newest = current[corrections].groupby("sample_id")["kind"].apply(lambda kinds: kinds.index[-1])
        current = current[current.index >= current["sample_id"].map(newest).fillna(0)]
    slips = current["kind"].isin(SLIPS)
    return pd.concat([current[slips], current[~slips]]).drop_duplicates(["sample_id", "annotator"], keep="last")


def current_votes(events: pd.DataFrame, class_names: Sequence[str]) -> pd.DataFrame:
    """Return the latest event of each person about each sample, where that names a class."""
    current = current_answers(events)
    return current[current["kind"].isin(VOTES) & current["value"].isin(list(class_names))]


def labels_hash(labels: pd.DataFrame) -> str:
    """Return the SHA-256 (hex) of what is trained on: the pairs ``sample_id, label``, in whatever order they come."""
    digest = hashlib.sha256()
    for sample, label in sorted(zip(labels["sample_id"], labels["label"], strict=True)):
        # Lengths make the text unambiguous whatever characters a class name holds.
        digest.update(f"{len(sample)}:{sample}{len(label)}:{label}".encode())
    return digest.hexdigest()


def _tally(votes: pd.DataFrame) -> pd.DataFrame:
    """Return ``sample_id, value, votes, n_votes`` per sample and value: most votes first, then by name."""
    tally = votes.groupby(["sample_id", "value"]).size().rename("votes").reset_index()
    tally["n_votes"] = tally.groupby("sample_id")["votes"].transform("sum")
    return tally.sort_values(["sample_id", "votes", "value"], ascending=[True, False, True], ignore_index=True)


def labels_of(votes: pd.DataFrame, decided: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a labeled pool.

    Parameters
    ----------
    votes : DataFrame
        As `current_votes` returns them.
    decided : DataFrame
        ``sample_id, value, n_votes, weight``: the label of each sample, for which somebody has voted.
    """
    decided = decided[["sample_id", "value", "n_votes", "weight"]].rename(columns={"value": "label"})
    agreeing = votes.merge(decided, left_on=["sample_id", "value"], right_on=["sample_id", "label"])
    agreeing = agreeing.sort_values("annotation_id")
    first = agreeing.sort_values("round", kind="stable").drop_duplicates("sample_id").set_index("sample_id")["round"]
    decided["votes"] = decided["sample_id"].map(agreeing.groupby("sample_id").size())
    decided["annotation_ids"] = decided["sample_id"].map(_joined(agreeing["sample_id"], agreeing["annotation_id"], ","))
    decided["first_round"] = decided["sample_id"].map(first)
    decided["asked_with"] = None
    return decided.astype(LABEL_COLUMNS)[list(LABEL_COLUMNS)].sort_values("sample_id", ignore_index=True)


def disputes_of(votes: pd.DataFrame, sample_ids: Collection[str]) -> pd.DataFrame:
    """Return one row per disputed sample with its answers, most frequent first: ``sample_id, n_votes, answers``."""
    tally = _tally(votes[votes["sample_id"].isin(sample_ids)])
    samples = tally[["sample_id", "n_votes"]].drop_duplicates("sample_id", ignore_index=True)
    answers = tally["value"].astype(str) + ": " + tally["votes"].astype(str)
    return samples.assign(answers=samples["sample_id"].map(_joined(tally["sample_id"], answers, ", ")).astype(object))


def _joined(samples: pd.Series, values: pd.Series, separator: str) -> dict[str, str]:
    """Return the values of each sample as one text; groupby().agg is many times slower."""
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for sample, value in zip(samples, values, strict=True):
        texts[sample].append(str(value))
    return {sample: separator.join(parts) for sample, parts in texts.items()}
