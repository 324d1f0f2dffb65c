"""What is typed on the page that ends the queue is no change of mind; what is changed with the task in sight is."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.ledger import Ledger
from al_pipeline.loop.unseen import changed_unseen
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def answer(number: int, value: str, lead: float | None, made: float, changed: float | None = None) -> Annotation:
    """Return an answer that took `lead` seconds, made and perhaps changed so many seconds after noon."""
    updated = at(made if changed is None else changed)
    return Annotation(number, number, sample(number), "r0000", "ann", value, False, lead, at(made), updated, {})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A round of two tasks."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.register(manifest(pool=4))
    ledger.plan("r0000", plan_rows(0, 1))
    ledger.record_pushed("r0000", {sample(0): 1, sample(1): 2}, NOON)
    yield ledger
    ledger.close()


FIRST, LAST = answer(0, "cat", 2.0, 2), answer(1, "cat", 3.3, 6)


@pytest.mark.parametrize(
    ("before", "change", "kind"),
    [
        # As measured in the editor: typed on, and by way of "Go to Previous Task".
        (LAST, answer(1, "dog", 3.3 + 4.4, 6, 10.5), "hasty"),
        (LAST, answer(1, "dog", 3.3 + 4.0, 6, 16.5), "answer"),
        # Nobody has looked in between.
        (None, answer(1, "dog", 3.3 + 1.4, 6, 7.5), "hasty"),
        (None, answer(1, "dog", 3.3 + 1.4, 6, 16.5), "answer"),
        (LAST, answer(1, "cat", 3.3 + 4.4, 6, 10.5), "answer"),
        # The API takes no time, and a submit stores its two moments.
        (LAST, answer(1, "dog", None, 6, 10.5), "answer"),
        (None, answer(1, "dog", 3.3, 6, 6.02), "answer"),
    ],
)
def test_a_change_that_took_all_the_time_since_the_last_answer_does_not_count(
    ledger: Ledger, before: Annotation | None, change: Annotation, kind: str
) -> None:
    known = [] if before is None else [before]
    [_, judged] = changed_unseen(ledger, [FIRST, change], known)
    assert judged.kind == kind
    # Read once more it is what it was, and where another task waited, that one was in sight.
    assert changed_unseen(ledger, [change], [judged]) == [judged]
    assert [event.kind for event in changed_unseen(ledger, [change], known)] == ["answer"]


def test_a_batch_that_came_after_the_keys_was_not_in_sight(ledger: Ledger) -> None:
    ledger.plan("r0001", plan_rows(2))
    ledger.record_pushed("r0001", {sample(2): 3}, at(8))
    change = answer(1, "dog", 3.3 + 4.4, 6, 10.5)
    assert [event.kind for event in changed_unseen(ledger, [FIRST, change], [LAST])] == ["answer", "hasty"]
