"""Regret is counted from the moment at which the mean curve has arrived, and points lost are told apart from it."""

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.errors import InputError
from benchmarks.stopping_regret import Rule, paying_until, replay, summarise


def results(*curves: list[float], strategy: str = "margin") -> pd.DataFrame:
    """Return one run per curve, with 10 labels more in each round."""
    return pd.DataFrame(
        [
            {"strategy": strategy, "seed": seed, "n_labels": 10 * k, "roc_auc": score, "accuracy": score / 2}
            for seed, curve in enumerate(curves)
            for k, score in enumerate(curve)
        ]
    )


def at(labels: int) -> Rule:
    return lambda rounds: bool(rounds["n_labels"].iloc[-1] >= labels)


def test_labels_pay_until_the_mean_curve_stays_within_half_a_point_of_its_end() -> None:
    # The mean is 0.5, 0.9, 0.896, 0.9, 0.9: the second run's own curve leaves the band once more.
    runs = results([0.5, 0.9, 0.902, 0.9, 0.9], [0.5, 0.9, 0.890, 0.9, 0.9])
    assert paying_until(runs) == {"margin": 10}
    assert paying_until(results([0.5, 0.9, 0.894, 0.9, 0.9])) == {"margin": 30}
    # Higher than at the end is no loss.
    assert paying_until(results([0.5, 0.95, 0.94, 0.9])) == {"margin": 10}
    assert paying_until(results([0.5, 0.6, 0.7])) == {"margin": 20}
    # Accuracies are half of it here, so half a point is sooner reached.
    assert paying_until(results([0.5, 0.9, 0.894, 0.9, 0.9]), "accuracy") == {"margin": 10}


def test_stopping_late_costs_labels_and_stopping_early_costs_points() -> None:
    runs = results([0.5, 0.8, 0.9, 0.9, 0.9, 0.92], [0.5, 0.8, 0.9, 0.9, 0.9, 0.88])
    rules = {"early": at(10), "right": at(20), "late": at(40), "never": lambda _: False}
    found = replay(runs, rules).set_index(["rule", "seed"]).sort_index()
    assert (found["point"] == 20).all()
    assert found.loc[("early", 0), ["stop_labels", "regret"]].tolist() == [10, 0]
    assert found.loc[("early", 0), "points_lost"] == pytest.approx(0.12)
    assert found.loc[("early", 0), "mean_lost"] == pytest.approx(0.1)
    assert found.loc[("right", 0), ["stop_labels", "regret"]].tolist() == [20, 0]
    assert found.loc[("right", 1), "points_lost"] == pytest.approx(-0.02)
    assert found.loc[("late", 0), ["regret", "regret_share"]].tolist() == pytest.approx([20, 0.4])
    assert found.loc[("never", 0), ["stop_labels", "regret", "stopped"]].tolist() == [50, 30, False]


def test_a_rule_sees_the_rounds_so_far_and_no_later_one() -> None:
    seen: list[list[int]] = []

    def look(rounds: pd.DataFrame) -> bool:
        seen.append(rounds["n_labels"].tolist())
        return False

    replay(results([0.5, 0.6, 0.7]).iloc[::-1], {"look": look})
    # At the last round there is nothing left to stop.
    assert seen == [[0], [0, 10]]


def test_the_summary_counts_runs_that_stopped_in_time_and_runs_that_lost_points() -> None:
    runs = results([0.5, 0.8, 0.9, 0.9, 0.9, 0.92], [0.5, 0.8, 0.9, 0.9, 0.9, 0.88])
    by_rule = {
        found.rule: found for found in summarise(replay(runs, {"early": at(10), "right": at(20), "late": at(40)}))
    }
    early, right, late = by_rule["early"], by_rule["right"], by_rule["late"]
    assert (right.runs, right.stopped, right.point, right.stop_labels) == (2, 1, 20, 20)
    assert (right.small_regret, right.lost, right.lost_of_mean, right.good) == (1, 0.5, 0, 1)
    assert (early.small_regret, early.lost, early.lost_of_mean, early.good) == (1, 1, 1, 0)
    assert (late.small_regret, late.regret, late.good) == (0, 20, 0)


@pytest.mark.parametrize(("score", "lost"), [(0.895, 0), (0.892, 1)])
def test_half_a_point_may_be_lost_and_a_tenth_of_the_budget_spent_in_vain(score: float, lost: int) -> None:
    runs = results([0.5, score] + [0.9] * 9)
    [early] = summarise(replay(runs, {"early": at(10)}))
    assert (early.point, early.stop_labels, early.stopped) == (20 if lost else 10, 10, 1)
    assert (early.lost, early.lost_of_mean, early.good) == (lost, lost, 1 - lost)
    runs = results([0.5, 0.9] + [0.9] * 9)
    in_time, late = summarise(replay(runs, {"in time": at(20), "late": at(30)}))
    assert (in_time.regret, in_time.small_regret, late.regret, late.small_regret) == (10, 1, 20, 0)


def test_the_order_of_rows_does_not_matter() -> None:
    runs, rules = results([0.5, 0.8, 0.9], [0.4, 0.9, 0.9]), {"early": at(10)}
    keys = ["seed", "rule"]
    mixed = replay(runs.sample(frac=1, random_state=0), rules).sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(mixed, replay(runs, rules).sort_values(keys, ignore_index=True))


def test_strategies_are_judged_by_their_own_curves() -> None:
    both = pd.concat([results([0.5, 0.9, 0.9]), results([0.5, 0.6, 0.9], strategy="random")])
    assert paying_until(both) == {"margin": 10, "random": 20}
    assert replay(both, {"first": at(10)})["point"].tolist() == [10, 20]


@pytest.mark.parametrize(
    ("frame", "metric", "message"),
    [
        (results([0.5, 0.6]), "ece", "unknown metric 'ece'"),
        (results([0.5, 0.6]).head(0), "roc_auc", "the results are empty"),
        (results([0.5, 0.6], [0.5, 0.6, 0.7]), "roc_auc", "different numbers of labels"),
    ],
)
def test_results_without_a_common_curve_are_refused(frame: pd.DataFrame, metric: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        paying_until(frame, metric)


def test_a_score_that_is_not_defined_at_first_does_not_count_as_arrived() -> None:
    assert paying_until(results([np.nan, 0.9, 0.9])) == {"margin": 10}
