"""What a strategy saves is measured against what the baseline needs itself, and never from a lucky handful of seeds."""

import gc
import math
import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import BETTER, UNDECIDED, WORSE
from al_pipeline.core.study.paired import area_differences
from al_pipeline.core.study.results import Results
from al_pipeline.core.study.savings import RESAMPLES, Saving, savings, sentence
from al_pipeline_tests.core.study.paired_tables import BUDGETS, frozen_objects, simulated, table, truth

__all__ = ["frozen_objects"]

# Two seeds around [0.6, 0.7, 0.8], at which nothing but the mean matters.
RANDOM = [[0.59, 0.71, 0.79], [0.61, 0.69, 0.81]]
# Twelve seeds that vary a little, around a curve.
VARIATION = np.outer(np.linspace(-0.01, 0.01, 12), [1.0, -1.0, 0.5])


def saving(scores: Mapping[str, npt.ArrayLike], target_labels: int | None = None) -> Saving:
    (found,) = savings(Results(table(scores), "accuracy"), target_labels=target_labels)
    return found


def around(*curve: float, wiggle: int = 1) -> npt.NDArray[np.float64]:
    """Return twelve seeds whose mean is the curve."""
    return np.asarray(curve + np.roll(VARIATION, wiggle * 5, axis=0), dtype=np.float64)


@pytest.mark.parametrize(
    ("margin", "labels"),
    [
        ([0.6, 0.8, 0.9], 200),
        # From 0.7 to 0.9 the target of 0.8 lies half-way.
        ([0.6, 0.7, 0.9], 250),
        # Reached at the first budget: nothing lies before it.
        ([0.85, 0.9, 0.95], 100),
        # Reached, lost and reached again: the first time counts.
        ([0.6, 0.9, 0.7], 100 + 100 * 2 / 3),
    ],
)
def test_labels_are_where_the_mean_curve_first_meets_the_target(margin: list[float], labels: float) -> None:
    # The seeds cross at different labels: it is the mean curve that counts, not the mean of the crossings.
    spread = np.array([[0.05] * 3, [-0.05] * 3])

    found = saving({"random": RANDOM, "margin": np.array(margin) + spread})

    assert (found.target, found.target_labels, found.baseline_labels) == (pytest.approx(0.8), 300, 300)
    assert found.labels == pytest.approx(labels)
    assert found.ratio == pytest.approx(300 / labels)


def test_the_baseline_is_held_to_the_same_rule() -> None:
    # Random meets its last score of 0.8 on the way to 0.9: half-way between 100 and 200 labels.
    found = saving({"random": [[0.7, 0.9, 0.8]] * 2, "margin": [[0.6, 0.8, 0.9]] * 2})

    assert (found.baseline_labels, found.labels, found.ratio) == pytest.approx((150, 200, 0.75))


def test_another_target_is_what_the_baseline_has_at_that_budget() -> None:
    found = saving({"random": RANDOM, "margin": [[0.5, 0.6, 0.8]] * 2}, target_labels=200)

    assert (found.target, found.target_labels, found.baseline_labels) == (pytest.approx(0.7), 200, 200)
    assert (found.labels, found.ratio) == (pytest.approx(250), pytest.approx(0.8))


def test_a_target_that_is_not_reached_is_no_number() -> None:
    found = saving({"random": RANDOM * 3, "margin": [[0.6, 0.7, 0.75]] * 6})

    assert (found.labels, found.ratio) == (None, None)
    # All 300 labels do not suffice, so the ratio is below 300 / 300; by how much is unknown.
    assert (found.ratio_low, found.ratio_high) == (0, pytest.approx(1))


def test_resamples_that_miss_the_target_count_against_a_strategy() -> None:
    # On average margin is there with 200 labels, but half of its seeds never learn.
    lucky, unlucky = [0.6, 0.95, 1.0], [0.6, 0.65, 0.65]

    found = saving({"random": [[0.6, 0.7, 0.8]] * 6, "margin": [lucky, unlucky] * 3})

    assert found.ratio == pytest.approx(1.5)
    assert found.ratio_low == 0
    assert found.ratio_high > 1.5


