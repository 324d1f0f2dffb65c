"""The area under the ROC curve with 95 % intervals, for two classes and for many."""

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CONFIDENCE = 0.95
# The normal quantile of intervals.
Z = float(norm.ppf((1 + CONFIDENCE) / 2))
REPLICATES = 1000
# Floats of a block of the matrix of comparisons: 64 MB of float32.
BLOCK_ELEMENTS = 1 << 24
# One replicate costs n² multiplications. Beyond this total (some 10 s on two cores, from about 15,000 samples on) there
# are fewer replicates, but at least 200; the interval is narrow by then.
MULTIPLICATIONS = 2.5e11
FEWEST_REPLICATES = 200


def delong(scores: Floats, positive: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return AUC and its confidence limits for two classes.

    Parameters
    ----------
    scores : float64 array, shape (n,)
        Higher means more likely positive.
    positive : bool array, shape (n,)
        At least one True and one False.

    Notes
    -----
    Variance of DeLong, DeLong and Clarke-Pearson (1988) in the O(n log n) form of Sun and Xu (2014), by midranks. The
    limits are taken on the logit scale, as Pepe (2003) advises: they stay within 0..1 and cover better near 1. With a
    single sample of a class its share of the variance is unknown and left out.
    """
    pos, neg = scores[positive], scores[~positive]
    together = rankdata(np.concatenate([pos, neg]))
    # Placements: of each positive among the negatives, and of each negative among the positives.
    v10 = (together[: len(pos)] - rankdata(pos)) / len(neg)
    v01 = 1 - (together[len(pos) :] - rankdata(neg)) / len(pos)
    auc = float(v10.mean())
    variance = sum(float(v.var(ddof=1)) / len(v) for v in (v10, v01) if len(v) > 1)
    if auc in (0.0, 1.0) or variance == 0:
        return auc, auc, auc
    logit, half = np.log(auc / (1 - auc)), Z * np.sqrt(variance) / (auc * (1 - auc))
    low, high = 1 / (1 + np.exp(-(logit + np.array([-half, half]))))
    return auc, float(low), float(high)


def macro_auc(probabilities: Floats, truth: Integers, *, seed: int) -> tuple[float, float, float]:
    """Return the mean over classes of the one-against-the-rest AUC, with stratified bootstrap percentiles.

    Parameters
    ----------
    probabilities : float64 array, shape (n, K)
    truth : int64 array, shape (n,)
        Class numbers; each of the K classes occurs.
    seed : int

    Notes
    -----
    Resampling within classes keeps their counts, so with w_i the number of times sample i was drawn a replicate is

        Σ_i a_i w_i Σ_j w_j ψ_ij,  a_i = 1 / (K P_c(i) (n − P_c(i))),

    where c(i) is the class of i, P its count and ψ_ij is 1, ½ or 0 as sample j of another class scores below, equal to
    or above i for the class c(i). All replicates are one matrix product, whose cost does not depend on K.
    """
    n, k = probabilities.shape
    counts = np.bincount(truth, minlength=k)
    replicates = int(np.clip(MULTIPLICATIONS / n**2, FEWEST_REPLICATES, REPLICATES))
    # The first row is the sample itself. Counts are small integers, hence exact in float32, the fast type.
    weights = np.vstack([np.ones((1, n), np.float32), _resample(truth, counts, replicates, seed)])
    share = 1 / (k * counts[truth] * (n - counts[truth]))
    totals = np.zeros(len(weights))
    step = max(1, BLOCK_ELEMENTS // n)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        own = probabilities[np.arange(n)[rows], truth[rows]][:, None]
        others = probabilities[:, truth[rows]].T
        psi = (others < own).astype(np.float32) + np.float32(0.5) * (others == own)
        psi[truth[rows][:, None] == truth[None, :]] = 0
        totals += ((weights @ psi.T) * weights[:, rows]) @ share[rows]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(totals[1:], [tail, 1 - tail])
    # Rounded, so that a perfect ranking is exactly 1 whatever the order of the sum.
    value, low, high = (round(float(v), 12) for v in (totals[0], low, high))
    return value, min(low, value), max(high, value)


def placements(p: Floats, truth: Integers, support: Integers) -> tuple[float, Floats]:
    """Return the (mean) area and each sample's placement, shape (n,): its share of the area, seen from its class.

    Midranks, as Sun & Xu (2014): O(K n log n). The variance of the area is the sum over classes of the variance of
    their placements over their size.
    """
    # The first of two classes mirrors the second.
    classes = [1] if len(support) == 2 else np.flatnonzero(support)
    area, shares = 0.0, np.zeros(len(truth))
    for i in classes:
        own, scores, rest = truth == i, p[:, i], len(truth) - support[i]
        ranks = rankdata(scores)
        above = (ranks[own] - rankdata(scores[own])) / rest
        below = 1 - (ranks[~own] - rankdata(scores[~own])) / support[i]
        area += float(above.mean()) / len(classes)
        shares[own] += above / len(classes)
        # A class is part of the rest by its share of it.
        shares[~own] += below * support[truth[~own]] / rest / len(classes)
    return area, shares


def _resample(truth: Integers, counts: Integers, replicates: int, seed: int) -> npt.NDArray[np.float32]:
    """Return how often each sample is drawn in each replicate, shape (replicates, n)."""
    rng = np.random.default_rng(seed)
    weights = np.empty((replicates, len(truth)), dtype=np.float32)
    for label, count in enumerate(counts):
        weights[:, truth == label] = rng.multinomial(count, np.full(count, 1 / count), size=replicates)
    return weights
