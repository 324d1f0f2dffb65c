"""Evaluation: what predictions on the holdout are worth, with 95 % intervals that are honest about small numbers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, t

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.auc import CONFIDENCE, Floats, Integers, delong, macro_auc, placements
from al_pipeline.core.evaluation.clusters import area_variance, effective_samples, kish
from al_pipeline.core.evaluation.metrics import METRICS, Interval
from al_pipeline.core.evaluation.prequential import wilson
from al_pipeline.core.learning.calibration import CalibrationBin, calibration
from al_pipeline.core.learning.folds import numbered
from al_pipeline.core.learning.thresholds import decided

CURVE_POINTS = 200
# Beyond this many classes a curve each is unreadable and, at 200 points, megabytes: only the mean curve is kept.
CURVE_CLASSES = 20
# Half precision sums to one within about 1e-3.
SUM_TOLERANCE = 1e-3
# A class is overlooked where a good half of so many samples could be found, and are not.
FEWEST_OVERLOOKED, WORTH_FINDING = 5, 0.6
NO_LABELS = "no holdout labels yet"


@dataclass(frozen=True)
class ClassScore:
    """How one class, of `support` holdout samples, fares; shares are None where there is nothing to divide by.

    `reachable` is the recall at the threshold where it is furthest above the share of false alarms (Youden 1950): what
    the ranking of the samples would allow.
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    reachable: float | None = None


@dataclass(frozen=True)
class RocCurve:
    """False against true positive rates, at most `CURVE_POINTS` of them, from (0, 0) to (1, 1)."""

    name: str
    auc: float
    false_positive_rate: list[float]
    true_positive_rate: list[float]


@dataclass(frozen=True)
class Evaluation:
    """Test results of one checkpoint.

    Attributes
    ----------
    n : int
        Holdout samples.
    class_names : list of str, length K
    accuracy : Interval, optional
        Wilson's interval, in groups that of `effective` samples. None without samples.
    roc_auc : Interval, optional
        Two classes: DeLong's interval; more: the mean over classes of one against the rest, stratified bootstrap. In
        groups Obuchowski's interval. Of more than two classes, those without a holdout sample are left out of the
        mean, and `note` names them. None with holdout samples of one class alone, or of one of two classes; `note`
        says why.
    ece : float, optional
        Expected calibration error: mean gap between confidence and accuracy over 15 equal bins, weighted by count.
    per_class : list of ClassScore
    confusion : list of K lists of K int
        ``confusion[true][predicted]``.
    calibration : list of CalibrationBin
        Bins that hold samples.
    roc : list of RocCurve
        Two classes: the second one's. Up to 20: one each and their mean. More: the mean alone.
    note : str, optional
        What is missing and why.
    groups : int, optional
        That the samples belong to; None if each is alone.
    effective : float, optional
        Independent samples that would tell the accuracy as well as those in groups.
    """

    n: int
    class_names: list[str]
    accuracy: Interval | None = None
    roc_auc: Interval | None = None
    ece: float | None = None
    per_class: list[ClassScore] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    calibration: list[CalibrationBin] = field(default_factory=list)
    roc: list[RocCurve] = field(default_factory=list)
    note: str | None = None
    groups: int | None = None
    effective: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON's own types, without NaN; `metrics.stored_scores` reads it."""
        document = asdict(self)
        for metric in METRICS:
            interval: Interval | None = getattr(self, metric.name)
            document[metric.name] = None if interval is None else interval._asdict()
        return document


