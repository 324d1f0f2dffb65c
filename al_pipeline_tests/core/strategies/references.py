"""The strategies as their papers write them: dense, in double precision, one plain loop each. Ties: the first wins."""

import itertools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def first_best(values: Array, allowed: npt.NDArray[np.bool_]) -> int:
    """Return the first row whose value is the largest allowed one, up to rounding."""
    largest = values[allowed].max()
    return int(np.flatnonzero(allowed & (values >= largest - 1e-9 * max(1.0, abs(largest))))[0])


def distances(a: Array, b: Array) -> Array:
    """Return all Euclidean distances, shape (len(a), len(b))."""
    return np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))


def k_center(x: Array, labeled: Array, batch: int) -> list[int]:
    """Sener & Savarese (2018), algorithm 1; the candidate closest to the mean first if nothing is labeled."""
    rows: list[int] = []
    open_ = np.ones(len(x), dtype=bool)
    while len(rows) < min(batch, len(x)):
        centers = np.concatenate([labeled, x[rows]])
        if len(centers):
            values = distances(x, centers).min(axis=1) ** 2
        else:
            values = -(distances(x, x.mean(axis=0, keepdims=True))[:, 0] ** 2)
        rows.append(first_best(values, open_))
        open_[rows[-1]] = False
    return rows


def herding(x: Array, labeled: Array, weights: Array, sigma: float, batch: int) -> tuple[list[int], list[float]]:
    """Greedy maximisation of Σ w_j max_i exp(−|x_i − x_j|²/σ²); returns rows and gains."""
    similarity = np.exp(-(distances(x, x) ** 2) / sigma**2)
    covered = np.exp(-(distances(x, labeled) ** 2) / sigma**2).max(axis=1) if len(labeled) else np.zeros(len(x))
    open_ = np.ones(len(x), dtype=bool)
    rows: list[int] = []
    gains: list[float] = []
    while len(rows) < min(batch, len(x)):
        gain = (np.maximum(similarity - covered[None, :], 0) * weights[None, :]).sum(axis=1)
        rows.append(first_best(gain, open_))
        gains.append(float(gain[rows[-1]]))
        open_[rows[-1]] = False
        covered = np.maximum(covered, similarity[rows[-1]])
    return rows, gains


def regret(x: Array, labeled: Array, weights: Array, sigma: float, rows: list[int]) -> Array:
    """Return how much less than the best possible gain each of these picks gains, as a share of the first gain."""
    similarity = np.exp(-(distances(x, x) ** 2) / sigma**2)
    covered = np.exp(-(distances(x, labeled) ** 2) / sigma**2).max(axis=1) if len(labeled) else np.zeros(len(x))
    lost: list[float] = []
    first = 0.0
    for i, row in enumerate(rows):
        gain = (np.maximum(similarity - covered[None, :], 0) * weights[None, :]).sum(axis=1)
        gain[rows[:i]] = -np.inf
        first = first or float(gain.max())
        lost.append(float(gain.max() - gain[row]) / first)
        covered = np.maximum(covered, similarity[row])
    return np.array(lost)


def prob_cover(x: Array, labeled: Array, radius: float, batch: int) -> tuple[list[int], list[float]]:
    """Yehuda et al. (2022), algorithm 1: most uncovered candidates within the radius first; returns rows and counts."""
    near = distances(x, x) <= radius
    np.fill_diagonal(near, True)
    covered = np.asarray((distances(x, labeled) <= radius).any(axis=1))
    open_ = np.ones(len(x), dtype=bool)
    rows: list[int] = []
    counts: list[float] = []
    while len(rows) < min(batch, len(x)):
        degree = (near & ~covered[None, :]).sum(axis=1).astype(float)
        rows.append(first_best(degree, open_))
        counts.append(float(degree[rows[-1]]))
        open_[rows[-1]] = False
        covered |= near[rows[-1]]
    return rows, counts


def purity(x: Array, clusters: npt.NDArray[np.int64], radius: float) -> float:
    """Return the share of balls that hold members of one cluster only."""
    near = distances(x, x) <= radius
    same = clusters[:, None] == clusters[None, :]
    return float((same | ~near).all(axis=1).mean())


def badge(p: Array, x: Array, batch: int, rng: np.random.Generator) -> list[int]:
    """Ash et al. (2020), algorithm 1, with the gradient embeddings written out and k-means++ drawn by inverse CDF."""
    one_hot = np.eye(p.shape[1])[p.argmax(axis=1)]
    g = ((p - one_hot)[:, :, None] * x[:, None, :]).reshape(len(p), -1)
    lengths = (g**2).sum(axis=1)
    rows = [int(np.flatnonzero(lengths >= lengths.max() * (1 - 1e-6))[0])]
    while len(rows) < min(batch, len(x)):
        weight = (distances(g, g[rows]) ** 2).min(axis=1)
        weight[weight < 1e-9 * max(1e-300, lengths.max())] = 0
        weight[rows] = 0
        if not weight.any():
            weight[:] = 1
            weight[rows] = 0
        until = np.cumsum(weight)
        rows.append(int(np.searchsorted(until, rng.random() * until[-1], side="right")))
    return rows


def entropy(p: Array) -> float:
    """Return the entropy of one distribution, in nats."""
    return float(-sum(value * np.log(value) for value in p if value > 0))


def batch_bald(samples: Array, batch: int) -> tuple[list[int], list[float]]:
    """Kirsch et al. (2019), equation 8, over every joint label of the batch; returns rows and information gains."""
    passes, n, classes = samples.shape

    def information(rows: list[int]) -> float:
        joint = [
            np.mean([np.prod([samples[t, row, y] for row, y in zip(rows, labels, strict=True)]) for t in range(passes)])
            for labels in itertools.product(range(classes), repeat=len(rows))
        ]
        within = np.mean([sum(entropy(samples[t, row]) for row in rows) for t in range(passes)])
        return entropy(np.array(joint, dtype=np.float64)) - float(within)

    rows: list[int] = []
    gains: list[float] = []
    before = 0.0
    while len(rows) < min(batch, n):
        values = np.array([information([*rows, row]) for row in range(n)])
        open_ = ~np.isin(np.arange(n), rows)
        rows.append(first_best(values, open_))
        gains.append(float(values[rows[-1]]) - before)
        before = float(values[rows[-1]])
    return rows, gains


def typiclust(
    x: Array, clusters: npt.NDArray[np.int64], candidates: int, batch: int, neighbours: int, small: int
) -> list[int]:
    """Hacohen et al. (2022): clusters by fewest labels, then size; of each the most typical candidate, in turns.

    The first `candidates` rows of `x` may be chosen, the others are labeled.
    """
    sizes = {c: int((clusters == c).sum()) for c in np.unique(clusters)}
    labels = {c: int((clusters[candidates:] == c).sum()) for c in sizes}
    order = sorted(sizes, key=lambda c: (sizes[c] < small, labels[c], -sizes[c], c))
    queues = []
    for c in order:
        members = np.flatnonzero(clusters == c)
        within = distances(x[members], x[members])
        np.fill_diagonal(within, np.inf)
        count = max(1, min(neighbours, len(members) // 2))
        # A cluster of one is as typical as can be.
        typical = [1 / max(1e-12, np.sort(row)[:count].mean()) if len(members) > 1 else np.inf for row in within]
        ranked = sorted(range(len(members)), key=lambda i: (-typical[i], i))
        queues.append([int(members[i]) for i in ranked if members[i] < candidates])
    rows: list[int] = []
    while len(rows) < min(batch, candidates):
        for queue in queues:
            if queue and len(rows) < batch:
                rows.append(queue.pop(0))
    return rows