def test_without_labels_there_is_nothing_to_divide_by() -> None:
    at_once = {"random": [[0.6, 0.7, 0.8]] * 5, "margin": [[0.9, 0.9, 0.9]] * 5, "copy": [[0.8, 0.8, 0.8]] * 5}
    flat = {"random": [[0.8, 0.8, 0.8]] * 5, "margin": [[0.8, 0.9, 0.9]] * 5}

    copy, margin = savings(Results(table(at_once, budgets=[0, 100, 200]), "accuracy"))
    (neither,) = savings(Results(table(flat, budgets=[0, 100, 200]), "accuracy"))

    assert (copy.labels, copy.ratio, margin.ratio_low, margin.ratio_high) == (0, math.inf, math.inf, math.inf)
    assert "with 0 (∞ times fewer, 95 % ∞ to ∞)" in sentence(margin)
    assert (neither.baseline_labels, neither.labels, neither.ratio) == (0, 0, 1)


def test_the_error_ratio_compares_what_is_left_at_the_last_budget() -> None:
    random, margin = [[0.6, 0.7, 0.88], [0.6, 0.7, 0.92]], [[0.6, 0.7, 0.94], [0.6, 0.7, 0.96]]

    found = saving({"random": random * 3, "margin": margin * 3})

    # 0.05 of 0.1; resamples lie on the way from 0.06 / 0.12 over 0.05 / 0.1 to 0.04 / 0.08.
    assert found.error_ratio == pytest.approx((0.5, 0.5, 0.5))


def test_errors_of_nobody() -> None:
    perfect, good, mixed = [[0.6, 0.7, 1.0]] * 6, [[0.6, 0.7, 0.9]] * 6, [[0.6, 0.7, 1.0], [0.6, 0.7, 0.9]] * 3

    assert saving({"random": perfect, "margin": good}).error_ratio is None
    assert saving({"random": good, "margin": perfect}).error_ratio == (0, 0, 0)
    # Where neither errs they are equal; where the baseline alone does not, the ratio has no end.
    assert saving({"random": mixed, "margin": mixed}).error_ratio == (1, 1, 1)
    assert saving({"random": mixed, "margin": good}).error_ratio == (pytest.approx(2), pytest.approx(1), math.inf)


def test_the_intervals_are_those_of_a_plain_loop() -> None:
    rng, n, budgets = np.random.default_rng(3), 7, list(range(50, 550, 50))
    results = simulated(rng, {"random": 300, "margin": 200}, seeds=n, budgets=budgets)
    grids = {
        name: frame.pivot(index="seed", columns="n_labels", values="accuracy").to_numpy()
        for name, frame in results.groupby("strategy")
    }

    def crossing(curve: npt.NDArray[np.float64], target: float) -> float | None:
        for b, score in enumerate(curve):
            if score >= target - 1e-12:
                if b == 0:
                    return budgets[0]
                return float(np.interp(target, curve[b - 1 : b + 1], budgets[b - 1 : b + 1]))
        return None

    least, most, errors = [], [], []
    for rows in np.random.default_rng(9).integers(0, n, size=(RESAMPLES, n)):
        random, margin = grids["random"][rows].mean(axis=0), grids["margin"][rows].mean(axis=0)
        own, labels = crossing(random, random[-1]), crossing(margin, random[-1])
        assert own is not None
        least.append(own / labels if labels else 0)
        most.append(own / (labels or budgets[-1]))
        errors.append((1 - margin[-1]) / (1 - random[-1]))
    tail = norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    (found,) = savings(Results(results, "accuracy"), seed=9)

    assert found.ratio_low == pytest.approx(np.quantile(least, tail, method="lower"))
    assert found.ratio_high == pytest.approx(np.quantile(most, 1 - tail, method="higher"))
    assert found.error_ratio is not None
    assert found.error_ratio.low == pytest.approx(np.quantile(errors, tail, method="lower"))
    assert found.error_ratio.high == pytest.approx(np.quantile(errors, 1 - tail, method="higher"))
    assert found.ratio_low < (found.ratio or 0) < found.ratio_high