def evaluate(
    probabilities: npt.ArrayLike,
    labels: Sequence[str],
    class_names: Sequence[str],
    *,
    seed: int = 0,
    thresholds: Sequence[float] = (),
    said: Integers | None = None,
    groups: Sequence[str] | None = None,
) -> Evaluation:
    """Compare predictions with the truth.

    Parameters
    ----------
    probabilities : array_like of float, shape (n, K)
        Rows sum to 1.
    labels : sequence of str, length n
        The true classes.
    class_names : sequence of str, length K
    seed : int
        Of the bootstrap.
    thresholds : sequence of float, length K, or empty
        The model's (`thresholds.decided`): by them accuracy, precision and recall are told.
    said : int64 array, shape (n,), optional
        The class numbers that the model has said, where they are known already; `thresholds` are not used then.
    groups : sequence of str, length n, optional
        What the samples belong to: frames of a burst, images of a patient. Intervals count groups, not frames: see
        `clusters`. Where each sample is alone, as by default, they are the same, bit for bit.

    Raises
    ------
    InputError
        Shapes that do not fit, values that are no probabilities, or a label outside of the classes.
    """
    names = [str(name) for name in class_names]
    p, truth = _checked(probabilities, labels, names)
    if len(p) == 0:
        return Evaluation(n=0, class_names=names, note=NO_LABELS)
    predicted = decided(p, thresholds) if said is None else said
    right, members = predicted == truth, checked_groups(groups, len(p))
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    ece, bins = calibration(p.max(axis=1), p.argmax(axis=1) == truth)
    roc_auc, note = _roc_auc(p, truth, names, seed, members)
    effective = None if members is None else effective_samples(right.astype(np.float64), members)
    limits = _wilson(int(right.sum()), len(p)) if effective is None else wilson(1 - float(right.mean()), effective)[1:]
    return Evaluation(
        n=len(p),
        class_names=names,
        accuracy=Interval(float(right.mean()), *limits),
        roc_auc=roc_auc,
        ece=ece,
        per_class=_per_class(confusion, names, p, truth),
        confusion=confusion.tolist(),
        calibration=bins,
        roc=_roc_curves(p, truth, names),
        note=note,
        groups=None if members is None else int(members.max()) + 1,
        effective=effective,
    )


def _checked(probabilities: npt.ArrayLike, labels: Sequence[str], names: list[str]) -> tuple[Floats, Integers]:
    p = np.asarray(probabilities, dtype=np.float64)
    if len(labels) == 0 and p.size == 0:
        return np.empty((0, len(names))), np.empty(0, dtype=np.int64)
    if p.shape != (len(labels), len(names)):
        raise InputError(
            f"probabilities have the shape {p.shape}, but there are {len(labels)} labels and {len(names)} classes"
        )
    # Written so that NaN, for which every comparison is false, fails too.
    wrong = np.flatnonzero(~((p.min(axis=1) >= 0) & (np.abs(p.sum(axis=1) - 1) <= SUM_TOLERANCE)))
    if len(wrong):
        raise InputError(
            f"probabilities of holdout sample {wrong[0]} are {np.array2string(p[wrong[0]], precision=4, threshold=8)}: "
            "each must be at least 0, none NaN, and the row must sum to 1"
        )
    number = {name: i for i, name in enumerate(names)}
    outside = sorted({str(label) for label in labels if label not in number})
    if outside:
        raise InputError(f"holdout labels outside of the classes: {', '.join(map(repr, outside[:5]))}")
    return p, np.array([number[label] for label in labels], dtype=np.int64)


def checked_groups(groups: Sequence[str] | None, n: int) -> Integers | None:
    """Return the numbers of n samples' groups, None if each is alone; InputError if there is not one per sample."""
    if groups is not None and len(groups) != n:
        raise InputError(
            f"there are {len(groups)} groups but {n} samples: give each sample's, its own where it is alone"
        )
    return numbered(groups)


def _roc_auc(
    p: Floats, truth: Integers, names: list[str], seed: int, groups: Integers | None
) -> tuple[Interval | None, str | None]:
    support = np.bincount(truth, minlength=len(names))
    present, note = present_classes(support, names)
    if len(present) < 2:
        return None, note
    if groups is not None:
        return _area_by_groups(p, truth, support, groups), note
    p, truth = p[:, present], np.searchsorted(present, truth)
    value, low, high = delong(p[:, 1], truth == 1) if len(names) == 2 else macro_auc(p, truth, seed=seed)
    if low == high:
        # A perfect ranking, or one sample per class: resampling and asymptotics see no variation and would claim
        # certainty. Pairs of samples of different classes that share no sample are independent trials: take Wilson's.
        pairs = min(len(truth) // 2, len(truth) - int(support.max()))
        low, high = _wilson(round(value * pairs), pairs)
    return Interval(value, low, high), note


def _area_by_groups(p: Floats, truth: Integers, support: Integers, groups: Integers) -> Interval:
    """Return the (mean) area with limits on the logit scale, as `auc.delong` has them, by Student's quantile."""
    area, shares = placements(p, truth, support)
    value = round(area, 12)
    variance, freedom = area_variance(shares, truth, groups)
    if value in (0.0, 1.0) or variance == 0:
        # As for samples that are alone: see `_roc_auc`.
        pairs = min(len(truth) // 2, len(truth) - int(support.max()))
        return wilson(1 - value, pairs * kish(groups) / len(truth))
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * np.sqrt(variance) / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + np.array([-half, half]))))
    return Interval(value, float(low), float(high))


