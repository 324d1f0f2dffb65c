"""The paper's query strategies: by the certainty of the prediction, max σ(z) − 1/K (for two classes |0.5 − p|)."""

from dataclasses import replace

import numpy as np

from al_pipeline.core.strategies.query import Picks, Query
from al_pipeline.core.strategies.registry import strategy

PAPER = "certainty sampling: max softmax − 1/K over S random candidates, B of them asked"


@strategy(description="The B least certain candidates (uncertainty sampling).", source=PAPER)
def low_certainty(query: Query) -> Picks:
    """Take the lowest certainties; the utility is −certainty."""
    return _certain(query.take(-query.certainty, query.batch_size))


@strategy(description="The B most certain candidates.", source=PAPER)
def high_certainty(query: Query) -> Picks:
    """Take the highest certainties; the utility is the certainty."""
    return _certain(query.take(query.certainty, query.batch_size))


@strategy(description="Half the batch least certain, half most certain; of an odd B the extra one least.", source=PAPER)
def low_high_certainty(query: Query) -> Picks:
    """Take ⌈B/2⌉ lowest, then ⌊B/2⌋ highest of the rest, and alternate them: a half-answered batch is half and half.

    The utility is −certainty in the low half and the certainty in the high half.
    """
    low = query.take(-query.certainty, query.batch_size - query.batch_size // 2)
    high = query.take(query.certainty, query.batch_size // 2)
    turns = np.argsort(np.concatenate([np.arange(len(low.indices)), np.arange(len(high.indices))]), kind="stable")
    return Picks(
        np.concatenate([low.indices, high.indices])[turns],
        np.concatenate([low.scores, high.scores])[turns],
    )


@strategy(description="The B candidates whose certainty is closest to the candidates' median.", source=PAPER)
def mid_certainty(query: Query) -> Picks:
    """Take the certainties closest to the median of all candidates; the utility is −|certainty − median|."""
    return _certain(query.take(-np.abs(query.certainty - np.median(query.certainty)), query.batch_size))


@strategy(description="B candidates drawn at random: the baseline.", source="simple random sampling", needs=())
def random(query: Query) -> Picks:
    """Draw without replacement: everybody ties, and ties are decided by lot. There is no utility (NaN)."""
    drawn = query.take(np.zeros(query.n), query.batch_size)
    return replace(drawn, scores=np.full(len(drawn.indices), np.nan))


def _certain(picks: Picks) -> Picks:
    """Drop the lottery's propensities: the batch follows from the utilities."""
    return replace(picks, propensities=None)
