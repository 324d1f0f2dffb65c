"""What random labels would have found: measured on those that were drawn at random, projected to as many as were spent.

`random_sequence` finds among the samples asked about a simple random sample of the pool, `measure` learns from parts of
it, `labels_saved` compares the curve with the loop's own model.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.auc import CONFIDENCE, Floats, Integers
from al_pipeline.core.evaluation.clusters import covariance_of_means, kish
from al_pipeline.core.evaluation.metrics import Interval
from al_pipeline.core.outlook.learning_curve_fit import PowerLaws, fit_power_laws

Hits = npt.NDArray[np.bool_]
Verdict = Literal["saved", "undecided", "worse"]

FEWEST_LABELS, FEWEST_PER_CLASS = 24, 4
FEWEST_TESTS = 50
# Projections were judged up to so many times the labels that were drawn at random: see `labels_saved`.
FARTHEST = 6
# An interval that holds both this many times fewer labels and more of them says nothing.
WIDE = 2
BAND_POINTS = 40
TAIL = (1 - CONFIDENCE) / 2
LIMITS = (0.5, TAIL, 1 - TAIL)


@dataclass(frozen=True)
class Asked:
    """One round's batch: samples drawn at random from the unlabeled pool, and then those that a strategy chose."""

    drawn: Sequence[str]
    chosen: Sequence[str]


@dataclass(frozen=True)
class Arm:
    """Points of the learning curve of random labels, on the samples of the holdout.

    Attributes
    ----------
    sizes : int64 array, shape (m,)
        Numbers of labels, ascending; the last is all there are.
    hits : float64 array, shape (m, n)
        Share of the models of each size that are right about each holdout sample.
    spread : float
        k: models that learned from r other labels differ in accuracy with the variance k / r.
    freedom : int
        Degrees of freedom of k.
    """

    sizes: Integers
    hits: Floats
    spread: float
    freedom: int


@dataclass(frozen=True)
class LabelsSaved:
    """The loop's model against the projected curve of random labels; intervals hold 95 %.

    Attributes
    ----------
    labels, random_labels : int
        Spent by the loop: questions that people answered; drawn at random among them (with those that a random draw
        would have met as well).
    shown_beside : int
        Labels that came with these, of images that a question showed beside its own: nobody was asked for them.
    accuracy : float
        Of the loop's model on the holdout.
    random_accuracy : Interval
        That as many random labels are projected to give.
    needed : Interval
        Random labels for the loop's accuracy. Infinite beyond `FARTHEST` times the random labels, where nothing is
        claimed; the lower limit is at most there.
    verdict : str
        ``saved`` or ``worse`` if the interval of `needed` lies above or below `labels`, else ``undecided``.
    band : float64 array, shape (4, p)
        The curve to draw: numbers of labels, accuracy, its lower and its upper limit.
    """

    labels: int
    random_labels: int
    accuracy: float
    random_accuracy: Interval
    needed: Interval
    verdict: Verdict
    band: Floats
    shown_beside: int = 0


def random_sequence(
    rounds: Sequence[Asked], pool_size: int, rng: np.random.Generator, *, given: Collection[str] = ()
) -> list[str]:
    """Return a simple random sample of the pool, in the order of drawing, whose samples have all been asked about.

    Parameters
    ----------
    rounds : sequence of Asked
        Oldest first.
    pool_size : int
        Samples that a round could ever have asked about.
    rng : numpy.random.Generator
    given : collection of str
        Labeled before the first round, by whatever choice.

    Raises
    ------
    InputError
        More samples than the pool has.

    Notes
    -----
    What a round draws is random among the samples not asked about yet. Those that the strategy took before are missing
    there, and they are the telling ones: the drawn samples alone would not be what random labels are. The next of a
    random sequence is any sample outside of it with the same chance. With the chance that it is one that was asked
    about already, it is one of these, by lot, and its label costs nothing; else it is the next that was drawn. So each
    prefix, and each random part, is a simple random sample of the whole pool. The sequence ends before the first sample
    that was never drawn.
    """
    total = len(given) + sum(len(one.drawn) + len(one.chosen) for one in rounds)
    if total > pool_size:
        raise InputError(f"{total} samples were asked about, but the pool has {pool_size}: pass all of the pool")
    sequence: list[str] = []
    others = sorted(given)

    def meet() -> None:
        while others and rng.random() < len(others) / (pool_size - len(sequence)):
            sequence.append(others.pop(int(rng.integers(len(others)))))

    for one in rounds:
        for sample in one.drawn:
            meet()
            sequence.append(sample)
        others.extend(sorted(one.chosen))
    meet()
    return sequence


