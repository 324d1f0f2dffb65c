"""The classifier alone: logistic regression on features, written back as a ResNet's last layer."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from threadpoolctl import ThreadpoolController

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.calibration import fit_temperature, softmax
from al_pipeline.core.learning.folds import FOLDS, by_turns, held_out, numbered, parts
from al_pipeline.core.learning.logistic import Floats, fit_logistic
from al_pipeline.core.learning.thresholds import fit_thresholds

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

# Inverse regularisation of inputs whose mean squared norm is 1, so that one grid fits every network. On the pools of
# our three sets of images (digits, photos at 96 px, CIFAR-10), with 2 to 200 labels per class, smaller ones than 3 are
# never better, and with few labels cross-validation took them by chance. The digits take the largest.
GRID = (3.0, 10.0, 30.0, 100.0, 300.0)
WITHOUT_VALIDATION = 30.0
# More rows than so many, or than so many per class, say it no better: with 1,000 labels of CIFAR-10's ten classes 300
# of them took a third of the best C two times in three, which cost 0.35 points of ROC-AUC.
VALIDATION_ROWS, VALIDATION_ROWS_PER_CLASS = 300, 100
# Choosing C takes no more than a rough solution of each.
TOLERANCE, ROUGH = 1e-6, 1e-4
# Members of the ensemble behind `bald`: the disagreement of ten is near that of a hundred, at a tenth of the time.
PASSES = 10
# Standard deviations of the components are raised to the power 1 − EVENED: 0 would leave the features as they are, 1
# whitens them. On parts of the three pools that were held out, a quarter gained 1.3 to 2.9 points of accuracy on the
# digits, whose network was trained on photos, and 0.1 to 0.9 on the others, which is within their noise; a half lost
# on those. Components of less than a thousandth of the mean variance are noise.
EVENED, NOISE = 0.25, 1e-3
# A class without labels: the softmax of this logit is 0 also when it is divided by the highest temperature there is.
NEVER = -2e4


@dataclass(frozen=True)
class Head:
    """A linear classifier, softmax(x Wᵀ + b).

    Attributes
    ----------
    weight : float32 array, shape (K, d)
    bias : float32 array, shape (K,)
        `NEVER` for classes without labels.
    temperature : float
        Fitted on predictions for samples that were held out; 1 if there were too few labels to hold any out.
    regularization : float
        C, the inverse of the penalty on weights of the features' components, evened out a little and scaled to a mean
        squared norm of 1 (`EVENED`).
    folds : int
        Of the cross-validation that chose C; 0 if it is `WITHOUT_VALIDATION`.
    n_guessed : int
        Unlabeled samples that were learned from with guessed labels.
    thresholds : tuple of float
        Of the classes (`thresholds.decided`), fitted on the same predictions if classes were weighed; else empty.
    """

    weight: Vectors
    bias: Vectors
    temperature: float
    regularization: float
    folds: int
    n_guessed: int = 0
    thresholds: tuple[float, ...] = ()

    def probabilities(self, features: Vectors) -> npt.NDArray[np.float64]:
        """Return class probabilities, float64, shape (n, K)."""
        return softmax(head_logits(features, self.weight, self.bias), self.temperature)


def fit_head(
    features: Vectors,
    targets: Integers,
    n_classes: int,
    *,
    seed: int,
    sample_weight: npt.NDArray[np.float64] | None = None,
    balanced: bool = False,
    groups: npt.ArrayLike | None = None,
) -> Head:
    """Fit the classifier; regularisation by the cross-validated log loss of the classes that have labels enough.

    Labels of the others, fewer than `folds.FEWEST_FOLDS`, are learned from in every part and predicted in none.

    Parameters
    ----------
    features : float32 array, shape (n, d)
    targets : int64 array, shape (n,)
        Class numbers, 0 to K − 1, of at least two classes; not every class need occur.
    n_classes : int
        K.
    seed : int
        Of the folds.
    sample_weight : float64 array, shape (n,), optional
    balanced : bool
        Weigh classes by the inverse of their number of labels, and fit their thresholds.
    groups : array_like, shape (n,), optional
        What each label's sample belongs to. What belongs together is held out together: frames of one burst would tell
        of each other. None, and groups of one sample each, are the same.

    Raises
    ------
    InputError
        One class alone, or features that are not finite.
    """
    present, codes = np.unique(targets, return_inverse=True)
    if len(present) < 2:
        raise InputError(f"a classifier needs labels of at least 2 classes, not of {len(present)}: label more")
    if not np.isfinite(features).all():
        raise InputError(
            "features have NaN or infinite values: the weights are damaged; mend training.weights and materialize "
            "embeddings"
        )
    weights = np.ones(len(codes)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if balanced:
        weights = weights * (len(codes) / (len(present) * np.bincount(codes)))[codes]
    members = numbered(groups)
    folds, tested = held_out(codes, members)
    thresholds: tuple[float, ...] = ()
    best, temperature, start = WITHOUT_VALIDATION, 1.0, None
    with _one_thread():
        scaled = _Components.of(features)
        if folds:
            found = _cross_validate(scaled.inputs, codes, weights, members, folds, tested, seed)
            best, temperature, start, folds = found
        if folds and balanced:
            drawn = int(np.random.default_rng(seed).integers(2**31))
            turns = parts(codes[tested], folds, None if members is None else members[tested], drawn)
            if turns:
                logits = _out_of_fold(scaled.inputs, codes, weights, [tested[held] for held in turns], best, start)
                probabilities = np.zeros((len(tested), n_classes))
                probabilities[:, present] = softmax(logits[tested], temperature)
                thresholds = fit_thresholds(probabilities, present[codes[tested]])
        fitted = fit_logistic(scaled.inputs, codes, weights[:, None], best, TOLERANCE, start)[0]
    weight, bias = scaled.written_back(fitted, present, n_classes)
    return Head(weight, bias, temperature, best, folds, thresholds=thresholds)


def averaged_with(head: Head, rows: Integers, weight: Floats, bias: Floats) -> Head:
    """Return the head whose logits, over the temperature, are the mean of a head's and of another classifier's.

    A network that was trained on most of the head's labels has made their features clearer than those of any others: a
    head on them is too sure, and its cross-validation cannot tell. The network's own classifier knows the temperature
    of labels that it had not seen, but no newer labels. Their mean ranks better than either.

    Parameters
    ----------
    head : Head
    rows : int64 array, shape (k,)
        Classes that the other classifier knows too; those of others are the head's alone.
    weight : float array, shape (k, d)
        Of the other classifier, over its temperature, for the same features.
    bias : float array, shape (k,)
    """
    mean_weight, mean_bias = head.weight / head.temperature, head.bias / head.temperature
    mean_weight[rows] = (mean_weight[rows] + weight) / 2
    mean_bias[rows] = (mean_bias[rows] + bias) / 2
    return replace(head, weight=mean_weight.astype(np.float32), bias=mean_bias.astype(np.float32), temperature=1.0)


def head_logits(features: Vectors, weight: npt.ArrayLike, bias: npt.ArrayLike) -> Vectors:
    """Return x Wᵀ + b, float32, shape (n, K)."""
    return features @ np.asarray(weight, dtype=np.float32).T + np.asarray(bias, dtype=np.float32)


def head_passes(
    features: Vectors, targets: Integers, n_classes: int, candidates: Vectors, *, passes: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return predictions of an ensemble of heads, shape (T, n, K): what `bald` measures disagreement with.

    Each member weighs the labels by a draw from a flat Dirichlet (the Bayesian bootstrap, Rubin 1981): like resampling,
    but no class is ever left out, however few labels it has.

    Parameters
    ----------
    features, targets, n_classes
        As for `fit_head`.
    candidates : float32 array, shape (n, d)
    passes : int
        T, at least 2.
    rng : numpy.random.Generator
    """
    if passes < 2:
        raise InputError(f"an ensemble needs at least 2 members, not {passes}")
    present, codes = np.unique(targets, return_inverse=True)
    weights = rng.dirichlet(np.ones(len(codes)), size=passes).T * len(codes)
    with _one_thread():
        scaled = _Components.of(features)
        members = fit_logistic(scaled.inputs, codes, weights, WITHOUT_VALIDATION, ROUGH)
    return np.stack(
        [softmax(head_logits(candidates, *scaled.written_back(member, present, n_classes))) for member in members]
    )


