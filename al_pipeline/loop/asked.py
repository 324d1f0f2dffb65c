"""What a round asks of people, in a sentence: how much to learn from, how many test images, when a model comes."""

from typing import TYPE_CHECKING

from al_pipeline.ledger.schema import REVIEW

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger


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
    parts = [f"{len(planned) - tests - reviews} to learn from"]
    parts += [f"{tests} test image{_s(tests)}"] if tests else []
    parts += [f"{reviews} to look at again"] if reviews else []
    first = key == "r0000" and not ledger.imported()
    said = f"{key} asks about {len(planned)} image{_s(len(planned))}: {', '.join(parts)}"
    said += f"; the {'first' if first else 'next'} model comes after {'them' if len(planned) > 1 else 'it'}"
    return said if not left else f"{said}; {left} more test image{_s(left)} will come with later rounds"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
