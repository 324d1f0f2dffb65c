"""Which strategy at which budget: the loop on frozen features, with a logistic head and an oracle that never errs.

`python -m benchmarks.budgets FOLDER` reads `chi_muf_224.tar`, `cifar10_small.tar` and `resnet18_tin199.safetensors`
from the folder; without it the digits alone are used, with pixels as features. Every round draws S candidates at random
from the unlabeled pool, as the pipeline does; runs of one seed are paired (draws, first random batch).
"""

import sys
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import available, cold_start, select
from benchmarks.table import print_table

SEEDS, ROUNDS = 10, 20
STRATEGIES = (
    "random",
    "margin",
    "entropy",
    "power_margin",
    "k_center",
    "typiclust",
    "prob_cover",
    "max_herding",
    "badge",
    "cluster_margin",
    "tcm",
    "uncertainty_herding",
)
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """Features and classes of a pool and of a test set."""

    name: str
    pool: Floats
    pool_labels: npt.NDArray[np.int64]
    test: Floats
    test_labels: npt.NDArray[np.int64]
    batch: int
    sample: int


def digits() -> Data:
    """Return scikit-learn's digits: 8×8 pixels as features."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order].astype(np.int64)
    return Data("digits (pixels), 10 classes", x[500:], y[500:], x[:500], y[:500], 10, 600)


def photos(folder: Path, archive: str, title: str, size: int, batch: int, sample: int) -> Data:
    """Return features of a network trained on other images."""
    from al_pipeline.core.learning.predict import embed
    from al_pipeline.core.learning.train import TrainingOptions, untrained

    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(folder / f"{archive}.tar") as tar:
            tar.extractall(place, filter="data")
        root = Path(place) / archive
        names = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
        options = TrainingOptions(weights=str(folder / "resnet18_tin199.safetensors"), image_size=size)
        start = untrained(names, options, seed=0, round_number=0).checkpoint
        found = {}
        for split in ("train", "test"):
            files = [(path, i) for i, name in enumerate(names) for path in sorted((root / split / name).iterdir())]
            found[split] = embed(start, [path for path, _ in files]), np.array([i for _, i in files])
    (pool, pool_labels), (test, test_labels) = found["train"], found["test"]
    return Data(f"{title}, {len(names)} classes", pool, pool_labels, test, test_labels, batch, sample)


def turn(data: Data, strategy: str, seed: int) -> list[float]:
    """Return the test accuracy after each round."""
    from sklearn.linear_model import LogisticRegression

    labeled: list[int] = []
    head: LogisticRegression | None = None
    accuracies = []
    for number in range(ROUNDS):
        unlabeled = np.setdiff1d(np.arange(len(data.pool)), labeled)
        drawn = unlabeled[generator(seed, number, "draw").permutation(len(unlabeled))[: data.sample]]
        trained = head is not None and len(head.classes_) > 1
        probabilities = np.full((len(drawn), data.pool_labels.max() + 1), 1e-6)
        if head is not None and trained:
            probabilities[:, head.classes_] += head.predict_proba(data.pool[drawn])
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        chosen = select(
            strategy if trained else cold_start(strategy),
            probabilities=probabilities if trained else None,
            embeddings=data.pool[drawn],
            labeled_embeddings=data.pool[sorted(labeled)] if labeled else None,
            batch_size=data.batch,
            rng=generator(seed, number, "query"),
        )
        labeled += drawn[chosen.indices].tolist()
        answers = data.pool_labels[labeled]
        if len(np.unique(answers)) > 1:
            fitted = LogisticRegression(C=10.0, max_iter=300)
            fitted.fit(data.pool[labeled], answers)
            accuracies.append(float(fitted.score(data.test, data.test_labels)))
            head = fitted
        else:
            accuracies.append(float((data.test_labels == answers[0]).mean()))
    return accuracies


def _run(task: tuple[Data, str, int]) -> list[float]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)
    return turn(*task)


def report(data: Data) -> None:
    """Run every strategy and seed, print accuracies and paired differences to random."""
    tasks = [(data, strategy, seed) for strategy in STRATEGIES for seed in range(SEEDS)]
    with ProcessPoolExecutor(max_workers=2) as workers:
        found = list(workers.map(_run, tasks, chunksize=1))
    curves = {name: 100 * np.array(found[i * SEEDS : (i + 1) * SEEDS]) for i, name in enumerate(STRATEGIES)}
    # Areas under the curve over the first quarter of the budget and over all of it.
    spans = {"early": slice(0, ROUNDS // 4), "all": slice(0, ROUNDS)}
    rows = []
    for name in STRATEGIES:
        row: list[object] = [name]
        row += [f"{curves[name][:, i].mean():.1f}" for i in (0, ROUNDS // 4 - 1, ROUNDS // 2 - 1, ROUNDS - 1)]
        for span in spans.values():
            lead = (curves[name][:, span] - curves["random"][:, span]).mean(axis=1)
            half = stats.t.ppf(0.975, SEEDS - 1) * lead.std(ddof=1) / np.sqrt(SEEDS)
            row.append("" if name == "random" else f"{lead.mean():+.2f} ± {half:.2f}")
        rows.append(row)
    budgets = [f"{data.batch * (i + 1)} labels" for i in (0, ROUNDS // 4 - 1, ROUNDS // 2 - 1, ROUNDS - 1)]
    print_table(
        f"{data.name}: B = {data.batch}, S = {data.sample}, {SEEDS} seeds",
        ("strategy", *budgets, "area − random's, first quarter", "whole budget"),
        rows,
    )


def main() -> None:
    """Report on every set of images there is."""
    unknown = [name for name in STRATEGIES if name not in available()]
    if unknown:
        raise SystemExit(f"unknown strategies: {unknown}")
    report(digits())
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        report(photos(folder, "chi_muf_224", "chihuahua/muffin (96 px)", 96, 4, 400))
        report(photos(folder, "cifar10_small", "CIFAR-10 subset (64 px)", 64, 20, 1000))


if __name__ == "__main__":
    main()