def present_classes(support: Integers, names: list[str]) -> tuple[Integers, str | None]:
    """Return the numbers of the classes with holdout samples, and what it means for ROC-AUC that others have none.

    Parameters
    ----------
    support : int64 array, shape (K,)
        Holdout samples of each class.
    names : list of str, length K
    """
    present, absent = np.flatnonzero(support), [names[i] for i in np.flatnonzero(support == 0)]
    if not absent:
        return present, None
    shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
    missing = f"no holdout sample is of the class {shown}"
    if len(present) < 2:
        return present, f"no ROC-AUC: {missing}"
    return present, f"ROC-AUC is the mean over {len(present)} of {len(names)} classes: {missing}"


def _wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the limits of Wilson's score interval, which also holds for few trials and for shares of 0 and 1."""
    limits = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(limits.low), float(limits.high)


def _per_class(confusion: Integers, names: list[str], p: Floats, truth: Integers) -> list[ClassScore]:
    hits, support, calls = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        ClassScore(
            name=name,
            support=int(support[i]),
            precision=float(hits[i] / calls[i]) if calls[i] else None,
            recall=float(hits[i] / support[i]) if support[i] else None,
            reachable=_reachable(p[:, i], truth == i),
        )
        for i, name in enumerate(names)
    ]


def _reachable(scores: Floats, positive: npt.NDArray[np.bool_]) -> float | None:
    if positive.all() or not positive.any():
        return None
    false, true = _roc_points(scores, positive)
    return float(true[(true - false).argmax()])


def overlooked(evaluation: Evaluation) -> ClassScore | None:
    """Return the class whose recall is furthest below what its ranking allows, if that is far; else None.

    Far is less than half of it, for a class with at least `FEWEST_OVERLOOKED` samples whose ranking allows
    `WORTH_FINDING`.
    """
    missed = [
        (score.reachable - score.recall, score)
        for score in evaluation.per_class
        if score.recall is not None
        and score.reachable is not None
        and score.support >= FEWEST_OVERLOOKED
        and score.reachable >= max(WORTH_FINDING, 2 * score.recall)
    ]
    return max(missed, key=lambda pair: pair[0])[1] if missed else None


def _roc_curves(p: Floats, truth: Integers, names: list[str]) -> list[RocCurve]:
    """Return the curves to draw; classes without samples, or without others, have none."""
    grid = np.linspace(0, 1, CURVE_POINTS // 2)
    curves, mean = [], np.zeros_like(grid)
    shown = [1] if len(names) == 2 else range(len(names))
    for i in shown:
        positive = truth == i
        if positive.all() or not positive.any():
            continue
        fpr, tpr = _roc_points(p[:, i], positive)
        curves.append(_curve(names[i], fpr, tpr))
        mean += np.interp(grid, fpr, tpr)
    if len(names) == 2 or not curves:
        return curves
    mean /= len(curves)
    auc = float(np.mean([curve.auc for curve in curves]))
    over = "classes" if len(curves) == len(names) else f"{len(curves)} of {len(names)} classes"
    macro = RocCurve(f"mean over {over}", auc, [0.0, *grid.tolist()], [0.0, *mean.tolist()])
    return [*curves, macro] if len(names) <= CURVE_CLASSES else [macro]


def _roc_points(scores: Floats, positive: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return false and true positive rates at every distinct threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(positive[order])[last_of_ties]
    false = last_of_ties + 1 - hits
    return np.append(0, false / false[-1]), np.append(0, hits / hits[-1])


def _curve(name: str, fpr: Floats, tpr: Floats) -> RocCurve:
    area = float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1])) / 2)
    if len(fpr) > CURVE_POINTS:
        # Spread along the curve's length, so that neither the steep nor the flat part is cut into corners.
        length = np.append(0, np.cumsum(np.abs(np.diff(fpr)) + np.abs(np.diff(tpr))))
        nearest = np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS))
        kept = np.unique(np.minimum(nearest, len(fpr) - 1))
        kept[0] = 0
        fpr, tpr = fpr[kept], tpr[kept]
    return RocCurve(name, area, fpr.tolist(), tpr.tolist())
