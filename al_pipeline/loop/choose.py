"""Which samples a round asks about: the draw of candidates, their scores, and the batch, written before it is sent."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from al_pipeline.core.data.pool import select_split
from al_pipeline.core.rounds import RoundPolicy, round_key
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.ledger import PLAN_COLUMNS
from al_pipeline.loop.again import again_rows
from al_pipeline.loop.answers import asked_blind, draw_holdout, planned_before
from al_pipeline.loop.classes import classes_of, classes_of_round
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.review import review_rows
from al_pipeline.loop.together import asking_groups, members_for, one_of_each, parted

if TYPE_CHECKING:
    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.samples import StoredSamples


def draw_candidates(
    ledger: "Ledger",
    manifest: pd.DataFrame,
    config: RoundSettings,
    number: int,
    holdout_size: int,
    *,
    together: bool = False,
) -> tuple[pd.DataFrame, int]:
    """Draw S samples at random from the unlabeled pool: pool samples that no earlier round has asked about.

    Of samples that are asked about together one is drawn from.

    Returns
    -------
    DataFrame
        ``sample_id, uri``.
    int
        How many there were to draw from.
    """
    from al_pipeline.core.turn import draw

    unlabeled = _unlabeled(ledger, manifest, config, number, holdout_size)
    if together:
        unlabeled = one_of_each(unlabeled, parted(ledger), seed=config.seed, number=number)
    drawn = unlabeled.iloc[draw(len(unlabeled), config.sample_size, seed=config.seed, number=number)]
    return drawn[["sample_id", "uri"]].reset_index(drop=True), len(unlabeled)


def _unlabeled(
    ledger: "Ledger", manifest: pd.DataFrame, config: RoundSettings, number: int, holdout_size: int
) -> pd.DataFrame:
    # Who was asked about blind stays so, also if the task is gone.
    asked = planned_before(ledger, number) | ledger.imported() | asked_blind(ledger)
    if number == 0:
        asked |= set(draw_holdout(manifest, holdout_size, config.seed))
    # Sorted, so that the draw depends on the samples and the seed, not on where the files lie.
    pool = select_split(manifest, "pool").sort_values("sample_id")
    return pool[~pool["sample_id"].isin(asked)]


def score_candidates(predictions: pd.DataFrame, checkpoint: "Checkpoint") -> pd.DataFrame:
    """Turn predictions into certainties, max softmax − 1/K.

    Parameters
    ----------
    predictions : DataFrame
        With a column ``probabilities``, float64 vectors of length K.
    checkpoint : Checkpoint
    """
    from al_pipeline.core.strategies import certainty

    info = checkpoint.info
    probabilities = stack(predictions["probabilities"], len(info.class_names))
    best = probabilities.argmax(axis=1)
    return predictions.assign(
        predicted=[info.class_names[i] for i in best],
        predicted_probability=probabilities[np.arange(len(best)), best],
        certainty=certainty(probabilities),
        checkpoint=checkpoint.hash,
        trained=info.trained,
    )


def choose_batch(
    deployment: Deployment,
    samples: "StoredSamples",
    manifest: pd.DataFrame,
    labeled_pool: pd.DataFrame,
    checkpoint: "Checkpoint",
    scores: pd.DataFrame,
    config: RoundSettings,
    policy: RoundPolicy,
    number: int,
) -> pd.DataFrame:
    """Choose what people are asked about in a round, write it to the ledger, and return the rows of the plan.

    That is the query batch, with the samples that are reviewed in it, and in round 0 the holdout.

    Parameters
    ----------
    deployment : Deployment
    samples : StoredSamples
    manifest, labeled_pool, checkpoint, scores
        The assets image_pool, labeled_pool, checkpoint and uncertainty_scores of the round.
    config : RoundSettings
    policy : RoundPolicy
    number : int
        Of the round.
    """
    ledger = deployment.ledger
    size = min(config.batch_size, _labels_left(ledger, policy, number))
    classes, most = classes_of_round(deployment, manifest, round_key(number)), int(config.review * size)
    reviews = review_rows(ledger, samples, labeled_pool, classes, config, policy, number, most)
    free = size - len(reviews)
    names, overlap = classes_of(deployment, manifest).names, deployment.settings.overlap
    again = again_rows(ledger, number, names, policy, overlap, most=free, seed=config.seed)
    again = [row for row in again if row["sample_id"] in samples.uris]
    scores = scores[~scores["sample_id"].isin([row["sample_id"] for row in again])]
    holdout_size, alone = deployment.settings.holdout_size, parted(ledger)
    together = deployment.settings.ask_groups
    unlabeled = _unlabeled(ledger, manifest, config, number, holdout_size) if together else manifest.head(0)
    groups = dict(zip(unlabeled["sample_id"], asking_groups(unlabeled, alone), strict=True))
    # What is asked again brings its group along.
    scores = scores[~scores["sample_id"].map(groups).isin({groups.get(row["sample_id"], "") for row in again})]
    free -= sum(row["purpose"] == "query" for row in again)
    rows = _query_rows(ledger, samples, labeled_pool, checkpoint, scores, config, free, number) + again + reviews
    if number == 0:
        rows += _holdout_rows(manifest, holdout_size, config.seed)
    members = members_for(rows, unlabeled, alone)
    return ledger.plan(round_key(number), pd.DataFrame(rows, columns=list(PLAN_COLUMNS)), members)


def _query_rows(
    ledger: "Ledger",
    samples: "StoredSamples",
    labeled_pool: pd.DataFrame,
    checkpoint: "Checkpoint",
    scores: pd.DataFrame,
    config: RoundSettings,
    size: int,
    number: int,
) -> list[dict[str, Any]]:
    """Return the plan rows of the query batch: at most `size` of the scored candidates."""
    from al_pipeline.core import turn
    from al_pipeline.core.learning.train import class_numbers

    size = min(size, len(scores))
    if size < 1:
        return []
    ids, trained = scores["sample_id"].tolist(), checkpoint.info.trained
    embeddings, asked, probabilities = None, None, stack(scores["probabilities"], None)
    if turn.uses_features(config.strategy, config):
        embeddings = samples.features(ids)
        known = planned_before(ledger, number, purpose="query") | ledger.imported()
        asked = samples.features(sorted(known & set(samples.uris)))
    if turn.needs_ensemble(config.strategy) and trained:
        names, labeled = checkpoint.info.class_names, labeled_pool["sample_id"].tolist()
        targets = class_numbers(labeled_pool["label"].tolist(), names)
        at = {"seed": config.seed, "number": number}
        probabilities = turn.ensemble(samples.model(checkpoint), samples, labeled, targets, ids, len(names), **at)
    selection = turn.choose(
        config.strategy,
        config,
        size,
        trained=trained,
        probabilities=probabilities,
        embeddings=embeddings,
        asked=asked,
        seed=config.seed,
        number=number,
    )
    strategies = np.where(selection.explored, "random", selection.strategy)
    chosen = scores.iloc[selection.indices]
    return [
        {
            "sample_id": row.sample_id,
            "purpose": "query",
            "rank": rank,
            "strategy": str(strategy),
            "score": float(score),
            "propensity": float(propensity),
            "certainty": row.certainty,
            "predicted": row.predicted if row.trained else None,
            "predicted_probability": row.predicted_probability,
            "seed": config.seed,
            "checkpoint": row.checkpoint,
        }
        for rank, (row, strategy, score, propensity) in enumerate(
            zip(chosen.itertuples(), strategies, selection.scores, selection.propensities, strict=True)
        )
    ]


def stack(column: pd.Series, classes: int | None) -> np.ndarray:
    """Return a column of probability vectors as an (n, K) float64 matrix, also when it is empty."""
    if len(column) == 0:
        return np.empty((0, classes or 2))
    return np.stack(list(column)).astype(np.float64)


def _labels_left(ledger: "Ledger", policy: RoundPolicy, number: int) -> int:
    """Return how many more labels the policy allows; the last round asks nobody, since nothing would use the answer."""
    if policy.max_rounds is not None and number + 1 >= policy.max_rounds:
        return 0
    if policy.label_budget is None:
        return 2**31
    before = round_key(max(0, number - 1))
    # A round that is opened ahead counts on the answers that people are about to give.
    coming = sum(key == before for key, _ in ledger.open_tasks()) if policy.prefetch and number else 0
    return max(0, policy.label_budget - ledger.count_labels(policy.min_votes) - coming)


def _holdout_rows(manifest: pd.DataFrame, size: int, seed: int) -> list[dict[str, Any]]:
    samples = draw_holdout(manifest, size, seed)
    return [
        {
            "sample_id": sample_id,
            "purpose": "holdout",
            "rank": rank,
            "strategy": "random",
            "propensity": len(samples) / max(1, len(select_split(manifest, "pool"))),
            "seed": seed,
        }
        for rank, sample_id in enumerate(samples)
    ]
