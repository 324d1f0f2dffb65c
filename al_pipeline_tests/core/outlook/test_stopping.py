"""Rules to stop by say stop when they should, say when they cannot tell, and give their numbers."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.outlook.expected_gain import FEWEST_ROUNDS, PowerLaw, fit_power_law
from al_pipeline.core.outlook.stopping import (
    advise,
    budget_rule,
    kappa_rule,
    price_rule,
    project,
    rest_rule,
    target_rule,
)
from al_pipeline.core.rng import generator
from al_pipeline.core.rounds import RoundPolicy

LABELS = np.arange(20, 420, 20).astype(np.float64)


def law_of(
    limit: float = 0.95, scale: float = 1.0, exponent: float = 0.5, noise: float = 0.0, seed: int = 0
) -> PowerLaw:
    scores = limit - scale * LABELS**-exponent + np.random.default_rng(seed).normal(0, noise, len(LABELS))
    law = fit_power_law(LABELS, scores, generator(seed, 0, "test"), 300)
    assert law is not None
    return law


def history(scores: Any, kappas: Any, labels: Any = LABELS) -> pd.DataFrame:
    values = np.asarray(scores, dtype=np.float64)
    return pd.DataFrame({"n_labels": labels, "roc_auc": values, "roc_auc_low": values - 0.02, "agreement": kappas})


RISING = history(0.95 - LABELS**-0.5, np.linspace(0.5, 0.9, len(LABELS)))


def test_agreement_takes_three_rounds_in_a_row() -> None:
    assert kappa_rule(np.array([np.nan, 0.5, 0.99, 0.995, 1.0]), 0.99).stop is True
    verdict = kappa_rule(np.array([np.nan, 0.995, 0.98, 1.0, 1.0]), 0.99)
    assert verdict.stop is False
    assert verdict.sentence == "Models still change: kappa 0.980, 1.000, 1.000; 3 in a row must be at least 0.99."


@pytest.mark.parametrize("kappas", [[], [np.nan, 1.0, 1.0], [1.0, 1.0, 1.0, np.nan]])
def test_agreement_of_fewer_rounds_tells_nothing(kappas: list[float]) -> None:
    verdict = kappa_rule(np.array(kappas), 0.99)
    assert verdict.stop is None
    assert "Not enough rounds to tell by agreement" in verdict.sentence


def test_the_bound_of_agreement_is_told_where_it_means_anything_and_called_loose() -> None:
    told = kappa_rule(np.array([0.991, 0.992, 0.993]), 0.99).sentence
    assert "kappa 0.991, 0.992, 0.993, at least 0.99 for 3 rounds" in told
    assert "at most 0.04, a loose bound" in told
    assert "bound" not in kappa_rule(np.ones(3), 0.5).sentence


def test_the_target_must_be_reached_by_the_lower_limit_of_the_last_round() -> None:
    assert target_rule(np.array([0.5, 0.9]), 0.9).stop is True
    assert target_rule(np.array([0.95, 0.89]), 0.9).stop is False
    assert target_rule(np.array([0.95, np.nan]), 0.9).stop is None
    # What no holdout sample is of may be told apart by chance alone.
    for unmeasured, said in ((1, "1 class has"), (2, "2 classes have")):
        verdict = target_rule(np.array([0.5, 0.9]), 0.9, unmeasured)
        assert verdict.stop is False
        assert f"without all classes: {said} no holdout sample" in verdict.sentence
    assert "is below the target" in target_rule(np.array([0.95, 0.89]), 0.9, 1).sentence


def test_the_budget_is_spent_when_its_last_label_is_there() -> None:
    assert budget_rule(np.array([0.0, 99]), 100).stop is False
    assert budget_rule(np.array([0.0, 100]), 100).stop is True


def test_a_power_law_without_noise_is_found_again() -> None:
    # An exponent of the grid.
    exponent = float(np.geomspace(0.1, 3, 40)[18])
    law = law_of(0.93, 0.8, exponent)
    assert law.at(1000)[0] == pytest.approx(0.93 - 0.8 * 1000**-exponent, abs=1e-9)
    gain = law.gain(20)
    assert gain.value == pytest.approx(0.8 * (400**-exponent - 420**-exponent), abs=1e-9)
    assert gain.low == pytest.approx(gain.high, abs=1e-9)
    needed = law.more_labels(0.9)
    assert 0.93 - 0.8 * (400 + needed.value) ** -exponent == pytest.approx(0.9)
    assert law.labels_for_rise(0.01).value == pytest.approx(law.more_labels(float(law.at(400)[0]) + 0.01).value)


def test_what_the_curve_has_passed_takes_no_more_labels_and_what_lies_above_it_infinitely_many() -> None:
    law = law_of(0.93, 0.8, 0.5, noise=0.002)
    assert law.more_labels(0.5) == (0, 0, 0)
    assert np.isinf(law.more_labels(1.0).value)
    assert np.isinf(law_of(1.0, 0.08, 1.0).labels_for_rise(0.01).value)


@given(
    limit=st.floats(0.6, 1),
    scale=st.floats(0, 2),
    exponent=st.floats(0.1, 2),
    noise=st.floats(0, 0.05),
    batch=st.integers(1, 1000),
)
@settings(deadline=None, max_examples=40)
def test_curves_never_fall_never_pass_1_and_the_value_lies_in_its_interval(
    limit: float, scale: float, exponent: float, noise: float, batch: int
) -> None:
    law = law_of(limit, scale, exponent, noise)
    assert (law.limits <= 1).all()
    assert (law.scales >= 0).all()
    gain = law.gain(batch)
    assert 0 <= gain.low <= gain.value <= gain.high
    assert law.gain(batch + 1).value >= gain.value
    more = law.more_labels(0.9)
    assert 0 <= more.low <= more.value <= more.high


@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_the_interval_of_the_gain_holds_what_the_next_batch_brings(noise: float) -> None:
    true = 400**-0.5 - 420**-0.5
    held = [
        interval.low <= true <= interval.high for interval in (law_of(noise=noise, seed=i).gain(20) for i in range(60))
    ]
    # 95 % is meant; 60 runs of a rate of 0.9 have fewer than 48 hits once in 400 times.
    assert sum(held) >= 48


def test_too_few_rounds_give_no_curve() -> None:
    rng = np.random.default_rng(0)
    few = slice(0, FEWEST_ROUNDS - 1)
    assert fit_power_law(LABELS[few], LABELS[few] / 1000, rng) is None
    # Rounds without a score, without labels, and those long ago do not count.
    scores = np.where(np.arange(len(LABELS)) % 4 == 0, 0.9, np.nan)
    assert fit_power_law(LABELS, scores, rng) is None
    assert fit_power_law(np.array([0, 1, 2, 3, 4, 1000.0]), np.full(6, 0.9), rng) is None
    assert fit_power_law(LABELS, np.full(len(LABELS), np.nan), rng) is None


def test_the_price_rule_weighs_the_upper_limit_of_the_gain_against_the_batch() -> None:
    law = law_of(noise=0.003)
    points = law.gain(20).high / 0.01
    dear = price_rule(law, RoundPolicy(price_per_label=1.0, value_per_point=19.9 / points), 20)
    cheap = price_rule(law, RoundPolicy(price_per_label=1.0, value_per_point=20.1 / points), 20)
    assert (dear.stop, cheap.stop) == (True, False)
    gain = law.gain(20)
    told = f"{gain.value * 100:.2f} points ({gain.low * 100:.2f} to {gain.high * 100:.2f}), worth 19.9 at most: less"
    assert dear.sentence.startswith(f"The next 20 labels cost 20 and bring {told}")
    assert price_rule(law, RoundPolicy(price_per_label=1.0), 20).stop is None
    assert price_rule(law, RoundPolicy(value_per_point=1.0), 20).stop is None
    assert "less than they cost" in dear.sentence
    assert "perhaps more than they cost" in cheap.sentence


def test_the_rest_rule_weighs_the_upper_limit_of_all_that_the_budget_can_still_bring() -> None:
    law = law_of(noise=0.003)
    gain = law.gain(600)
    less, more = gain.high * 0.99, gain.high * 1.01
    some, none = RoundPolicy(label_budget=1000, stop_gain=less), RoundPolicy(label_budget=1000, stop_gain=more)
    assert (rest_rule(law, some).stop, rest_rule(law, none).stop) == (False, True)
    assert rest_rule(law, none).sentence.startswith("The 600 labels left in the budget bring ")
    points = f"{gain.value * 100:.2f} points by the curve so far ({gain.low * 100:.2f} to {gain.high * 100:.2f})"
    assert points in rest_rule(law, none).sentence
    assert rest_rule(law, none).sentence.endswith(f"at most {more * 100:g}.")
    assert rest_rule(law, some).sentence.endswith(f"perhaps more than {less * 100:g}.")
    assert rest_rule(law, RoundPolicy(label_budget=401)).stop is not None
    again = rest_rule(law, RoundPolicy())
    assert again.stop is False
    assert again.sentence.startswith(f"As many labels again bring {law.gain(400).value * 100:.2f} points")
    assert rest_rule(law, RoundPolicy(label_budget=400)).stop is None


def test_without_rounds_or_wishes_no_rule_stops_and_the_sentence_says_so() -> None:
    empty = advise(history([], [], []), RoundPolicy(target_auc=0.9, price_per_label=1, value_per_point=1), 20)
    assert not empty.stop
    assert empty.sentence == "Go on: too few rounds, or no rule set, to tell whether more labels pay."
    assert [verdict.stop for verdict in empty.verdicts] == [None] * 5
    assert empty.projections[0].sentence == "Not enough rounds to tell what one more point of ROC-AUC costs."
    nothing = advise(RISING, RoundPolicy(stop_agreement=None, stop_gain=None), 20)
    assert [verdict.stop for verdict in nothing.verdicts] == [None] * 5


def test_missing_scores_may_be_none_as_in_a_stored_table() -> None:
    frame = pd.DataFrame(
        {"n_labels": [0, 4], "roc_auc": [None, None], "roc_auc_low": [None, None], "agreement": [None, None]}
    )
    assert not advise(frame, RoundPolicy(target_auc=0.5), 4).stop


def test_advice_goes_on_while_the_curve_rises_and_tells_what_a_point_costs() -> None:
    advice = advise(RISING, RoundPolicy(price_per_label=2, value_per_point=1000), 20, seconds_per_label=36)
    assert not advice.stop
    [projection] = advice.projections
    assert projection.labels is not None
    assert projection.money is not None
    assert projection.hours is not None
    assert projection.labels.value == pytest.approx((1 / (400**-0.5 - 0.01)) ** 2 - 400, rel=0.1)
    assert projection.money.value == pytest.approx(2 * projection.labels.value)
    assert projection.hours.value == pytest.approx(projection.labels.value / 100)
    assert advice.sentence.startswith("Go on: no rule says stop. By the curve so far one more point of ROC-AUC takes")
    assert "more labels, a price of" in projection.sentence


@pytest.mark.parametrize(
    ("frame", "policy", "rule"),
    [
        (history(np.full(20, 0.9), np.ones(20)), RoundPolicy(stop_gain=None), "agreement"),
        (history(np.full(20, 0.9), np.zeros(20)), RoundPolicy(), "rest"),
        (RISING, RoundPolicy(target_auc=0.85), "target"),
        (RISING, RoundPolicy(price_per_label=1, value_per_point=1), "price"),
        (RISING, RoundPolicy(label_budget=400), "budget"),
    ],
)
def test_one_rule_that_says_stop_is_enough_and_is_quoted(frame: pd.DataFrame, policy: RoundPolicy, rule: str) -> None:
    advice = advise(frame, policy, 20)
    [stopped] = [verdict for verdict in advice.verdicts if verdict.stop]
    assert stopped.rule == rule
    assert advice.stop
    assert advice.sentence == f"Stop: {stopped.sentence}"


def test_a_target_that_the_curve_never_reaches_has_no_cost() -> None:
    told = project(law_of(0.8, 1, 0.5), 0.95, 1.0, 10.0)
    assert told.labels is not None
    assert np.isinf(told.labels.value)
    assert "is not reached, with any number of labels" in told.sentence
    assert "nan" not in project(law_of(0.8, 1, 0.5), 0.95, 0.0, 10.0).sentence


def test_costs_are_told_with_their_limits_and_no_more_digits_than_they_bear() -> None:
    exact = project(law_of(0.93, 0.8, 0.5), 0.9, 0.0, 36.0)
    assert exact.labels is not None
    labels = "{:,.0f} ({:,.0f} to {:,.0f})".format(*exact.labels)
    assert f"{labels} more labels, a price of 0 (0 to 0), " in exact.sentence
    near = project(law_of(0.93, 0.8, 0.5), 0.891, None, 36.0)
    assert near.hours is not None
    assert near.hours.value < 10
    assert f"{near.hours.value:.1f} (" in near.sentence
    # So noisy that some of the curves that fit never get there.
    vague = project(law_of(0.92, 0.8, 0.5, noise=0.01, seed=1), 0.9, None, None)
    assert vague.labels is not None
    assert np.isfinite(vague.labels.value)
    assert np.isinf(vague.labels.high)
    assert "to no limit) more labels" in vague.sentence


def test_the_same_rounds_give_the_same_advice() -> None:
    noisy = RISING.assign(roc_auc=RISING["roc_auc"] + np.random.default_rng(1).normal(0, 0.01, len(RISING)))
    policy = RoundPolicy(target_auc=0.93, price_per_label=0.1, value_per_point=2)
    assert advise(noisy, policy, 20) == advise(noisy, policy, 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stop_agreement": 1.2}, r"stop_agreement must be .*not 1\.2"),
        ({"stop_gain": 2}, "stop_gain must be .*not 2"),
        ({"target_auc": float("nan")}, "target_auc must be .*not nan"),
        ({"price_per_label": -1}, "price_per_label must be .*not -1"),
        ({"label_budget": 0}, "label_budget must be .*not 0"),
    ],
)
def test_wishes_that_cannot_be_used_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RoundPolicy(**change)


def test_rounds_without_what_the_rules_need_are_refused() -> None:
    with pytest.raises(InputError, match="no column agreement"):
        advise(RISING.drop(columns="agreement"), RoundPolicy(), 20)


def test_while_test_images_are_still_to_come_a_few_answers_say_nothing_of_the_scores() -> None:
    policy = RoundPolicy(target_auc=0.5, price_per_label=1000, value_per_point=1, label_budget=10)
    for answered, to_come, few in ((49, 1, True), (50, 1, False), (49, 0, False), (0, 30, True)):
        advice = advise(RISING.assign(holdout_samples=answered), policy, 20, tests_to_come=to_come)
        told = {verdict.rule: verdict for verdict in advice.verdicts}
        assert [told[rule].stop is None for rule in ("target", "price")] == [few, few]
        assert ("Not enough test labels" in told["target"].sentence) == few
        assert ("Not enough test labels" in advice.projections[0].sentence) == few
        # What goes by no test label says what it said.
        assert told["budget"].stop
