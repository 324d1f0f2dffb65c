"""What guessed labels are worth: a head on frozen features, with and without the semi-supervised arms, paired seeds.

`python -m benchmarks.guesses FOLDER` reads the images that `benchmarks.budgets` reads; without it the digits alone.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import stats

from al_pipeline.core.learning.head import fit_head, head_logits
from al_pipeline.core.learning.semi_supervised import Guesses, propagated, self_trained
from benchmarks.budgets import Data, digits, photos
from benchmarks.table import print_table

SEEDS, UNLABELED = 10, 3000
THRESHOLDS = (0.8, 0.95)


def accuracies(data: Data, n_labels: int, seed: int) -> dict[str, float]:
    """Return the test accuracy of each arm with the same random labels."""
    order = np.random.default_rng(seed).permutation(len(data.pool))
    known, others = order[:n_labels], data.pool[order[n_labels : n_labels + UNLABELED]]
    features, targets = data.pool[known], data.pool_labels[known]
    classes = int(data.pool_labels.max()) + 1

    def score(guesses: Guesses | None) -> float:
        x, y, weights = features, targets, np.ones(n_labels)
        if guesses is not None:
            x, y = np.concatenate([x, others[guesses.rows]]), np.concatenate([y, guesses.targets])
            weights = np.concatenate([weights, guesses.weights])
        head = fit_head(x, y, classes, seed=seed, sample_weight=weights)
        predicted = head_logits(data.test, head.weight, head.bias).argmax(axis=1)
        return 100 * float((predicted == data.test_labels).mean())

    found = {"none": score(None)}
    for threshold in THRESHOLDS:
        found[f"pseudo_label {threshold}"] = score(
            self_trained(features, targets, others, classes, threshold, seed=seed)
        )
        found[f"label_propagation {threshold}"] = score(propagated(features, targets, others, classes, threshold))
    return found


def report(data: Data, budgets: tuple[int, ...]) -> None:
    """Print accuracies and paired differences to learning from the labels alone."""
    rows = []
    for n_labels in budgets:
        runs = [accuracies(data, n_labels, seed) for seed in range(SEEDS)]
        for arm in runs[0]:
            values = np.array([run[arm] for run in runs])
            gain = values - [run["none"] for run in runs]
            half = stats.t.ppf(0.975, SEEDS - 1) * gain.std(ddof=1) / np.sqrt(SEEDS)
            rows.append(
                (n_labels, arm, f"{values.mean():.1f}", "" if arm == "none" else f"{gain.mean():+.1f} ± {half:.1f}")
            )
    print_table(f"{data.name}, {SEEDS} seeds", ("labels", "arm, threshold", "accuracy, %", "gain, points"), rows)


def main() -> None:
    """Report on every set of images there is."""
    report(digits(), (50, 200))
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        report(photos(folder, "chi_muf_224", "chihuahua/muffin (96 px)", 96, 4, 400), (10, 40))
        report(photos(folder, "cifar10_small", "CIFAR-10 subset (64 px)", 64, 20, 1000), (50, 200))


if __name__ == "__main__":
    main()
