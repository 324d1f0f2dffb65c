"""Which of the keys that people can type are rounds, which of them is the newest, and which may be run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_pipeline.core.rounds import is_round, round_key
from al_pipeline.defs.round_keys import newest_of, no_rounds, refusal

BEGUN = {"r0000", "r0001", "r0002", "r0003"}
STRAY = ["foo", "r99999", "R0001", "", "r0003 ", "r٠٠٠٣"]


@pytest.mark.parametrize(
    ("keys", "begun", "run", "newest"),
    [
        ([], set(), set(), None),
        (STRAY, set(), set(STRAY), None),
        ([*BEGUN, *STRAY], BEGUN, set(STRAY), 3),
        # Round 0 and every other one: by its run, before the ledger knows of it.
        (["r0000"], set(), set(), None),
        (["r0000"], set(), {"r0000"}, 0),
        ([*BEGUN, "r0004"], BEGUN, set(), 3),
        ([*BEGUN, "r0004"], BEGUN, {"r0004"}, 4),
        # Typed ahead, whether with a run or without.
        ([*BEGUN, "r0042"], BEGUN, {"r0042"}, 3),
        ([*BEGUN, "r0004", "r0005"], BEGUN, {"r0005"}, 3),
        ([*BEGUN, "r0004", "r0005"], BEGUN, {"r0004", "r0005"}, 4),
        (["r0042"], set(), {"r0042"}, None),
        # A Dagster that was set up anew beside an old ledger, and a gap that was once allowed.
        ([], BEGUN, set(), None),
        (["r0000"], BEGUN, {"r0000"}, 0),
        (["r0004"], BEGUN, {"r0004"}, 4),
        ([*BEGUN, "r0042"], BEGUN | {"r0042"}, set(), 42),
        (["r9999"], {"r9999"}, set(), 9999),
    ],
)
def test_the_newest_round_was_begun_or_comes_next_and_has_a_run(
    keys: list[str], begun: set[str], run: set[str], newest: int | None
) -> None:
    assert newest_of(keys, begun, run.__contains__) == newest


@given(st.lists(st.text(max_size=6) | st.integers(0, 9999).map(round_key)), st.integers(0, 30))
def test_no_key_that_is_typed_moves_the_newest_round_by_more_than_one(keys: list[str], rounds: int) -> None:
    begun = {round_key(number) for number in range(rounds)}
    found = newest_of([*begun, *keys], begun, lambda key: True)
    assert (-1 if found is None else found) in (rounds - 1, rounds)


@pytest.mark.parametrize("key", [*sorted(BEGUN), "r0004"])
def test_rounds_and_the_next_one_may_be_run(key: str) -> None:
    assert refusal(key, BEGUN) is None


@pytest.mark.parametrize("key", ["r0005", "r0042", "r9999", *STRAY])
def test_any_other_key_is_refused_with_the_round_that_is_next(key: str) -> None:
    told = str(refusal(key, BEGUN))
    assert f"{key!r} {'cannot be run yet' if is_round(key) else 'is no round'}" in told
    assert "the newest round is r0003, the next one is r0004" in told
    assert "Delete partitions" in told


def test_before_round_0_that_one_is_named() -> None:
    assert "the first one is r0000" in str(refusal("r0001", set()))
    assert refusal("r0000", set()) is None


def test_the_warning_names_what_is_ignored_and_how_to_remove_it() -> None:
    assert no_rounds(BEGUN | {"r0042"}) is None
    told = str(no_rounds([*BEGUN, "foo", ""]))
    assert "partitions '', 'foo'" in told
    assert "r0003" not in told
    assert "Delete partitions" in told