@dataclass(frozen=True)
class _Components:
    """Principal components of the features, partly evened out, at a mean squared norm of 1.

    There are no more of them than samples: the penalised solution lies in their span, so that rotating changes nothing
    but the time. Evening them out does: it is a weaker prior against directions that the images vary little in.
    """

    inputs: npt.NDArray[np.float64]
    center: npt.NDArray[np.float64]
    projection: npt.NDArray[np.float64]

    @classmethod
    def of(cls, features: Vectors) -> "_Components":
        center = features.mean(axis=0, dtype=np.float64)
        around = features.astype(np.float64) - center
        if len(around) > around.shape[1]:
            squares, vectors = np.linalg.eigh(around.T @ around)
            rotation = vectors.T
        else:
            values, rotation = np.linalg.svd(around, full_matrices=False)[1:]
            squares = values**2
        floor = NOISE * squares.mean()
        even = (np.maximum(squares, 0) + floor) ** (-EVENED / 2) if floor else np.ones(len(squares))
        even /= np.sqrt((squares * even**2).sum() / len(around)) or 1.0
        projection = rotation * even[:, None]
        return cls(around @ projection.T, center, projection)

    def written_back(self, fitted: Floats, present: Integers, n_classes: int) -> tuple[Vectors, Vectors]:
        """Return weights (K, d) and biases (K,) for features as they came, with a row for classes without labels."""
        weight, bias = np.zeros((n_classes, len(self.center))), np.full(n_classes, NEVER)
        weight[present] = fitted[:, :-1] @ self.projection
        bias[present] = fitted[:, -1] - weight[present] @ self.center
        return weight.astype(np.float32), bias.astype(np.float32)


