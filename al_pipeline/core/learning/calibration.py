"""Calibration: how far confidence is from accuracy, and the temperature that brings them closer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
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
    bins = []
    for i in np.unique(place):
        inside = place == i
        surely, rightly = float(confidence[inside].mean()), float(right[inside].mean())
        bins.append(CalibrationBin(float(edges[i]), float(edges[i + 1]), int(inside.sum()), surely, rightly))
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
        return softmax(np.log(probabilities.astype(np.float64)), temperature)


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return the softmax of each row of logits over the temperature, float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the most probable temperature of predictions for labeled samples, `COLDEST` to `HOTTEST`.

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

    limits = (float(np.log(COLDEST)), float(np.log(HOTTEST)))
    return float(np.exp(minimize_scalar(loss, bounds=limits, method="bounded").x))
