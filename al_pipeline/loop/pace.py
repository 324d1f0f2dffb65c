"""How fast people are and how long a round takes: where a batch ahead is too little, the next is opened sooner."""

import math
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger

# Answers that tell how fast people are; of fewer than FEWEST pauses nothing is concluded.
ANSWERS, FEWEST = 17, 4
# Seconds until the sensor looks, which Dagster's daemon has it do.
LOOK = 5.0
# Rounds that take so many times as long as people need for a batch do not keep up, whenever they are opened.
BEHIND = 1.2


def answers_meanwhile(ledger: "Ledger", seconds: float | None) -> float:
    """Return how many answers people give while a round is made, 0 where nothing tells.

    Parameters
    ----------
    ledger : Ledger
    seconds : float, optional
        What a round takes from its request to its end, since no other begins before.
    """
    pause = seconds_per_answer(ledger.newest_answers(ANSWERS))
    return 0.0 if pause is None or seconds is None else (seconds + LOOK) / pause


def early(meanwhile: float, waiting: int, awaited: int) -> int:
    """Return how many answers of the awaited round may be missing when the next is opened, so that nobody waits.

    While a round is made people go through the batch that waits. Where that is less than they answer meanwhile, the
    round has to be begun before the awaited one is answered; at the soonest after its first answer, so that never more
    than two batches are open. Where they are slower nothing is early, and each batch is chosen by all there is to know.

    Parameters
    ----------
    meanwhile : float
        As of `answers_meanwhile`.
    waiting : int
        Tasks of the newest round. After one that asks nobody the loop ends, and not before all is answered.
    awaited : int
        Tasks of the round before.
    """
    return max(0, min(math.ceil(meanwhile) - waiting, awaited - 1)) if waiting else 0


def too_fast(meanwhile: float, waiting: int) -> str | None:
    """Say that people are faster than rounds can be, whenever they are opened, and what helps; None if they are not."""
    if not waiting or meanwhile < BEHIND * waiting:
        return None
    # In steps, so that it is not another sentence at every look.
    times = math.ceil(2 * meanwhile / waiting) / 2
    return (
        "People go through a batch sooner than a round is made, so that their queue ends at times: set "
        f"round.batch_size to {times:g} times what it is, or more"
    )


def seconds_per_answer(moments: list[datetime]) -> float | None:
    """Return the median pause between answers of all people together; None if there are too few to tell."""
    pauses = [(after - before).total_seconds() for before, after in pairwise(sorted(set(moments)))]
    return median(pauses) if len(pauses) >= FEWEST else None
