"""When more labels stop paying: rules over the rounds so far, each with a sentence. They advise; nothing stops itself.

- ``agreement``: models of successive rounds give the same answers (Bloodgood & Vijay-Shanker 2009, arXiv:1409.5165).
- ``rest``: even the upper confidence limit of what all labels left in the budget bring is below half a point.
- ``target``: even the lower confidence limit of the ROC-AUC has reached what was wanted.
- ``price``: even the upper confidence limit of what the next batch brings is worth less than the batch costs.
- ``budget``: the labels that were meant to be spent are spent.
"""

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import Interval
from al_pipeline.core.outlook.expected_gain import FEWEST_ROUNDS, PowerLaw, fit_power_law
from al_pipeline.core.outlook.random_arm import FEWEST_TESTS
from al_pipeline.core.rng import generator
from al_pipeline.core.rounds import RoundPolicy

COLUMNS = ("n_labels", "roc_auc", "roc_auc_low", "agreement")
# Chosen on simulated runs of the digits, as are the policy's defaults (docs/results/stopping.md).
KAPPA_ROUNDS = 3
# Scores are shares; people count in points of a hundred.
POINT = 0.01
BY_SCORES = ("rest", "target", "price")


@dataclass(frozen=True)
class Verdict:
    """What one rule says; `stop` is None where it cannot tell, for want of rounds or of a wish."""

    rule: str
    stop: bool | None
    sentence: str


@dataclass(frozen=True)
class Projection:
    """What going on costs by the fitted curve: the labels to go, and their money and hours where these are known.

    Intervals hold 95 % and are infinite where the curve does not reach the goal; None: not enough rounds to tell.
    """

    goal: str
    labels: Interval | None
    money: Interval | None
    hours: Interval | None
    sentence: str


@dataclass(frozen=True)
class Advice:
    """What all rules say together; projections are to one more point, and to the target if there is one."""

    stop: bool
    sentence: str
    verdicts: tuple[Verdict, ...]
    projections: tuple[Projection, ...]


