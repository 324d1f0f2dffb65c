"""Frames of one scene look alike, pictures of two do not, and where all look alike none are taken for the same."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from al_pipeline.core.data.near_duplicates import LEAST_ALIKE, SAME, Looks
from al_pipeline_tests.core.data.scenes import frame, looks, scene


@pytest.fixture(scope="module")
def bursts() -> Looks:
    """Three frames each of 30 scenes."""
    return looks([frame(seed, number) for seed in range(30) for number in range(3)])


def test_frames_of_a_scene_are_alike_and_scenes_are_not(bursts: Looks) -> None:
    pairs, likeness = bursts.pairs()
    assert {(one // 3, other // 3) for one, other in pairs.tolist()} == {(number, number) for number in range(30)}
    assert (likeness >= LEAST_ALIKE).all()
    # A pair may be missed where a third frame connects it.
    assert len(pairs) > 75
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)


def test_new_pictures_are_compared_with_all_and_old_ones_no_more(bursts: Looks) -> None:
    new = np.arange(90) % 3 == 1
    found, likeness = bursts.pairs(new)
    every, all_likeness = bursts.pairs()
    wanted = new[every].any(axis=1)
    assert sorted(found.tolist()) == sorted(every[wanted].tolist())
    assert sorted(likeness.tolist()) == pytest.approx(sorted(all_likeness[wanted].tolist()), abs=1e-5)


def test_likeness_is_the_best_correlation_of_edges_over_all_shifts(bursts: Looks) -> None:
    pairs = np.array(list(combinations(range(0, 12), 2)))
    assert bursts.likeness(pairs) == pytest.approx([_by_hand(bursts, *pair) for pair in pairs], abs=1e-4)


def _by_hand(bursts: Looks, one: int, other: int) -> float:
    def edges(row: int) -> np.ndarray:
        gray = bursts.thumbnails[row].reshape(16, 16).astype(float)
        both = np.array([(gray[:-1, 1:] - gray[:-1, :-1]), (gray[1:, :-1] - gray[:-1, :-1])])
        return both - both.mean(axis=(1, 2), keepdims=True)

    first, second, best = edges(one), edges(other), 0.0
    for down in range(-2, 3):
        for right in range(-2, 3):
            here = first[:, max(0, down) : 15 + min(0, down), max(0, right) : 15 + min(0, right)]
            there = second[:, max(0, -down) : 15 + min(0, -down), max(0, -right) : 15 + min(0, -right)]
            best = max(best, float((here * there).sum() / np.sqrt((here**2).sum() * (there**2).sum())))
    return best


def test_copies_that_were_resized_or_saved_again_are_alike() -> None:
    pictures = [scene(seed) for seed in range(40)]
    small = scene(0).resize((96, 96))
    palette = scene(1).quantize(32).convert("RGB")
    pairs, _ = looks([*pictures, small, palette]).pairs()
    assert pairs.tolist() == [[0, 40], [1, 41]]


def test_plain_pictures_are_like_no_other() -> None:
    skies = [
        Image.linear_gradient("L").resize((64, 64)).point([v // by + 20 for v in range(256)]) for by in (2, 3, 4, 5)
    ]
    plain = [Image.new("RGB", (64, 64), (level, level, level)) for level in (0, 90, 91, 255)]
    pairs, _ = looks([*(sky.convert("RGB") for sky in skies), *plain, *map(scene, range(30))]).pairs()
    assert len(pairs) == 0


def test_digits_all_look_alike_so_that_none_are_taken_for_the_same() -> None:
    digits = load_digits().images[:500]
    paper = [Image.fromarray((255 - image * 15).astype(np.uint8)).resize((64, 64)) for image in digits]
    found = looks([image.convert("RGB") for image in paper])
    assert found.least_alike == SAME
    assert len(found.pairs()[0]) <= 2


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_pictures_make_no_pair(n: int) -> None:
    assert len(looks([scene(0)]).pairs()[0]) == 0
    none = Looks(np.zeros(n, np.uint64), np.zeros((n, 256), np.uint8))
    assert len(none.pairs()[0]) == len(none.likeness(np.empty((0, 2), np.int64))) == 0


def test_a_few_pictures_that_differ_make_no_pair() -> None:
    for n in (2, 3, 5):
        assert len(looks([scene(seed) for seed in range(n)]).pairs()[0]) == 0
