"""Where people are faster than a round the next one is opened sooner, and nowhere else."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from al_pipeline.core.labels.annotation import moment
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.imports import IMPORTED
from al_pipeline.loop.pace import (
    FASTEST,
    LONGER,
    LOOK,
    Given,
    answers_meanwhile,
    batch_in_step,
    early,
    seconds_per_answer,
)
from al_pipeline_tests.ledger.builders import START, manifest, said, sample

# Tasks of a batch, and seconds from the request of a round to its end.
BATCH, RUN = 10, 25 / LONGER


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.register(manifest(pool=BATCH))
    yield ledger
    ledger.close()


def answer(ledger: Ledger, *pauses: float, lead_time: float | None = 0.7, source: str = "project") -> None:
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
    answer(ledger, *[3.0] * 3, source="too few")
    assert answers_meanwhile(ledger, RUN) == 0
    answer(ledger, *[3.0] * 6)
    assert (answers_meanwhile(ledger, None), answers_meanwhile(ledger, RUN)) == (0, 10)


def in_turns(people: int, pause: float, seconds: float, *, images: int = 1) -> list[Given]:
    """Answers by people in turns, so many seconds from one to the next of all."""
    names = [f"person {number}" for number in range(people)]
    return [Given(names[n % people], START + timedelta(seconds=n * pause), seconds, images) for n in range(30)]


def test_what_nobody_can_have_answered_one_after_the_other_tells_nothing() -> None:
    # By a program: sooner than the editor has another task, whatever it says of its time.
    assert seconds_per_answer(in_turns(1, 0.05, 0.02)) is None
    assert seconds_per_answer(in_turns(1, 0.4, 0.4)) is None
    # Two tabs at once, or a made-up time: each was open while the other was answered.
    assert seconds_per_answer(in_turns(1, 1.0, 3.0)) is None
    # People are as fast as ever while a program answers.
    people, burst = in_turns(2, 2.0, 3.5), in_turns(1, 0.05, 2.5)
    burst = [replace(each, annotator="program", moment=each.moment + timedelta(seconds=57)) for each in burst]
    assert seconds_per_answer(people) == seconds_per_answer([*people, *burst]) == 2.0


def test_who_answers_beside_others_is_one_of_a_team() -> None:
    assert seconds_per_answer(in_turns(1, 2.0, 1.9)) == 2.0
    assert seconds_per_answer(in_turns(10, 0.2, 1.9)) == pytest.approx(0.2)
    # All at the very same moments: no faster than each of them can be.
    team = [replace(each, annotator=name) for name in "abc" for each in in_turns(1, FASTEST, 0.4)]
    assert seconds_per_answer(team) == pytest.approx(FASTEST / 3)
    # A grid is an answer to each of its images, and none of them waits for the next.
    assert seconds_per_answer(in_turns(1, 8.0, 7.0, images=4)) == 2.0


def test_a_grid_and_a_changed_answer_are_one_answer_each(ledger: Ledger) -> None:
    at, events = START, []
    for number in range(8):
        grid = [said(number, sample(cell), "cat", created_at=moment(at, cell), lead_time=1.5) for cell in range(1, 5)]
        events += [replace(each, cell=cell, updated_at=each.created_at) for cell, each in enumerate(grid, start=1)]
        at += timedelta(seconds=8)
    # The last is changed an hour later, in which its task was open.
    events += [replace(each, updated_at=at + timedelta(hours=1), lead_time=900.0) for each in events[-4:]]
    ledger.append(events, at)
    assert answers_meanwhile(ledger, RUN) == 30 / 2


def test_after_a_round_that_asks_nobody_every_answer_is_waited_for() -> None:
    assert (early(30, BATCH, BATCH), early(30, 0, BATCH)) == (BATCH - 1, 0)
