"""How well rules to stop by would have done: simulated runs, replayed as if each round were today.

The right moment is read from the mean curve over seeds: the first budget from which on it stays within half a point of
its end. A single run's score on the holdout jumps by more than half a point by chance, and its last jump would be taken
for the moment when labels stopped paying; the mean over seeds has less of that noise. A strategy that goes on rising to
the end has its moment near the end: then stopping at all costs points.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import TITLES

# Half a point: what stopping may cost.
TOLERANCE = 0.005
# The share of the budget that may be asked about in vain.
MOST_REGRET = 0.1

Rule = Callable[[pd.DataFrame], bool]


@dataclass(frozen=True)
class RegretSummary:
    """How a rule did over the runs of a strategy.

    Attributes
    ----------
    strategy, rule : str
    runs : int
    stopped : float
        Share of the runs that it stopped before their end.
    point : float
        The right moment, in labels.
    stop_labels : float
        Median labels at which it stopped, the budget where it did not.
    regret : float
        Median.
    small_regret : float
        Share of runs whose regret is at most a tenth of the budget.
    lost : float
        Share of runs that it cost more than half a point, by their own scores.
    lost_of_mean : float
        The same by the mean curve.
    good : float
        Share of runs with both a small regret and no more than half a point lost by the mean curve.
    """

    strategy: str
    rule: str
    runs: int
    stopped: float
    point: float
    stop_labels: float
    regret: float
    small_regret: float
    lost: float
    lost_of_mean: float
    good: float


def paying_until(results: pd.DataFrame, metric: str = "roc_auc") -> dict[str, int]:
    """Return, per strategy, the labels after which the mean curve over seeds stays within half a point of its end.

    Parameters
    ----------
    results : DataFrame
        Of `experiments.simulate`, all seeds with the same numbers of labels.
    metric : str
        ``accuracy`` or ``roc_auc``.

    Notes
    -----
    "Within" is one-sided: a curve that was higher once than at its end has lost nothing by stopping there.

    Raises
    ------
    InputError
        An unknown metric, no rows, or seeds of different numbers of labels.
    """
    return {name: _moment(curve) for name, curve in _mean_curves(results, metric).items()}


def replay(results: pd.DataFrame, rules: dict[str, Rule], metric: str = "roc_auc") -> pd.DataFrame:
    """Replay rules over simulated runs, round by round: each stops at the first round at which it says so.

    Parameters
    ----------
    results : DataFrame
        Of `experiments.simulate`, all seeds with the same numbers of labels.
    rules : dict
        Name to function: given the rounds so far of one run, oldest first, whether to stop.
    metric : str

    Returns
    -------
    DataFrame
        One row per strategy, seed and rule: strategy, seed, rule, budget, point (`paying_until`), stopped, stop_labels
        (the budget if it never stopped), regret (labels asked past the point, 0 if it stopped before), regret_share (of
        the budget), points_lost (shares: the run's own last score less the score at the stop; below 0 if more labels
        made it worse) and mean_lost (the same by the mean curve).

    Raises
    ------
    InputError
        As `paying_until`.
    """
    curves = _mean_curves(results, metric)
    rows = []
    for (strategy, seed), run in results.groupby(["strategy", "seed"], sort=False):
        run = run.sort_values("n_labels", ignore_index=True)
        mean = curves[str(strategy)]
        labels, scores = run["n_labels"].to_numpy(), run[metric].to_numpy(dtype=np.float64)
        budget, point = int(labels[-1]), _moment(mean)
        for name, rule in rules.items():
            # Stopping at the last round is no stop: the run ends there.
            at = next((k for k in range(len(run) - 1) if rule(run.iloc[: k + 1])), len(run) - 1)
            regret = max(0, int(labels[at]) - point)
            rows.append(
                {
                    "strategy": strategy,
                    "seed": seed,
                    "rule": name,
                    "budget": budget,
                    "point": point,
                    "stopped": at < len(run) - 1,
                    "stop_labels": int(labels[at]),
                    "regret": regret,
                    "regret_share": regret / budget,
                    "points_lost": scores[-1] - scores[at],
                    "mean_lost": float(mean.iloc[-1] - mean.iloc[at]),
                }
            )
    return pd.DataFrame(rows)


def summarise(replayed: pd.DataFrame) -> list[RegretSummary]:
    """Return how each rule did, per strategy.

    Parameters
    ----------
    replayed : DataFrame
        Of `replay`.
    """
    found = []
    for (strategy, rule), runs in replayed.groupby(["strategy", "rule"], sort=False):
        small = runs["regret_share"] <= MOST_REGRET
        # Not less than half a point is what the mean curve still has to gain; rounding of means must not count.
        cheap = runs["mean_lost"] <= TOLERANCE + 1e-12
        found.append(
            RegretSummary(
                strategy=str(strategy),
                rule=str(rule),
                runs=len(runs),
                stopped=float(runs["stopped"].mean()),
                point=float(runs["point"].iloc[0]),
                stop_labels=float(runs["stop_labels"].median()),
                regret=float(runs["regret"].median()),
                small_regret=float(small.mean()),
                lost=float((runs["points_lost"] > TOLERANCE + 1e-12).mean()),
                lost_of_mean=float((~cheap).mean()),
                good=float((small & cheap).mean()),
            )
        )
    return found


def _mean_curves(results: pd.DataFrame, metric: str) -> dict[str, "pd.Series[float]"]:
    if metric not in TITLES:
        raise InputError(f"unknown metric {metric!r}: choose from {', '.join(TITLES)}")
    if results.empty:
        raise InputError("the results are empty: simulate a run first")
    curves = {}
    for strategy, runs in results.groupby("strategy", sort=False):
        table = runs.pivot(index="n_labels", columns="seed", values=metric)
        counts = runs.sort_values("n_labels").groupby("seed")["n_labels"].agg(tuple)
        if counts.nunique() > 1:
            raise InputError(
                f"the seeds of {strategy!r} have scores at different numbers of labels: replay runs without skips, all "
                "of the same batch size and budget"
            )
        curves[str(strategy)] = table.mean(axis=1)
    return curves


def _moment(curve: "pd.Series[float]") -> int:
    values: npt.NDArray[np.float64] = curve.to_numpy(dtype=np.float64)
    short = ~(values >= values[-1] - TOLERANCE - 1e-12)
    return int(curve.index[0] if not short.any() else curve.index[np.flatnonzero(short)[-1] + 1])
