"""Strategies that go by the embeddings alone: they need no model, and so work from the first round on."""

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import positive, share, whole
from al_pipeline.core.strategies.query import Floats, Picks, Query
from al_pipeline.core.strategies.registry import strategy

FEATURES = ("embeddings",)
# Rows of which the typical distance between candidates is estimated.
PROBE = 1000
# TypiClust's numbers (Hacohen, Dekel & Weinshall 2022, section 3 and the authors' code).
MOST_CLUSTERS, NEIGHBOURS, SMALL_CLUSTER = 500, 20, 5


@strategy(
    description="Always the candidate farthest from everything labeled or chosen (greedy core-set).",
    source="Sener & Savarese 2018, Active learning for convolutional neural networks: a core-set approach",
    needs=FEATURES,
)
def k_center(query: Query) -> Picks:
    """See `centers.farthest_first`."""
    from al_pipeline.core.strategies.kernels.centers import farthest_first

    return query.take_proposed(farthest_first(query))


@strategy(
    description="The most typical candidate of each of the largest clusters without a label.",
    source="Hacohen, Dekel & Weinshall 2022, Active learning on a budget",
    needs=FEATURES,
)
def typiclust(query: Query, *, clusters: int = MOST_CLUSTERS, neighbours: int = NEIGHBOURS) -> Picks:
    """Cluster labeled and candidates, then serve clusters: fewest labels first, then largest.

    Parameters
    ----------
    query : Query
    clusters : int
        The most there are; otherwise labeled + batch.
    neighbours : int
        Over how many nearest neighbours of its cluster a candidate's typicality is taken.
    """
    from al_pipeline.core.strategies.kernels.clusters import Ranked, in_turns, kmeans, rows_of, typicality
    from al_pipeline.core.strategies.kernels.distances import tensor

    most, neighbours = whole("clusters", clusters, 1), whole("neighbours", neighbours, 1)
    labeled = query.labeled_embeddings
    count = 0 if labeled is None else len(labeled)
    # Candidates first, so that a row of theirs keeps its number.
    parts = [tensor(query.embeddings)] if labeled is None or not count else [*map(tensor, (query.embeddings, labeled))]
    k = min(most, count + query.batch_size, query.n + count)
    cluster = kmeans(parts, k, query.rng)
    sizes, labels = np.bincount(cluster, minlength=k), np.bincount(cluster[query.n :], minlength=k)
    order = np.lexsort((-sizes, labels, sizes < SMALL_CLUSTER))
    order = order[sizes[order] > 0]

    def rank(turn: int) -> Ranked:
        members = np.flatnonzero(cluster == order[turn])
        values = typicality(rows_of(parts, members), neighbours)
        own = members < query.n
        members, values = members[own], values[own]
        best = np.argsort(-values, kind="stable")
        return members[best], values[best]

    return query.take_proposed(in_turns(len(order), rank))


@strategy(
    description="The candidates whose balls of one radius hold the most candidates not covered yet.",
    source="Yehuda, Dekel, Hacohen & Weinshall 2022, Active learning through a covering lens",
    needs=FEATURES,
)
def prob_cover(
    query: Query,
    *,
    radius: float | None = None,
    purity: float = 0.95,
    clusters: int | None = None,
    candidates: int = 50_000,
) -> Picks:
    """See `cover.cover`.

    Parameters
    ----------
    query : Query
    radius : float, optional
        δ of the balls; by default the largest whose balls are pure.
    purity : float
        Which share of balls must hold members of one cluster only.
    clusters : int, optional
        How many clusters that is judged by; by default the number of classes, or 20 without probabilities.
    candidates : int
        Of larger pools a random sample of this size is chosen from, since all its pairs are looked at.
    """
    from al_pipeline.core.strategies.kernels.cover import cover

    if clusters is None:
        clusters = query.probabilities.shape[1] if query.has_probabilities else 20
    rows = sample(query, whole("candidates", candidates, 1))
    delta = None if radius is None else positive("radius", radius)
    return query.take_proposed(cover(query, rows, delta, share("purity", purity), whole("clusters", clusters, 1)))


@strategy(
    description="The batch that covers the candidates best under an RBF kernel.",
    source="Bae, Noh & Sutherland 2024, Generalized coverage for more robust low-budget active learning",
    needs=FEATURES,
)
def max_herding(query: Query, *, radius: float | None = None, candidates: int = 20_000) -> Picks:
    """See `herding.herd`, every candidate counting the same.

    Parameters
    ----------
    query : Query
    radius : float, optional
        σ of the kernel exp(−d²/σ²); by default that of `kernel_radius`.
    candidates : int
        Of larger pools a random sample of this size is covered and chosen from, since all its pairs are looked at.
    """
    from al_pipeline.core.strategies.kernels.herding import herd

    rows = sample(query, whole("candidates", candidates, 1))
    sigma = kernel_radius(query) if radius is None else positive("radius", radius)
    return query.take_proposed(herd(query, rows, np.ones(len(rows), dtype=np.float32), sigma))


def sample(query: Query, most: int) -> npt.NDArray[np.int64]:
    """Return the candidates that are left, or a random sample of them, in input order."""
    rows = query.free
    most = max(most, query.batch_size)
    return rows if len(rows) <= most else np.sort(query.rng.choice(rows, most, replace=False))


def kernel_radius(query: Query) -> float:
    """Return the σ of a kernel: the smallest distance between two labeled samples that are not the same.

    It shrinks as labels come in, and with it what a label is taken to cover (Bae, Oliveira & Sutherland 2025, section
    3.3). With fewer than two different labeled samples it is half the median distance between candidates.
    """
    labeled = query.labeled_embeddings
    if labeled is not None and len(labeled) > 1:
        smallest = _smallest_distance(labeled)
        if smallest is not None:
            return smallest
    probe = query.features(np.arange(0, query.n, max(1, query.n // PROBE))).astype(np.float64)
    norms = (probe * probe).sum(axis=1)
    distances = np.sqrt(np.maximum(norms[:, None] + norms[None, :] - 2 * probe @ probe.T, 0))
    distances = distances[np.triu_indices(len(probe), 1)]
    apart = distances[distances > 1e-6 * np.sqrt(norms.max(initial=0.0))]
    # All candidates are the same: any radius covers all of them.
    return float(np.median(apart)) / 2 if len(apart) else 1.0


def _smallest_distance(x: Floats) -> float | None:
    """Return the smallest distance between two rows that differ by more than rounding, None if there are no two."""
    from al_pipeline.core.strategies.kernels.distances import blocks, rounding, squared_distances, squared_norms, tensor

    rows = tensor(x)
    norms = squared_norms(rows)
    same, smallest = rounding(norms), np.inf
    for part in blocks(len(rows)):
        found = squared_distances(rows[part], norms[part], rows, norms)
        found = found[found > same]
        smallest = min(smallest, float(found.min()) if found.numel() else np.inf)
    return float(np.sqrt(smallest)) if np.isfinite(smallest) else None
