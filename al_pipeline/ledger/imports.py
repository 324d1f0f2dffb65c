"""Labels that people have already, and those that came back from an export, as annotation events like any others."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from al_pipeline.core.labels.annotation import VOTES, Annotation, Kind
from al_pipeline.core.labels.consensus import consensus
from al_pipeline.core.labels.formats.brought import Brought
from al_pipeline.core.labels.matching import Classes, Places, matched
from al_pipeline.ledger.schema import IMPORTED
from al_pipeline.ledger.store import Ledger

# Who said so, where the table does not tell.
ANNOTATOR = "import"


@dataclass(frozen=True)
class Imported:
    """What became of the rows.

    Attributes
    ----------
    new : int
        Labels by people who had said nothing of the image.
    changed : int
        Labels by people who had said something else, in a table of votes or before enough people had answered.
    corrected : int
        Labels that replace what people had agreed on, or could not agree on.
    unchanged : int
        Rows that say what the ledger says.
    undecided : int
        Of these, rows that repeat what the same person has said of an image on which people disagree.
    holdout : int
        Of the new, changed and corrected ones, those about images of the holdout.
    left_out : int
        Rows about no usable image of the pool.
    """

    new: int = 0
    changed: int = 0
    corrected: int = 0
    unchanged: int = 0
    undecided: int = 0
    holdout: int = 0
    left_out: int = 0

    def sentences(self) -> list[str]:
        """Return all this for people."""
        told = [
            f"{self.new} labels are new, {self.changed} changed, {self.unchanged} were there already; {self.corrected} "
            "corrections replace what people had said"
        ]
        if self.new + self.changed + self.corrected > self.holdout:
            told.append("They are trained on from the next round on")
        if self.holdout:
            told.append(
                f"{self.holdout} of them are about images of the holdout: test labels, which are never trained on"
            )
        if self.undecided:
            told.append(
                f"{self.undecided} repeat what {ANNOTATOR!r} or the named annotator has said of images on which people "
                "disagree, and settle nothing: name another `annotator` to settle them"
            )
        if self.left_out:
            told.append(f"{self.left_out} rows about no usable image of the pool were left out")
        return told


def import_labels(
    ledger: Ledger,
    found: Brought,
    class_names: Sequence[str],
    *,
    min_votes: int = 1,
    manifest: pd.DataFrame | None = None,
    skip_unknown: bool = False,
) -> Imported:
    """Store labels that were read; all of them or, if one cannot be used, none.

    Importing the same again changes nothing. A row that says what people agree on adds nothing. One that says
    something else, or that settles a dispute, is a correction: it replaces what was said of the image before. About
    any other image it is an answer. A row is one person's vote, and replaces that vote alone, if it names an
    annotation or if rows by several people are about its image.

    Parameters
    ----------
    ledger : Ledger
        The samples are registered.
    found : Brought
        As the readers of `core.labels.formats` return it.
    class_names : sequence of str
        Today's.
    min_votes : int
        Votes that a label needs.
    manifest : DataFrame, optional
        It tells why files were set aside.
    skip_unknown : bool
        Leave out rows about no usable image of the pool.

    Raises
    ------
    InputError
        Some rows cannot be used: an image is unknown or not clear, a label is no class, or somebody says two things of
        one image. The message lists them.
    """
    classes = Classes(class_names, ledger.class_set())
    rows, left_out = matched(found, Places(ledger.uris(), manifest), classes, skip_unknown=skip_unknown)
    decided = _Decided(ledger, classes, min_votes)
    rows["votes"] = rows["annotation_id"].notna() | (rows.groupby("sample")["annotator"].transform("size") > 1)
    said = _said(ledger, rows, classes)
    now = datetime.now(UTC)
    counts: defaultdict[str, int] = defaultdict(int)
    events = []
    for row in rows.to_dict("records"):
        outcome, kind = decided.vote(row, said) if row["votes"] else decided.label(row)
        counts[outcome] += 1
        if kind is not None:
            events.append(decided.event(row, kind, now, found.origin))
            counts["holdout"] += row["sample"] in decided.blind
        counts["undecided"] += kind is None and not row["votes"] and row["sample"] in decided.disputed
    ledger.append(events, now, source=IMPORTED)
    return Imported(**counts, left_out=left_out)


class _Decided:
    """What the ledger says of each sample, and what a row changes."""

    def __init__(self, ledger: Ledger, classes: Classes, min_votes: int) -> None:
        answers = ledger.answers()
        self.blind = ledger.holdout()
        self.agreed: dict[str, str] = {}
        self.disputed: set[str] = set()
        for purpose in ("query", "holdout"):
            theirs = answers[answers["purpose"] == purpose]
            found = consensus(theirs, class_names=classes.names, min_votes=min_votes)
            self.agreed |= dict(zip(found.labels["sample_id"], found.labels["label"], strict=True))
            self.disputed |= set(found.disputed["sample_id"])
        votes = answers[answers["kind"].isin(VOTES) & answers["purpose"].isin(["query", "holdout"])]
        votes, members = votes.sort_values(["updated_at", "annotation_id"]), ledger.answered_with()
        members = members[~members["member_id"].isin(votes["sample_id"])]
        # An export tells their labels as well, and brings nothing new.
        beside = zip(members["member_id"], members["sample_id"].map(self.agreed), strict=True)
        self._beside: dict[str, str] = {sample: label for sample, label in beside if isinstance(label, str)}
        self._mine = _by_person(votes)
        self._brought = _by_person(votes[votes["source"] == IMPORTED])
        self._latest = answers.groupby("sample_id")["updated_at"].max().to_dict()
        brought = answers[answers["source"] == IMPORTED]
        self._begun = dict(zip(brought["annotation_id"], brought["created_at"], strict=True))
        corrections = brought[brought["kind"] == "correction"]
        self._corrected = set(zip(corrections["sample_id"], corrections["annotator"], strict=True))

    def label(self, row: Mapping[str, Any]) -> tuple[str, Kind | None]:
        """Return what a row about an image means, and the kind of the annotation that says so."""
        sample, today = row["sample"], self.agreed.get(row["sample"])
        mine = self._mine.get((sample, _who(row)))
        if today is None and sample not in self.disputed:
            known = row["class"] in (mine, self._beside.get(sample))
            return ("unchanged", None) if known else ("new" if mine is None else "changed", "answer")
        # The same file again settles no dispute that it is part of.
        if row["class"] == today or (today is None and self._brought.get((sample, _who(row))) == row["class"]):
            return "unchanged", None
        return "corrected", "correction"

    def vote(self, row: Mapping[str, Any], said: Mapping[str, str | None]) -> tuple[str, Kind | None]:
        """Return the same of a row that is one person's vote."""
        person = (row["sample"], _who(row))
        mine = self._mine.get(person)
        if row["class"] in (mine, said.get(row["place"]), self._beside.get(row["sample"])):
            return "unchanged", None
        # Who has corrected the label corrects it anew: else what was said before it would count again.
        if person in self._corrected:
            return "corrected", "correction"
        return ("new" if mine is None else "changed"), "answer"

    def event(self, row: Mapping[str, Any], kind: Kind, now: datetime, origin: str) -> Annotation:
        """Return the annotation, with the same number whenever this person labels this sample."""
        sample, who = row["sample"], _who(row)
        number = int.from_bytes(hashlib.sha256(f"{sample}{who}".encode()).digest()[:7])
        # Whatever was said before must stay so, also where another clock is ahead of ours.
        at, latest = now, self._latest.get(sample)
        if latest is not None and latest >= now:
            at = latest.to_pydatetime(warn=False) + timedelta(milliseconds=1)
        begun = self._begun.get(number)
        return Annotation(
            annotation_id=number,
            task_id=0,
            sample_id=sample,
            # Labels that were there before the loop count from its first round on.
            round="r0000",
            annotator=who,
            value=row["class"],
            cancelled=False,
            lead_time=None,
            created_at=at if begun is None else begun.to_pydatetime(warn=False),
            updated_at=at,
            raw={"file": origin, "place": row["place"]},
            kind=kind,
        )


