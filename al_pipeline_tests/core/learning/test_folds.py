"""What belongs together is held out together, in each cross-validation and in the validation share."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from al_pipeline.core.labels.label_quality import out_of_sample
from al_pipeline.core.learning.folds import FEWEST_FOLDS, by_turns, held_out, numbered, parts, validation_split
from al_pipeline.core.learning.head import fit_head
from al_pipeline.core.learning.head_training import Others, train_head
from al_pipeline.core.learning.options import TrainingOptions

FRAMES = 5
labels_in_groups = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=4, max_size=80)


def bursts(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, class numbers and groups of n bursts whose classes are chance: nothing can be learned."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n), FRAMES)
    features = rng.normal(size=(n, 40))[groups] + 0.05 * rng.normal(size=(n * FRAMES, 40))
    targets = rng.permutation(np.arange(n) % 2)[groups]
    return features.astype(np.float32), targets, groups


@settings(max_examples=80, deadline=None)
@given(rows=labels_in_groups, seed=st.integers(0, 1000))
def test_no_group_is_in_two_parts_and_each_turn_learns_of_each_class(rows: list[tuple[int, int]], seed: int) -> None:
    targets, groups = np.array(rows).T
    folds, tested = held_out(targets, numbered(groups))
    if not folds:
        return
    targets, groups = targets[tested], groups[tested]
    turns = parts(targets, folds, groups, seed)
    assert turns == [] or 2 <= len(turns) <= folds
    if turns:
        assert sorted(np.concatenate(turns).tolist()) == list(range(len(targets)))
    for held in turns:
        rest = np.setdiff1d(np.arange(len(targets)), held)
        assert not set(groups[held]) & set(groups[rest])
        assert set(targets[rest]) == set(targets)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 6), min_size=6, max_size=30))
def test_groups_of_one_class_each_can_always_be_cut(seed: int, sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    targets = groups % 2
    folds, tested = held_out(targets, numbered(groups))
    assert folds == min(5, len(sizes) // 2)
    assert len(tested) == len(targets)
    assert len(parts(targets, folds, groups, seed)) >= FEWEST_FOLDS


@given(targets=st.lists(st.integers(0, 2), min_size=15, max_size=60), seed=st.integers(0, 1000))
def test_where_each_is_alone_the_folds_are_scikit_learns(targets: list[int], seed: int) -> None:
    y = np.array([*targets, *([0, 1, 2] * 5)])
    expected = [held for _, held in StratifiedKFold(5, shuffle=True, random_state=seed).split(y, y)]
    for groups in (None, np.random.default_rng(seed).permutation(len(y))):
        for found, held in zip(parts(y, 5, groups, seed), expected, strict=True):
            assert found.tolist() == held.tolist()


def test_a_class_needs_groups_enough_not_labels() -> None:
    targets = np.repeat([0, 1, 2], 10)
    groups = np.concatenate([np.arange(10), 10 + np.arange(10) // 2, np.full(10, 99)])
    folds, rows = held_out(targets, numbered(groups))
    assert folds == 5
    assert set(targets[rows]) == {0, 1}
    assert held_out(targets[:10], numbered(groups[:10])) == (0, pytest.approx([]))


def test_numbers_follow_the_order_and_are_none_where_all_are_alone() -> None:
    assert numbered(None) is None
    assert numbered(["b", "a", "c"]) is None
    found = numbered(["b", "a", "b", "c"])
    assert found is not None
    assert found.tolist() == [0, 1, 0, 2]


def test_the_first_of_each_group_comes_before_the_second() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2])
    assert by_turns(groups, np.array([1, 4, 0, 5, 3, 2])).tolist() == [1, 4, 5, 0, 3, 2]
    assert by_turns(None, np.array([2, 0, 1])).tolist() == [2, 0, 1]


@settings(max_examples=100, deadline=None)
@given(rows=labels_in_groups, share=st.floats(0, 0.9), seed=st.integers(0, 1000))
def test_the_validation_share_takes_whole_groups_and_no_class_whole(
    rows: list[tuple[int, int]], share: float, seed: int
) -> None:
    targets, groups = np.array(rows).T
    learned, held = validation_split(targets, share, np.random.default_rng(seed), groups)
    assert sorted([*learned.tolist(), *held.tolist()]) == list(range(len(targets)))
    assert not set(groups[learned]) & set(groups[held])
    assert set(targets[learned]) == set(targets)
    counts, taken = np.bincount(targets, minlength=4), np.bincount(targets[held], minlength=4)
    assert (taken <= np.maximum(np.round(share * counts), counts // 2)).all()


def test_the_validation_share_is_the_one_that_was_asked_for() -> None:
    _, targets, groups = bursts(60)
    _, held = validation_split(targets, 0.2, np.random.default_rng(0), groups)
    assert np.bincount(targets[held]).tolist() == [30, 30]
    # A group larger than the share is better than no validation at all.
    _, held = validation_split(targets, 0.01, np.random.default_rng(0), groups)
    assert np.bincount(targets[held]).tolist() == [5, 5]


def test_frames_of_one_burst_do_not_tell_of_each_other() -> None:
    features, targets, groups = bursts(40)
    for by, lowest, highest in ((None, 0.9, 1.0), (groups, 0.2, 0.75)):
        found = out_of_sample(features, targets, 2, seed=0, groups=by)
        assert found is not None
        assert lowest <= (found.argmax(axis=1) == targets).mean() <= highest


def test_the_temperature_is_not_that_of_frames_that_were_seen() -> None:
    features, targets, groups = bursts(40)
    by_frames, by_groups = (fit_head(features, targets, 2, seed=0, groups=by) for by in (None, groups))
    assert by_frames.temperature < 1 < by_groups.temperature
    assert by_groups.regularization < by_frames.regularization
    assert by_groups.folds == by_frames.folds == 5


@pytest.mark.parametrize("balanced", [False, True])
def test_groups_of_one_change_no_bit_of_a_head(balanced: bool) -> None:
    rng = np.random.default_rng(1)
    features, targets = rng.normal(size=(500, 10)).astype(np.float32), rng.integers(0, 2, 500)
    plain, alone = (
        fit_head(features, targets, 2, seed=3, balanced=balanced, groups=by) for by in (None, rng.permutation(500))
    )
    assert plain.weight.tobytes() == alone.weight.tobytes()
    assert (plain.temperature, plain.thresholds) == (alone.temperature, alone.thresholds)


@pytest.mark.parametrize("balanced", [False, True])
def test_many_labels_in_groups_are_validated_on_a_part_of_them(balanced: bool) -> None:
    features, targets, groups = bursts(100)
    head = fit_head(features, targets, 2, seed=0, balanced=balanced, groups=groups)
    assert head.folds == 5
    assert head.temperature > 1
    assert bool(head.thresholds) is balanced


@pytest.mark.parametrize("arm", ["none", "pseudo_label", "label_propagation"])
def test_neither_the_order_nor_the_names_of_groups_matter(
    arm: Literal["none", "pseudo_label", "label_propagation"],
) -> None:
    features, targets, groups = bursts(20)
    options = TrainingOptions(mode="head", weights="imagenet", semi_supervised=arm, confidence=0.6)
    some, others = np.arange(60), np.arange(60, 100)
    order = np.random.default_rng(2).permutation(60)
    heads = []
    for rows, names in ((some, groups), (order, 1000 - 7 * groups)):
        unlabeled = Others(40, lambda wanted: features[others][wanted], names[others])
        known = features[rows], targets[rows]
        found = train_head(
            *known, 2, options, seed=0, round_number=1, unlabeled=unlabeled, groups=names[rows].astype(np.int64)
        )
        heads.append(found)
    assert heads[0].weight.tobytes() == heads[1].weight.tobytes()
    assert heads[0].temperature == heads[1].temperature
