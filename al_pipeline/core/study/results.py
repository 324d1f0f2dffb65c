"""The results of a study, read once: every query strategy with the same seeds and budgets, for paired comparison.

A table of results has one row per strategy, seed and round, as `simulate.simulate` returns it. Runs of one seed share
the starting set, the weights and the draws, so strategies can be compared seed by seed: what an easy start adds to all
of them cancels out. Runs that do not pair up are refused.

Where annotators skip samples, runs that asked about as many have different numbers of labels. Then the number asked is
what they have in common, and the budget: a skip takes somebody's time, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.auc import Floats, Integers
from al_pipeline.core.evaluation.metrics import TITLES

BASELINE = "random"
# What a budget counts, as sentences name it.
AXES = {"n_labels": "labels", "n_asked": "samples asked about"}


@dataclass(frozen=True, eq=False)
class Results:
    """A table of results, with the metric and the budget that strategies are judged by.

    Attributes
    ----------
    table : DataFrame
        Columns strategy, seed, that of the axis and those of metrics; the order of the rows of a run does not matter.
    metric : str
        One of `evaluation.metrics.METRICS`.
    axis : str
        What budgets count: ``n_labels``, which every run must have alike, or ``n_asked`` for runs with skips. A budget
        in labels is then met after different numbers asked, and the runs' ends are ragged: what not every run has is
        cut.
    """

    table: pd.DataFrame
    metric: str = "roc_auc"
    axis: str = "n_labels"

    @property
    def counted(self) -> str:
        """What budgets count, in words."""
        return AXES[self.axis]

    @property
    def scored(self) -> str:
        """The metric, in words."""
        return TITLES[self.metric]

    @property
    def metrics(self) -> list[str]:
        """The metrics that any row has."""
        return [name for name in TITLES if name in self.table and self.table[name].notna().any()]

    @cached_property
    def curves(self) -> "Curves":
        """The runs' curves, arranged by strategy, seed and budget.

        Raises
        ------
        InputError
            An unknown metric or axis, a missing column, runs that are not paired (a seed that some lack, a repeated
            row, on the axis `n_labels` a budget that some lack), fewer than two seeds or budgets, or scores that are no
            shares.
        """
        return _read(self._checked(), self.metric, self.axis)

    @cached_property
    def unanswered(self) -> str | None:
        """Why strategies cannot be compared with random choice; None if they can."""
        strategies = set(self.table["strategy"])
        if BASELINE not in strategies or len(strategies) < 2:
            return f"What was saved is told against {BASELINE}: add it to the strategies, and another one."
        if self.table["seed"].nunique() < 2:
            return "What was saved takes at least 2 seeds to tell from chance; 10 are usual."
        try:
            self.curves.of(BASELINE)
        except InputError as error:
            return f"What was saved cannot be told: {error}."
        return None

    def shown_budgets(self) -> list[int]:
        """Return the budgets of a table of scores: the first batch, and the last ones up to each quarter of the budget.

        Ascending, each one that a run has had; 0 only if no run has another.
        """
        known = np.unique(self.table[self.axis])
        most = int(known[-1])
        first = int(known[known > 0][0]) if most else 0
        last = np.searchsorted(known, [most * quarters / 4 for quarters in (1, 2, 3, 4)], side="right") - 1
        return sorted({first, *(int(known[at]) for at in last if at >= 0 and known[at] > 0)})

    def at_budgets(self, budgets: Sequence[int]) -> pd.DataFrame:
        """Return the mean scores of each strategy at some budgets, of runs that need not pair up.

        A run counts with its last round that has no more than the budget. There is one row per strategy, in the table's
        order, and budget: strategy, budget, seeds, and `metrics`.
        """
        rows = []
        ordered = self.table.sort_values(["seed", self.axis], kind="stable")
        for strategy in self.table["strategy"].unique():
            runs = ordered[ordered["strategy"] == strategy]
            for budget in budgets:
                last = runs[runs[self.axis] <= budget].groupby("seed").tail(1)
                scores = {name: float(last[name].mean()) for name in self.metrics}
                rows.append({"strategy": strategy, "budget": budget, "seeds": len(last)} | scores)
        return pd.DataFrame(rows)

    def _checked(self) -> pd.DataFrame:
        if self.axis not in AXES:
            raise InputError(f"unknown axis {self.axis!r}: choose from {', '.join(AXES)}")
        if self.metric not in TITLES:
            raise InputError(f"unknown metric {self.metric!r}: choose from {', '.join(TITLES)}")
        keys = ["strategy", "seed", self.axis]
        absent = [name for name in (*keys, self.metric) if name not in self.table.columns]
        if absent:
            raise InputError(f"the results have no column {', '.join(absent)}: a table of `simulate` has it")
        frame = self.table[[*keys, self.metric]]
        if frame.empty:
            raise InputError("the results are empty: run at least two seeds per strategy")
        unknown = [name for name in keys if frame[name].isna().any()]
        if unknown:
            raise InputError(f"the results have rows without {', '.join(unknown)}: leave them out or fill them in")
        return frame


@dataclass(frozen=True)
class Curves:
    """Scores by strategy, seed and budget.

    Attributes
    ----------
    strategies : list of str, length A
        Sorted.
    seeds : list of int, length n
        Sorted; at least 2.
    budgets : float64 array, shape (B,)
        Numbers of labels, or of samples asked about, ascending; at least 2. Those at which any run lacks the metric
        (NaN) are left out for all.
    values : float64 array, shape (A, n, B)
        Shares from 0 to 1.
    """

    strategies: list[str]
    seeds: list[int]
    budgets: Floats
    values: Floats

    def of(self, strategy: str) -> Floats:
        """Return one strategy's scores, shape (n, B), or raise InputError if there are none."""
        if strategy not in self.strategies:
            raise InputError(f"the results have no strategy {strategy!r}: choose from {', '.join(self.strategies)}")
        return self.values[self.strategies.index(strategy)]

    def areas(self, strategy: str) -> Floats:
        """Return the area under each run's budget curve, shape (n,): the mean score over the range of budgets.

        By trapezoids, divided by the range: a run that scores 0.9 throughout has 0.9.
        """
        width = self.budgets[-1] - self.budgets[0]
        return np.asarray(trapezoid(self.of(strategy), self.budgets, axis=1) / width, dtype=np.float64)

    def others(self, baseline: str) -> list[str]:
        """Return the strategies to compare with the baseline, or raise InputError if there is none, or nothing else."""
        self.of(baseline)
        found = [name for name in self.strategies if name != baseline]
        if not found:
            raise InputError(f"the results have the baseline {baseline!r} alone: run another strategy too")
        return found


