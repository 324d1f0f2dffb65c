"""The query group: draw S candidates, score them with the round's checkpoint, choose the B that people are asked."""

# Inside a graph an op is called with its inputs alone; Dagster hands it the rest.
# pyright: reportCallIssue=false

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd

from al_pipeline.core.data.pool import select_split
from al_pipeline.core.evaluation.figures import score_histogram
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rng import generator
from al_pipeline.core.rounds import RoundPolicy, round_key, round_number
from al_pipeline.core.strategies import Selection, available, certainty, cold_start, select
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.io import TABLE
from al_pipeline.defs.metadata import picture
from al_pipeline.defs.partitions import rounds
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.answers import draw_holdout, planned_before
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.review import review_rows
from al_pipeline.loop.samples import Samples

if TYPE_CHECKING:
    from al_pipeline.core.learning.checkpoint import Checkpoint

PLAN_COLUMNS = (
    "sample_id",
    "purpose",
    "rank",
    "strategy",
    "score",
    "propensity",
    "certainty",
    "predicted",
    "predicted_probability",
    "seed",
    "checkpoint",
)


@dg.op
def draw_candidates(
    context: dg.OpExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    image_pool: pd.DataFrame,
) -> pd.DataFrame:
    """Draw S samples at random from the unlabeled pool: pool samples that no earlier round has asked about."""
    number = round_number(context.partition_key)
    asked = planned_before(deployment.ledger, number) | deployment.ledger.imported()
    if number == 0:
        asked |= set(draw_holdout(image_pool, deployment.settings.holdout_size, round_config.seed))
    # Sorted, so that the draw depends on the samples and the seed, not on where the files lie.
    pool = select_split(image_pool, "pool").sort_values("sample_id")
    unlabeled = pool[~pool["sample_id"].isin(asked)]
    size = len(unlabeled) if round_config.sample_size is None else min(round_config.sample_size, len(unlabeled))
    rng = generator(round_config.seed, number, "draw")
    drawn = unlabeled.iloc[rng.permutation(len(unlabeled))[:size]]
    context.log.info("%d of %d unlabeled samples drawn", size, len(unlabeled))
    return drawn[["sample_id", "uri"]].reset_index(drop=True)


@dg.op
def predict_candidates(
    context: dg.OpExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    image_pool: pd.DataFrame,
    candidates: pd.DataFrame,
    checkpoint: Any,
) -> pd.DataFrame:
    """Predict the candidates with the round's checkpoint: softmax over the classes."""
    samples = Samples(image_pool, deployment, training, round_config.seed)
    probabilities = samples.predict(checkpoint, candidates["sample_id"].tolist(), context.log)
    context.log.info("%d candidates predicted with %s", len(candidates), checkpoint.hash)
    return candidates.assign(probabilities=list(probabilities))


@dg.op(out={"result": dg.Out(pd.DataFrame, io_manager_key="tables"), "finite_and_covering": dg.Out(dg.Nothing)})
def score_candidates(
    context: dg.OpExecutionContext, candidates: pd.DataFrame, predictions: pd.DataFrame, checkpoint: Any
) -> Iterator[Any]:
    """Turn predictions into certainties, max softmax − 1/K; check that every candidate has one finite score."""
    info = checkpoint.info
    probabilities = stack(predictions["probabilities"], len(info.class_names))
    best = probabilities.argmax(axis=1)
    scores = predictions.assign(
        predicted=[info.class_names[i] for i in best],
        predicted_probability=probabilities[np.arange(len(best)), best],
        certainty=certainty(probabilities),
        checkpoint=checkpoint.hash,
        trained=info.trained,
    )
    metadata: dict[str, Any] = {
        "candidates": len(scores),
        "checkpoint": checkpoint.hash,
        "trained": info.trained,
        "dagster/row_count": len(scores),
    }
    if len(scores):
        metadata["certainty"] = picture(score_histogram(scores["certainty"].to_numpy()), "certainty of the candidates")
        metadata["mean_certainty"] = float(scores["certainty"].mean())
    yield dg.Output(scores, "result", metadata=metadata)
    finite = bool(np.isfinite(scores["certainty"].to_numpy(dtype=float)).all())
    covering = sorted(candidates["sample_id"]) == sorted(scores["sample_id"])
    yield dg.AssetCheckResult(
        asset_key="uncertainty_scores",
        check_name="finite_and_covering",
        passed=finite and covering,
        metadata={"drawn": len(candidates), "scored": len(scores), "finite": finite},
    )


