"""Where people are faster than a round the next one is opened sooner, and nowhere else."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from al_pipeline.ledger import Ledger
from al_pipeline.ledger.imports import IMPORTED
from al_pipeline.loop.pace import LONGER, LOOK, answers_meanwhile, batch_in_step, early
from al_pipeline_tests.ledger.builders import START, manifest, said, sample

# Tasks of a batch, and seconds from the request of a round to its end.
BATCH, RUN = 10, 25 / LONGER


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.register(manifest(pool=BATCH))
    yield ledger
    ledger.close()


def answer(ledger: Ledger, *pauses: float, lead_time: float | None = 1.0, source: str = "project") -> None:
    """Have images answered with these pauses, and pull."""
    at, events = START, [said(1, sample(0), "cat", lead_time=lead_time)]
    for number, pause in enumerate(pauses, start=1):
        at += timedelta(seconds=pause)
        events.append(said(number + 1, sample(number), "cat", created_at=at, updated_at=at, lead_time=lead_time))
    ledger.append(events, at, source=source)


@pytest.mark.parametrize(
    ("pause", "expected"),
    [
        # So many are answered while a round is made: 6, 10, 12 and 40. Ten are in the queue behind; of a batch of 8 and
        # its test images, a quarter of all, it is 11, and three times as many to learn from are the most.
        (5.0, (0, 8)),
        (3.0, (0, 8)),
        (2.5, (2, 9)),
        # Nothing is opened before the awaited batch is begun.
        (0.75, (BATCH - 1, 24)),
    ],
)
def test_where_the_queue_is_too_short_so_many_answers_may_be_missing_and_the_batch_is_larger(
    ledger: Ledger, pause: float, expected: tuple[int, int]
) -> None:
    assert LONGER * RUN + LOOK == 30
    answer(ledger, pause, pause, 3600, pause, pause, pause)
    meanwhile = answers_meanwhile(ledger, RUN)
    assert (early(meanwhile, BATCH, BATCH), batch_in_step(8, meanwhile, 0.25, 3)) == expected


def test_nothing_is_early_where_nobody_tells_how_fast_people_are(ledger: Ledger) -> None:
    assert answers_meanwhile(ledger, RUN) == 0
    # By programs that looked at nothing, and brought along.
    answer(ledger, *[0.1] * 6, lead_time=None)
    assert answers_meanwhile(ledger, RUN) == 0
    answer(ledger, *[0.1] * 6, source=IMPORTED)
    assert answers_meanwhile(ledger, RUN) == 0
    answer(ledger, *[0.1] * 3, source="too few")
    assert answers_meanwhile(ledger, RUN) == 0
    answer(ledger, *[3.0] * 6)
    assert (answers_meanwhile(ledger, None), answers_meanwhile(ledger, RUN)) == (0, 10)


def test_after_a_round_that_asks_nobody_every_answer_is_waited_for() -> None:
    assert (early(30, BATCH, BATCH), early(30, 0, BATCH)) == (BATCH - 1, 0)