def _who(row: Mapping[str, Any]) -> str:
    return row["annotator"] or ANNOTATOR


def _by_person(votes: pd.DataFrame) -> dict[tuple[str, str], str]:
    return dict(zip(zip(votes["sample_id"], votes["annotator"], strict=True), votes["value"], strict=True))


def _said(ledger: Ledger, rows: pd.DataFrame, classes: Classes) -> dict[str, str | None]:
    """Return, by the place of a row that names an annotation, what that annotation said when the table was written."""
    numbers = [_number(value) for value in rows["annotation_id"]]
    states: defaultdict[tuple[str, int | None, str], list[tuple[datetime, str | None]]] = defaultdict(list)
    for source, number, sample, at, value in ledger.history(sorted({each for each in numbers if each is not None})):
        states[source, number, sample].append((at, value))
    moments = pd.to_datetime(rows["updated_at"], utc=True, errors="coerce", format="ISO8601")
    found: dict[str, str | None] = {}
    for place, source, number, sample, moment in zip(
        rows["place"], rows["source"], numbers, rows["sample"], moments, strict=True
    ):
        if known := states.get((source, number, sample)):
            _, value = next((state for state in known if state[0] == moment), known[-1])
            found[place] = None if value is None else classes.of(value)
    return found


def _number(value: Any) -> int | None:
    """Return the number of an annotation; spreadsheets write it as 12.0."""
    whole = re.fullmatch(r"(\d{1,18})(\.0+)?", str(value or ""))
    return int(whole[1]) if whole else None
