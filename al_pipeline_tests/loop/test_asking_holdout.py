"""The holdout is drawn once, and asked about bit by bit, mixed into what is asked to learn from."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from al_pipeline.core.data.holdout import draw_holdout
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.rounds import RoundPolicy, RoundStatus, round_key
from al_pipeline.ledger.imports import IMPORTED
from al_pipeline.ledger.verify import verify
from al_pipeline.loop import choose
from al_pipeline.loop.answers import holdout_labels
from al_pipeline.loop.asked import what_is_asked
from al_pipeline.loop.holdout import how_many_blind, mixed
from al_pipeline.loop.progress import pushed
from al_pipeline.loop.waiting import left_now
from al_pipeline_tests.faults.memory_studio import PROJECT
from al_pipeline_tests.ledger.builders import moment, said, sample
from al_pipeline_tests.loop.test_together import CLASSES, POLICY, Loop

# Samples of the pool; a group of two, and others alone.
POOL, SIZE = 24, 6


class Spread(Loop):
    """A project whose holdout is asked about bit by bit."""

    holdout_size, together = SIZE, False

    def tests(self, number: int | None = None) -> list[str]:
        """Return what a round, or any, has asked about for the holdout."""
        planned = self.ledger.planned(None if number is None else round_key(number))
        return planned.loc[planned["purpose"] == "holdout", "sample_id"].tolist()

    def drawn(self) -> list[str]:
        return self.ledger.drawn()["sample_id"].tolist()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Spread]:
    loop = Spread(tmp_path, "a", "a", *["-"] * (POOL - 2))
    yield loop
    assert verify(loop.url).problems == []
    loop.ledger.close()


def test_the_draw_is_that_of_all_at_once_and_only_the_asking_is_spread(loop: Spread) -> None:
    loop.open(6)
    assert loop.drawn() == draw_holdout(loop.images, SIZE, 0)
    assert set(loop.ledger.drawn()["propensity"]) == {SIZE / POOL}
    status = pushed(loop.deployment, POLICY, 0).status
    assert [len(loop.tests(0)), status.tests, status.planned] == [2, 2, 8]
    later = "4 more test images will come with later rounds"
    assert what_is_asked(loop.ledger, round_key(0)) == (
        f"r0000 asks about 8 images: 2 test images, 6 to learn from; then comes the first model; {later}"
    )
    whole = "8 to label: 2 test images, 6 to learn from"
    assert left_now(loop.ledger, status, POLICY) == f"r0000 has {whole}; first model after 8; {later}"
    # What is told is what is left, also where Label Studio does not answer; not which of the tests.
    for task in loop.studio.tasks(PROJECT, unanswered=True)[:7]:
        loop.answer(int(task.sample_id, 16), "cat")
    status = pushed(loop.deployment, POLICY, 0).status
    told = f"r0000 has 1 left of {whole}; first model after 1; {later}"
    assert left_now(loop.ledger, status, POLICY) == left_now(loop.ledger, RoundStatus(), POLICY) == told
    for batch in (6, 6, 2):
        for task in loop.studio.tasks(PROJECT, unanswered=True):
            loop.answer(int(task.sample_id, 16), "cat")
        loop.open(batch)
    # In the order of the draw, until all are asked about; nothing else is held back.
    assert loop.tests() == loop.drawn()
    assert [len(loop.tests(number)) for number in range(4)] == [2, 2, 2, 0]
    queries = loop.ledger.planned().query("purpose == 'query'")["sample_id"]
    mates = loop.ledger.held_back()
    assert set(queries) == set(loop.images["sample_id"]) - set(loop.drawn()) - mates
    # Test labels are those of test images, and no label to learn from.
    known = holdout_labels(loop.images, loop.ledger, ClassSet(CLASSES), 1)
    assert set(known["sample_id"]) == set(loop.drawn())
    assert not set(loop.labels()["sample_id"]) & set(loop.drawn())


def test_what_is_drawn_and_not_asked_about_teaches_nothing_and_is_not_waited_for(loop: Spread) -> None:
    loop.open(6)
    later = [name for name in loop.drawn() if name not in loop.tests(0)]
    # Somebody brings labels along: of test images they are test labels, and nobody is asked about these again.
    loop.ledger.append([said(90 + n, name, "dog") for n, name in enumerate(later[:1])], moment(9), source=IMPORTED)
    assert loop.ledger.count_labels() == 0
    assert loop.ledger.holdout() == set(loop.drawn())
    assert list(loop.ledger.holdout_waiting()) == later[1:]
    assert later[0] in set(holdout_labels(loop.images, loop.ledger, ClassSet(CLASSES), 1)["sample_id"])
    status = pushed(loop.deployment, POLICY, 0).status
    assert status.unlabeled_left == POOL - SIZE - 6 - len(loop.ledger.held_back())
    # Whoever has a budget has said how much work it is: its end asks nobody, whatever is left.
    policy = RoundPolicy(max_rounds=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("al_pipeline_tests.loop.test_together.POLICY", policy)
        assert loop.open(6) == {}
    assert list(loop.ledger.holdout_waiting()) == later[1:]


def test_a_test_image_that_was_away_when_it_was_to_be_shown_is_asked_about_later(loop: Spread) -> None:
    first = draw_holdout(loop.images, SIZE, 0)[0]
    uri = Path(loop.images.set_index("sample_id").loc[first, "uri"])
    away = uri.rename(uri.with_suffix(".away"))
    loop.open(6)
    assert next(iter(loop.ledger.holdout_waiting())) == first
    away.rename(uri)
    loop.open(3)
    assert loop.tests(1) == [first]
    # Whose task somebody deletes is not asked about again.
    [task] = [each for each in loop.studio.tasks(PROJECT, unanswered=True) if each.sample_id == first]
    loop.studio.remove(task.task_id)
    loop.open(3)
    assert first not in [*loop.tests(2), *loop.ledger.holdout_waiting()]


def test_when_nothing_is_left_to_learn_from_the_rest_is_asked_about_at_once(loop: Spread) -> None:
    loop.holdout_share = loop.deployment.settings.holdout_share = 0.05  # pyright: ignore[reportAttributeAccessIssue]
    loop.open(POOL)
    assert loop.tests(0) == loop.drawn()[:1]
    loop.open(POOL)
    assert loop.tests(1) == loop.drawn()[1:]
    assert loop.open(POOL) == {}


@pytest.mark.parametrize(
    ("others", "share", "expected"),
    [(8, 0.25, 3), (6, 0.25, 2), (1, 0.25, 1), (8, 0.5, 8), (90, 0.1, 10), (0, 0.25, None), (8, 1.0, None)],
)
def test_the_share_is_that_of_the_rounds_tasks(others: int, share: float, expected: int | None) -> None:
    assert how_many_blind(others, share) == expected


def test_test_images_come_at_random_places_and_the_others_in_their_order() -> None:
    purposes = ["query"] * 8 + ["holdout"] * 3
    batch = pd.DataFrame({"sample_id": [*map(sample, range(11))], "purpose": purposes, "seed": 7})
    places = []
    for number in range(300):
        order = mixed(batch, round_key(number))
        assert sorted(order["sample_id"]) == batch["sample_id"].tolist()
        for purpose in ("query", "holdout"):
            assert order.loc[order["purpose"] == purpose, "sample_id"].is_monotonic_increasing
        places += [i for i, purpose in enumerate(order["purpose"]) if purpose == "holdout"]
    counts = pd.Series(places).value_counts()
    assert set(counts.index) == set(range(11))
    # 82 of 900 are expected at each place.
    assert counts.between(50, 115).all()
    pd.testing.assert_frame_equal(mixed(batch, "r0003"), mixed(batch, "r0003"))


def test_a_round_that_is_opened_ahead_does_not_count_test_images_as_labels_to_come(loop: Spread) -> None:
    loop.open(6)
    policy = RoundPolicy(label_budget=10, prefetch=True)
    assert choose._labels_left(loop.ledger, policy, 1) == 4
