"""Who answers in a study: the class folders, with as many errors and skips as wished."""

import numpy as np
import numpy.typing as npt

from al_pipeline.core.rng import generator

SKIPPED = -1


def answers(
    truth: npt.NDArray[np.int64], n_classes: int, *, seed: int, error_rate: float = 0.0, skip_rate: float = 0.0
) -> npt.NDArray[np.int64]:
    """Return the oracle's answer for every sample, drawn once: whoever asks, and whenever, hears the same.

    Another rate changes the answers of as few samples as can be: those that err at 0.1 err at 0.2, too.

    Parameters
    ----------
    truth : int64 array, shape (n,)
        Class numbers of the samples, sorted by their ids so that the draw depends on these alone.
    n_classes : int
        K, at least 2.
    seed : int
    error_rate, skip_rate : float
        Chances of a wrong class, any of the others alike, and of no answer: `SKIPPED`.
    """
    rng = generator(seed, 0, "oracle")
    errs, skips = rng.random((2, len(truth)))
    others = (truth + rng.integers(1, n_classes, size=len(truth))) % n_classes
    given = np.where(errs < error_rate, others, truth)
    return np.where(skips < skip_rate, SKIPPED, given)
