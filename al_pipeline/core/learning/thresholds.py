"""Which class is said: the most probable one, or, with rare classes, the one that is furthest above its threshold."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Turns over the classes: the first does nearly all.
TURNS = 3
# By so much F1 has to rise for a threshold to be moved: less is rounding.
RISE = 1e-9
# Logarithms of probabilities that are no further apart differ by rounding.
ALIKE = 1e-9


def decided(probabilities: npt.NDArray[np.floating], thresholds: Sequence[float] = ()) -> Integers:
    """Return the class number that each row is taken for, int64, shape (n,).

    Parameters
    ----------
    probabilities : float array, shape (n, K)
    thresholds : sequence of float, length K, or empty
        A row is of the class whose probability is the largest multiple of its threshold. Of two classes, whose
        thresholds sum to 1, that is the one whose probability exceeds its own. Empty: the most probable class.
    """
    return (probabilities / np.asarray(thresholds) if len(thresholds) else probabilities).argmax(axis=1)


def fit_thresholds(probabilities: Floats, labels: Integers) -> tuple[float, ...]:
    """Return the thresholds, of sum 1, with the highest mean of F1 over the classes that have samples.

    F1 gives up neither the recall of a rare class nor its precision, and is not moved by the many others. One threshold
    after the other goes to where the mean is highest while the others stay, halfway between two samples; it stays where
    it is if that is as good. None are returned if all do.

    Parameters
    ----------
    probabilities : float64 array, shape (n, K)
        Of samples that the model was not trained on.
    labels : int64 array, shape (n,)
        Their true classes.
    """
    with np.errstate(divide="ignore"):
        scores = np.log(probabilities)
    shifts = np.zeros(scores.shape[1])
    for _ in range(TURNS):
        before = shifts.copy()
        for one in np.unique(labels):
            shifts[one] = _moved(scores, labels, shifts, int(one))
        if np.array_equal(before, shifts):
            break
    if not shifts.any():
        return ()
    thresholds = np.exp(-shifts)
    return tuple((thresholds / thresholds.sum()).tolist())


def _moved(scores: Floats, labels: Integers, shifts: Floats, one: int) -> float:
    """Return the best shift of the scores of one class, the others' given: its own if no other is better."""
    n, k = scores.shape
    others = scores + shifts
    others[:, one] = -np.inf
    rival = others.argmax(axis=1)
    # From this shift on a row is taken for the class.
    needed = others[np.arange(n), rival] - scores[:, one]
    order = np.argsort(needed, kind="stable")
    edges, truth, rival = needed[order], labels[order], rival[order]
    # By how many rows are taken for the class, from none to all: how many are of each, and rightly.
    said, right = np.zeros((2, n + 1, k))
    said[1:][np.arange(n), rival] = right[1:][np.arange(n), rival] = 1
    right[1:][rival != truth] = 0
    said, right = (counts.sum(axis=0) - counts.cumsum(axis=0) for counts in (said, right))
    said[:, one] = np.arange(n + 1)
    right[1:, one] = np.cumsum(truth == one)
    support = np.bincount(labels, minlength=k)
    f1 = (2 * right / np.maximum(said + support, 1))[:, support > 0].mean(axis=1)
    now = int(np.searchsorted(edges, shifts[one]))
    as_it_is = f1[now]
    # Rows that are alike go together; nothing lies beyond what can never, or must always, be of the class.
    ends = np.concatenate([[-np.inf], edges, [np.inf]])
    f1[~(np.isfinite(ends[:-1]) & np.isfinite(ends[1:]) & (ends[:-1] + ALIKE < ends[1:]))] = -1
    if f1.max() <= as_it_is + RISE:
        return float(shifts[one])
    best = np.flatnonzero(f1 > f1.max() - RISE)
    place = best[np.abs(best - now).argmin()]
    return float((ends[place] + ends[place + 1]) / 2)
