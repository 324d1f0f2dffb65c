"""Calibration: how far confidence is from accuracy, and the temperature that brings them closest."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError

BINS = 15
# Temperatures that are tried: 0.05 to 20 in steps of 3 percent.
TEMPERATURES = np.exp(np.linspace(np.log(0.05), np.log(20), 203))
# Standard deviation of ln T before any prediction is seen: three in four models within a factor of 1.4 of calibrated.
PRIOR = 0.3


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions whose top probability lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def calibration(
    confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]
) -> tuple[float, list[CalibrationBin]]:
    """Return the expected calibration error (Guo et al. 2017, equation 3) and its bins that hold samples.

    Parameters
    ----------
    confidence : float array, shape (n,), n ≥ 1
        The largest probability of each prediction.
    right : bool array, shape (n,)
        Whether its class is the true one.
    """
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    bins = [
        CalibrationBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            accuracy=float(right[inside].mean()),
        )
        for i in np.unique(place)
        if (inside := place == i).any()
    ]
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / len(right), bins


def tempered(probabilities: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.floating]:
    """Return softmax(ln p / temperature), shape (n, K): what the logits over the temperature would have given.

    Parameters
    ----------
    probabilities : float array, shape (n, K)
        A class of probability 0 keeps it.
    temperature : float
        Above 1 softens, below 1 sharpens, 1 changes nothing.
    """
    if temperature == 1:
        return probabilities
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities.astype(np.float64)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def best_temperature(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the temperature that minimises the expected calibration error on labeled samples.

    The error is piecewise constant, so a grid is searched; of equally good temperatures the one nearest to 1 is taken.
    Give it samples that the model was not trained on: on its training data a model is surer than it should be anywhere
    else. This is the temperature of uncertainty herding (Bae, Oliveira & Sutherland 2025, section 3.2).

    Parameters
    ----------
    probabilities : array_like of float, shape (n, K)
    labels : array_like of int, shape (n,)
        True classes, 0 to K − 1.

    Returns
    -------
    float
        Between 0.05 and 20.

    Raises
    ------
    InputError
        No sample, shapes that do not fit, or a label outside the classes.
    """
    p, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or truth.shape != p.shape[:1] or not len(p):
        raise InputError(
            f"a temperature needs probabilities of the shape (n ≥ 1, K) and n labels, not {p.shape} and {truth.shape}"
        )
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= p.shape[1]:
        raise InputError(
            f"labels must be whole numbers from 0 to {p.shape[1] - 1}, not {np.unique(truth)[:5].tolist()}…"
        )
    right = p.argmax(axis=1) == truth
    errors = np.array([calibration(tempered(p, t).max(axis=1), right)[0] for t in TEMPERATURES])
    best = TEMPERATURES[errors <= errors.min() + 1e-12]
    return float(best[np.abs(np.log(best)).argmin()])


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the most probable temperature of predictions for labeled samples, 0.05 to 20.

    It minimises the log loss (Guo et al. 2017, section 4.2) plus (ln T)² / 2σ², σ = `PRIOR`: a dozen samples that are
    all predicted right would otherwise ask for a temperature of 0. With a hundred the prior hardly matters. Give it
    predictions for samples that the model was not trained on.

    Parameters
    ----------
    logits : array_like of float, shape (n, K)
    labels : array_like of int, shape (n,)
        True classes, 0 to K − 1.
    """
    # Here, because the code location imports this module and is to load fast.
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    values, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    own = values[np.arange(len(values)), truth]

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float((logsumexp(inverse * values, axis=1) - inverse * own).sum() + (log_temperature / PRIOR) ** 2 / 2)

    limits = (float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[-1])))
    return float(np.exp(minimize_scalar(loss, bounds=limits, method="bounded").x))
