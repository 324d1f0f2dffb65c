"""With `prefetch` one batch is always ready, and still the loop ends after a round that trained on every label."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from al_pipeline.core.rounds import Done, Open, RoundPolicy, RoundStatus, Stalled, Wait, awaited_round, decide

NOW = datetime(2026, 3, 1, tzinfo=UTC)
AHEAD, WAITING = RoundPolicy(), RoundPolicy(prefetch=False)


@pytest.mark.parametrize(
    ("newest", "policy", "awaited"),
    [
        (0, WAITING, 0),
        (3, WAITING, 3),
        (0, AHEAD, None),
        (1, AHEAD, 0),
        (3, AHEAD, 2),
        (1, AHEAD.but(max_rounds=4), 0),
        # Round 3 is the last of four: it waits for round 2.
        (2, AHEAD.but(max_rounds=4), 2),
        (0, AHEAD.but(max_rounds=2), 0),
    ],
)
def test_which_round_is_waited_for(newest: int, policy: RoundPolicy, awaited: int | None) -> None:
    assert awaited_round(newest, policy) == awaited


def test_the_second_batch_is_made_ready_at_once_and_then_each_waits_for_the_one_before() -> None:
    first = RoundStatus(round_number=0, run_state="succeeded", planned=8, unlabeled_left=80)
    assert decide(first, AHEAD, NOW) == Open(
        1, 1, "r0000 is with the annotators; the next batch is made ready (prefetch)"
    )
    second = replace(first, round_number=1, ahead=True)
    assert decide(second, AHEAD, NOW) == Wait("r0000: 0 of 8 answered, 8 to go")
    assert decide(replace(second, labeled=8), AHEAD, NOW) == Open(2, 1, "r0000: 8 of 8 answered")
    assert isinstance(decide(replace(second, run_state="in_progress"), AHEAD, NOW), Wait)


def test_behind_the_first_batch_after_a_round_that_asked_nobody_another_is_made_ready_at_once() -> None:
    # Of round 3 there was nothing to ask; images came, and somebody launched round 4.
    fourth = RoundStatus(round_number=4, run_state="succeeded", planned=8, unlabeled_left=80)
    assert decide(fourth, AHEAD, NOW).reason == "r0004 is with the annotators; the next batch is made ready (prefetch)"
    # Then each waits for the one before, whether there was anything left to ask or not.
    for left in (72, 0):
        fifth = replace(fourth, round_number=5, ahead=True, unlabeled_left=left)
        assert decide(fifth, AHEAD, NOW) == Wait("r0004: 0 of 8 answered, 8 to go")
    # Nothing is left to ask, or answers would be no labels, or it is the last but one: that waits for all answers.
    assert isinstance(decide(replace(fourth, unlabeled_left=0), AHEAD, NOW), Wait)
    assert isinstance(decide(replace(fourth, obstacle="it offers zebra"), AHEAD, NOW), Stalled)
    assert isinstance(decide(fourth, AHEAD.but(max_rounds=6), NOW), Wait)
    assert isinstance(decide(fourth, WAITING, NOW), Wait)


def turn(policy: RoundPolicy, *, pool: int, batch: int, early: int = 0) -> tuple[list[int], list[int], str]:
    """Turn the loop until it is done; people answer the awaited round alone, as late as can be.

    Where a batch waits behind it, so many of its answers are given after the next round has begun.

    Returns what each round asked about, how many labels each trained on, and the last reason.
    """
    asked, trained, given = [], [], dict[int, int]()

    def labels() -> int:
        return sum(given.values())

    number = 0
    for _ in range(100):
        wanted = batch
        if policy.max_rounds is not None and number + 1 >= policy.max_rounds:
            wanted = 0
        if policy.label_budget is not None:
            coming = sum(asked[each] - given.get(each, 0) for each in range(max(0, number - 2), number))
            wanted = max(0, min(wanted, policy.label_budget - labels() - coming))
        trained.append(labels())
        asked.append(min(wanted, pool - sum(asked)))
        # What was not there when this round began comes while it is made.
        given.update({each: asked[each] for each in given})
        awaited = awaited_round(number, policy)
        ahead = awaited is not None and awaited < number and asked[awaited] > 0
        sooner = min(early, asked[number - 1] - 1) if ahead and asked[number] else 0
        if awaited is not None:
            given[number - ahead] = asked[number - ahead] - sooner
            given |= {number - 1: asked[number - 1]} if number and awaited == number else {}
        counted = asked[number - ahead]
        status = RoundStatus(
            round_number=number,
            run_state="succeeded",
            planned=counted,
            labeled=given.get(number - ahead, 0),
            unlabeled_left=pool - sum(asked),
            labels_total=labels(),
            ahead=ahead,
            early=sooner,
        )
        decision = decide(status, policy, NOW)
        if not isinstance(decision, Open):
            assert isinstance(decision, Done), decision
            return asked, trained, decision.reason
        number = decision.round_number
    raise AssertionError("the loop never ends")


@pytest.mark.parametrize("early", [0, 3, 8])
@pytest.mark.parametrize(
    ("policy", "labels", "reason"),
    [
        (AHEAD, 30, "no image is left to ask about"),
        (AHEAD.but(label_budget=20), 20, "20 labels exist and the label budget is 20"),
        (AHEAD.but(max_rounds=4), 24, "r0003 was the last of 4 rounds"),
    ],
)
def test_the_loop_ends_after_a_round_that_trained_on_every_label(
    policy: RoundPolicy, labels: int, reason: str, early: int
) -> None:
    asked, trained, told = turn(policy, pool=30, batch=8, early=early)
    assert sum(asked) == labels
    assert trained[-1] == labels, "somebody's answers were never used"
    assert reason in told
    # Each batch is out before the one before it is answered.
    assert trained[:3] == [0, 0, 8 - min(early, 7)]
