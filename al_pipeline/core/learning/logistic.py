"""Logistic regressions that differ by their weights alone, fitted together: the folds of a cross-validation, say."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]

# Separable labels converge slowly at weak regularisation.
ITERATIONS = 1000
# Pairs of steps and gradients that the solver remembers: more took fewer steps, but no less time.
MEMORY = 10
# What the loss is taken to be curved by along a row of norm 1, to scale the coordinates: between 0.25, of two classes
# that nothing is known about, and 0, of certain ones. From 0.02 to 0.1 it took the fewest steps on all our images.
CURVATURE = 0.05


def fit_logistic(
    inputs: Floats,
    codes: npt.NDArray[np.int64],
    weights: Floats,
    regularization: float,
    tolerance: float,
    start: Floats | None = None,
) -> Floats:
    """Fit F multinomial logistic regressions on the same rows, each with weights of its own.

    Each minimises C Σᵢ wᵢ · (cross-entropy of row i) + ½ ‖coefficients‖² as scikit-learn's `LogisticRegression` does:
    the intercept is not penalised, and for two classes it is the difference of the two rows of coefficients that is.
    One run of L-BFGS takes all of them together. Problems of some hundred rows cost more in calls than in sums, so
    that five folds take little longer than one. Coordinates are scaled by how much the loss is curved along them, which
    takes a half to a fifth of the steps.

    Parameters
    ----------
    inputs : float64 array, shape (n, d)
        Around 0, of norms around 1. Any columns will do; uncorrelated ones, principal components, are fastest.
    codes : int64 array, shape (n,)
        0 to K − 1.
    weights : float64 array, shape (n, F)
        Not negative; 0 leaves a row out. Each column has some above 0.
    regularization : float
        C.
    tolerance : float
        On the largest partial derivative of the mean over weights, in the scaled coordinates.
    start : float64 array, shape (F, K, d + 1), optional
        Where to begin, such as the solution at another C.

    Returns
    -------
    float64 array, shape (F, K, d + 1)
        Coefficients, the intercept last; the mean of each column over classes is 0 if it was at the start.

    Notes
    -----
    Byrd, Lu, Nocedal and Zhu (1995), "A limited memory algorithm for bound constrained optimization", by scipy.
    """
    n, d = inputs.shape
    n_fits, k = weights.shape[1], int(codes.max()) + 1
    total = weights.sum(axis=0)
    shares = np.ascontiguousarray((weights / total)[:, :, None])
    penalty = np.zeros((n_fits, 1, d + 1))
    penalty[:, :, :d] = ((2 if k == 2 else 1) / (regularization * total))[:, None, None]
    own = np.zeros((n, 1, k))
    own[np.arange(n), 0, codes] = 1
    # A last column for the intercepts.
    rows = np.concatenate([inputs, np.ones((n, 1))], axis=1)
    curved = shares.mean(axis=1).T @ rows**2 + penalty.mean(axis=0) / CURVATURE
    scale = np.sqrt(curved[0])
    rows /= scale
    penalty /= scale**2

    def objective(values: Floats) -> tuple[float, Floats]:
        coefficients = values.reshape(n_fits, k, d + 1)
        logits = (rows @ values.reshape(n_fits * k, d + 1).T).reshape(n, n_fits, k)
        logits -= logits.max(axis=2, keepdims=True)
        right = (logits * own).sum(axis=2, keepdims=True)
        np.exp(logits, out=logits)
        sums = logits.sum(axis=2, keepdims=True)
        shrunk = penalty * coefficients
        loss = (shares * (np.log(sums) - right)).sum() + 0.5 * (shrunk * coefficients).sum()
        logits /= sums
        logits -= own
        logits *= shares
        gradient = (logits.reshape(n, n_fits * k).T @ rows).reshape(n_fits, k, d + 1) + shrunk
        return float(loss), gradient.ravel()

    begin = np.zeros(n_fits * k * (d + 1)) if start is None else (start * scale).ravel()
    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "gtol": tolerance, "ftol": 0.0, "maxcor": MEMORY}
    found = minimize(objective, begin, jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(n_fits, k, d + 1) / scale