@settings(max_examples=25, deadline=None)
@given(
    grid=st.lists(st.lists(st.integers(0, 1000), min_size=3, max_size=3), min_size=5, max_size=7),
    target_labels=st.sampled_from(BUDGETS),
)
def test_the_baseline_against_itself_saves_exactly_nothing(grid: list[list[int]], target_labels: int) -> None:
    values = np.array(grid) / 1000

    found = saving({"random": values, "copy": values}, target_labels)

    assert (found.ratio, found.ratio_low, found.ratio_high) == (1, 1, 1)
    assert found.labels == found.baseline_labels <= target_labels
    assert found.area_difference.difference == (0, 0, 0)
    assert found.area_difference.verdict == UNDECIDED
    assert found.error_ratio is None or found.error_ratio == (1, 1, 1)


def test_the_same_seed_gives_the_same_bytes_whatever_the_order_of_rows() -> None:
    results = simulated(
        np.random.default_rng(2), {"random": 300, "margin": 200, "badge": 250}, seeds=5, budgets=range(50, 400, 50)
    )

    first, shuffled, other = (
        repr(savings(Results(frame, "accuracy"), seed=seed)).encode()
        for frame, seed in ((results, 4), (results.sample(frac=1, random_state=1), 4), (results, 5))
    )

    assert first == shuffled
    assert first != other


def test_every_strategy_has_its_difference_and_the_same_resamples_alone_as_in_company() -> None:
    results = simulated(
        np.random.default_rng(8), {"random": 200, "margin": 150, "coreset": 300}, seeds=6, budgets=range(50, 400, 50)
    )

    coreset, margin = savings(Results(results, "accuracy"))
    (alone,) = savings(Results(results[results["strategy"] != "coreset"], "accuracy"))

    assert (coreset.strategy, margin.strategy) == ("coreset", "margin")
    assert coreset.area_difference == area_differences(Results(results, "accuracy"))["coreset"]
    assert (coreset.area_difference.verdict, margin.area_difference.verdict) == (WORSE, BETTER)
    assert (alone.ratio, alone.ratio_low, alone.ratio_high) == (margin.ratio, margin.ratio_low, margin.ratio_high)


def test_the_interval_of_the_ratio_covers_it_and_is_of_use() -> None:
    budgets, repeats = list(range(50, 650, 50)), 100
    rng = np.random.default_rng(21)
    true = 600 / float(np.interp(truth(300, budgets)[-1], truth(150, budgets), budgets))

    found = [
        savings(Results(simulated(rng, {"random": 300, "margin": 150}, seeds=8, budgets=budgets), "accuracy"))[0]
        for _ in range(repeats)
    ]

    assert np.mean([one.ratio_low <= true <= one.ratio_high for one in found]) >= 0.9
    assert np.mean([one.ratio_low > 1 for one in found]) == 1
    assert np.median([one.ratio_high - one.ratio_low for one in found]) < 0.5


def test_equals_are_seldom_said_to_save() -> None:
    budgets, repeats = list(range(50, 650, 50)), 100
    rng = np.random.default_rng(22)

    found = [
        savings(Results(simulated(rng, {"random": 200, "margin": 200}, seeds=8, budgets=budgets), "accuracy"))[0]
        for _ in range(repeats)
    ]

    assert np.mean([one.ratio_low > 1 for one in found]) <= 0.05
    assert np.mean([one.ratio_low <= 1 <= one.ratio_high for one in found]) >= 0.9


def test_a_whole_experiment_is_compared_in_two_seconds() -> None:
    speeds = {"random": 300.0} | {f"strategy {i}": 100.0 + 30 * i for i in range(8)}
    results = simulated(np.random.default_rng(1), speeds, seeds=10, budgets=range(50, 1050, 50))
    gc.collect()

    began = time.process_time()
    found = savings(Results(results, "accuracy"))

    assert time.process_time() - began < 2
    assert len(found) == 8


def test_an_unknown_target_or_baseline_is_refused() -> None:
    results = table({"random": RANDOM, "margin": RANDOM})

    with pytest.raises(InputError, match=r"no accuracy at target_labels 250: choose from 100, 200, 300$"):
        savings(Results(results, "accuracy"), target_labels=250)
    with pytest.raises(InputError, match=r"no strategy 'badge': choose from margin, random$"):
        savings(Results(results, "accuracy"), baseline="badge")


