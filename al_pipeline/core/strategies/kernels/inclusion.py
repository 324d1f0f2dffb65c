"""Inclusion probabilities of drawing without replacement, each draw in proportion to given weights.

It is a race: candidate i arrives after an exponential time of rate w_i, and the first b are drawn (Gumbel top-k on
ln w). So i is drawn with probability π_i = ∫ P(fewer than b others have arrived at t) w_i e^(−w_i t) dt, and how many
have arrived at a given moment is a sum of independent trials, a Poisson-binomial variable.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm, poisson

Array = npt.NDArray[np.float64]

# Moments at which the race is looked at, evenly on a logarithmic clock: the error is far below one percent.
MOMENTS = 192
# Candidates whose trials are counted exactly, one by one.
EXACT = 4000
# From this many seats on, the number of arrivals is normal but for its skewness.
MANY_SEATS = 20
# e^−40 is nothing, even times a million candidates.
CERTAIN = 40.0


def inclusion_probabilities(logarithms: Array, seats: int, rows: npt.NDArray[np.int64]) -> Array:
    """Return the probability of some candidates to be among the drawn.

    Parameters
    ----------
    logarithms : float64 array, shape (n,)
        ln w of every candidate.
    seats : int
        b, how many are drawn, at most n.
    rows : int64 array, shape (k,)
        The candidates asked about.

    Returns
    -------
    float64 array, shape (k,)
        Exact but for the integration up to 4,000 candidates; beyond, the lightest ones' arrivals are taken as Poisson
        distributed (few seats) or all arrivals as normal with a correction for skewness (Volkova 1996; many seats).
    """
    n = len(logarithms)
    if seats >= n or not len(rows):
        return np.ones(len(rows))
    # Who is far above the last seat is in, far below out: beyond that, how far makes no difference.
    last = np.partition(logarithms, n - seats)[n - seats]
    clipped = np.clip(logarithms, last - CERTAIN, last + CERTAIN)
    weights = np.exp(clipped - clipped.max())
    moments = _moments(weights, seats)
    if n > EXACT and seats >= MANY_SEATS:
        before = _normal(weights, seats, rows, moments)
    else:
        before = _counted(weights, seats, rows, moments)
    arrived = -np.expm1(-np.outer(weights[rows], moments))
    early = arrived[:, :1].sum(axis=1)
    steps = 0.5 * (before[:, 1:] + before[:, :-1]) * np.diff(arrived, axis=1)
    return np.clip(early + steps.sum(axis=1), 0, 1)


def _moments(weights: Array, seats: int) -> Array:
    """Return moments from before the first arrivals to after the last seat is taken, shape (MOMENTS,)."""

    def arrivals(logarithm: float) -> float:
        return float(-np.expm1(-weights * np.exp(logarithm)).sum())

    def when(expected: float) -> float:
        return float(brentq(lambda t: arrivals(t) - expected, -3 * CERTAIN, 3 * CERTAIN, xtol=1e-3))

    n = len(weights)
    late = min(seats + 8 * np.sqrt(seats) + 10, n - 0.5 * min(1.0, n - seats) * 1e-6)
    return np.exp(np.linspace(when(min(1e-3, seats / n)), when(late), MOMENTS))


def _counted(weights: Array, seats: int, rows: npt.NDArray[np.int64], moments: Array) -> Array:
    """Return P(fewer than `seats` others have arrived), shape (k, MOMENTS), counting trial by trial."""
    others = np.setdiff1d(np.arange(len(weights)), rows)
    others = others[np.argsort(-weights[others], kind="stable")]
    counted, light = others[: max(0, EXACT - len(rows))], others[max(0, EXACT - len(rows)) :]
    start = np.zeros((len(moments), seats))
    start[:, 0] = 1
    if len(light):
        mean = np.array([-np.expm1(-weights[light] * t).sum() for t in moments])
        start = poisson.pmf(np.arange(seats)[None, :], mean[:, None])
    for row in counted:
        start = _trial(start, -np.expm1(-weights[row] * moments))
    # All but one of the rows: what comes before it, times what comes after it.
    forward = [start]
    for row in rows[:-1]:
        forward.append(_trial(forward[-1], -np.expm1(-weights[row] * moments)))
    nobody = np.zeros((len(moments), seats))
    nobody[:, 0] = 1
    result = np.empty((len(rows), len(moments)))
    backward = nobody
    for position in range(len(rows) - 1, -1, -1):
        result[position] = (forward[position] * np.cumsum(backward, axis=1)[:, ::-1]).sum(axis=1)
        backward = _trial(backward, -np.expm1(-weights[rows[position]] * moments))
    return result


def _trial(distribution: Array, chance: Array) -> Array:
    """Return the distribution of the count with one more trial in it, cut off at the number of seats."""
    added = distribution * (1 - chance)[:, None]
    added[:, 1:] += distribution[:, :-1] * chance[:, None]
    return added


def _normal(weights: Array, seats: int, rows: npt.NDArray[np.int64], moments: Array) -> Array:
    """Return P(fewer than `seats` others have arrived), shape (k, MOMENTS), from three moments of their number."""
    result = np.empty((len(rows), len(moments)))
    for column, t in enumerate(moments):
        chance = -np.expm1(-weights * t)
        own = chance[rows]
        mean = chance.sum() - own
        variance = (chance * (1 - chance)).sum() - own * (1 - own)
        third = (chance * (1 - chance) * (1 - 2 * chance)).sum() - own * (1 - own) * (1 - 2 * own)
        spread = np.sqrt(np.maximum(variance, 1e-300))
        z = (seats - 0.5 - mean) / spread
        skew = third / spread**3
        with np.errstate(over="ignore", invalid="ignore"):
            corrected = norm.cdf(z) - skew * (z**2 - 1) * norm.pdf(z) / 6
        result[:, column] = np.clip(np.nan_to_num(corrected, nan=0.0), 0, 1)
    return result
