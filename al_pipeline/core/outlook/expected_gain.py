"""What more labels would bring: a power law through a run's scores so far, with its uncertainty.

Test scores of classifiers rise as c − a·n^(−b) with n labels, b from about 0.1 to 1, once a model has left chance
behind (Hestness et al. 2017, arXiv:1712.00409). That is used over short distances only: the next batch, the next point.
"""

from dataclasses import dataclass

import numpy as np

from al_pipeline.core.evaluation.auc import Floats
from al_pipeline.core.evaluation.metrics import Interval

# For a given exponent the fit is linear, so a grid finds the best one: there is no local optimum to be caught in.
EXPONENTS = np.geomspace(0.1, 3, 40)
# Three parameters, and as many scores to see the noise by.
FEWEST_ROUNDS = 6
# Scores with less than this share of today's labels are of another regime: the law holds from some size on.
OLDEST = 0.1
RESAMPLES = 1000


@dataclass(frozen=True)
class PowerLaw:
    """Curves c − a·n^(−b): the one that fits best, and those that fit as well but for the noise.

    Attributes
    ----------
    labels : float
        Of the last round.
    limits, scales, exponents : float64 arrays, shape (1 + R,)
        c, a and b. The first is the best fit, the others are of resampled scores.
    rounds : int
        Scores that it goes by.
    """

    labels: float
    limits: Floats
    scales: Floats
    exponents: Floats
    rounds: int

    def at(self, labels: float) -> Floats:
        """Return the score of each curve with so many labels, shape (1 + R,)."""
        return self.limits - self.scales * labels**-self.exponents

    def gain(self, batch: int) -> Interval:
        """Return how much the score rises with the next batch of labels, with a 95 % interval."""
        return _interval(self.at(self.labels + batch) - self.at(self.labels))

    def more_labels(self, score: float) -> Interval:
        """Return the labels to go until the curve reaches a score, with a 95 % interval; infinity if it never does."""
        return _interval(self._more(np.full(len(self.limits), score)))

    def labels_for_rise(self, rise: float) -> Interval:
        """Return the labels to go until the curve has risen by so much, with a 95 % interval; infinity if never."""
        return _interval(self._more(self.at(self.labels) + rise, most=1))

    def _more(self, scores: Floats, most: float = np.inf) -> Floats:
        gap = self.limits - scores
        reachable = (gap > 0) & (self.scales > 0) & (scores <= most)
        # Logarithms, because flat curves take more labels than a power of floats can hold.
        powers = np.log(np.where(reachable, self.scales, 1)) - np.log(np.where(reachable, gap, 1))
        with np.errstate(over="ignore"):
            needed = np.exp(powers / self.exponents)
        there = self.at(self.labels) >= scores
        return np.where(there, 0.0, np.where(reachable, np.maximum(0, needed - self.labels), np.inf))


def fit_power_law(
    labels: Floats, scores: Floats, rng: np.random.Generator, resamples: int = RESAMPLES
) -> PowerLaw | None:
    """Fit a power law to the scores of a run so far, by least squares; None if there are too few to tell.

    Parameters
    ----------
    labels, scores : float64 arrays, shape (n,)
        One pair per round, labels ascending; scores are shares from 0 to 1, NaN where there is none.
    rng : Generator
    resamples : int
        R.

    Notes
    -----
    All rounds are tested on the same holdout, so its luck moves the whole curve and not the gains. What is left is the
    noise from round to round, which the residuals show: the wild bootstrap (Liu 1988) turns their signs at random where
    they stand, since early rounds are noisier than late ones, and fits anew. Residuals are raised by √(n/(n − 3)) for
    the three parameters. A gain too small for the holdout to show is not seen.
    """
    known = np.isfinite(scores) & (labels > 0)
    if not known.any():
        return None
    last = labels[known][-1]
    used = known & (labels >= OLDEST * last)
    x, y = labels[used], scores[used]
    if len(np.unique(x)) < FEWEST_ROUNDS:
        return None
    # In units of today's labels, so that powers stay near 1.
    best = _fit(x / last, y[None])
    fitted = best[0] - best[1] * (x / last) ** -best[2]
    noise = (y - fitted) * np.sqrt(len(x) / (len(x) - 3))
    signs = rng.choice([-1.0, 1.0], size=(resamples, len(x)))
    others = _fit(x / last, fitted + signs * noise)
    limits, scales, exponents = (np.concatenate(pair) for pair in zip(best, others, strict=True))
    return PowerLaw(float(last), limits, scales * last**exponents, exponents, len(x))


def _fit(x: Floats, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Return c, a and b of the best curve of each row of scores, shape (m, n), with a ≥ 0 and c ≤ 1."""
    best = np.full(len(scores), np.inf)
    found = np.zeros((3, len(scores)))
    mean = scores.mean(axis=1)
    for exponent in EXPONENTS:
        z = x**-exponent
        slope = scores @ (z - z.mean()) / np.sum((z - z.mean()) ** 2)
        scale = np.maximum(0, -slope)
        limit = mean + scale * z.mean()
        # The least squares of a convex problem lie on the bound that the free solution breaks.
        over = limit > 1
        scale = np.where(over, np.maximum(0, (1 - scores) @ z / (z @ z)), scale)
        limit = np.minimum(limit, 1)
        error = np.sum((scores - limit[:, None] + scale[:, None] * z) ** 2, axis=1)
        better = error < best
        best = np.where(better, error, best)
        found[:, better] = np.stack([limit, scale, np.full(len(scores), exponent)])[:, better]
    return found[0], found[1], found[2]


def _interval(values: Floats) -> Interval:
    # Percentiles of ordered values, not between them: half of infinity is no number of labels.
    low, high = np.quantile(values[1:], [0.025, 0.975], method="inverted_cdf")
    return Interval(float(values[0]), float(min(low, values[0])), float(max(high, values[0])))
