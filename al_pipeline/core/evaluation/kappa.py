"""How much two models agree, whatever the truth is: Cohen's kappa of their answers on a fixed set of samples.

The stop set of Bloodgood & Vijay-Shanker (2009): drawn once at random, never by a query strategy, and large, so that
the answers on it change as long as the model does. Samples of it may get a label later; no label is looked at here.
"""

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError
from al_pipeline.core.rng import generator

# Samples of the stop set: with 1,000, a kappa of 0.99 is told from one of 0.98. Half of it where each has to pass a
# whole network in every round.
STOP_SET, STOP_SET_IMAGES = 1000, 500

Integers = npt.NDArray[np.int64]


def stop_set(n: int, seed: int, size: int = STOP_SET) -> Integers:
    """Return the rows of the stop set: a random sample of n rows, the same for a seed in every round.

    Returns
    -------
    int64 array, shape (min(n, size),)
        Ascending.
    """
    return np.sort(generator(seed, 0, "stop set").permutation(n)[:size])


def cohens_kappa(first: Integers, second: Integers) -> float:
    """Return Cohen's kappa of two models' classes for the same samples: 1 is the same answers, 0 is chance.

    As of `sklearn.metrics.cohen_kappa_score`, but where both models answer one and the same class throughout, which
    leaves nothing to chance: that is 1.

    Parameters
    ----------
    first, second : int64 array, shape (n,)
        Class numbers, n ≥ 1.

    Raises
    ------
    InputError
        The models were not asked about the same samples, or about none.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise InputError(
            f"kappa is told from answers to the same samples, not from {first.shape} and {second.shape} of them: "
            "ask both models about one stop set"
        )
    same = float(np.mean(first == second))
    if same == 1:
        return 1.0
    shares = [np.bincount(answers, minlength=int(max(first.max(), second.max())) + 1) for answers in (first, second)]
    chance = float(shares[0] @ shares[1]) / len(first) ** 2
    # Below 1, because they differ somewhere.
    return (same - chance) / (1 - chance)
