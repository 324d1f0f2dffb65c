"""The results of runs arranged for paired comparison: every query strategy with the same seeds and budgets.

A table of results has one row per strategy, seed and number of labels, as `experiments.simulate` returns it. Runs of
one seed share the starting set, the weights and the draws, so strategies can be compared seed by seed: what an easy
start adds to all of them cancels out. Runs that do not pair up are refused.

Where annotators skip samples, runs that asked about as many have different numbers of labels. Then the number asked is
what they have in common, and the budget: a skip takes somebody's time, too.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.auc import Floats, Integers

METRICS = ("accuracy", "roc_auc")
# What a budget counts, as sentences name it.
AXES = {"n_labels": "labels", "n_asked": "samples asked about"}


@dataclass(frozen=True)
class PairedScores:
    """The scores of a table of results, every strategy with the same seeds and budgets.

    Attributes
    ----------
    metric : str
    strategies : list of str, length A
        Sorted.
    seeds : list of int, length n
        Sorted; at least 2.
    budgets : float64 array, shape (B,)
        Numbers of labels, or of samples asked about, ascending; at least 2.
    values : float64 array, shape (A, n, B)
        Shares from 0 to 1.
    axis : str
        What the budgets count: ``n_labels`` or ``n_asked``.
    """

    metric: str
    strategies: list[str]
    seeds: list[int]
    budgets: Floats
    values: Floats
    axis: str = "n_labels"

    def of(self, strategy: str) -> Floats:
        """Return one strategy's scores, shape (n, B).

        Raises
        ------
        InputError
            There are none.
        """
        if strategy not in self.strategies:
            raise InputError(f"the results have no strategy {strategy!r}: choose from {', '.join(self.strategies)}")
        return self.values[self.strategies.index(strategy)]

    def areas(self, strategy: str) -> Floats:
        """Return the area under each run's budget curve over the range of budgets, shape (n,): its mean score.

        Raises
        ------
        InputError
            There is no such strategy.
        """
        width = self.budgets[-1] - self.budgets[0]
        return np.asarray(trapezoid(self.of(strategy), self.budgets, axis=1) / width, dtype=np.float64)

    def others(self, baseline: str) -> list[str]:
        """Return the strategies to compare with the baseline.

        Raises
        ------
        InputError
            There is no such baseline, or nothing else.
        """
        self.of(baseline)
        found = [name for name in self.strategies if name != baseline]
        if not found:
            raise InputError(f"the results have the baseline {baseline!r} alone: run another strategy too")
        return found


def paired_scores(results: pd.DataFrame, metric: str, axis: str = "n_labels") -> PairedScores:
    """Arrange a table of results by strategy, seed and budget.

    Parameters
    ----------
    results : DataFrame
        Columns strategy, seed, that of the axis and the metric's; the order of its rows does not matter.
    metric : str
        ``accuracy`` or ``roc_auc``. Budgets at which any run lacks it (NaN) are left out for all.
    axis : str
        What the budgets count: ``n_labels``, which every run must have alike, or ``n_asked`` for runs with skips. A
        budget in labels is then met after different numbers asked, and the runs' ends are ragged: what not every run
        has is cut.

    Raises
    ------
    InputError
        An unknown metric or axis, a missing column, runs that are not paired (a seed that some lack, a repeated row, on
        the axis `n_labels` a budget that some lack), fewer than two seeds or budgets, or scores that are no shares.
    """
    frame = _columns(results, metric, axis)
    (strategies, i), (seeds, j), (labels, k) = (
        np.unique(frame[name].to_numpy(), return_inverse=True) for name in ("strategy", "seed", axis)
    )
    rows = np.zeros((len(strategies), len(seeds), len(labels)), dtype=np.int64)
    np.add.at(rows, (i, j, k), 1)
    _check_pairs(rows, strategies.tolist(), seeds.tolist(), labels.tolist(), axis)
    values = np.full(rows.shape, np.nan)
    values[i, j, k] = frame[metric].to_numpy(dtype=np.float64)
    budgets = labels.astype(np.float64)
    defined = ~np.isnan(values).any(axis=(0, 1))
    if defined.sum() < 2:
        raise InputError(
            f"{metric} is defined for every run at {defined.sum()} of {len(budgets)} budgets: a curve takes 2 or more"
        )
    values = _shares(values[:, :, defined], metric)
    return PairedScores(metric, strategies.tolist(), seeds.tolist(), budgets[defined], values, axis)


def _columns(results: pd.DataFrame, metric: str, axis: str) -> pd.DataFrame:
    if axis not in AXES:
        raise InputError(f"unknown axis {axis!r}: choose from {', '.join(AXES)}")
    if metric not in METRICS:
        raise InputError(f"unknown metric {metric!r}: choose from {', '.join(METRICS)}")
    keys = ["strategy", "seed", axis]
    absent = [name for name in (*keys, metric) if name not in results.columns]
    if absent:
        raise InputError(f"the results have no column {', '.join(absent)}: a table of `simulate` has it")
    frame = results[[*keys, metric]]
    if frame.empty:
        raise InputError("the results are empty: run at least two seeds per strategy")
    unknown = [name for name in keys if frame[name].isna().any()]
    if unknown:
        raise InputError(f"the results have rows without {', '.join(unknown)}: leave them out or fill them in")
    return frame


def _check_pairs(rows: Integers, strategies: list[str], seeds: list[int], labels: list[int], axis: str) -> None:
    """Refuse runs that do not pair up: seeds that chance left out must not decide who wins.

    Parameters
    ----------
    rows : int64 array, shape (A, n, B)
        How many rows there are of each strategy, seed and budget.
    strategies, seeds, labels : list
    axis : str
    """
    for i, j, k in np.argwhere(rows > 1):
        raise InputError(f"{_cell(strategies[i], seeds[j])} has two rows at {labels[k]} {AXES[axis]}: leave one out")
    for i, j in np.argwhere(rows.sum(axis=2) == 0):
        cell = _cell(strategies[i], seeds[j])
        raise InputError(f"{cell} is missing, which others have: run it or leave the seed out")
    if len(seeds) < 2:
        raise InputError(f"the results have the seed {seeds[0]} alone: what chance does takes 2 or more to tell")
    for i, j in np.argwhere((rows == 0).any(axis=2)) if axis == "n_labels" else ():
        lacking = [labels[k] for k in np.flatnonzero(rows[i, j] == 0)]
        shown = ", ".join(map(str, lacking[:5])) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        raise InputError(
            f"{_cell(strategies[i], seeds[j])} has no row at {shown} labels, where others have one: run all with the "
            "same batch size and rounds, or leave those budgets out"
        )


def _cell(strategy: str, seed: int) -> str:
    return f"strategy {strategy!r}, seed {seed}"


def _shares(values: Floats, metric: str) -> Floats:
    outside = values[(values < 0) | (values > 1)]
    if len(outside):
        raise InputError(f"{metric} must be a share from 0 to 1, not {outside[0]:g}")
    return values
