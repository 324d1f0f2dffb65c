"""Uncertainty of single candidates beyond the paper's: margin, entropy, least confidence, BALD, and power sampling."""

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import at_least, whole
from al_pipeline.core.strategies import utilities
from al_pipeline.core.strategies.certainty import certain
from al_pipeline.core.strategies.query import Picks, Query
from al_pipeline.core.strategies.registry import strategy

# ln of a margin of 1 is −∞; a floor keeps such candidates possible, and last.
LEAST_UTILITY = 1e-12


@strategy(
    description="The B candidates whose two likeliest classes are closest.",
    source="Scheffer, Decomain & Wrobel 2001, Active hidden Markov models for information extraction",
    balanced=True,
)
def margin(query: Query) -> Picks:
    """Take the smallest margins; the utility is p₂ − p₁."""
    return certain(query.take(lambda start, stop: -utilities.margin(query.probabilities[start:stop]), query.batch_size))


@strategy(
    description="The B candidates whose prediction has the highest entropy.",
    source="Settles & Craven 2008, An analysis of active learning strategies for sequence labeling tasks",
    balanced=True,
)
def entropy(query: Query) -> Picks:
    """Take the highest entropies; the utility is in nats."""
    return certain(query.take(lambda start, stop: utilities.entropy(query.probabilities[start:stop]), query.batch_size))


@strategy(
    description="The B candidates whose likeliest class is least likely.",
    source="Lewis & Gale 1994, A sequential algorithm for training text classifiers",
    balanced=True,
)
def least_confidence(query: Query) -> Picks:
    """Take the lowest largest probabilities; the utility is 1 − p₁."""
    return certain(
        query.take(lambda start, stop: 1 - utilities.largest(query.probabilities[start:stop]), query.batch_size)
    )


@strategy(
    description="The B candidates that the passes of a stochastic model disagree about most.",
    source="Houlsby et al. 2011, Bayesian active learning for classification and preference learning",
    needs=("probabilities", "passes"),
    balanced=True,
)
def bald(query: Query) -> Picks:
    """Take the highest mutual information between label and weights, in nats; needs (T, n, K) probabilities."""
    samples = query.samples

    def information(start: int, stop: int) -> npt.NDArray[np.float64]:
        within = np.mean([utilities.entropy(one[start:stop]) for one in samples], axis=0)
        return utilities.entropy(query.probabilities[start:stop]) - within

    return certain(query.take(information, query.batch_size))


@strategy(
    description="A batch whose labels together tell most about the weights: BALD without its redundancy.",
    source="Kirsch, van Amersfoort & Gal 2019, BatchBALD",
    needs=("probabilities", "passes"),
)
def batch_bald(query: Query, *, configurations: int = 10_000) -> Picks:
    """Choose greedily by the joint mutual information of the batch's labels and the weights.

    Parameters
    ----------
    query : Query
        With (T, n, K) probabilities.
    configurations : int
        The labels of the batch so far have K^b joint values; up to this many are enumerated, beyond it that many are
        drawn from the model, so that the information is an estimate.
    """
    from al_pipeline.core.strategies.kernels.batch_bald import joint_information

    return query.take_proposed(joint_information(query, whole("configurations", configurations, 1)))


@strategy(
    description="B candidates drawn with probabilities that grow as their margin shrinks: never twice the same corner.",
    source="Kirsch et al. 2023, Stochastic batch acquisition: a simple baseline for deep active learning",
)
def power_margin(query: Query, *, power: float = 1.0) -> Picks:
    """Draw by Gumbel top-k on power · ln(1 − margin), which is drawing without replacement ∝ (1 − margin)^power.

    The utility is that logarithm. Propensities are the probabilities of being in the batch at all.

    Parameters
    ----------
    query : Query
    power : float
        0 draws uniformly, large values approach `margin`.
    """
    from al_pipeline.core.strategies.kernels.inclusion import inclusion_probabilities

    power = at_least("power", power, 0)
    weights = query.every(lambda start, stop: 1 - utilities.margin(query.probabilities[start:stop]))
    logarithms = power * np.log(np.maximum(weights, LEAST_UTILITY))
    keys = logarithms + query.rng.gumbel(size=query.n)
    free = query.free
    drawn = query.take(lambda start, stop: keys[start:stop], query.batch_size).indices
    chances = inclusion_probabilities(logarithms[free], len(drawn), np.searchsorted(free, drawn))
    return Picks(drawn, logarithms[drawn], chances)