def _read(frame: pd.DataFrame, metric: str, axis: str) -> Curves:
    (strategies, i), (seeds, j), (labels, k) = (
        np.unique(frame[name].to_numpy(), return_inverse=True) for name in ("strategy", "seed", axis)
    )
    rows = np.zeros((len(strategies), len(seeds), len(labels)), dtype=np.int64)
    np.add.at(rows, (i, j, k), 1)
    _check_pairs(rows, strategies.tolist(), seeds.tolist(), labels.tolist(), axis)
    values = np.full(rows.shape, np.nan)
    values[i, j, k] = frame[metric].to_numpy(dtype=np.float64)
    defined = ~np.isnan(values).any(axis=(0, 1))
    if defined.sum() < 2:
        raise InputError(
            f"{metric} is defined for every run at {defined.sum()} of {len(labels)} budgets: a curve takes 2 or more"
        )
    values = values[:, :, defined]
    outside = values[(values < 0) | (values > 1)]
    if len(outside):
        raise InputError(f"{metric} must be a share from 0 to 1, not {outside[0]:g}")
    return Curves(strategies.tolist(), seeds.tolist(), labels.astype(np.float64)[defined], values)


def _check_pairs(rows: Integers, strategies: list[str], seeds: list[int], labels: list[int], axis: str) -> None:
    """Refuse runs that do not pair up: seeds that chance left out must not decide who wins.

    `rows`, of the shape (A, n, B), counts those of each strategy, seed and budget.
    """

    def run(i: int, j: int) -> str:
        return f"strategy {strategies[i]!r}, seed {seeds[j]}"

    for i, j, k in np.argwhere(rows > 1):
        raise InputError(f"{run(i, j)} has two rows at {labels[k]} {AXES[axis]}: leave one out")
    for i, j in np.argwhere(rows.sum(axis=2) == 0):
        raise InputError(f"{run(i, j)} is missing, which others have: run it or leave the seed out")
    if len(seeds) < 2:
        raise InputError(f"the results have the seed {seeds[0]} alone: what chance does takes 2 or more to tell")
    for i, j in np.argwhere((rows == 0).any(axis=2)) if axis == "n_labels" else ():
        lacking = [labels[k] for k in np.flatnonzero(rows[i, j] == 0)]
        shown = ", ".join(map(str, lacking[:5])) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        raise InputError(
            f"{run(i, j)} has no row at {shown} labels, where others have one: run all with the same batch size and "
            "rounds, or leave those budgets out"
        )
