"""Whether the labels saved that a running project shows are true: simulated loops, judged by the true random curve.

`python -m benchmarks.random_arm [FOLDER]` reads `chi_muf_224.tar`, `cifar10_small.tar` and
`resnet18_tin199.safetensors` from the folder; without it the digits alone are used. Every loop asks about batches of
20, a share of them drawn at random, with a head on features; the holdout is a part of the test set. The truth is the
loop's model on the whole test set against the mean accuracy there of 40 heads per size that learned from random
labels.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from al_pipeline.core.learning.calibration import softmax
from al_pipeline.core.outlook.random_arm import (
    Asked,
    LabelsSaved,
    labels_saved,
    measure,
    random_sequence,
    sentence,
    too_little,
)
from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import select
from benchmarks.budgets import Data, digits, photos
from benchmarks.table import print_table

REPEATS, CURVES, BATCH, PAIRS, HOLDOUT = 100, 40, 20, 6, 300
CHECKS = (100, 200, 400)
# The last strategy is the loop against itself: what it claims is wrong.
CASES = (("margin", 0.2), ("margin", 0.1), ("random", 0.2))
ALL = 10**6
# Of the mean squared norm of the features; and how sure the classifier is, which strategies go by.
RIDGE, SHARPNESS = 0.1, 5.0
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """What was shown after some labels, and the truth: labels that random choice needs for the same accuracy."""

    labels: int
    reason: str | None
    shown: LabelsSaved | None
    truth: float


def fit(data: Data, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit ridge regression of the classes on the features, by rows of the pool: weights (d, K) and offsets (K,).

    Not the pipeline's own head, whose cross-validation takes a hundred times as long: what is judged here is the
    projection, which asks of a recipe only that it is the same for all labels.
    """
    inputs = data.pool[rows].astype(np.float64)
    center = inputs.mean(axis=0)
    inputs = inputs - center
    targets = np.eye(int(data.pool_labels.max()) + 1)[data.pool_labels[rows]]
    penalty = RIDGE * np.square(inputs).sum() / len(rows)
    gram = inputs @ inputs.T
    gram[np.diag_indices(len(gram))] += penalty
    weights = inputs.T @ np.linalg.solve(gram, targets - targets.mean(axis=0))
    return weights, targets.mean(axis=0) - center @ weights


def hits_of(data: Data, rows: Rows) -> npt.NDArray[np.bool_]:
    """Return which samples of the test set a classifier that learned from the rows is right about."""
    weights, offsets = fit(data, rows)
    return (data.test @ weights + offsets).argmax(axis=1) == data.test_labels


