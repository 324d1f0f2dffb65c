"""How long a study will still take: from what its rounds have taken so far, and what those to come have to learn."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from al_pipeline.core.learning.options import worth_refining
from al_pipeline.core.learning.refine import EPOCHS, NETWORKS
from al_pipeline.core.study.plan import Plan

# A step of training costs as much as looking at an image so many times: backwards is twice the way forwards.
STEP = 3
# Labels that a round with heads learns from in the time that all else in it takes.
LABELS_OF_A_HEAD = 500


@dataclass(frozen=True)
class Schedule:
    """What a seed has to do if its annotator labels all that it is asked about, as far as the plan tells.

    Attributes
    ----------
    labels : tuple of int
        That each round learns from.
    refined : tuple of bool
        Whether the network is refined on them.
    work : tuple of float
        Of each round beside the others, in units of its own; 0: none to speak of.
    """

    labels: tuple[int, ...]
    refined: tuple[bool, ...]
    work: tuple[float, ...]

    @classmethod
    def of(cls, plan: Plan, n_pool: int) -> "Schedule":
        """Return that of a plan for a pool of so many images."""
        labels, n, number = list[int](), 0, 0
        while True:
            size = min(plan.size(number, n), n_pool - n)
            labels.append(n)
            if size < 1:
                break
            n, number = n + size, number + 1
        if plan.ahead:
            # Each round learns while the batch before it is unanswered.
            labels = [0, *labels]
        refined, last = list[bool](), 0
        for n in labels:
            refined.append(plan.staged and n > 0 and worth_refining(n, last))
            last = n if refined[-1] else last
        # The first batches are random, and of all strategies the same.
        arms = [1 if not n or n <= plan.batch_size else len(plan.strategies) for n in labels]
        each = zip(arms, labels, refined, strict=True)
        work = tuple(arm * _work(plan, n, n_pool, is_refined) for arm, n, is_refined in each)
        return cls(tuple(labels), tuple(refined), work)


def _work(plan: Plan, labels: int, n_pool: int, refined: bool) -> float:
    """Return the work of a round for one strategy."""
    if not labels:
        return 0.0
    if plan.staged:
        # Each network learns from the labels of all parts but one; then the pool is looked at.
        return STEP * min(plan.options.epochs, EPOCHS) * (NETWORKS - 1) * labels + n_pool if refined else 0.0
    if plan.by_head:
        return 1 + labels / LABELS_OF_A_HEAD
    return STEP * plan.options.epochs * labels + n_pool


class Forecast:
    """The seconds that are left of the seeds of a study, from the rounds that are done.

    A round that another seed has been through takes as long as there; of others the time goes with their work.

    Parameters
    ----------
    schedule : Schedule
    seeds : int
        That are to be computed.
    jobs : int
        Processes, one seed each.
    memory : buffer of 2 × rounds float64, optional
        Shared by processes: of each round the seconds it took in all seeds together, and in how many it is done.
    """

    def __init__(self, schedule: Schedule, seeds: int, jobs: int, memory: Any = None) -> None:
        self._work, self._seeds, self._jobs = np.array(schedule.work), seeds, min(jobs, seeds)
        # What is done once in a process is more than the first round of heads, and nothing beside a refined network.
        self._fewest = 1 if any(schedule.refined) else 2
        self._noted, self._changed = 0.0, time.monotonic()
        self._table = np.zeros((2, len(self._work)))
        if memory is not None:
            self._table = np.frombuffer(memory, dtype=np.float64).reshape(self._table.shape)

    def note(self, number: int, seconds: float) -> None:
        """Take in how long a round of a seed took; those beyond the schedule are none of its business."""
        if number < len(self._work):
            self._table[:, number] += seconds, 1

    def left(self, done: int, since: float = 0.0) -> float | None:
        """Return the seconds that are left once so many seeds are done; None while no round tells what others take.

        `since` are the seconds since a round was done last: those under way have come so far at least.
        """
        seconds, times = self._table.copy()
        known = times > 0
        told = np.flatnonzero(known & (self._work > 0))
        if len(told) < self._fewest:
            return None
        # The last one is the most like those to come, and has waited for nothing that is done once in a process.
        scale = seconds[told[-1]] / (times * self._work)[told[-1]]
        each = np.where(known, seconds / np.maximum(times, 1), scale * self._work)
        if done:
            # Where the pool was exhausted before, there are no more rounds.
            each = np.where(known, each, 0.0)
        running = min(self._jobs, self._seeds - done)
        if not running:
            return 0.0
        waiting = self._seeds - done - running
        of_running = ((running - np.clip(times - done, 0, running)) * each).sum()
        # Rounds that take longer than expected are not through for that.
        of_running = max(of_running - since * running, of_running / 10)
        # The last wave may leave processes idle.
        return float(of_running / running + -(-waiting // self._jobs) * each.sum())

    def tell(self, done: int, left: Callable[[float], None]) -> None:
        """Call `left` with the seconds that are left once so many seeds are done, if rounds tell."""
        now, noted = time.monotonic(), float(self._table[1].sum())
        if noted != self._noted:
            self._noted, self._changed = noted, now
        if (seconds := self.left(done, now - self._changed)) is not None:
            left(seconds)
