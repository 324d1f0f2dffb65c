"""How good TypiClust's clusters and batches are; run by `benchmarks.strategies`."""

import json
import sys

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from al_pipeline.core.strategies.kernels.clusters import kmeans
from al_pipeline.core.strategies.kernels.distances import nearest, squared_norms
from benchmarks.pools import BATCH, LABELED, pool


def main() -> None:
    """Compare the clusterings and what the batches cover."""
    task = json.loads(sys.argv[1])
    x, labeled = pool(task["n"])
    rows, both = torch.from_numpy(x), np.concatenate([x, labeled])
    norms = squared_norms(rows)
    coverage = [
        float(nearest(rows, norms, torch.from_numpy(np.concatenate([labeled, x[picks]])))[0].sqrt().mean())
        for picks in task["picks"]
    ]
    # As scikit-activeml's TypiClust does it, and as ours does.
    theirs = KMeans(LABELED + BATCH, random_state=task["seed"]).fit_predict(both)
    ours = kmeans([rows, torch.from_numpy(labeled)], LABELED + BATCH, np.random.default_rng(task["seed"]))
    silhouette = [float(silhouette_score(both, labels, sample_size=5000, random_state=0)) for labels in (theirs, ours)]
    inertia = [_inertia(both, labels) for labels in (theirs, ours)]
    json.dump({"silhouette": silhouette, "inertia": inertia, "coverage": coverage}, sys.stdout)


def _inertia(x: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for label in np.unique(labels):
        members = x[labels == label]
        total += float(((members - members.mean(axis=0)) ** 2).sum())
    return total / len(x)


if __name__ == "__main__":
    main()
