"""The drawn holdout: whole groups, each as likely as another, the same as ever without groups, and growing."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from al_pipeline.core.data.holdout import draw_holdout, groups_of, grow_holdout, holdout_mates
from al_pipeline.core.rng import generator

NOW = datetime(2025, 3, 1, tzinfo=UTC)


def pool(*sizes: int) -> pd.DataFrame:
    """Return a pool of groups of these sizes."""
    rows = [(f"{group:03d}-{member}", f"{group:03d}-0") for group, size in enumerate(sizes) for member in range(size)]
    return pd.DataFrame(rows, columns=["sample_id", "group"]).assign(split="pool")


@pytest.mark.parametrize("size", [0, 7, 25, 90])
def test_samples_that_are_alone_are_drawn_as_before_there_were_groups(size: int) -> None:
    images = pool(*[1] * 100)
    ids = sorted(images["sample_id"])
    expected = [ids[i] for i in generator(3, 0, "holdout").permutation(100)[: min(size, 25)]]
    assert draw_holdout(images, size, 3) == expected
    assert draw_holdout(images.drop(columns="group"), size, 3) == expected
    assert draw_holdout(images.sample(frac=1, random_state=0), size, 3) == expected


def test_whole_groups_are_drawn_until_their_images_are_enough() -> None:
    images = pool(*[5] * 40)
    for seed in range(5):
        drawn = draw_holdout(images, 23, seed)
        groups = groups_of(images)
        assert len(drawn) == len(set(drawn)) == 23
        counts = pd.Series([groups[sample] for sample in drawn]).value_counts()
        # The last group is cut for those who answer, not for what is trained on.
        assert sorted(counts) == [3, 5, 5, 5, 5]
        mates = holdout_mates(groups, drawn)
        assert len(mates) == 2
        assert {groups[sample] for sample in mates} <= set(counts.index)
        assert not mates & set(drawn)


def test_a_large_group_is_as_likely_as_a_small_one() -> None:
    images = pool(10, *[1] * 90)
    groups = groups_of(images)
    with_large = sum("000-0" in {groups[i] for i in draw_holdout(images, 20, seed)} for seed in range(200))
    # A fifth of the groups is held out: 15 of 91 or so, where image by image nine in ten draws had it.
    assert 15 < with_large < 60


def test_a_quarter_of_the_pool_is_the_most_and_a_group_that_is_larger_is_never_drawn() -> None:
    images = pool(30, 30, *[2] * 20)
    groups = groups_of(images)
    for seed in range(20):
        drawn = draw_holdout(images, 90, seed)
        assert len(drawn) + len(holdout_mates(groups, drawn)) <= 25
        assert not {"000-0", "001-0"} & {groups[sample] for sample in drawn}
    assert draw_holdout(pool(30, 30, 30), 20, 0) == []


def test_nothing_is_drawn_where_the_images_bring_a_test_split() -> None:
    images = pool(*[1] * 40)
    images.loc[0, "split"] = "holdout"
    assert draw_holdout(images, 10, 0) == []


def test_later_arrivals_have_their_share_by_whole_groups_whenever_one_looks() -> None:
    groups = groups_of(pool(*[4] * 1000))
    arrived = dict.fromkeys(groups, NOW)
    drawn = grow_holdout(groups, arrived, (), rate=0.1, size=1000, seed=0)
    assert list(drawn) == sorted(drawn)
    assert set(drawn.values()) == {0.1}
    assert 300 < len(drawn) < 500
    assert holdout_mates(groups, drawn) == set()
    # Half of them only, and then those that were asked about meanwhile: what is drawn of the rest stays.
    half = {sample: group for sample, group in groups.items() if group < "500"}
    some = {sample: share for sample, share in drawn.items() if sample in half}
    assert grow_holdout(half, arrived, (), rate=0.1, size=1000, seed=0) == some
    first = next(iter(drawn))
    rest = {sample: share for sample, share in drawn.items() if groups[sample] != groups[first]}
    assert grow_holdout(groups, arrived, [first], rate=0.1, size=1000, seed=0) == rest
    assert grow_holdout(groups, arrived, (), rate=0.1, size=1000, seed=1) != drawn


def test_an_image_that_joins_a_group_of_before_is_not_drawn_but_held_back_with_it() -> None:
    groups = groups_of(pool(*[2] * 50))
    arrived = {sample: NOW for sample in groups if sample.endswith("-1")}
    assert grow_holdout(groups, arrived, (), rate=1.0, size=100, seed=0) == {}
    assert holdout_mates(groups, ["007-0", "gone"]) == {"007-1"}


def test_no_arrival_and_no_group_of_it_costs_more_blind_answers_than_the_first_draw() -> None:
    groups = groups_of(pool(*[1] * 2000))
    two = {sample: NOW + timedelta(days=sample > "1000") for sample in groups}
    drawn = grow_holdout(groups, two, (), rate=0.25, size=40, seed=0)
    assert 50 < len(drawn) < 110
    large = groups_of(pool(100, 100))
    alike = {sample: NOW + timedelta(days=number) for number, sample in enumerate(large)}
    assert len(grow_holdout(large, alike, (), rate=1.0, size=7, seed=0)) == 14