@dg.graph_asset(
    group_name="query",
    kinds={"pytorch"},
    partitions_def=rounds,
    check_specs=[dg.AssetCheckSpec("finite_and_covering", asset="uncertainty_scores", blocking=True)],
)
def uncertainty_scores(image_pool: pd.DataFrame, checkpoint: Any) -> Any:
    """How unsure the round's checkpoint is about S random unlabeled samples: draw, predict, score."""
    candidates = draw_candidates(image_pool)
    scores, check = score_candidates(candidates, predict_candidates(image_pool, candidates, checkpoint), checkpoint)
    return {"result": scores, "uncertainty_scores_finite_and_covering": check}


@dg.asset(
    group_name="query",
    kinds={"python"},
    partitions_def=rounds,
    io_manager_key="tables",
    dagster_type=TABLE,
    deps=["embeddings"],
    check_specs=[
        dg.AssetCheckSpec("unique", asset="query_batch", blocking=True),
        dg.AssetCheckSpec("disjoint_from_earlier_rounds", asset="query_batch", blocking=True),
    ],
)
def query_batch(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    policy: dg.ResourceParam[RoundPolicy],
    training: dg.ResourceParam[TrainingOptions],
    image_pool: pd.DataFrame,
    labeled_pool: pd.DataFrame,
    checkpoint: Any,
    uncertainty_scores: pd.DataFrame,
) -> dg.MaterializeResult:
    """The samples that people are asked about, in query order; written once, before anything is sent.

    A re-run finds the batch in the ledger and keeps it, whatever the configuration says by then.
    """
    number, ledger = round_number(context.partition_key), deployment.ledger
    reused = ledger.is_planned(context.partition_key)
    if reused:
        batch = ledger.planned(context.partition_key)[list(PLAN_COLUMNS)]
        context.log.info("%s was planned before: its batch of %d is kept", context.partition_key, len(batch))
    else:
        size = min(round_config.batch_size, _labels_left(deployment, policy, number))
        embeddings, asked, passes = None, None, None
        samples = Samples(image_pool, deployment, training, round_config.seed)
        reviews: list[dict[str, Any]] = []
        if int(round_config.review * size):
            names, min_votes = list(checkpoint.info.class_names), policy.min_votes
            reviews = review_rows(
                ledger,
                samples,
                labeled_pool,
                names,
                number,
                int(round_config.review * size),
                min_votes=min_votes,
                seed=round_config.seed,
                log=context.log,
            )
            size -= len(reviews)
        if _needs_samples(round_config) and size > 0 and len(uncertainty_scores):
            ids = uncertainty_scores["sample_id"].tolist()
            if _uses_embeddings(round_config):
                embeddings = samples.features(ids, context.log)
                known = planned_before(ledger, number, purpose="query") | ledger.imported()
                known &= set(samples.uris)
                asked = samples.features(sorted(known), context.log)
            if _needs_passes(round_config) and checkpoint.info.trained:
                passes = _passes(context, samples, checkpoint, labeled_pool, ids, round_config.seed)
        rows = choose(uncertainty_scores, round_config, size, number, embeddings, asked, passes) + reviews
        if number == 0:
            rows += _holdout_rows(image_pool, deployment, round_config)
        batch = ledger.plan(context.partition_key, pd.DataFrame(rows, columns=list(PLAN_COLUMNS)))

    earlier = planned_before(ledger, number)
    new = batch[batch["purpose"] != REVIEW]
    overlap = sorted(set(new["sample_id"]) & earlier)
    query = batch[batch["purpose"] == "query"].sort_values("rank")
    metadata: dict[str, Any] = {
        "samples": len(query),
        "holdout_samples": int((batch["purpose"] == "holdout").sum()),
        "reviews": len(batch) - len(new),
        # Chosen while people still answer: by a checkpoint that does not know those answers.
        "prefetched": any(round_number(key) < number for key, _ in ledger.open_tasks()),
        "strategy": ", ".join(query["strategy"].unique()) if len(query) else "none: nothing is left to ask",
        "seed": round_config.seed,
        "reused": reused,
        "checkpoint": str(query["checkpoint"].iloc[0]) if len(query) else "",
    }
    if len(query):
        metadata["batch"] = picture(_sheet(query, image_pool), "the chosen images: certainty, predicted class")
    return dg.MaterializeResult(
        value=batch,
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(check_name="unique", passed=bool(batch["sample_id"].is_unique)),
            dg.AssetCheckResult(
                check_name="disjoint_from_earlier_rounds",
                passed=not overlap,
                metadata={"asked_before": len(earlier), "asked_twice": ", ".join(overlap[:10]) or "none"},
            ),
        ],
    )


