"""How fast people are and how long a round takes: where a batch ahead is too little, the next is sooner and larger."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger

# Answers that tell how fast people are; of fewer than FEWEST pauses nothing is concluded. They are looked for among the
# newest STATES of annotations: a program that has answered as often since has taken their place.
ANSWERS, FEWEST, STATES = 17, 4, 400
# Seconds from one answer of somebody to the next at the least: what the editor alone takes from key to key.
FASTEST = 0.5
# What an answer's own seconds may be more than those since its person's last answer: two clocks tell them.
CLOCKS = 0.1
# Seconds until the sensor looks, which Dagster's daemon has it do.
LOOK = 5.0
# How many times as long as the last rounds the next one may take: it has more labels to learn from.
LONGER = 1.5


@dataclass(frozen=True)
class Given:
    """One answer: whose, when, the seconds that the task was open, and about how many images it is."""

    annotator: str
    moment: datetime
    seconds: float
    images: int = 1


def answers_meanwhile(ledger: "Ledger", seconds: float | None) -> float:
    """Return how many answers people give while a round is made, 0 where nothing tells.

    Parameters
    ----------
    ledger : Ledger
    seconds : float, optional
        What a round takes from its request to its end, since no other begins before.
    """
    pause = None if seconds is None else seconds_per_answer(_given(ledger))
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


def seconds_per_answer(given: Iterable[Given]) -> float | None:
    """Return the median pause between answers about an image, of all people together; None if too few tell.

    People who answer side by side are as fast as they are together, and each no faster than `FASTEST`.

    Parameters
    ----------
    given : iterable of Given
        In any order.
    """
    known = list(_one_after_the_other(given))[-ANSWERS:]
    if len(known) <= FEWEST:
        return None
    pauses = [(after.moment - before.moment).total_seconds() / after.images for before, after in pairwise(known)]
    most = max(each.images for each in known) * len({each.annotator for each in known})
    return max(median(pauses), FASTEST / most)


def _one_after_the_other(given: Iterable[Given]) -> Iterator[Given]:
    """Yield in the order of time the answers that somebody can have given after their last one, and no program's burst.

    Whoever answers has had the task open since their last answer at the soonest: one that says it was open for longer,
    or that comes sooner than the editor has another task, tells nothing of how fast people are.
    """
    last: dict[str, datetime] = {}
    for each in sorted(given, key=lambda each: each.moment):
        before = last.get(each.annotator)
        last[each.annotator] = each.moment
        if before is None or (each.moment - before).total_seconds() >= max(FASTEST, each.seconds - CLOCKS):
            yield each


def _given(ledger: "Ledger") -> list[Given]:
    """Return what the newest states of annotations tell: of each annotation once, as it was given first."""
    found: dict[tuple[str, int, datetime], dict[int, tuple[str, float]]] = {}
    for annotator, source, number, cell, created, seconds in ledger.newest_answers(STATES):
        # A change leaves the moment of the making; those of a grid's images differ by microseconds.
        place = cell or 1
        made = created - timedelta(microseconds=place - 1)
        found.setdefault((source, number, made), {})[place] = annotator, seconds
    return [
        Given(next(iter(images.values()))[0], moment, sum(took for _, took in images.values()), len(images))
        for (_, _, moment), images in found.items()
    ]
