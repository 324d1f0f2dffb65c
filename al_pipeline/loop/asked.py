"""What a round asks of people, in words: how much to learn from, how many test images, when a model comes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from al_pipeline.core.rounds import RoundPolicy, round_key, round_number
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.answers import answered_samples

if TYPE_CHECKING:
    import pandas as pd

    from al_pipeline.ledger import Ledger


@dataclass(frozen=True)
class Batch:
    """A round whose tasks are in Label Studio: answered and asked of its test images, and of those to learn from.

    `skipped` of the answered ones are no labels.
    """

    key: str
    test: tuple[int, int]
    training: tuple[int, int]
    skipped: int = 0

    @property
    def answered(self) -> int:
        """Tasks that people have dealt with."""
        return self.test[0] + self.training[0]

    @property
    def asked(self) -> int:
        """All tasks."""
        return self.test[1] + self.training[1]

    @property
    def left(self) -> int:
        """Tasks that are still to be dealt with."""
        return self.asked - self.answered

    @property
    def open(self) -> bool:
        """Whether there is something to label."""
        return self.left > 0


def batch_of(ledger: "Ledger", key: str, min_votes: int) -> Batch:
    """Return what people have done with a round's batch, as far as it was pulled."""
    classes = ledger.class_set()
    planned = ledger.planned(key, columns=("sample_id", "purpose", "withdrawn_at"))
    planned = planned[planned["withdrawn_at"].isna()]
    known = answered_samples(ledger, key, min_votes, None if classes is None else classes.names)
    dealt, test = planned["sample_id"].isin(known.keys()), planned["purpose"] == "holdout"

    def count(rows: "pd.Series[bool]") -> tuple[int, int]:
        return int((rows & dealt).sum()), int(rows.sum())

    skipped = sum(not known[sample] for sample in planned.loc[dealt, "sample_id"])
    return Batch(key, count(test), count(~test), skipped)


def batches_now(ledger: "Ledger", newest: str | None, policy: RoundPolicy) -> tuple[Batch, ...]:
    """Return the newest batch, and before it, with `prefetch`, the one that people are at until it is answered.

    Parameters
    ----------
    ledger : Ledger
    newest : str or None
        The newest round whose batch is in Label Studio.
    policy : RoundPolicy
    """
    if newest is None:
        return ()
    number = round_number(newest)
    numbers = (number - 1, number) if policy.prefetch and number else (number,)
    return tuple(batch_of(ledger, round_key(each), policy.min_votes) for each in numbers)


def first_open(batches: Sequence[Batch]) -> Batch | None:
    """Return the batch that people are at: the first with something to label, else the newest; None of none."""
    return next((each for each in batches if each.open), batches[-1] if batches else None)


def what_for(learn: int, tests: int, reviews: int = 0) -> str:
    """Say what tasks are for: ``3 test images, 8 to learn from``, or ``all to learn from``."""
    kinds = ((tests, f"test image{_s(tests)}"), (learn, "to learn from"), (reviews, "to look at again"))
    there = [(count, kind) for count, kind in kinds if count]
    if len(there) == 1 and there[0][0] > 1:
        return f"all {there[0][1]}"
    return ", ".join(f"{count} {kind}" for count, kind in there)


def to_label(learn: int, tests: int, reviews: int = 0, *, left: int | None = None) -> str:
    """Say how many images are to be labeled and what for: ``11 to label: 3 test images, 8 to learn from``.

    Where some are answered, how many are left is said first (``4 left of 11 to label: …``), and never what those are
    for: whoever labels would know which image was a test.
    """
    asked = learn + tests + reviews
    some = "" if left in (None, asked) else f"{left or 'none'} left of "
    return f"{some}{asked} to label: {what_for(learn, tests, reviews)}"


def what_is_asked(ledger: "Ledger", key: str, left: int | None = None) -> str | None:
    """Say what a round asks about, and how many test images are left; None where it asks nobody and none are left.

    Parameters
    ----------
    ledger : Ledger
    key : str
        The round.
    left : int, optional
        Of its images, those that are still to be labeled. Without, the sentence is as true when some are answered.
    """
    standing, waiting = ledger.count_purposes(key), len(ledger.holdout_waiting())
    if not standing and not ledger.count_planned(key):
        if not waiting:
            return None
        return (
            f"{waiting} test image{_s(waiting)} that {'was' if waiting == 1 else 'were'} drawn will not be asked about"
            ", unless another round asks (label_budget, max_rounds; holdout_share = 1 asks about all at once)"
        )
    if not standing:
        return None
    total, tests, reviews = sum(standing.values()), standing.get("holdout", 0), standing.get(REVIEW, 0)
    counts = total - tests - reviews, tests, reviews
    model = f"{'first' if key == 'r0000' and not ledger.imported() else 'next'} model"
    if left is None:
        said = f"{key} asks about {total} image{_s(total)}: {what_for(*counts)}; then comes the {model}"
    else:
        said = f"{key} has {to_label(*counts, left=left)}" + (f"; {model} after {left}" if left else "")
    return said if not waiting else f"{said}; {waiting} more test image{_s(waiting)} will come with later rounds"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