def true_curve(data: Data) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Return numbers of random labels and the mean accuracy on the test set, which never falls."""
    sizes = np.unique(np.geomspace(10, len(data.pool), 16).astype(np.int64))
    means = []
    for size in sizes:
        rng = generator(int(size), 0, "true curve")
        means.append(np.mean([hits_of(data, rng.permutation(len(data.pool))[:size]).mean() for _ in range(CURVES)]))
    return sizes, np.maximum.accumulate(means)


def needed(curve: tuple[Rows, npt.NDArray[np.float64]], accuracy: float) -> float:
    """Return the random labels for an accuracy; all of the pool where the curve does not reach it."""
    sizes, means = curve
    first = int(np.searchsorted(means, accuracy))
    if first == 0 or first == len(sizes):
        return float(sizes[min(first, len(sizes) - 1)])
    share = (accuracy - means[first - 1]) / (means[first] - means[first - 1])
    return float(np.exp(np.log(sizes[first - 1]) + share * np.log(sizes[first] / sizes[first - 1])))


def loop(task: tuple[Data, str, float, int, tuple[Rows, npt.NDArray[np.float64]]]) -> list[Found]:
    """Run one loop and look at each of the checks."""
    data, strategy, explore, seed, curve = task
    asked: list[Asked] = []
    found = []
    labeled = np.empty(0, dtype=np.int64)
    while len(labeled) < CHECKS[-1]:
        labeled, batch = _ask(data, strategy, explore, seed, len(asked), labeled)
        asked.append(batch)
        if len(labeled) in CHECKS:
            found.append(_look(data, asked, labeled, seed, curve))
    return found


def _ask(data: Data, strategy: str, explore: float, seed: int, number: int, labeled: Rows) -> tuple[Rows, Asked]:
    unlabeled = np.setdiff1d(np.arange(len(data.pool)), labeled)
    drawn = unlabeled[generator(seed, number, "draw").permutation(len(unlabeled))[: data.sample]]
    probabilities = None
    if len(labeled):
        weights, offsets = fit(data, labeled)
        probabilities = softmax(SHARPNESS * (data.pool[drawn] @ weights + offsets))
    picked = select(
        strategy if len(labeled) else "random",
        probabilities=probabilities,
        embeddings=data.pool[drawn],
        labeled_embeddings=data.pool[labeled] if len(labeled) else None,
        batch_size=BATCH,
        rng=generator(seed, number, "query"),
        explore=explore,
    )
    rows = drawn[picked.indices]
    random = picked.explored | (not len(labeled))
    batch = Asked([f"{i:06d}" for i in rows[random]], [f"{i:06d}" for i in rows[~random]])
    return np.concatenate([labeled, rows]), batch


def _look(
    data: Data, asked: Sequence[Asked], labeled: Rows, seed: int, curve: tuple[Rows, npt.NDArray[np.float64]]
) -> Found:
    rng = generator(seed, len(asked), "random arm")
    arm = np.array([int(i) for i in random_sequence(asked, len(data.pool), rng)])
    tests = generator(seed, 0, "holdout").permutation(len(data.test_labels))[:HOLDOUT]
    own = hits_of(data, labeled)
    truth = needed(curve, float(own.mean()))
    reason = too_little(len(arm), len(labeled), int(data.pool_labels.max()) + 1, len(tests))
    if reason is not None:
        return Found(len(labeled), reason, None, truth)
    points = measure(len(arm), lambda rows: hits_of(data, arm[rows])[tests], pairs=PAIRS, rng=rng)
    shown = labels_saved(points, own[tests], n_labels=len(labeled), rng=rng)
    return Found(len(labeled), None, shown, truth)


def summary(found: Sequence[Found]) -> list[str]:
    """Return how often something is claimed after so many labels, and how often it is true."""
    shown = [(one.shown, one.truth) for one in found if one.shown is not None]
    enough = [pair for pair in shown if not sentence(pair[0]).startswith("not enough evidence")]
    verdicts = [found.verdict for found, _ in shown]
    covered = [found.needed.low <= truth <= found.needed.high for found, truth in shown]
    wrong = [
        (found.verdict == "saved" and truth <= found.labels) or (found.verdict == "worse" and truth >= found.labels)
        for found, truth in shown
    ]
    return [
        str(found[0].labels),
        f"{np.mean([shown.random_labels for shown, _ in shown]):.0f}" if shown else "",
        str(len(found) - len(enough)),
        str(verdicts.count("saved")),
        str(verdicts.count("worse")),
        str(sum(wrong)),
        f"{sum(covered)} of {len(covered)}" if covered else "",
        f"{np.median([truth for _, truth in shown]):.0f}" if shown else "",
        f"{np.median([shown.needed.low for shown, _ in shown]):.0f}" if shown else "",
    ]


def larger_test(data: Data) -> Data:
    """Return the digits with half of them as the test set, so that the truth is known better than by the holdout."""
    images, labels = np.concatenate([data.pool, data.test]), np.concatenate([data.pool_labels, data.test_labels])
    half = len(labels) // 2
    return Data(data.name, images[:half], labels[:half], images[half:], labels[half:], data.batch, ALL)


def report(data: Data) -> None:
    """Run all loops on a set of images and print what they showed."""
    curve = true_curve(data)
    rows = []
    for strategy, explore in CASES:
        tasks = [(data, strategy, explore, seed, curve) for seed in range(REPEATS)]
        with ProcessPoolExecutor(max_workers=2) as workers:
            loops = list(workers.map(loop, tasks))
        rows += [[strategy, str(explore), *summary(checks)] for checks in zip(*loops, strict=True)]
    print_table(
        f"Labels saved so far, {data.name}, pool {len(data.pool)}, {REPEATS} loops each",
        (
            *("strategy", "explore", "labels", "random arm", "not enough evidence", "saved", "worse", "wrong claims"),
            *("interval holds the truth", "truth, median", "lower limit, median"),
        ),
        rows,
    )


def main() -> None:
    """Report on every set of images there is."""
    report(larger_test(digits()))
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        report(photos(folder, "chi_muf_224", "chihuahua/muffin (64 px)", 64, BATCH, ALL))
        report(photos(folder, "cifar10_small", "CIFAR-10 subset (64 px)", 64, BATCH, ALL))


if __name__ == "__main__":
    main()