def choose(
    scores: pd.DataFrame,
    config: RoundSettings,
    size: int,
    number: int,
    embeddings: np.ndarray | None = None,
    asked: np.ndarray | None = None,
    passes: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return the plan rows of the query batch: at most `size` of the scored candidates.

    Without a trained checkpoint there is nothing to be uncertain with: a strategy that goes by the features alone is
    used as it is, any other one gives way to a random draw.

    Parameters
    ----------
    scores : pd.DataFrame
        The asset `uncertainty_scores`.
    config : RoundSettings
    size : int
    number : int
        Of the round.
    embeddings : float32 array, shape (n, d), optional
        Features of the candidates, if the configuration uses them.
    asked : float32 array, shape (m, d), optional
        Features of the samples that earlier rounds have asked about: their neighbourhoods count as known.
    passes : float64 array, shape (T, n, K), optional
        Predictions of an ensemble, for the strategies that go by its disagreement.
    """
    size = min(size, len(scores))
    if size < 1:
        return []
    selection = _select(scores, config, size, number, embeddings, asked, passes)
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


def _select(
    scores: pd.DataFrame,
    config: RoundSettings,
    size: int,
    number: int,
    embeddings: np.ndarray | None,
    asked: np.ndarray | None,
    passes: np.ndarray | None,
) -> Selection:
    trained = bool(scores["trained"].iloc[0])
    # An untrained network's probabilities say how many candidates there are, no more.
    predicted = trained or embeddings is None
    return select(
        config.strategy if trained else cold_start(config.strategy),
        probabilities=(stack(scores["probabilities"], None) if passes is None else passes) if predicted else None,
        embeddings=embeddings,
        labeled_embeddings=asked if asked is not None and len(asked) else None,
        batch_size=size,
        rng=generator(config.seed, number, "query"),
        balanced=config.balanced and trained,
        explore=config.explore,
        dedup=config.dedup,
    )


def _uses_embeddings(config: RoundSettings) -> bool:
    return config.dedup is not None or "embeddings" in available()[config.strategy].uses


def _needs_passes(config: RoundSettings) -> bool:
    return "passes" in available()[config.strategy].needs


def _needs_samples(config: RoundSettings) -> bool:
    return _uses_embeddings(config) or _needs_passes(config)


def _passes(
    context: dg.AssetExecutionContext,
    samples: Samples,
    checkpoint: "Checkpoint",
    labeled_pool: pd.DataFrame,
    candidates: list[str],
    seed: int,
) -> np.ndarray:
    """Return the predictions of an ensemble of heads on the checkpoint's features, shape (T, n, K)."""
    from al_pipeline.core.learning.head import PASSES, head_passes

    names = list(checkpoint.info.class_names)
    return head_passes(
        samples.features_under(checkpoint, labeled_pool["sample_id"].tolist(), context.log),
        np.array([names.index(label) for label in labeled_pool["label"]]),
        len(names),
        samples.features_under(checkpoint, candidates, context.log),
        passes=PASSES,
        rng=generator(seed, round_number(context.partition_key), "passes"),
    )


def stack(column: pd.Series, classes: int | None) -> np.ndarray:
    """Return a column of probability vectors as an (n, K) float64 matrix, also when it is empty."""
    if len(column) == 0:
        return np.empty((0, classes or 2))
    return np.stack(list(column)).astype(np.float64)


def _labels_left(deployment: Deployment, policy: RoundPolicy, number: int) -> int:
    """Return how many more labels the policy allows; the last round asks nobody, since nothing would use the answer."""
    if policy.max_rounds is not None and number + 1 >= policy.max_rounds:
        return 0
    if policy.label_budget is None:
        return 2**31
    ledger, before = deployment.ledger, round_key(max(0, number - 1))
    # A round that is opened ahead counts on the answers that people are about to give.
    coming = sum(key == before for key, _ in ledger.open_tasks()) if policy.prefetch and number else 0
    return max(0, policy.label_budget - ledger.count_labels(policy.min_votes) - coming)


def _holdout_rows(manifest: pd.DataFrame, deployment: Deployment, config: RoundSettings) -> list[dict[str, Any]]:
    samples = draw_holdout(manifest, deployment.settings.holdout_size, config.seed)
    return [
        {
            "sample_id": sample_id,
            "purpose": "holdout",
            "rank": rank,
            "strategy": "random",
            "propensity": len(samples) / max(1, len(select_split(manifest, "pool"))),
            "seed": config.seed,
        }
        for rank, sample_id in enumerate(samples)
    ]


def _sheet(query: pd.DataFrame, manifest: pd.DataFrame) -> bytes:
    from al_pipeline.core.data.images import contact_sheet

    uris = manifest[manifest["split"] != "excluded"].set_index("sample_id")["uri"]
    captions = [" · ".join(filter(None, [row.predicted, f"{row.certainty:.2f}"])) for row in query.itertuples()]
    return contact_sheet(uris.loc[query["sample_id"]].tolist(), captions)
