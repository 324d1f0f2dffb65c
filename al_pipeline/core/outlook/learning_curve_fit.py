"""A power law through the points of a learning curve, with the uncertainty that extrapolating it has."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.auc import Floats

DRAWS = 4000
# What is left of the error with endless labels, as a share of the error at the largest size.
FLOORS = np.linspace(0, 0.975, 20)
# Errors of classifiers fall with exponents about these: Hestness et al. (2017) for networks, 0.5 to 1 for linear ones.
EXPONENTS = np.linspace(0.2, 1.5, 14)
# With labels of some classes only, errors fall more slowly than later: straight power laws, fitted to few labels, would
# promise random labels too little and the loop a saving that is none.
STARTS = np.array([0.0, 0.2, 0.5, 1.0])
LEVELS = 41
# Standard deviations on either side of the largest size's error that are searched.
REACH = 5
SMALLEST_ERROR = 1e-4


@dataclass(frozen=True)
class PowerLaws:
    """Learning curves that agree with what was measured: draws from a posterior.

    The error at n labels is e · (f + (1 − f) · ((n + sR) / (R + sR))^−c).

    Attributes
    ----------
    size : float
        R, the largest size measured.
    error, floor, exponent, start : float64 arrays, shape (D,)
        e, f, c and s of each draw.
    """

    size: float
    error: Floats
    floor: Floats
    exponent: Floats
    start: Floats

    def errors(self, sizes: npt.ArrayLike) -> Floats:
        """Return the errors at numbers of labels, shape (D, n)."""
        grown = np.asarray(sizes, dtype=np.float64)[None, :] / self.size
        return _law(grown, self.error[:, None], self.floor[:, None], self.exponent[:, None], self.start[:, None])

    def labels(self, errors: Floats) -> Floats:
        """Return how many labels each draw needs for an error of its own, shape (D,); infinite below its floor."""
        above = (errors / self.error - self.floor) / (1 - self.floor)
        needed = np.full(len(above), np.inf)
        np.power(above, -1 / self.exponent, out=needed, where=above > 0)
        return self.size * np.maximum(needed * (1 + self.start) - self.start, 0)


def fit_power_laws(
    sizes: npt.ArrayLike,
    errors: npt.ArrayLike,
    covariance: npt.ArrayLike,
    *,
    freedom: float = np.inf,
    rng: np.random.Generator,
) -> PowerLaws:
    """Draw learning curves from the posterior, given points of one.

    Parameters
    ----------
    sizes : array_like, shape (m,)
        Numbers of labels, ascending.
    errors : array_like, shape (m,)
        Mean errors measured there, 0 to 1.
    covariance : array_like, shape (m, m)
        Of these measurements.
    freedom : float
        Degrees of freedom that the covariance was estimated with; infinite if it is known.
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        Fewer than two sizes, sizes that do not ascend, or shapes that do not fit.

    Notes
    -----
    Two or three points cannot tell the floor from the exponent, and a least-squares fit would pick one pair and hide
    it. The priors are flat: on f over 0 to 1, on c over 0.2 to 1.5, on s over 0 to 1, on e over all that is near the
    measured one. The likelihood is a multivariate t. All on a grid, so that the same points give the same curves.
    """
    x, y, v = (np.asarray(values, dtype=np.float64) for values in (sizes, errors, covariance))
    if x.ndim != 1 or len(x) < 2 or (np.diff(x) <= 0).any() or y.shape != x.shape or v.shape != (len(x), len(x)):
        raise InputError(
            f"a learning curve needs two or more ascending sizes, an error for each and their covariance, not sizes "
            f"{x.tolist()}, errors of the shape {y.shape} and covariances of the shape {v.shape}"
        )
    half = REACH * np.sqrt(v[-1, -1])
    levels = np.linspace(max(SMALLEST_ERROR, y[-1] - half), max(2 * SMALLEST_ERROR, min(1, y[-1] + half)), LEVELS)
    e, f, c, s = (part.ravel() for part in np.meshgrid(levels, FLOORS, EXPONENTS, STARTS, indexing="ij"))
    gaps = y - _law(x[None, :] / x[-1], *(part[:, None] for part in (e, f, c, s)))
    distance = (gaps * np.linalg.solve(v, gaps.T).T).sum(axis=1)
    fit = -distance / 2 if np.isinf(freedom) else -(freedom + len(x)) / 2 * np.log1p(distance / freedom)
    weights = np.exp(fit - fit.max())
    drawn = rng.choice(len(weights), size=DRAWS, p=weights / weights.sum())
    return PowerLaws(float(x[-1]), e[drawn], f[drawn], c[drawn], s[drawn])


def _law(grown: Floats, error: Floats, floor: Floats, exponent: Floats, start: Floats) -> Floats:
    return error * (floor + (1 - floor) * ((grown + start) / (1 + start)) ** -exponent)
