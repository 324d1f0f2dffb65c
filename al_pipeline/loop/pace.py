"""How fast people are and how long a round takes: where a batch ahead is too little, the next is sooner and larger."""

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
# How many times as long as the last rounds the next one may take: it has more labels to learn from.
LONGER = 1.5


def answers_meanwhile(ledger: "Ledger", seconds: float | None) -> float:
    """Return how many answers people give while a round is made, 0 where nothing tells.

    Parameters
    ----------
    ledger : Ledger
    seconds : float, optional
        What a round takes from its request to its end, since no other begins before.
    """
    pause = seconds_per_answer(ledger.newest_answers(ANSWERS))
    return 0.0 if pause is None or seconds is None else (LONGER * seconds + LOOK) / pause


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


def batch_in_step(batch_size: int, meanwhile: float, share: float, most: float) -> int:
    """Return how many images a round asks about to learn from, so that people have enough until the next batch comes.

    However soon rounds are begun, they are made one after the other: where a round takes longer than people need for a
    batch, larger batches alone keep the queue from ending.

    Parameters
    ----------
    batch_size : int
        What it is otherwise.
    meanwhile : float
        As of `answers_meanwhile`.
    share : float
        Of the round's tasks that are test images.
    most : float
        How many times `batch_size` it may be.
    """
    return max(batch_size, min(math.ceil(meanwhile * (1 - share)), int(most * batch_size)))


def seconds_per_answer(moments: list[datetime]) -> float | None:
    """Return the median pause between answers of all people together; None if there are too few to tell."""
    pauses = [(after - before).total_seconds() for before, after in pairwise(sorted(set(moments)))]
    return median(pauses) if len(pauses) >= FEWEST else None
