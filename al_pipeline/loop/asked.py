"""What a round asks of people, in words: how much to learn from, how many test images, when a model comes."""

from typing import TYPE_CHECKING

from al_pipeline.ledger.schema import REVIEW

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger


def what_for(learn: int, tests: int, reviews: int = 0) -> str:
    """Say what tasks are for: ``3 test images, 8 to learn from``, or ``all to learn from``."""
    kinds = ((tests, f"test image{_s(tests)}"), (learn, "to learn from"), (reviews, "to look at again"))
    there = [(count, kind) for count, kind in kinds if count]
    if len(there) == 1 and there[0][0] > 1:
        return f"all {there[0][1]}"
    return ", ".join(f"{count} {kind}" for count, kind in there)


def to_label(learn: int, tests: int, reviews: int = 0) -> str:
    """Say how many images are to be labeled and what for: ``11 to label: 3 test images, 8 to learn from``."""
    return f"{learn + tests + reviews} to label: {what_for(learn, tests, reviews)}"


def what_is_asked(ledger: "Ledger", key: str) -> str | None:
    """Say what a round asks about, and how many test images are left; None where it asks nobody and none are left.

    Parameters
    ----------
    ledger : Ledger
    key : str
        The round.
    """
    planned, left = ledger.planned(key, columns=("purpose",))["purpose"], len(ledger.holdout_waiting())
    if planned.empty:
        if not left:
            return None
        return (
            f"{left} test image{_s(left)} that {'was' if left == 1 else 'were'} drawn will not be asked about, unless "
            "another round asks (label_budget, max_rounds; holdout_share = 1 asks about all at once)"
        )
    tests, reviews = (int((planned == purpose).sum()) for purpose in ("holdout", REVIEW))
    first = "first" if key == "r0000" and not ledger.imported() else "next"
    said = f"{key} has {to_label(len(planned) - tests - reviews, tests, reviews)}; {first} model after {len(planned)}"
    return said if not left else f"{said}; {left} more test image{_s(left)} will come with later rounds"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