def too_little(n_random: int, n_labels: int, n_classes: int, n_tests: int) -> str | None:
    """Say why the labels, those of the random sequence among them, are not enough evidence; None if they may be."""
    fewest = max(FEWEST_LABELS, FEWEST_PER_CLASS * n_classes)
    if n_tests < FEWEST_TESTS:
        return f"{n_tests} holdout samples are labeled, at least {FEWEST_TESTS} are needed"
    if n_random == 0:
        return "no label was drawn at random: set round.explore to 0.1 to 0.2"
    if n_random == n_labels:
        return "all labels were drawn at random, so there is nothing to compare them with"
    if n_random < fewest:
        return f"{n_random} labels were drawn at random, at least {fewest} are needed for {n_classes} classes"
    if n_labels > FARTHEST * n_random:
        return (
            f"{n_random} of {n_labels} labels were drawn at random, at least one in {FARTHEST} is needed: set "
            "round.explore to 0.2"
        )
    return None


def measure(n: int, learn: Callable[[Integers], Hits], *, pairs: int, rng: np.random.Generator) -> Arm:
    """Learn from parts of a random sample of labels: a quarter, a half, three quarters, all.

    Parameters
    ----------
    n : int
        Labels, at least 4.
    learn : callable
        Takes rows of the sample, int64, trains a model on them and returns which holdout samples it is right about.
    pairs : int
        Times that two parts without a common label are drawn for each size up to the half.
    rng : numpy.random.Generator
    """
    sizes = np.array([n // 4, n // 2, 3 * n // 4, n], dtype=np.int64)
    hits: list[list[Hits]] = [[] for _ in sizes]
    squares = []
    for _ in range(pairs):
        order = rng.permutation(n)
        for found, size in zip(hits[:2], sizes[:2].tolist(), strict=True):
            one, other = learn(order[:size]), learn(order[-size:])
            squares.append(size * (one.mean() - other.mean()) ** 2 / 2)
            found += [one, other]
        hits[2].append(learn(order[: int(sizes[2])]))
    hits[3].append(learn(np.arange(n)))
    means = np.stack([np.mean(found, axis=0) for found in hits])
    return Arm(sizes, means, float(np.mean(squares)), len(squares))


def labels_saved(
    arm: Arm,
    own: Hits,
    *,
    n_labels: int,
    rng: np.random.Generator,
    shown_beside: int = 0,
    groups: Integers | None = None,
) -> LabelsSaved:
    """Compare the loop's model with the projected curve of random labels.

    Parameters
    ----------
    arm : Arm
    own : bool array, shape (n,)
        Which holdout samples the loop's model is right about.
    n_labels : int
        That it learned from, one for each question that was answered.
    rng : numpy.random.Generator
    shown_beside : int
        Labels that came with them, for which nobody was asked.
    groups : int64 array, shape (n,), optional
        What the holdout samples belong to, numbers from 0; None if each is alone.

    Notes
    -----
    `fit_power_laws` through the arm's points; their covariance is that of the holdout, shared with the loop's model,
    and that of the labels drawn (`_training`).

    Judged by simulated loops (`benchmarks/random_arm.py`: margin or random choice, batches of 20, 20 % drawn at
    random, a ridge classifier, a holdout of at most 300) against the true mean curve of random labels, the interval of
    `needed` held the truth in

    - digits, 100 loops each: margin 100 % with 200 labels and with 400; random choice 97 % and 99 % (the last one
      before nothing was claimed beyond `FARTHEST`);
    - photos of chihuahuas and muffins, 70 loops: margin 100 % with 100, 200 and 400 labels.

    These are optimistic: priors and limits were chosen on the same loops, and no set of images was left untouched.

    It is careful rather than sharp. With 200 labels of digits random choice needed 564 for margin's accuracy, and
    "saved" was said in 25 % of the loops; for random choice itself in 5 %, in 1 % where nothing was saved at all. On
    the photos, where random labels are soon as good as all, it was said in 6 % with 100 labels and never later.
    """
    both = covariance_of_means(np.vstack([1 - arm.hits, 1.0 - own]), groups)
    smooth, worth = (own.sum() + 2) / (len(own) + 4), len(own) if groups is None else kish(groups)
    # Where all are right, the sample's own variance would claim certainty.
    both[-1, -1] = max(both[-1, -1], smooth * (1 - smooth) / (len(own) if both[-1, -1] > 0 else worth))
    tested = both[:-1, :-1]
    # One sample of the holdout, without which models that are never wrong would have no variance at all.
    covariance = tested + _training(arm) + np.eye(len(tested)) / len(own) ** 2
    errors = 1 - arm.hits.mean(axis=1)
    laws = fit_power_laws(arm.sizes, errors, covariance, freedom=arm.freedom, rng=rng)
    # The same holdout: where a curve is better than measured because the samples were hard, so is the loop's model.
    gain = np.linalg.solve(covariance, both[:-1, -1])
    left = np.sqrt(max(0.0, both[-1, -1] - float(gain @ both[:-1, -1])))
    gaps = errors - laws.errors(arm.sizes)
    mine = 1 - own.mean() - gaps @ gain + left * rng.standard_normal(len(gaps))
    needed = _within_reach(laws.labels(np.maximum(mine, 0)), FARTHEST * laws.size)
    verdict: Verdict = "saved" if needed.low > n_labels else "worse" if needed.high < n_labels else "undecided"
    return LabelsSaved(
        labels=n_labels,
        random_labels=int(arm.sizes[-1]),
        accuracy=float(own.mean()),
        random_accuracy=_interval(1 - laws.errors([n_labels])[:, 0]),
        needed=needed,
        verdict=verdict,
        band=_band(laws, int(arm.sizes[0]), n_labels),
        shown_beside=shown_beside,
    )


def sentence(found: LabelsSaved) -> str:
    """Say in one sentence what was saved so far, or that it is not known yet."""
    n, needed = found.labels, found.needed
    bounded = bool(np.isfinite(needed.high))
    span = f"95 % {needed.low:,.0f} to {needed.high:,.0f}" if bounded else f"95 % at least {needed.low:,.0f}"
    about = f"about {needed.value:,.0f}" if np.isfinite(needed.value) else f"over {FARTHEST * found.random_labels:,}"
    arm = f"projected from {found.random_labels:,} labels drawn at random"
    spent = f"{n:,} labels"
    if found.shown_beside:
        spent = f"{n:,} answers, which gave {n + found.shown_beside:,} labels"
    reached = f"for the accuracy {found.accuracy:.3f}, reached with {spent}"
    if found.verdict == "saved":
        saved = f"{needed.low - n:,.0f} to {needed.high - n:,.0f}" if bounded else f"at least {needed.low - n:,.0f}"
        times = f"{needed.low / n:.2f} to {needed.high / n:.2f}" if bounded else f"at least {needed.low / n:.2f}"
        return (
            f"saved so far, at 95 % confidence: {saved} labels ({times} times fewer): {reached}, random labels would "
            f"need {about} ({span}), {arm}"
        )
    if found.verdict == "worse":
        return f"nothing saved so far, random labels do better: {reached}, {about} of them are enough ({span}), {arm}"
    if needed.low * WIDE < n and needed.high > WIDE * n:
        return f"not enough evidence yet: {reached}, random labels may need half of that or twice as many, {arm}"
    return f"no saving shown so far: {reached}, random labels would need {about} ({span}), {arm}"


def _training(arm: Arm) -> Floats:
    """Return the covariance of the points that comes of which labels were drawn.

    A mean over parts of r of R labels has about r / R of the variance k / r of a single one (Hoeffding 1948, the first
    term for a U-statistic): k / R for every r. Points of two sizes share less the more the sizes differ.
    """
    shared = np.minimum.outer(arm.sizes, arm.sizes) / np.maximum.outer(arm.sizes, arm.sizes)
    return np.asarray(arm.spread / arm.sizes[-1] * np.sqrt(shared), dtype=np.float64)


def _band(laws: PowerLaws, first: int, last: int) -> Floats:
    at = np.unique(np.geomspace(first, max(last, first + 1), BAND_POINTS).round())
    return np.vstack([at, np.quantile(1 - laws.errors(at), LIMITS, axis=0)]).astype(np.float64)


def _within_reach(draws: Floats, farthest: float) -> Interval:
    """Return the interval, with nothing claimed about what lies beyond."""
    # Quantiles that are draws: infinite ones cannot be interpolated.
    value, low, high = np.quantile(draws, LIMITS, method="closest_observation")
    value, high = (float(limit) if limit <= farthest else np.inf for limit in (value, high))
    return Interval(value, float(min(low, farthest)), high)


def _interval(draws: Floats) -> Interval:
    return Interval(*np.quantile(draws, LIMITS).tolist())