def advise(
    history: pd.DataFrame,
    policy: RoundPolicy,
    batch_size: int,
    *,
    seconds_per_label: float | None = None,
    tests_to_come: int = 0,
    seed: int = 0,
) -> Advice:
    """Say whether more labels are likely to pay.

    Parameters
    ----------
    history : DataFrame
        One row per round, oldest first: n_labels, roc_auc, roc_auc_low and agreement (`cohens_kappa` with the round
        before), missing where there is none. Optionally unmeasured: the number of classes that ROC-AUC leaves out.
    policy : RoundPolicy
        Each rule by its own setting, which None leaves out: stop_agreement, stop_gain, target_auc, price_per_label with
        value_per_point, label_budget.
    batch_size : int
        Labels of the next batch.
    seconds_per_label : float, optional
        What a label takes a person.
    tests_to_come : int
        Test images that nobody was asked about yet. While there are any, and fewer than `FEWEST_TESTS` are answered
        (``holdout_samples`` of the last round), no rule goes by the scores.
    seed : int
        Of the bootstrap.

    Raises
    ------
    InputError
        A missing column.
    """
    absent = [name for name in COLUMNS if name not in history.columns]
    if absent:
        raise InputError(f"the rounds have no column {', '.join(absent)}: rules to stop by need {', '.join(COLUMNS)}")
    labels, scores, lows, kappas = (history[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in COLUMNS)
    law = fit_power_law(labels, scores, generator(seed, len(history), "stopping"))
    unmeasured = int(history["unmeasured"].iloc[-1]) if "unmeasured" in history and len(history) else 0
    verdicts = (
        kappa_rule(kappas, policy.stop_agreement),
        rest_rule(law, policy),
        target_rule(lows, policy.target_auc, unmeasured),
        price_rule(law, policy, batch_size),
        budget_rule(labels, policy.label_budget),
    )
    few = _few_tests(history, tests_to_come)
    if few is not None:
        law = None
        verdicts = tuple(
            Verdict(each.rule, None, few) if each.rule in BY_SCORES and each.stop is not None else each
            for each in verdicts
        )
    targets = (None,) if policy.target_auc is None else (None, policy.target_auc)
    projections = [project(law, target, policy.price_per_label, seconds_per_label) for target in targets]
    if few is not None:
        projections = [replace(each, sentence=few) for each in projections]
    stops = [verdict for verdict in verdicts if verdict.stop]
    if stops:
        sentence = "Stop: " + " ".join(verdict.sentence for verdict in stops)
    elif any(verdict.stop is False for verdict in verdicts):
        sentence = f"Go on: no rule says stop. {projections[-1].sentence}"
    else:
        sentence = "Go on: too few rounds, or no rule set, to tell whether more labels pay."
    return Advice(bool(stops), sentence, verdicts, tuple(projections))


def _few_tests(history: pd.DataFrame, to_come: int) -> str | None:
    answered = int(history["holdout_samples"].iloc[-1]) if "holdout_samples" in history and len(history) else 0
    if not to_come or answered >= FEWEST_TESTS:
        return None
    return f"Not enough test labels to tell by scores: {answered} so far, it takes {FEWEST_TESTS}; {to_come} more come."


def kappa_rule(kappas: npt.NDArray[np.float64], threshold: float | None, rounds: int = KAPPA_ROUNDS) -> Verdict:
    """Stop once successive models have agreed for some rounds in a row.

    `kappas`, float64 of the shape (n,), are each round's with the round before, NaN where there is none.

    A kappa above T bounds how far the two models' F1 scores lie apart by 4·(1 − T)/T (Bloodgood & Grothendieck 2013,
    arXiv:1504.06329). The bound is loose, and it is about these models, not about what other samples would teach.
    """
    if threshold is None:
        return Verdict("agreement", None, "No agreement of models to stop at is set.")
    last = kappas[-rounds:]
    if len(last) < rounds or not np.isfinite(last).all():
        found = f"{np.isfinite(last).sum()} of {rounds} pairs of trained models"
        return Verdict("agreement", None, f"Not enough rounds to tell by agreement: {found}.")
    told = ", ".join(f"{kappa:.3f}" for kappa in last)
    if (last >= threshold).all():
        bound = f" (their F1 scores differ by at most {4 * (1 - threshold) / threshold:.2f}, a loose bound)"
        said = f"kappa {told}, at least {threshold:g} for {rounds} rounds{bound if threshold > 0.8 else ''}"
        return Verdict("agreement", True, f"Models of successive rounds give the same answers: {said}.")
    said = f"kappa {told}; {rounds} in a row must be at least {threshold:g}"
    return Verdict("agreement", False, f"Models still change: {said}.")


def rest_rule(law: PowerLaw | None, policy: RoundPolicy) -> Verdict:
    """Stop once even the upper 95 % limit of what the labels left in the budget bring is too little.

    `law` is None while there are too few rounds.
    """
    if policy.stop_gain is None:
        return Verdict("rest", None, "No gain that the rest of the labels must bring is set.")
    if law is None:
        return Verdict("rest", None, f"Not enough rounds to tell what is left: it takes {FEWEST_ROUNDS} with a score.")
    left = int(law.labels if policy.label_budget is None else policy.label_budget - law.labels)
    if left <= 0:
        return Verdict("rest", None, "No labels are left in the budget.")
    gain = law.gain(left)
    stop = gain.high <= policy.stop_gain
    which = "As many labels again" if policy.label_budget is None else f"The {left:,} labels left in the budget"
    value, low, high = (x / POINT for x in gain)
    least = f"{'at most' if stop else 'perhaps more than'} {policy.stop_gain / POINT:g}"
    said = f"{which} bring {value:.2f} points by the curve so far ({low:.2f} to {high:.2f}): {least}."
    return Verdict("rest", stop, said)


def target_rule(lows: npt.NDArray[np.float64], target: float | None, unmeasured: int = 0) -> Verdict:
    """Stop once the last of the ROC-AUC's lower 95 % limits, one per round, shape (n,), has reached the target.

    Not while it leaves out `unmeasured` classes: nobody knows how well they are told apart.
    """
    if target is None:
        return Verdict("target", None, "No target ROC-AUC is set.")
    if not len(lows) or not np.isfinite(lows[-1]):
        return Verdict("target", None, "The last round has no ROC-AUC, so the target cannot be told.")
    reached = bool(lows[-1] >= target)
    if reached and unmeasured:
        which = f"{unmeasured} classes have no holdout sample" if unmeasured > 1 else "1 class has no holdout sample"
        return Verdict("target", False, f"The ROC-AUC reaches the target {target:g} without all classes: {which}.")
    said = f"reaches the target {target:g}" if reached else f"is below the target {target:g}"
    return Verdict("target", reached, f"The lower 95 % limit of the ROC-AUC, {lows[-1]:.3f}, {said}.")


def price_rule(law: PowerLaw | None, policy: RoundPolicy, batch_size: int) -> Verdict:
    """Stop once even the upper 95 % limit of the next batch's gain is worth less than its labels cost."""
    price, value = policy.price_per_label, policy.value_per_point
    if price is None or value is None:
        return Verdict("price", None, "What a label costs or what a point is worth is not set.")
    if law is None:
        return Verdict("price", None, f"Not enough rounds to tell by the price: it takes {FEWEST_ROUNDS} with a score.")
    gain, cost = law.gain(batch_size), price * batch_size
    worth = gain.high / POINT * value
    stop = worth < cost
    points, low, high = (x / POINT for x in gain)
    brought = f"{points:.2f} points ({low:.2f} to {high:.2f}), worth {worth:.4g} at most"
    said = f"The next {batch_size} labels cost {cost:g} and bring {brought}: {'less' if stop else 'perhaps more'}"
    return Verdict("price", stop, f"{said} than they cost.")


def budget_rule(labels: npt.NDArray[np.float64], budget: int | None) -> Verdict:
    """Stop once the last of the numbers of labels, one per round, shape (n,), has reached the budget."""
    if budget is None:
        return Verdict("budget", None, "No budget of labels is set.")
    spent = int(labels[-1]) if len(labels) else 0
    return Verdict("budget", spent >= budget, f"{spent} of {budget} labels are spent.")


def project(
    law: PowerLaw | None, target: float | None, price_per_label: float | None, seconds_per_label: float | None
) -> Projection:
    """Say what going on costs, to the target or, without one, to one more point; `law` is None with too few rounds."""
    goal = "one more point of ROC-AUC" if target is None else f"a ROC-AUC of {target:g}"
    if law is None:
        return Projection(goal, None, None, None, f"Not enough rounds to tell what {goal} costs.")
    labels = law.labels_for_rise(POINT) if target is None else law.more_labels(target)
    money = None if price_per_label is None else _times(labels, price_per_label)
    hours = None if seconds_per_label is None else _times(labels, seconds_per_label / 3600)
    if not isfinite(labels.value):
        said = f"By the curve so far {goal} is not reached, with any number of labels"
        if isfinite(labels.low):
            said += f"; {_number(labels.low)} more at the least, in 95 % of the curves that fit"
        return Projection(goal, labels, money, hours, f"{said}.")
    parts = [f"{_span(labels)} more labels"]
    parts += [f"a price of {_span(money)}"] if money is not None else []
    parts += [f"{_span(hours)} hours"] if hours is not None else []
    return Projection(goal, labels, money, hours, f"By the curve so far {goal} takes {', '.join(parts)}.")


def _times(interval: Interval, factor: float) -> Interval:
    # Labels for nothing cost nothing, however many they are.
    low, value, high = (x * factor if factor else 0.0 for x in (interval.low, interval.value, interval.high))
    return Interval(value, low, high)


def _span(interval: Interval) -> str:
    high = _number(interval.high) if isfinite(interval.high) else "no limit"
    return f"{_number(interval.value)} ({_number(interval.low)} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"
