"""Two ways to do the same work, in turn on one core: what each takes of the processor, and their ratio."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

# One measurement takes so long, in seconds: several ticks of the clock.
LEAST = 0.01


class Pair(NamedTuple):
    """Medians of the processor seconds of a call, and how many times as fast ours is by the median pair."""

    theirs: float
    ours: float
    ratio: float


def in_turn(theirs: Callable[[], object], ours: Callable[[], object], repeats: int) -> Pair:
    """Return what both take, in pairs that follow each other and take turns at being first."""
    ours()
    times = max(1, round(LEAST / _seconds(theirs, 2)))
    pairs = list[tuple[float, float]]()
    for i in range(repeats):
        order = (theirs, ours) if i % 2 else (ours, theirs)
        found = {work: _seconds(work, times) for work in order}
        pairs.append((found[theirs], found[ours]))
    their, own = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Pair(their, own, statistics.median(one / other for one, other in pairs))


def _seconds(work: Callable[[], object], times: int) -> float:
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times
