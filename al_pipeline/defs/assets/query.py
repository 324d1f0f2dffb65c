"""The query group: draw S candidates, score them with the round's checkpoint, choose the B that people are asked."""

import time
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import RoundPolicy, round_number
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.io import TABLE
from al_pipeline.defs.metadata import for_people, round_page, some
from al_pipeline.defs.observe import seconds_per_round
from al_pipeline.defs.partitions import rounds
from al_pipeline.ledger import PLAN_COLUMNS
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.answers import planned_before
from al_pipeline.loop.choose import choose_batch, covers, draw_candidates, fewer_than_asked, score_candidates
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.pace import answers_meanwhile, batch_in_step
from al_pipeline.loop.samples import StoredSamples


@dg.asset(
    group_name="query",
    kinds={"pytorch"},
    partitions_def=rounds,
    io_manager_key="tables",
    dagster_type=TABLE,
    check_specs=[
        dg.AssetCheckSpec(
            "finite_and_covering",
            asset="uncertainty_scores",
            blocking=True,
            description="Every candidate that was drawn has one score, a number. If it fails nobody is asked.",
        )
    ],
)
def uncertainty_scores(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    image_pool: pd.DataFrame,
    checkpoint: Any,
) -> dg.MaterializeResult:
    """How unsure the round's checkpoint is about S random unlabeled samples: draw, predict, score.

    The histogram of certainties follows once the batch is in Label Studio.
    """
    number, size = round_number(context.partition_key), deployment.settings.holdout_size
    together = deployment.settings.ask_groups
    drawn, unlabeled = draw_candidates(deployment.ledger, image_pool, round_config, number, size, together=together)
    context.log.info("%d of %d unlabeled samples drawn", len(drawn), unlabeled)
    key = context.partition_key
    samples = StoredSamples(image_pool, deployment, training, round_config.seed, context.log, key=key)
    began = time.monotonic()
    probabilities, found = samples.predict(samples.model(checkpoint), drawn)
    seconds = time.monotonic() - began
    if found.absent:
        context.log.warning(found.sentence("candidates are left out,"))
    context.log.info("%d candidates predicted with %s", len(found.there), checkpoint.hash)
    scores = score_candidates(found.there, probabilities, checkpoint)
    finite = bool(np.isfinite(scores["certainty"].to_numpy(dtype=float)).all())
    covering = covers(scores, found.absent, drawn)
    metadata: dict[str, Any] = {
        "candidates": len(scores),
        "seconds": round(seconds, 2),
        "checkpoint": checkpoint.hash,
        "trained": checkpoint.info.trained,
        "dagster/row_count": len(scores),
    }
    if len(scores):
        metadata["mean_certainty"] = float(scores["certainty"].mean())
    check = {"drawn": len(drawn), "scored": len(scores), "without_image": len(found.absent), "finite": finite}
    return dg.MaterializeResult(
        value=scores,
        metadata=for_people(metadata),
        check_results=[
            dg.AssetCheckResult(check_name="finite_and_covering", passed=finite and covering, metadata=check)
        ],
    )


@dg.asset(
    group_name="query",
    kinds={"python"},
    partitions_def=rounds,
    io_manager_key="tables",
    dagster_type=TABLE,
    deps=["embeddings"],
    check_specs=[
        dg.AssetCheckSpec("unique", asset="query_batch", blocking=True, description="No image is in the batch twice."),
        dg.AssetCheckSpec(
            "disjoint_from_earlier_rounds",
            asset="query_batch",
            blocking=True,
            description="Nobody was asked about these images before, but for those that are to be looked at again.",
        ),
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

    A re-run finds the batch in the ledger and keeps it, whatever the configuration says by then. The picture of its
    images follows once it is in Label Studio.
    """
    key, ledger = context.partition_key, deployment.ledger
    number, reused = round_number(key), ledger.is_planned(key)
    if reused:
        batch = ledger.planned(key)[list(PLAN_COLUMNS)]
        context.log.info("%s was planned before: its batch of %d is kept", key, len(batch))
    else:
        samples = StoredSamples(image_pool, deployment, training, round_config.seed, context.log, key=key)
        made = (image_pool, labeled_pool, checkpoint, uncertainty_scores)
        round_config = _in_step(context, deployment, round_config, policy, number)
        batch = choose_batch(deployment, samples, *made, round_config, policy, number)

    earlier = planned_before(ledger, number)
    new = batch[batch["purpose"] != REVIEW]
    overlap = sorted(set(new["sample_id"]) & earlier)
    query = batch[batch["purpose"] == "query"].sort_values("rank")
    metadata: dict[str, Any] = round_page(deployment.settings, key) | {
        "samples": len(query),
        "holdout_samples": int((batch["purpose"] == "holdout").sum()),
        "reviews": len(batch) - len(new),
        "shown_beside": len(ledger.members(key)),
        # Chosen while people still answer: by a checkpoint that does not know those answers.
        "prefetched": any(round_number(key) < number for key, _ in ledger.open_tasks()),
        "strategy": ", ".join(query["strategy"].unique()) if len(query) else "none: nothing is left to ask",
        "seed": round_config.seed,
        "reused": reused,
        "checkpoint": str(query["checkpoint"].iloc[0]) if len(query) else "",
    }
    weights = checkpoint.info.weights
    asked = int((batch["purpose"] != "holdout").sum())
    fewer = None if reused else fewer_than_asked(asked, len(uncertainty_scores), round_config, weights)
    if fewer is not None:
        metadata["fewer"] = fewer
        context.log.info(fewer)
    if round_config.dedup is not None and weights == "none":
        metadata["dedup"] = "not applied: without given weights (training.weights) all images look alike"
    return dg.MaterializeResult(
        value=batch,
        metadata=for_people(metadata),
        check_results=[
            dg.AssetCheckResult(check_name="unique", passed=bool(batch["sample_id"].is_unique)),
            dg.AssetCheckResult(
                check_name="disjoint_from_earlier_rounds",
                passed=not overlap,
                metadata={"asked_before": len(earlier), "asked_twice": some(overlap)},
            ),
        ],
    )


def _in_step(
    context: dg.AssetExecutionContext, deployment: Deployment, config: RoundSettings, policy: RoundPolicy, number: int
) -> RoundSettings:
    """Return the settings with a larger batch where people would go through the usual one before the next is made."""
    if not policy.prefetch or number == 0:
        return config
    meanwhile = answers_meanwhile(deployment.ledger, seconds_per_round(context.instance, number - 1))
    share = deployment.settings.holdout_share if deployment.ledger.holdout_waiting() else 0.0
    size = batch_in_step(config.batch_size, meanwhile, share, policy.hurry)
    size = max(config.batch_size, min(size, config.sample_size or size))
    if size > config.batch_size:
        told = "People answer %.0f images while a round is made: the batch has %d instead of %d to learn from (hurry)"
        context.log.info(told, meanwhile, size, config.batch_size)
    return config.but(batch_size=size)
