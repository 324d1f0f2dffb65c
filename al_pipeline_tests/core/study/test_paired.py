"""A strategy is called better than random only if its seeds say so: by hand, by invariance, and among equals."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import BETTER, UNDECIDED, WORSE
from al_pipeline.core.study.paired import area_differences, budget_differences, mean_curves, wins
from al_pipeline.core.study.results import Results
from al_pipeline_tests.core.study.paired_tables import BUDGETS, frozen_objects, simulated, table, truth

__all__ = ["frozen_objects"]

# Five seeds whose differences average 2.4 steps with a variance of 2.5: t = 2.4 / sqrt(2.5 / 5) = 3.39 and p = 0.0274.
HIGHER = [[0.5 + 0.01 * (2.4 + k)] * 3 for k in (-2, -1, 0, 1, 2)]
LOWER = [[0.5 - 0.01 * (2.4 + k)] * 3 for k in (-2, -1, 0, 1, 2)]
FLAT = [[0.5] * 3] * 5


def grids(strategies: int) -> st.SearchStrategy[list[list[list[int]]]]:
    """Return accuracies in thousandths: strategies × four seeds × three budgets."""
    row = st.lists(st.integers(200, 800), min_size=3, max_size=3)
    grid = st.lists(row, min_size=4, max_size=4)
    return st.lists(grid, min_size=strategies, max_size=strategies)


def named(grid: list[list[list[int]]]) -> pd.DataFrame:
    return table({name: np.array(rows) / 1000 for name, rows in zip(["random", "margin", "badge"], grid, strict=False)})


def test_a_curve_is_the_mean_over_seeds_with_students_band() -> None:
    found = mean_curves(Results(table({"random": [[0.5, 0.6, 0.7], [0.5, 0.62, 0.9]]}), "accuracy"))

    assert found["budget"].tolist() == list(BUDGETS)
    assert found["mean"].tolist() == pytest.approx([0.5, 0.61, 0.8])
    # With one degree of freedom Student's 97.5 % quantile is tan(0.475 π) = 12.706. Bands end where scores do.
    quantile = math.tan(0.475 * math.pi)
    assert found["low"].tolist() == pytest.approx([0.5, 0.61 - quantile * 0.01, 0])
    assert found["high"].tolist() == pytest.approx([0.5, 0.61 + quantile * 0.01, 1])


def test_an_area_is_the_mean_score_over_the_range_of_labels() -> None:
    runs = table({"random": [[0.6, 0.8, 0.9], [0.7, 0.7, 0.7]]}, budgets=[100, 200, 400])
    curves = Results(runs, "accuracy").curves

    # 100 labels at 0.7 on average and 200 at 0.85, over 300; equal scores throughout are their own area.
    assert curves.areas("random").tolist() == pytest.approx([0.8, 0.7])
    assert curves.seeds == [0, 1]


def test_budgets_without_a_metric_are_left_out_for_all() -> None:
    results = table({"random": [[0.1, 0.6, 0.8], [0.1, 0.6, 0.8]], "margin": [[0.1, 0.7, 0.9], [math.nan, 0.7, 0.9]]})

    scores = Results(results, "accuracy").curves

    assert scores.budgets.tolist() == [200, 300]
    assert [*scores.areas("margin"), *scores.areas("random")] == pytest.approx([0.8, 0.8, 0.7, 0.7])


def test_a_difference_of_areas_by_hand() -> None:
    results = table({"random": [[0.5] * 3, [0.6] * 3], "margin": [[0.51] * 3, [0.63] * 3]})

    found = area_differences(Results(results, "accuracy"))["margin"]

    # Differences of 0.01 and 0.03: t = 2 with one degree of freedom, where Student's distribution is Cauchy's.
    half = 0.01 * math.tan(0.475 * math.pi)
    assert found.difference == pytest.approx((0.02, 0.02 - half, 0.02 + half))
    assert found.p == pytest.approx(1 - 2 / math.pi * math.atan(2))
    assert found.verdict == UNDECIDED


def test_one_strategy_that_is_better_is_called_so_and_the_best_of_three_as_lucky_is_not() -> None:
    alone = area_differences(Results(table({"random": FLAT, "margin": HIGHER}), "accuracy"))
    three = area_differences(Results(table({"random": FLAT, "a": HIGHER, "b": HIGHER, "c": HIGHER}), "accuracy"))

    assert alone["margin"].p == pytest.approx(0.0274, abs=1e-4)
    assert alone["margin"].p_holm == alone["margin"].p
    assert alone["margin"].verdict == BETTER
    assert three["a"].p == alone["margin"].p
    assert three["a"].p_holm == pytest.approx(3 * 0.0274, abs=3e-4)
    assert [found.verdict for found in three.values()] == [UNDECIDED] * 3


def test_a_strategy_that_is_worse_is_called_so_in_the_same_table() -> None:
    sure = [[0.5 + 0.001 * (20 + k)] * 3 for k in (-2, -1, 0, 1, 2)]

    found = area_differences(Results(table({"random": FLAT, "coreset": LOWER, "margin": sure}), "accuracy"))

    # Holm: the smaller p is doubled, the larger one stands alone.
    assert list(found) == ["coreset", "margin"]
    assert found["coreset"].verdict == WORSE
    assert found["coreset"].difference.value == pytest.approx(-0.024)
    assert found["coreset"].p_holm == found["coreset"].p
    assert found["margin"].verdict == BETTER
    assert found["margin"].p_holm == pytest.approx(2 * (found["margin"].p or 0))


@pytest.mark.parametrize("step", [0.0, 0.02, 0.1, -0.3])
def test_seeds_that_all_differ_by_the_same_prove_nothing(step: float) -> None:
    # Sums such as 0.1 + 0.2 differ in the last bit: rounding is no variation.
    base = np.array([[0.4, 0.5, 0.6], [0.41, 0.52, 0.63], [0.33, 0.47, 0.59]])

    found = area_differences(Results(table({"random": base, "margin": base + step}), "accuracy"))["margin"]

    assert found.difference == pytest.approx((step, step, step))
    assert found.difference.low == found.difference.high
    assert (found.p, found.p_holm, found.verdict) == (None, None, UNDECIDED)


def test_a_strategy_without_a_test_still_counts_as_tried() -> None:
    found = area_differences(Results(table({"random": FLAT, "margin": HIGHER, "copy": FLAT}), "accuracy"))

    assert found["copy"].p is None
    assert found["margin"].p_holm == pytest.approx(2 * (found["margin"].p or 0))
    assert found["margin"].verdict == UNDECIDED


def test_another_baseline_turns_the_sign() -> None:
    results = table({"random": FLAT, "margin": HIGHER})

    there = area_differences(Results(results, "accuracy"))["margin"]
    back = area_differences(Results(results, "accuracy"), "margin")["random"]

    assert back.difference == pytest.approx((-there.difference.value, -there.difference.high, -there.difference.low))
    assert (there.verdict, back.verdict) == (BETTER, WORSE)


def test_wins_ties_and_losses_are_counted_per_budget() -> None:
    # The start is common; then all seeds gain by about 0.1, then lose by about 0.1, then they disagree.
    base = np.full((4, 4), 0.5)
    change = np.array([[0, 0.10, -0.10, 0.1], [0, 0.11, -0.11, -0.1], [0, 0.09, -0.09, 0.2], [0, 0.12, -0.10, -0.2]])

    found = wins(Results(table({"random": base, "margin": base + change}, [1, 2, 3, 4]), "accuracy"))

    assert found.to_dict("records") == [
        {"strategy": "margin", "other": "random", "wins": 1, "ties": 2, "losses": 1},
        {"strategy": "random", "other": "margin", "wins": 1, "ties": 2, "losses": 1},
    ]


def test_wins_are_as_scipys_test_of_each_budget_says() -> None:
    from scipy.stats import ttest_rel

    results = simulated(
        np.random.default_rng(5), {"random": 300, "margin": 200, "badge": 280}, seeds=6, budgets=range(50, 650, 50)
    )
    scores = Results(results, "accuracy").curves

    found = wins(Results(results, "accuracy")).set_index(["strategy", "other"])

    for strategy, other in found.index:
        expected = [0, 0, 0]
        for b in range(len(scores.budgets)):
            own, theirs = scores.of(strategy)[:, b], scores.of(other)[:, b]
            shown = ttest_rel(own, theirs).pvalue < 0.05
            expected[1 if not shown else 0 if own.mean() > theirs.mean() else 2] += 1
        assert found.loc[(strategy, other)].tolist() == expected
    assert found["wins"].sum() == found["losses"].sum() > 10


@settings(max_examples=20, deadline=None)
@given(grid=grids(3), seed=st.integers(0, 1000))
def test_the_order_of_rows_changes_nothing(grid: list[list[list[int]]], seed: int) -> None:
    results = named(grid)
    shuffled = results.sample(frac=1, random_state=seed)

    first, second = Results(results, "accuracy"), Results(shuffled, "accuracy")
    for function in (mean_curves, budget_differences, wins):
        pd.testing.assert_frame_equal(function(first), function(second), check_exact=True)
    assert area_differences(first) == area_differences(second)


@settings(max_examples=50, deadline=None)
@given(grid=grids(1), step=st.integers(-200, 200), noise=grids(1))
def test_what_is_added_to_a_strategy_is_its_difference(
    grid: list[list[list[int]]], step: int, noise: list[list[list[int]]]
) -> None:
    base = np.array(grid[0]) / 1000
    other = np.array(noise[0]) / 1000
    plain = area_differences(Results(table({"random": base, "margin": other}), "accuracy"))["margin"]
    moved = table({"random": base, "copy": base + step / 1000, "margin": (np.array(noise[0]) + step) / 1000})
    added = area_differences(Results(moved, "accuracy"))

    assert added["copy"].difference == pytest.approx((step / 1000,) * 3, abs=1e-12)
    assert added["copy"].verdict == UNDECIDED
    assert added["margin"].difference == pytest.approx(tuple(v + step / 1000 for v in plain.difference), abs=1e-9)


def test_the_interval_of_a_difference_covers_it_and_equals_are_seldom_called_different() -> None:
    budgets, repeats = range(100, 700, 100), 250
    rng = np.random.default_rng(11)
    speeds = {"random": 300.0, "equal": 300.0, "same": 300.0, "alike": 300.0}

    covered, called, alone = [], 0, 0
    for _ in range(repeats):
        found = area_differences(Results(simulated(rng, speeds, seeds=6, budgets=budgets), "accuracy")).values()
        covered += [one.difference.low <= 0 <= one.difference.high for one in found]
        called += any(one.verdict != UNDECIDED for one in found)
        alone += any((one.p or 1) < 0.05 for one in found)

    # Binomial limits of three standard deviations around 95 % and below 5 %. Without the correction it would be 12 %.
    assert 0.925 <= np.mean(covered) <= 0.975
    assert called / repeats <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats) < alone / repeats


def test_the_interval_of_a_true_difference_covers_it() -> None:
    budgets, repeats = range(100, 700, 100), 200
    rng = np.random.default_rng(12)
    gain = truth(200, budgets) - truth(300, budgets)
    true = float(np.mean((gain[1:] + gain[:-1]) / 2))

    found = [
        area_differences(Results(simulated(rng, {"random": 300, "margin": 200}, seeds=6, budgets=budgets), "accuracy"))[
            "margin"
        ]
        for _ in range(repeats)
    ]

    assert 0.90 <= np.mean([one.difference.low <= true <= one.difference.high for one in found]) <= 0.99
    assert np.mean([one.verdict == BETTER for one in found]) > 0.99


PAIR = {"random": [[0.5, 0.6, 0.7], [0.5, 0.6, 0.8]], "margin": [[0.5, 0.7, 0.8], [0.5, 0.7, 0.9]]}
GOOD = table(PAIR)


@pytest.mark.parametrize(
    ("results", "metric", "message"),
    [
        (GOOD, "f1", "unknown metric 'f1': choose from accuracy, roc_auc"),
        (GOOD, "roc_auc", "the results have no column roc_auc"),
        (GOOD.drop(columns=["seed", "n_labels"]), "accuracy", "the results have no column seed, n_labels"),
        (GOOD.head(0), "accuracy", "the results are empty: run at least two seeds"),
        (GOOD.assign(n_labels=[math.nan, *GOOD["n_labels"][1:]]), "accuracy", "the results have rows without n_labels"),
        (pd.concat([GOOD, GOOD.tail(1)]), "accuracy", "strategy 'margin', seed 1 has two rows at 300 labels"),
        (GOOD.head(9), "accuracy", "strategy 'margin', seed 1 is missing, which others have"),
        (GOOD.drop(index=[1, 2]), "accuracy", "strategy 'random', seed 0 has no row at 200, 300 labels, where others"),
        (GOOD[GOOD["seed"] == 1], "accuracy", "the results have the seed 1 alone: what chance does takes 2 or more"),
        (GOOD[GOOD["n_labels"] == 100], "accuracy", "accuracy is defined for every run at 1 of 1 budgets"),
        (GOOD.assign(accuracy=math.nan), "accuracy", "accuracy is defined for every run at 0 of 3 budgets"),
        (GOOD.assign(accuracy=71.5), "accuracy", "accuracy must be a share from 0 to 1, not 71.5"),
        (GOOD.assign(accuracy=-0.1), "accuracy", "accuracy must be a share from 0 to 1, not -0.1"),
    ],
)
def test_results_that_do_not_pair_up_are_refused(results: pd.DataFrame, metric: str, message: str) -> None:
    for function in (mean_curves, wins, area_differences, budget_differences):
        with pytest.raises(InputError) as error:
            function(Results(results, metric))
        assert str(error.value).startswith(message)


def test_runs_with_skips_are_compared_by_what_they_asked_as_far_as_all_go() -> None:
    asked = GOOD.rename(columns={"n_labels": "n_asked"}).assign(n_labels=np.arange(12) * 7)
    # One run met its budget of labels earlier, and its last batch was smaller.
    ragged = asked.replace({"n_asked": {300: 260}}).iloc[:3]
    scores = Results(pd.concat([ragged, asked.iloc[3:]]), "accuracy", "n_asked").curves

    assert scores.budgets.tolist() == [100, 200]
    assert scores.of("margin").tolist() == [[0.5, 0.7], [0.5, 0.7]]
    assert mean_curves(Results(asked, "accuracy", "n_asked"))["budget"].tolist() == [100, 200, 300] * 2
    with pytest.raises(InputError, match=r"margin', seed 0 has no row at 0, 7, 14, 21, 28 and 4 more labels"):
        mean_curves(Results(asked, "accuracy"))
    with pytest.raises(InputError, match=r"unknown axis 'round': choose from n_labels, n_asked"):
        mean_curves(Results(asked, "accuracy", "round"))
    with pytest.raises(InputError, match=r"strategy 'margin', seed 1 has two rows at 300 samples asked about"):
        mean_curves(Results(pd.concat([asked, asked.tail(1)]), "accuracy", "n_asked"))


def test_differences_per_budget_are_scipys() -> None:
    from scipy.stats import ttest_rel

    results = simulated(np.random.default_rng(6), {"random": 300, "margin": 200}, seeds=5, budgets=BUDGETS)
    scores = Results(results, "accuracy").curves
    own, base = scores.of("margin"), scores.of("random")
    expected = ttest_rel(own, base)
    limits = expected.confidence_interval(0.95)

    found = budget_differences(Results(results, "accuracy"))

    assert found["budget"].tolist() == list(BUDGETS)
    assert found["mean"].tolist() == pytest.approx((own - base).mean(axis=0).tolist())
    assert found["low"].tolist() == pytest.approx(limits.low.tolist())
    assert found["high"].tolist() == pytest.approx(limits.high.tolist())
    assert found["p"].tolist() == pytest.approx(expected.pvalue.tolist())


def test_many_budgets_that_are_missing_are_not_all_named() -> None:
    whole = table({"random": [[0.5] * 20] * 2}, range(20))

    with pytest.raises(InputError, match=r"seed 1 has no row at 3, 4, 5, 6, 7 and 12 more labels, where others"):
        mean_curves(Results(whole.head(23), "accuracy"))


def test_a_baseline_that_is_not_there_or_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"no strategy 'badge': choose from margin, random$"):
        area_differences(Results(GOOD, "accuracy"), "badge")
    with pytest.raises(InputError, match=r"the baseline 'random' alone: run another strategy too$"):
        area_differences(Results(GOOD[GOOD["strategy"] == "random"], "accuracy"))