@pytest.mark.parametrize(
    ("margin", "said"),
    [
        (around(0.6, 0.8, 0.9), "margin reaches random's accuracy at 300 labels with 200 (1.50 times fewer, 95 % "),
        (around(0.6, 0.7, 0.8, wiggle=2), "labels over its own: 1.00, 95 % not reached to 1."),
        (around(0.6, 0.7, 0.8, wiggle=2), "with 300, but nothing was shown to be saved (random's labels"),
        (around(0.4, 0.5, 0.7), "margin does worse than random (area under the curve −17.50 points, 95 % −1"),
        (
            around(0.4, 0.5, 0.7),
            "; it does not reach random's accuracy at 300 labels within 300, so nothing was saved.",
        ),
        (around(0.68, 0.78, 0.79), "so nothing was saved, although it does better over all budgets (area under the "),
        (
            around(0.3, 0.7, 0.9),
            "margin does worse than random (area under the curve −5.00 points, 95 % −5.09 to −4.91, ",
        ),
        (around(0.3, 0.7, 0.9), "; it reaches random's accuracy at 300 labels with 250 (1.20 times fewer, 95 % 1."),
        # Worse at first and better at last: the areas are equal.
        (around(0.3, 0.8, 0.9), "), but no difference is shown over all budgets (area under the curve +0.00 points, "),
    ],
)
def test_one_sentence_tells_a_person(margin: npt.NDArray[np.float64], said: str) -> None:
    assert said in sentence(saving({"random": around(0.6, 0.7, 0.8, wiggle=0), "margin": margin}))


def test_the_sentence_names_the_metric_and_what_the_baseline_needs_itself() -> None:
    random, margin = around(0.7, 0.9, 0.8, wiggle=0), around(0.7, 0.95, 0.96)
    results = table({"random": random, "margin": margin}).rename(columns={"accuracy": "roc_auc"})

    (found,) = savings(Results(results, "roc_auc"))

    assert sentence(found).startswith(
        "margin reaches random's ROC-AUC at 300 labels with 140, random itself with 150 (1.07 times fewer, 95 % 1."
    )


def test_what_was_asked_about_can_be_what_is_saved() -> None:
    results = table({"random": around(0.6, 0.7, 0.8, wiggle=0), "margin": around(0.6, 0.7, 0.9)})
    results = results.rename(columns={"n_labels": "n_asked"})

    (found,) = savings(Results(results, "accuracy", "n_asked"))

    assert sentence(found).startswith(
        "margin reaches random's accuracy at 300 samples asked about with 250 (1.20 times"
    )


def test_a_strategy_that_takes_more_labels_is_said_to() -> None:
    found = saving({"random": around(0.6, 0.7, 0.8, wiggle=0), "margin": around(0.5, 0.6, 0.8)}, target_labels=200)

    assert (
        "; it reaches random's accuracy at 200 labels with 250, so nothing was saved (1.25 times as many, 95 % 1.2"
        in sentence(found)
    )


def test_a_strategy_that_may_never_be_there_takes_at_least_so_many() -> None:
    never = [[0.4, 0.4, 0.6], [0.4, 0.4, 1.0]] * 4

    # Eight lucky seeds are drawn once in 256 times, beyond the limit; seven reach 0.7 on the way to 0.95: 200 / 254.5.
    found = saving({"random": [[0.7, 0.7, 0.8], [0.5, 0.7, 0.8]] * 4, "margin": never}, target_labels=200)

    assert found.ratio_low == 0
    assert sentence(found).endswith("with 275, so nothing was saved (1.38 times as many, 95 % at least 1.27).")


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_of_few_seeds_no_ratio_has_an_interval_and_the_sentence_says_why(seeds: int) -> None:
    found = saving({"random": around(0.6, 0.7, 0.8)[:seeds], "margin": around(0.6, 0.8, 0.9)[:seeds] + 0.001})

    assert (found.ratio_low, found.ratio_high) == (0, math.inf)
    assert found.error_ratio is not None
    assert (found.error_ratio.low, found.error_ratio.high) == (0, math.inf)
    said = sentence(found)
    assert f" times fewer, but {seeds} seeds are too few to tell it from chance: take 5 or more" in said
    assert "95 %" not in said


def test_a_baseline_that_does_not_learn_leaves_nothing_to_save() -> None:
    (found,) = savings(Results(table({"random": [[0.8, 0.8, 0.8]] * 3, "margin": [[0.8, 0.9, 0.9]] * 3}), "accuracy"))

    assert sentence(found) == (
        "margin could save nothing, as random's accuracy at 300 labels is no better than at 100."
    )
