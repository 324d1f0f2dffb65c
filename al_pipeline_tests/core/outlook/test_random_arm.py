"""Random labels among those that were asked about, and what is claimed on their ground."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import Interval
from al_pipeline.core.outlook.learning_curve_fit import fit_power_laws
from al_pipeline.core.outlook.random_arm import (
    Arm,
    Asked,
    LabelsSaved,
    Verdict,
    labels_saved,
    measure,
    random_sequence,
    sentence,
    too_little,
)

TESTS = 400


def arm_of(rng: np.random.Generator, sizes: tuple[int, ...] = (20, 40, 60, 80), *, exponent: float = 0.5) -> Arm:
    """Return points of the curve 1 − 0.3 (n / 20)^−c, as a holdout of `TESTS` samples shows them."""
    hard = rng.random(TESTS)
    hits = np.array([hard > 0.3 * (size / 20) ** -exponent for size in sizes], dtype=float)
    return Arm(np.array(sizes), hits, 0.02, 12)


def compared(accuracy: float, *, seed: int = 0, n_labels: int = 160) -> LabelsSaved:
    rng = np.random.default_rng(seed)
    own = rng.permutation(TESTS) < accuracy * TESTS
    return labels_saved(arm_of(rng), own, n_labels=n_labels, rng=rng)


def test_every_prefix_is_a_simple_random_sample_of_the_pool_although_the_strategy_took_some() -> None:
    """A strategy that always takes "a" leaves it out of every later draw: the sequence puts it back."""
    pool, rng, repeats = "abcde", np.random.default_rng(0), 6000
    pairs: dict[tuple[str, str], int] = dict.fromkeys(permutations(pool, 2), 0)
    for _ in range(repeats):
        first = str(rng.choice(list(pool)))
        chosen = next(sample for sample in pool if sample != first)
        left = [sample for sample in pool if sample not in (first, chosen)]
        drawn = [str(sample) for sample in rng.permutation(left)[:1]]
        found = random_sequence([Asked([first], [chosen]), Asked(drawn, [])], len(pool), rng)
        pairs[found[0], found[1]] += 1
    expected = repeats / len(pairs)
    assert sum((count - expected) ** 2 / expected for count in pairs.values()) < 43.8  # χ², 19 degrees, p = 0.001


def test_what_was_labeled_before_the_first_round_is_met_as_often_as_a_random_draw_would() -> None:
    rng = np.random.default_rng(1)
    given_first = sum(random_sequence([Asked(["d"], [])], 4, rng, given={"a", "b"})[0] in "ab" for _ in range(4000))
    assert abs(given_first / 4000 - 0.5) < 0.04


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=6),
    spare=st.integers(0, 50),
    seed=st.integers(0, 9),
)
def test_the_sequence_has_all_that_was_drawn_in_order_and_nobody_twice(
    sizes: list[tuple[int, int]], spare: int, seed: int
) -> None:
    names = iter(f"{i:03d}" for i in range(100))
    rounds = [Asked([next(names) for _ in range(a)], [next(names) for _ in range(b)]) for a, b in sizes]
    total = sum(a + b for a, b in sizes)
    drawn = [sample for one in rounds for sample in one.drawn]
    found = random_sequence(rounds, total + spare, np.random.default_rng(seed))
    assert [sample for sample in found if sample in drawn] == drawn
    assert len(set(found)) == len(found) <= total
    if not spare:
        assert len(found) == total
    if rounds and rounds[-1].drawn:
        shorter = random_sequence(rounds[:-1], total + spare, np.random.default_rng(seed))
        assert found[: len(shorter)] == shorter


def test_more_samples_than_the_pool_has_are_refused() -> None:
    with pytest.raises(InputError, match="2 samples were asked about, but the pool has 1"):
        random_sequence([Asked(["a"], ["b"])], 1, np.random.default_rng(0))


def test_the_same_points_give_the_same_curves_and_they_pass_through_them() -> None:
    sizes, errors = [20, 40, 80], np.array([0.3, 0.2121, 0.15])
    fits = [fit_power_laws(sizes, errors, np.eye(3) * 1e-5, rng=np.random.default_rng(0)) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].errors([160]), fits[1].errors([160]))
    np.testing.assert_allclose(np.median(fits[0].errors(sizes), axis=0), errors, atol=0.01)
    # The law that made the points is within what they allow.
    low, high = np.quantile(fits[0].errors([320])[:, 0], [0.025, 0.975])
    assert low < 0.075 < high


@settings(max_examples=30, deadline=None)
@given(n=st.floats(30, 3000))
def test_labels_for_an_error_are_where_the_curve_has_it(n: float) -> None:
    laws = fit_power_laws([20, 80], [0.3, 0.15], np.eye(2) * 1e-3, rng=np.random.default_rng(0))
    np.testing.assert_allclose(laws.labels(laws.errors([n])[:, 0]), n, rtol=1e-6)
    assert np.isinf(laws.labels(laws.error * laws.floor * 0.999)[laws.floor > 0]).all()


def test_sizes_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(InputError, match="ascending sizes"):
        fit_power_laws([20, 20], [0.3, 0.2], np.eye(2), rng=np.random.default_rng(0))


@pytest.mark.parametrize(("same_holdout", "widest"), [(True, 1.8), (False, 2.6)])
def test_the_interval_of_the_labels_needed_holds_the_truth_and_a_shared_holdout_makes_it_narrow(
    same_holdout: bool, widest: float
) -> None:
    tests, sizes, truth = 4000, np.array([40, 80, 120, 160]), 240
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        hard = rng.random(tests)
        hits = np.array([hard > 0.3 * (size / 20) ** -0.5 for size in sizes], dtype=float)
        own = (hard if same_holdout else rng.random(tests)) > 0.3 * (truth / 20) ** -0.5
        found.append(labels_saved(Arm(sizes, hits, 1e-4, 12), own, n_labels=160, rng=rng))
    # 95 % is meant: fewer than 35 of 40 at a rate of 0.95 are met once in 300 times.
    assert sum(one.needed.low <= truth <= one.needed.high for one in found) >= 35
    assert np.median([one.needed.high / one.needed.low for one in found]) < widest


def test_what_is_told_of_the_curve_of_random_labels_is_that_curve() -> None:
    found = compared(0.9)
    assert (found.labels, found.random_labels, found.accuracy) == (160, 80, 0.9)
    at, middle, low, high = found.band
    assert (at[0], at[-1]) == (20, 160)
    truth = 1 - 0.3 * (at / 20) ** -0.5
    assert ((low < truth) & (truth < high)).all()
    assert ((low <= middle) & (middle <= high)).all()
    assert np.abs(middle - truth).max() < 0.05
    assert found.random_accuracy.low < truth[-1] < found.random_accuracy.high
    assert found.random_accuracy.value == pytest.approx(middle[-1])


@pytest.mark.parametrize(
    ("needed", "verdict", "told"),
    [
        ((300, 240, 400), "saved", "80 to 240 labels (1.50 to 2.50 times fewer)"),
        ((300, 240, np.inf), "saved", "at least 80 labels (at least 1.50 times fewer)"),
        ((np.inf, 240, np.inf), "saved", "random labels would need over 480 (95 % at least 240)"),
        ((100, 80, 150), "worse", "about 100 of them are enough (95 % 80 to 150)"),
        ((160, 79, 321), "undecided", "not enough evidence yet"),
        ((160, 81, 321), "undecided", "no saving shown so far"),
        ((160, 79, 319), "undecided", "no saving shown so far"),
    ],
)
def test_the_sentence_has_the_numbers(needed: tuple[float, float, float], verdict: Verdict, told: str) -> None:
    band = np.zeros((4, 0))
    found = LabelsSaved(160, 80, 0.9, Interval(0.85, 0.8, 0.9), Interval(*needed), verdict, band)
    assert told in sentence(found)
    assert "projected from 80 labels drawn at random" in sentence(found)


def test_a_much_better_model_has_saved_labels_and_a_much_worse_one_none() -> None:
    good, bad = compared(0.99), compared(0.72)
    assert good.verdict == "saved"
    assert good.needed.low > good.labels == 160
    assert sentence(good).startswith("saved so far, at 95 % confidence: ")
    assert bad.verdict == "worse"
    assert bad.needed.high < 160
    assert sentence(bad).startswith("nothing saved so far, random labels do better")


def test_a_model_as_good_as_random_labels_claims_nothing() -> None:
    for seed in range(5):
        found = compared(1 - 0.3 * 8**-0.5, seed=seed)
        assert found.verdict == "undecided"
        assert found.needed.low < 160 < found.needed.high
        assert sentence(found).startswith(("no saving shown so far", "not enough evidence yet"))


def test_a_model_that_is_never_wrong_is_not_taken_for_a_perfect_one() -> None:
    found = compared(1.0)
    assert np.isinf(found.needed.high)
    assert 160 < found.needed.low <= 480, "nothing is claimed beyond six times the random labels"


def test_models_that_are_never_wrong_leave_nothing_to_save() -> None:
    arm = Arm(np.array([10, 20, 30, 40]), np.ones((4, TESTS)), 0.0, 4)
    found = labels_saved(arm, np.ones(TESTS, dtype=bool), n_labels=80, rng=np.random.default_rng(0))
    assert found.verdict == "undecided"
    assert found.random_accuracy.value > 0.99


def test_parts_of_one_size_that_are_compared_share_no_label() -> None:
    asked: list[set[int]] = []

    def learn(rows: np.ndarray) -> np.ndarray:
        asked.append(set(rows.tolist()))
        return np.arange(100) < 50 + len(rows)

    arm = measure(20, learn, pairs=2, rng=np.random.default_rng(0))
    assert arm.sizes.tolist() == [5, 10, 15, 20]
    assert [len(part) for part in asked] == [5, 5, 10, 10, 15] * 2 + [20]
    assert not any(asked[i] & asked[i + 1] for i in (0, 2, 5, 7))
    np.testing.assert_allclose(arm.hits.mean(axis=1), [0.55, 0.6, 0.65, 0.7])
    assert arm.spread == 0


def test_the_spread_is_that_of_parts_of_one_size_times_their_labels() -> None:
    asked: list[set[int]] = []

    def learn(rows: np.ndarray) -> np.ndarray:
        asked.append(set(rows.tolist()))
        return np.arange(100) < (60 if 0 in rows else 50)

    arm = measure(8, learn, pairs=3, rng=np.random.default_rng(0))
    pairs = [(asked[i], asked[i + 1]) for start in range(0, 15, 5) for i in (start, start + 2)]
    # Variance of a mean over parts of n labels, times n: half the squared difference of two of them.
    expected = [len(one) * (0.1 if 0 in one | other else 0) ** 2 / 2 for one, other in pairs]
    assert arm.spread == pytest.approx(np.mean(expected))
    assert arm.freedom == len(pairs)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((0, 100, 2, 200), "set round.explore"),
        ((100, 100, 2, 200), "all labels were drawn at random"),
        ((23, 100, 2, 200), "23 labels were drawn at random, at least 24"),
        ((39, 100, 10, 200), "at least 40 are needed for 10 classes"),
        ((30, 100, 2, 49), "49 holdout samples"),
        ((30, 200, 2, 200), "30 of 200 labels"),
    ],
)
def test_too_little_says_why(counts: tuple[int, int, int, int], reason: str) -> None:
    assert reason in (too_little(*counts) or "")


def test_enough_is_enough() -> None:
    assert too_little(30, 150, 2, 200) is None
    assert too_little(24, 144, 2, 50) is None


def test_answers_are_told_beside_the_labels_that_they_gave() -> None:
    rng = np.random.default_rng(0)
    own = rng.permutation(TESTS) < 0.9 * TESTS
    found = labels_saved(arm_of(rng), own, n_labels=160, rng=rng, shown_beside=1040)
    assert "reached with 160 answers, which gave 1,200 labels" in sentence(found)


def test_a_holdout_in_groups_tells_less_of_what_was_saved() -> None:
    rng, widths = np.random.default_rng(0), []
    arm, own = arm_of(rng), rng.permutation(TESTS // 5) < 0.9 * TESTS // 5
    arm = Arm(arm.sizes, np.repeat(arm.hits[:, ::5], 5, axis=1), 1e-6, 12)
    for groups in (None, np.repeat(np.arange(TESTS // 5), 5)):
        found = labels_saved(arm, np.repeat(own, 5), n_labels=160, rng=np.random.default_rng(1), groups=groups)
        widths.append(found.random_accuracy.high - found.random_accuracy.low)
    assert widths[1] > 1.3 * widths[0]
