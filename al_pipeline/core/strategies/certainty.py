"""The paper's query strategies: by the certainty of the prediction, max σ(z) − 1/K (for two classes |0.5 − p|)."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from al_pipeline.core.strategies.query import Picks, Query
from al_pipeline.core.strategies.registry import strategy
from al_pipeline.core.strategies.utilities import certainty, ranks

PAPER = "certainty sampling: max softmax − 1/K over S random candidates, B of them asked"


@strategy(description="The B least certain candidates (uncertainty sampling).", source=PAPER, balanced=True)
def low_certainty(query: Query) -> Picks:
    """Take the lowest certainties; the utility is −certainty."""
    return certain(query.take(lambda start, stop: -_certainty(query, start, stop), query.batch_size))


@strategy(description="The B most certain candidates.", source=PAPER, balanced=True)
def high_certainty(query: Query) -> Picks:
    """Take the highest certainties; the utility is the certainty."""
    return certain(query.take(lambda start, stop: _certainty(query, start, stop), query.batch_size))


@strategy(
    description="Half the batch least certain, half most certain; of an odd B the extra one least.",
    source=PAPER,
    balanced=True,
)
def low_high_certainty(query: Query) -> Picks:
    """Take ⌈B/2⌉ lowest, then ⌊B/2⌋ highest of the rest, and alternate them: a half-answered batch is half and half.

    The utility is −certainty in the low half and the certainty in the high half.
    """
    low = query.take(lambda start, stop: -_certainty(query, start, stop), query.batch_size - query.batch_size // 2)
    high = query.take(lambda start, stop: _certainty(query, start, stop), query.batch_size // 2)
    turns = np.argsort(np.concatenate([np.arange(len(low.indices)), np.arange(len(high.indices))]), kind="stable")
    return Picks(np.concatenate([low.indices, high.indices])[turns], np.concatenate([low.scores, high.scores])[turns])


@strategy(description="The B candidates in the middle when all are sorted by certainty.", source=PAPER, balanced=True)
def mid_certainty(query: Query) -> Picks:
    """Leave out the (S − B)/2 lowest and highest certainties, one more lowest if that is odd: the ranks between.

    Ranks are those among all candidates; of equal certainties the first candidate has the lower one. The query order
    goes from the middle outward: the utility is −|rank − middle|, with the middle a quarter of a rank low, so that of
    two equally far the lower one goes first, in whatever order the candidates stand.
    """
    n, seats, reach = query.n, query.batch_size, query.reach
    middle = (n - seats + 1) // 2 + (seats - 1) / 2 - 0.25
    lowest, highest = max(0, int(middle) - reach), min(n - 1, int(middle) + 1 + reach)
    near, rank = ranks(lambda start, stop: _certainty(query, start, stop), n, query.block_rows, lowest, highest)

    def utility(start: int, stop: int) -> npt.NDArray[np.float64]:
        # Below every other: who is not near is out of reach.
        values = np.full(stop - start, -float(n))
        part = slice(*np.searchsorted(near, [start, stop]))
        values[near[part] - start] = -np.abs(rank[part] - middle)
        return values

    return certain(query.take(utility, seats))


@strategy(
    description="B candidates drawn at random: the baseline.", source="simple random sampling", needs=(), balanced=True
)
def random(query: Query) -> Picks:
    """Draw without replacement: every candidate's place in the queue is a random number. There is no utility (NaN)."""
    seed = int(query.rng.integers(2**63))
    # A block's numbers depend on where it starts alone, so that they are the same each time it is looked at.
    drawn = query.take(lambda start, stop: np.random.default_rng((seed, start)).random(stop - start), query.batch_size)
    return replace(drawn, scores=np.full(len(drawn.indices), np.nan))


def certain(picks: Picks) -> Picks:
    """Drop the lottery's propensities: the batch follows from the utilities."""
    return replace(picks, propensities=None)


def _certainty(query: Query, start: int, stop: int) -> npt.NDArray[np.float64]:
    return certainty(query.probabilities[start:stop])
