"""What goes out: the answers, or the labels that people agree on, all or those since a round; and what is left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.consensus import consensus, current_votes
from al_pipeline.core.labels.together import with_members
from al_pipeline.core.rounds import round_number
from al_pipeline.ledger.frames import MOMENT
from al_pipeline.ledger.store import Ledger

COLUMNS = ["sample_id", "uri", "label", "votes", "n_votes", "asked_with", "split"]
# What is known about the question, and not about a sample that was shown beside the one it is about.
OF_QUERY = ["rank", "strategy", "score", "propensity", "certainty", "predicted", "predicted_probability"]


@dataclass(frozen=True)
class Agreed:
    """Labels that people agree on.

    Attributes
    ----------
    labels : DataFrame
        ``sample_id, uri, label, votes, n_votes, asked_with, split``; `asked_with` is the sample that people were asked
        about, if this one was shown beside it. The split is ``train``, or ``holdout`` for labels that are never
        trained on. By sample id, those to train on first.
    disputed, too_few, skipped, outside : int
        Images that were answered and have no label: people disagree, too few have answered, they skipped it, or what
        they said is no class of today.
    """

    labels: pd.DataFrame
    disputed: int
    too_few: int
    skipped: int
    outside: int

    def left_out(self, min_votes: int) -> str:
        """Return what has no label as the end of a sentence, "" if everything that was answered has one."""
        parts = {
            "disputed": self.disputed,
            f"with too few votes (min_votes is {min_votes})": self.too_few,
            "skipped": self.skipped,
            "whose answer is no class of today": self.outside,
        }
        return ", ".join(f"{count} {what}" for what, count in parts.items() if count)


def agreed(ledger: Ledger, class_names: Sequence[str] | None, min_votes: int, *, since: str | None = None) -> Agreed:
    """Return the labels that people agree on now, pool and holdout.

    Parameters
    ----------
    ledger : Ledger
    class_names : sequence of str, optional
        Only these are labels; by default whatever was answered.
    min_votes : int
        Votes that a label needs.
    since : str, optional
        Only labels that this round did not train on, or as something else; of the holdout, those answered since.

    Raises
    ------
    InputError
        The labels of the round were never frozen.
    """
    frozen_at = None if since is None else _frozen_at(ledger, since)
    answers = ledger.answers()
    names = answers["value"].dropna().unique().tolist() if class_names is None else list(class_names)
    parts, counts = [], dict.fromkeys(("disputed", "too_few", "skipped", "outside"), 0)
    for split, purpose in (("train", "query"), ("holdout", "holdout")):
        theirs = answers[answers["purpose"] == purpose]
        found = consensus(theirs, class_names=names, min_votes=min_votes)
        labels = found.labels
        if split == "train":
            labels = with_members(labels, ledger.answered_with(), set(current_votes(theirs, names)["sample_id"]))
        labels = labels.assign(split=split)
        if since is not None and split == "train":
            labels = labels[~_as_before(ledger, since, labels)]
        elif frozen_at is not None:
            newer = theirs.loc[theirs["pulled_at"] > frozen_at, "sample_id"]
            labels = labels[labels["sample_id"].isin(newer)]
        parts.append(labels)
        without = set(found.outside["sample_id"]) & set(found.open)
        counts["disputed"] += len(found.disputed)
        counts["too_few"] += len(set(found.open) - without)
        counts["skipped"] += len(found.skipped)
        counts["outside"] += len(without)
    labels = pd.concat(parts, ignore_index=True)
    labels["uri"] = labels["sample_id"].map(ledger.uris()).astype(object)
    return Agreed(labels[COLUMNS], **counts)


def answers_since(ledger: Ledger, since: str | None) -> pd.DataFrame:
    """Return every person's labels with all that is known about them, or those that came after a round had begun.

    An answer to a task that shows several images has a row for each. `asked_with` is the sample that the person was
    asked about, where it is another one.

    Raises
    ------
    InputError
        The labels of the round were never frozen.
    """
    answers = _with_beside(ledger, ledger.export())
    return answers if since is None else answers[answers["pulled_at"] > _frozen_at(ledger, since)]


def _with_beside(ledger: Ledger, answers: pd.DataFrame) -> pd.DataFrame:
    answers, members = answers.assign(asked_with=None), ledger.answered_with()
    members = members[~members["member_id"].isin(answers["sample_id"])]
    theirs = answers[answers["purpose"] == "query"].merge(members, on=["round", "sample_id"])
    if theirs.empty:
        return answers
    theirs = theirs.assign(asked_with=theirs["sample_id"], sample_id=theirs["member_id"], **dict.fromkeys(OF_QUERY))
    theirs["uri"] = theirs["sample_id"].map(ledger.uris())
    rows = pd.concat([answers, theirs[answers.columns].astype(answers.dtypes)], ignore_index=True)
    return rows.sort_values(["sample_id", "annotator"], ignore_index=True)


def _frozen_at(ledger: Ledger, since: str) -> pd.Timestamp:
    round_number(since)
    if (moment := ledger.frozen_at(since)) is None:
        rounds = sorted(key for key in ledger.rounds() if ledger.frozen_at(key) is not None)
        known = f"rounds with labels are {', '.join(rounds[:1] + rounds[-1:])}" if rounds else "no round has any yet"
        raise InputError(f"There are no frozen labels of {since} (--since): {known}")
    return pd.Series([moment], dtype=MOMENT).iloc[0]


def _as_before(ledger: Ledger, since: str, labels: pd.DataFrame) -> pd.Series:
    frozen, classes = ledger.frozen_labels(since), ledger.class_set()
    before = frozen["label"] if classes is None else frozen["label"].map(classes.of)
    known = dict(zip(frozen["sample_id"], before, strict=True))
    return labels["sample_id"].map(known) == labels["label"]
