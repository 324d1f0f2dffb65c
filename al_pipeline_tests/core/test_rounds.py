"""The loop's decision as a table, and what no combination of facts may ever lead to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.rounds import (
    RUN_STATES,
    Done,
    Open,
    RoundPolicy,
    RoundStatus,
    Stalled,
    Wait,
    awaited_round,
    decide,
    round_key,
    round_number,
)
from al_pipeline.loop.progress import answers_missing

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
# A round of 20 tasks in the middle of the loop.
BASE = RoundStatus(
    round_number=3, run_state="succeeded", attempts=1, planned=20, opened_at=NOW - HOUR, unlabeled_left=500
)


@pytest.mark.parametrize(
    ("status", "policy", "kind", "reason"),
    [
        # before and during a run
        (RoundStatus(), {}, Wait, "no round has been run yet: `al open` begins"),
        (RoundStatus(round_number=0), {}, Wait, "r0000 has not been run yet"),
        (RoundStatus(round_number=4), {}, Open, "r0004: the partition exists but had no run"),
        (replace(BASE, run_state="in_progress"), {}, Wait, "r0003: its run is in progress"),
        # failures
        (replace(BASE, run_state="failed", attempts=1), {}, Open, "1 of 3 attempts failed; trying again"),
        (replace(BASE, run_state="failed", attempts=2), {}, Open, "2 of 3 attempts failed; trying again"),
        (
            replace(BASE, run_state="failed", attempts=5, interrupted=3),
            {},
            Open,
            "2 of 3 attempts failed; trying again",
        ),
        (replace(BASE, run_state="failed", attempts=5, interrupted=5), {}, Open, "its run ended with the servers"),
        (
            replace(BASE, run_state="failed", attempts=3, failed_run_id="abc"),
            {},
            Stalled,
            "3 of 3 attempts failed, the last as run abc; mend the cause, then re-execute that run",
        ),
        (replace(BASE, run_state="failed", attempts=1, failed_run_id="x"), {"max_attempts": 1}, Stalled, "run x"),
        (replace(BASE, run_state="canceled", failed_run_id="abc"), {}, Stalled, "abc was canceled; re-execute it"),
        # answering
        (BASE, {}, Wait, "r0003: 0 of 20 answered, 20 to go"),
        (replace(BASE, labeled=17), {}, Wait, "r0003: 17 of 20 answered, 3 to go"),
        (replace(BASE, labeled=17, skipped=2), {}, Wait, "r0003: 19 of 20 answered (2 skipped), 1 to go"),
        (replace(BASE, labeled=18, skipped=2), {}, Open, "r0003: 20 of 20 answered (2 skipped)"),
        (replace(BASE, tests=5), {}, Wait, "r0003: 0 of 20 answered, 5 test images among the 20, 20 to go"),
        (replace(BASE, labeled=16, early=3), {}, Wait, "r0003: 16 of 20 answered, 4 to go"),
        (replace(BASE, labeled=17, early=3), {}, Open, "r0003: 17 of 20 answered; who labels so fast would wait"),
        # Nobody has begun it.
        (replace(BASE, early=20), {}, Wait, "r0003: 0 of 20 answered, 20 to go"),
        (replace(BASE, skipped=20), {}, Open, "20 of 20 answered (20 skipped)"),
        # answers that would be no labels
        (replace(BASE, labeled=20, obstacle="it offers zebra"), {}, Stalled, "r0003: it offers zebra"),
        (replace(BASE, labeled=2, obstacle="it offers zebra"), {"prefetch": True}, Stalled, "it offers zebra"),
        (replace(BASE, obstacle="it offers zebra"), {"max_rounds": 4}, Done, "was the last of 4 rounds"),
        (replace(BASE, tests_left=1), {"max_rounds": 4}, Done, "; 1 test image that was drawn will not be asked about"),
        (replace(BASE, labeled=15, withdrawn=4), {}, Wait, "15 of 16 answered, 4 withdrawn, 1 to go"),
        (replace(BASE, labeled=16, withdrawn=4), {}, Open, "16 of 16 answered, 4 withdrawn"),
        (replace(BASE, withdrawn=20), {}, Stalled, "all of its 20 tasks are missing in Label Studio"),
        (replace(BASE, withdrawn=20, away=20), {}, Stalled, "the images of all its 20 tasks were gone"),
        # a part is enough
        (replace(BASE, labeled=13), {"min_fraction": 0.7}, Wait, "13 of 20 answered, 1 to go"),
        (replace(BASE, labeled=14), {"min_fraction": 0.7}, Open, "14 of 20 answered"),
        (BASE, {"min_fraction": 0.001}, Wait, "1 to go"),
        # the timeout
        (replace(BASE, labeled=1), {"timeout_hours": 2}, Wait, "19 to go"),
        (replace(BASE, labeled=1), {"timeout_hours": 1}, Open, "1 of 20 answered and the timeout of 1:00:00 is over"),
        (replace(BASE, skipped=1), {"timeout_hours": 1}, Open, "the timeout of 1:00:00 is over"),
        (BASE, {"timeout_hours": 1}, Wait, "the timeout of 1:00:00 is over, but none of 20 is answered"),
        (replace(BASE, labeled=1, opened_at=None), {"timeout_hours": 1}, Wait, "19 to go"),
        # the last round, the budget, the end of the pool
        (replace(BASE, planned=0), {"max_rounds": 4}, Done, "r0003 was the last of 4 rounds"),
        (replace(BASE, labeled=2), {"max_rounds": 4}, Done, "r0003 was the last of 4 rounds"),
        (replace(BASE, labeled=20), {"max_rounds": 5}, Open, "20 of 20 answered"),
        (replace(BASE, labeled=20, labels_total=80), {"label_budget": 80}, Open, "20 of 20 answered"),
        (
            replace(BASE, labeled=10, labels_total=80),
            {"label_budget": 80},
            Open,
            "10 of 20 answered, but 80 labels exist and the label budget is 80",
        ),
        (replace(BASE, planned=0, labels_total=80), {"label_budget": 80}, Done, "80 labels exist and the label budget"),
        (replace(BASE, planned=0, labels_total=79), {"label_budget": 80}, Stalled, "asked about no image, but 500"),
        (replace(BASE, labeled=20, unlabeled_left=0), {}, Open, "20 of 20 answered"),
        (
            replace(BASE, planned=0, unlabeled_left=0, labels_total=90),
            {},
            Done,
            "no image is left to ask about; r0003 has trained on all 90 labels",
        ),
        (
            replace(BASE, planned=0),
            {},
            Stalled,
            "500 could be asked about now; launch the job `round` for a new partition r0004",
        ),
    ],
)
def test_the_decision_and_its_reason(status: RoundStatus, policy: dict[str, Any], kind: type, reason: str) -> None:
    # The counts are the newest round's own; of the batch ahead see `test_prefetch`.
    options: dict[str, Any] = {"prefetch": False} | policy
    decision = decide(status, RoundPolicy(**options), NOW)
    assert type(decision) is kind, decision
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (replace(BASE, labeled=1), Open, "1 of 20 answered and the deadline has come"),
        (BASE, Wait, "the deadline has come, but none of 20 is answered"),
        (replace(BASE, labeled=20), Open, "20 of 20 answered"),
        (replace(BASE, labeled=1, opened_at=None), Open, "the deadline has come"),
        (replace(BASE, run_state="in_progress", labeled=1), Wait, "in progress"),
        (replace(BASE, withdrawn=20), Stalled, "missing in Label Studio"),
    ],
)
def test_at_a_deadline_one_answer_is_enough(status: RoundStatus, kind: type, reason: str) -> None:
    decision = decide(status, RoundPolicy(prefetch=False), NOW, deadline=True)
    assert type(decision) is kind, decision
    assert reason in decision.reason


def test_the_next_round_is_a_first_attempt_and_a_repeated_one_counts_up() -> None:
    opened = decide(replace(BASE, labeled=20, attempts=2), RoundPolicy(), NOW)
    assert isinstance(opened, Open)
    assert (opened.round_number, opened.attempt) == (4, 1)
    again = decide(replace(BASE, run_state="failed", attempts=2), RoundPolicy(), NOW)
    assert isinstance(again, Open)
    assert (again.round_number, again.attempt) == (3, 3)
    lost = decide(RoundStatus(round_number=4), RoundPolicy(), NOW)
    assert isinstance(lost, Open)
    assert (lost.round_number, lost.attempt) == (4, 1)


def test_a_stalled_round_names_the_run_to_re_execute() -> None:
    failed = replace(BASE, run_state="failed", attempts=3, failed_run_id="run-7")
    canceled = replace(BASE, run_state="canceled", failed_run_id="run-7")
    for status in (failed, canceled):
        stalled = decide(status, RoundPolicy(), NOW)
        assert isinstance(stalled, Stalled)
        assert stalled.run_id == "run-7"
        assert "run-7" in stalled.reason


@st.composite
def statuses(draw: st.DrawFn) -> RoundStatus:
    number, planned = draw(st.none() | st.integers(0, 20)), draw(st.integers(0, 30))
    withdrawn = draw(st.integers(0, planned))
    labeled = draw(st.integers(0, planned - withdrawn))
    skipped = draw(st.integers(0, planned - withdrawn - labeled))
    return RoundStatus(
        round_number=number,
        run_state=draw(st.sampled_from(RUN_STATES)),
        attempts=draw(st.integers(0, 6)),
        failed_run_id=draw(st.none() | st.just("run")),
        planned=planned,
        labeled=labeled,
        skipped=skipped,
        withdrawn=withdrawn,
        tests=draw(st.integers(0, planned)),
        early=draw(st.integers(0, planned)),
        opened_at=draw(st.none() | st.just(NOW - HOUR)),
        unlabeled_left=draw(st.integers(0, 5)),
        labels_total=draw(st.integers(0, 50)),
        # Behind the first there is none.
        ahead=bool(number) and draw(st.booleans()),
    )


policies = st.builds(
    RoundPolicy,
    prefetch=st.booleans(),
    min_fraction=st.floats(0.01, 1),
    timeout_hours=st.sampled_from([None, 0.5, 2]),
    max_rounds=st.none() | st.integers(1, 20),
    label_budget=st.none() | st.integers(1, 60),
    max_attempts=st.integers(1, 4),
)


@given(status=statuses(), policy=policies, deadline=st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_the_facts_the_decision_keeps_the_rules(
    status: RoundStatus, policy: RoundPolicy, deadline: bool
) -> None:
    decision = decide(status, policy, NOW, deadline=deadline)
    assert decision == decide(status, policy, NOW, deadline=deadline)
    assert decision.reason
    assert "\n" not in decision.reason
    if status.run_state == "in_progress" or status.round_number is None:
        assert isinstance(decision, Wait)
    if isinstance(decision, Open):
        assert status.round_number is not None
        assert status.run_state not in ("in_progress", "canceled")
        if status.run_state == "succeeded":
            assert (decision.round_number, decision.attempt) == (status.round_number + 1, 1)
            # Never a round after one that nobody has answered, but the one batch ahead: that would run away.
            awaited = awaited_round(status.round_number, policy)
            assert status.answered > 0 or awaited is None or (awaited < status.round_number and not status.ahead)
            assert policy.max_rounds is None or decision.round_number < policy.max_rounds
        else:
            assert decision.round_number == status.round_number
            assert decision.attempt == status.attempts + 1
            assert status.run_state == "none" or decision.attempt <= policy.max_attempts
    if isinstance(decision, Done):
        assert status.run_state == "succeeded"


@given(status=statuses(), policy=policies, labels=st.integers(0, 5), skips=st.integers(0, 5), bad=st.integers(0, 5))
@settings(max_examples=400, deadline=None)
def test_fewer_answers_than_are_missing_open_no_round(
    status: RoundStatus, policy: RoundPolicy, labels: int, skips: int, bad: int
) -> None:
    done = labels + skips + bad
    if not isinstance(decide(status, policy, NOW), Wait) or done >= max(1, answers_missing(status, policy)):
        return
    # An answer that brings no label is asked again; the labels of others, shown beside, come with any.
    more = {"labeled": status.labeled + labels, "skipped": status.skipped + skips, "again": status.again + bad}
    after = replace(status, **more, labels_total=status.labels_total + 9 * labels)
    assert isinstance(decide(after, policy, NOW), Wait)


@given(status=statuses(), policy=policies, more=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_more_answers_never_close_a_round_again(status: RoundStatus, policy: RoundPolicy, more: int) -> None:
    if isinstance(decide(status, policy, NOW), Open) and status.run_state == "succeeded":
        labeled = min(status.labeled + more, status.open_tasks - status.skipped)
        assert isinstance(decide(replace(status, labeled=labeled), policy, NOW), Open)


def simulate(policy: RoundPolicy, pool: int, batch: int) -> list[tuple[str, str]]:
    """Turn the loop as the pipeline does, everybody answering at once, until it says that it is done."""
    status, history, labels = RoundStatus(), [("Wait", decide(RoundStatus(), policy, NOW).reason)], 0
    left = pool
    number = 0
    for _ in range(100):
        wanted = 0 if policy.max_rounds is not None and number + 1 >= policy.max_rounds else batch
        if policy.label_budget is not None:
            wanted = min(wanted, policy.label_budget - labels)
        asked = min(wanted, left)
        left, labels = left - asked, labels + asked
        status = RoundStatus(
            round_number=number,
            run_state="succeeded",
            attempts=1,
            planned=asked,
            labeled=asked,
            unlabeled_left=left,
            labels_total=labels,
        )
        decision = decide(status, policy, NOW)
        history.append((type(decision).__name__, decision.reason))
        if not isinstance(decision, Open):
            return history
        number = decision.round_number
    raise AssertionError("the loop never ends")


@pytest.mark.parametrize(
    ("policy", "rounds", "reason"),
    [
        (RoundPolicy(max_rounds=4), 4, "r0003 was the last of 4 rounds"),
        (RoundPolicy(label_budget=20), 4, "20 labels exist and the label budget is 20"),
        (RoundPolicy(), 5, "no image is left to ask about; r0004 has trained on all 30 labels"),
    ],
)
def test_the_loop_ends_after_a_round_that_trained_on_every_label(policy: RoundPolicy, rounds: int, reason: str) -> None:
    history = simulate(policy, pool=30, batch=8)
    assert [kind for kind, _ in history] == ["Wait"] + ["Open"] * (rounds - 1) + ["Done"]
    assert reason in history[-1][1]


@pytest.mark.parametrize("number", [0, 3, 42, 9999])
def test_a_round_key_leads_back_to_its_number(number: int) -> None:
    assert round_number(round_key(number)) == number


def test_round_keys_sort_like_their_numbers() -> None:
    keys = [round_key(number) for number in range(0, 10_000, 37)]
    assert keys == sorted(keys)
    assert round_key(3) == "r0003"


@pytest.mark.parametrize("number", [-1, 10_000, 1.0, True, "3", None])
def test_what_is_no_round_number_is_refused(number: object) -> None:
    with pytest.raises(InputError, match="from 0 to 9999"):
        round_key(number)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("key", ["", "r3", "3", "r00003", "R0003", "r0003 ", "r0003\n", "r٠٠٠٣", None, 3])
def test_what_is_no_round_key_is_refused(key: object) -> None:
    with pytest.raises(InputError, match="four digits"):
        round_number(key)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_fraction": 0}, "min_fraction must be a number above 0 and at most 1, not 0"),
        ({"min_fraction": 1.01}, "min_fraction"),
        ({"min_fraction": float("nan")}, "min_fraction"),
        ({"min_votes": 0}, "min_votes must be a whole number of at least 1, not 0"),
        ({"timeout_hours": 0}, "timeout_hours must be a number above 0, or none, not 0"),
        ({"max_rounds": 0}, "max_rounds must be a whole number of at least 1"),
        ({"label_budget": -5}, "label_budget must be a whole number of at least 1, or none, not -5"),
        ({"max_attempts": 0}, "max_attempts"),
    ],
)
def test_a_policy_out_of_range_is_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RoundPolicy(**values)


def test_a_status_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="unknown run state 'queued'; choose one of none, in_progress"):
        RoundStatus(run_state="queued")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="labeled must not be negative: -1"):
        RoundStatus(labeled=-1)