def _one_thread() -> AbstractContextManager[object]:
    """Fit on one thread: on matrices this small a second one made it five times slower (two cores, 800 × 512)."""
    return _libraries().limit(limits=1, user_api="blas")


# Finding them takes 7 ms, as long as a fit.
_libraries = cache(ThreadpoolController)


def _cross_validate(
    inputs: Floats, codes: Integers, weights: Floats, groups: Integers | None, folds: int, tested: Integers, seed: int
) -> tuple[float, float, Floats | None, int]:
    """Return the C of the smallest log loss out of fold, the temperature of those predictions, where to begin, folds.

    From strong regularisation to weak, each from the solution before, until the loss rises: weak ones take longest.
    """
    rng = np.random.default_rng(seed)
    always = np.setdiff1d(np.arange(len(codes)), tested)
    most = max(VALIDATION_ROWS, VALIDATION_ROWS_PER_CLASS * len(np.unique(codes[tested])))
    if len(tested) > most:
        tested = tested[_stratified(codes[tested], most, rng, None if groups is None else groups[tested])]
    kept = np.concatenate([tested, always])
    inputs, weights, learned_codes = inputs[kept], weights[kept], codes[kept]
    codes = codes[tested]
    rows = np.arange(len(tested))
    turns = parts(codes, folds, None if groups is None else groups[tested], int(rng.integers(2**31)))
    if not turns:
        return WITHOUT_VALIDATION, 1.0, None, 0
    learned = np.repeat(weights[:, None], len(turns), axis=1)
    fold = np.empty(len(tested), dtype=np.int64)
    for number, held in enumerate(turns):
        fold[held], learned[held, number] = number, 0
    inner, own = inputs[rows], weights[rows]
    best, lowest, solution, chosen = GRID[0], np.inf, None, None
    logits = np.empty((len(codes), 0))
    for regularization in GRID:
        solution = fit_logistic(inputs, learned_codes, learned, regularization, ROUGH, solution)
        scores = np.einsum("nd,nkd->nk", inner, solution[fold, :, :-1]) + solution[fold, :, -1]
        loss = float(own @ (logsumexp(scores, axis=1) - scores[rows, codes]))
        if loss >= lowest:
            break
        best, lowest, logits, chosen = regularization, loss, scores, solution
    assert chosen is not None
    return best, fit_temperature(logits, codes), chosen.mean(axis=0, keepdims=True), len(turns)


def _out_of_fold(
    inputs: Floats, codes: Integers, weights: Floats, turns: list[Integers], regularization: float, start: Floats | None
) -> Floats:
    """Return logits of all rows held out in turns, NaN of others: a part of them would change how rare a class is."""
    learned = np.repeat(weights[:, None], len(turns), axis=1)
    for number, held in enumerate(turns):
        learned[held, number] = 0
    begin = None if start is None else np.repeat(start, len(turns), axis=0)
    fitted = fit_logistic(inputs, codes, learned, regularization, ROUGH, begin)
    logits = np.full((len(codes), fitted.shape[1]), np.nan)
    for number, held in enumerate(turns):
        logits[held] = inputs[held] @ fitted[number, :, :-1].T + fitted[number, :, -1]
    return logits


def _stratified(codes: Integers, size: int, rng: np.random.Generator, groups: Integers | None) -> Integers:
    """Return about `size` rows, each class in proportion but with at least `FOLDS`, of as many groups as it has."""
    rows = []
    for code in np.unique(codes):
        own = by_turns(groups, rng.permutation(np.flatnonzero(codes == code)))
        rows.append(own[: max(FOLDS, round(size * len(own) / len(codes)))])
    return np.sort(np.concatenate(rows))
