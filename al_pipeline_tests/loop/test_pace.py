"""Where people are faster than a round the next one is opened sooner, and nowhere else."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from al_pipeline.ledger import Ledger
from al_pipeline.ledger.imports import IMPORTED
from al_pipeline.loop.pace import LOOK, answers_meanwhile, early, too_fast
from al_pipeline_tests.ledger.builders import START, manifest, said, sample

# Tasks of a batch, and seconds from the request of a round to its end.
BATCH, RUN = 10, 25.0


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
        # So many are answered while a round is made: 6, 10, 12 and 40; ten are in the queue behind.
        (5.0, (0, None)),
        (3.0, (0, None)),
        (2.5, (2, "round.batch_size to 1.5 times what it is, or more")),
        # Nothing is opened before the awaited batch is begun.
        (0.75, (BATCH - 1, "round.batch_size to 4 times what it is, or more")),
    ],
)
def test_so_many_answers_may_be_missing_as_the_queue_is_too_short(
    ledger: Ledger, pause: float, expected: tuple[int, str | None]
) -> None:
    assert RUN + LOOK == 30
    answer(ledger, pause, pause, 3600, pause, pause, pause)
    meanwhile = answers_meanwhile(ledger, RUN)
    told = too_fast(meanwhile, BATCH)
    assert (early(meanwhile, BATCH, BATCH), told and told.partition("set ")[2]) == expected


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
    assert (early(30, BATCH, BATCH), early(30, 0, BATCH), too_fast(30, 0)) == (BATCH - 1, 0, None)
