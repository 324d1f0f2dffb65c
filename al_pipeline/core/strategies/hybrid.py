"""Strategies that weigh both what the model is unsure about and what the candidates look like."""

import numpy as np

from al_pipeline.core.errors import positive, whole
from al_pipeline.core.learning.calibration import tempered
from al_pipeline.core.strategies import utilities
from al_pipeline.core.strategies.diversity import kernel_radius, sample, typiclust
from al_pipeline.core.strategies.query import Picks, Query, best_of_blocks
from al_pipeline.core.strategies.registry import strategy
from al_pipeline.core.strategies.uncertainty import margin

BOTH = ("probabilities", "embeddings")
# Hierarchical clustering takes the square of this in numbers.
MOST_TO_CLUSTER = 5000
LABELS_PER_CLASS = 10


@strategy(
    description="k-means++ over the gradients that the predicted labels would cause: unsure and different ones.",
    source="Ash, Zhang, Krishnamurthy, Langford & Agarwal 2020, Deep batch active learning by diverse, uncertain "
    "gradient lower bounds",
    needs=BOTH,
)
def badge(query: Query) -> Picks:
    """See `gradients.badge_picks`."""
    from al_pipeline.core.strategies.kernels.gradients import badge_picks

    return query.take_proposed(badge_picks(query))


@strategy(
    description="The smallest margins, taken in turns from clusters, small clusters first.",
    source="Citovsky et al. 2021, Batch active learning at scale",
    needs=BOTH,
)
def cluster_margin(query: Query, *, pool: int = 10, clusters: int | None = None) -> Picks:
    """Cluster the candidates of smallest margin (average linkage), serve the clusters in turns, smallest first.

    Parameters
    ----------
    query : Query
    pool : int
        How many times the batch is clustered; at most 5,000 candidates are, or the batch if that is larger. The paper
        clusters the whole pool once, which takes the square of its size.
    clusters : int, optional
        How many clusters; by default as many as the batch has seats. Within one the smallest margin is taken first.
    """
    from sklearn.cluster import AgglomerativeClustering

    from al_pipeline.core.strategies.kernels.clusters import in_turns

    seats = query.batch_size
    size = min(query.n, max(seats, min(whole("pool", pool, 1) * seats, MOST_TO_CLUSTER)) + len(query.taken))
    rows, values = best_of_blocks(
        lambda start, stop: -utilities.margin(query.probabilities[start:stop]), query.n, query.block_rows, size
    )
    free = ~np.isin(rows, query.taken)
    rows, values = rows[free], values[free]
    k = min(seats if clusters is None else whole("clusters", clusters, 1), len(rows))
    labels = np.zeros(len(rows), dtype=np.int64)
    if len(rows) > 1:
        labels = AgglomerativeClustering(k, linkage="average").fit_predict(query.features(rows))
    order = np.argsort(np.bincount(labels, minlength=k), kind="stable")
    proposals = in_turns(len(order), lambda turn: (rows[labels == order[turn]], values[labels == order[turn]]))
    return query.take_proposed(proposals)


@strategy(
    description="TypiClust while labels are few, margin from then on.",
    source="Doucet, Estermann, Aczel & Wattenhofer 2024, Bridging diversity and uncertainty in active learning",
    needs=("embeddings",),
    uses=BOTH,
)
def tcm(query: Query, *, switch: int | None = None) -> Picks:
    """Choose as `typiclust` with fewer than `switch` labels, or without probabilities, else as `margin`.

    Parameters
    ----------
    query : Query
    switch : int, optional
        By default ten labels per class.
    """
    at = None if switch is None else whole("switch", switch, 0)
    if not query.has_probabilities:
        return typiclust(query)
    if at is None:
        at = LABELS_PER_CLASS * query.probabilities.shape[1]
    labels = 0 if query.labeled_embeddings is None else len(query.labeled_embeddings)
    return typiclust(query) if labels < at else margin(query)


@strategy(
    description="The batch that covers best what the model is unsure about: one strategy for few and for many labels.",
    source="Bae, Oliveira & Sutherland 2025, Uncertainty herding: one active learning method for all label budgets",
    needs=("embeddings",),
    uses=BOTH,
)
def uncertainty_herding(
    query: Query, *, radius: float | None = None, temperature: float = 1.0, candidates: int = 20_000
) -> Picks:
    """Cover the candidates under an RBF kernel, each weighted by its uncertainty U = 1 − (p₁ − p₂).

    Without probabilities, before there is a model, every candidate counts the same, which is `max_herding`.

    Parameters
    ----------
    query : Query
    radius : float, optional
        σ of the kernel exp(−d²/σ²); by default the smallest distance between two labeled samples (`kernel_radius`).
    temperature : float
        Probabilities become softmax(ln p / temperature) first; the authors fit it on a labeled split.
    candidates : int
        Of larger pools a random sample of this size is covered and chosen from, as the authors do.
    """
    from al_pipeline.core.strategies.kernels.herding import herd

    temperature = positive("temperature", temperature)
    rows = sample(query, whole("candidates", candidates, 1))
    weights = np.ones(len(rows), dtype=np.float32)
    if query.has_probabilities:
        step = query.block_rows
        for start in range(0, len(rows), step):
            block = tempered(query.probabilities[rows[start : start + step]], temperature)
            weights[start : start + step] = 1 - utilities.margin(block)
    sigma = kernel_radius(query) if radius is None else positive("radius", radius)
    return query.take_proposed(herd(query, rows, weights, sigma))


@strategy(
    description="uncertainty_herding where there are embeddings, margin otherwise: the default for every budget.",
    source="docs/strategies.md",
    needs=(),
    uses=BOTH,
)
def auto(query: Query) -> Picks:
    """Choose by what is known about the candidates."""
    return uncertainty_herding(query) if query.has_embeddings else margin(query)
