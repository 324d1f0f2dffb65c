"""The model group: what was learned from the labels so far."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from al_pipeline.core.evaluation.figures import loss_curve
from al_pipeline.core.labels.consensus import labels_hash
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import round_number
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.io import CHECKPOINT
from al_pipeline.defs.metadata import absent, for_people, picture
from al_pipeline.defs.partitions import rounds
from al_pipeline.loop.answers import trainable
from al_pipeline.loop.classes import classes_of_round
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.presence import MATE, Presence
from al_pipeline.loop.samples import StoredSamples

if TYPE_CHECKING:
    from al_pipeline.core.learning.train import TrainingOptions, TrainingResult


@dg.asset(
    group_name="model",
    kinds={"pytorch"},
    partitions_def=rounds,
    io_manager_key="checkpoints",
    dagster_type=CHECKPOINT,
    pool="train",
    check_specs=[
        dg.AssetCheckSpec(
            "finite_weights",
            asset="checkpoint",
            blocking=True,
            description="All weights are numbers. If it fails training has run away: launch retrain with a smaller "
            "training.learning_rate.",
        ),
        dg.AssetCheckSpec(
            "trained_on_two_classes",
            asset="checkpoint",
            blocking=True,
            description="A network that was trained has seen two classes at least; one that was not says so.",
        ),
    ],
)
def checkpoint(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    image_pool: pd.DataFrame,
    labeled_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """The ResNet trained on this round's labeled pool, from the configured weights anew.

    The whole network, or its classifier alone on features computed before (`mode` in the metadata). While people have
    named fewer than two classes there is nothing to learn: the checkpoint is the untrained network, says so, and the
    batch is chosen without predictions.
    """
    began = time.monotonic()
    from al_pipeline.core.learning.checkpoint import device
    from al_pipeline.core.learning.given_weights import finite
    from al_pipeline.core.learning.targets import class_numbers
    from al_pipeline.core.turn import learn

    import_seconds = time.monotonic() - began
    number = round_number(context.partition_key)
    names = classes_of_round(deployment, image_pool, context.partition_key).names
    key = context.partition_key
    samples = StoredSamples(image_pool, deployment, training, round_config.seed, context.log, key=key)
    training = samples.training
    context.log.info(samples.framing)
    context.log.info(samples.features_of)
    context.log.info(samples.weights)
    if samples.without_weights:
        context.log.warning(samples.without_weights)
    labels = trainable(deployment.ledger, labeled_pool)
    held_back = set(labeled_pool["sample_id"]) - set(labels.index)
    others: list[str] = []
    if training.semi_supervised != "none":
        others = sorted(set(samples.pool) - set(labels.index) - held_back - deployment.ledger.holdout())

    def learned(there: Sequence[str]) -> "TrainingResult":
        ids = [sample for sample in there if sample in labels.index]
        used = labeled_pool[labeled_pool["sample_id"].isin(ids)]
        result = learn(
            samples,
            ids,
            class_numbers(labels[ids].tolist(), names),
            names,
            training,
            seed=round_config.seed,
            number=number,
            others=[sample for sample in there if sample not in labels.index],
            labels_hash=labels_hash(used),
            previous=deployment.artifacts.stored_checkpoint(number - 1) if training.warm_start else None,
            refined=None if samples.network is None else samples.network.load(),
            start=samples.untrained,
        ).result
        assert result is not None
        return replace(result, checkpoint=samples.from_start(result.checkpoint))

    by_features = training.resolve_mode(int(labels.value_counts().min() if len(labels) else 0), device().type) == "head"
    result, found = samples.using([*labels.index, *others], learned, by_features=by_features)
    seen = sorted(set(labels[[sample for sample in found.there if sample in labels.index]]))
    away = {sample: why for sample, why in found.absent.items() if sample in labels.index}
    unused = Presence(
        absent=away | {sample: f"{samples.uris.get(sample, sample)}: {MATE}" for sample in sorted(held_back)}
    )
    if len(seen) < 2:
        context.log.info("%d classes are labeled: the network stays untrained in this round", len(seen))
    if unused.absent:
        context.log.warning(unused.sentence("labels are not trained on,"))

    info = result.checkpoint.info
    all_finite = all(finite(tensor) for tensor in result.checkpoint.state.values())
    return dg.MaterializeResult(
        value=result.checkpoint,
        metadata=for_people(
            {
                "trained": info.trained,
                "labels": len(labeled_pool) - len(unused.absent),
                **absent(unused, "unused_labels"),
                "classes_seen": len(seen),
                "seconds": round(result.seconds, 2),
                "import_seconds": round(import_seconds, 2),
                "parameters": result.n_parameters,
                "architecture": info.architecture,
                "weights": info.weights,
                **({"without_weights": samples.without_weights} if samples.without_weights else {}),
                "test_time_flip": info.test_time_flip,
                "framing": samples.framing,
                "features_of": samples.features_of,
                "checkpoint": result.checkpoint.hash,
                **_training_metadata(result),
            }
        ),
        check_results=[
            dg.AssetCheckResult(check_name="finite_weights", passed=all_finite),
            dg.AssetCheckResult(
                check_name="trained_on_two_classes",
                passed=len(seen) >= 2 if info.trained else True,
                metadata={"classes": ", ".join(seen) or "none yet", "trained": info.trained},
            ),
        ],
    )


def _training_metadata(result: "TrainingResult") -> dict[str, Any]:
    """Return what the UI shows about the training, where there was any."""
    info = result.checkpoint.info
    if not info.trained:
        return {}
    metadata: dict[str, Any] = {"mode": info.mode, "temperature": round(info.temperature, 3)}
    if info.thresholds:
        metadata["thresholds"] = ", ".join(
            f"{name} {value:.3g}" for name, value in zip(info.class_names, info.thresholds, strict=True)
        )
    if result.unseen:
        metadata["classes_without_labels"] = ", ".join(result.unseen)
    if info.semi_supervised != "none":
        metadata["semi_supervised"] = info.semi_supervised
        # FixMatch guesses anew in every step.
        if info.semi_supervised != "fixmatch":
            metadata["guessed_labels"] = result.n_guessed
    if result.regularization is not None:
        chosen = f"chosen by {result.folds}-fold cross-validation" if result.folds else "too few labels to choose it"
        metadata["regularization"] = f"C = {result.regularization:g}, {chosen}"
    if result.fit is not None:
        metadata |= {
            "final_loss": round(result.losses[-1], 5),
            "loss_curve": picture(loss_curve(result.losses, result.fit.validation_losses), "loss per epoch"),
            "epochs": f"{len(result.losses)}, the weights of epoch {result.fit.kept_epoch} are kept",
            "batch_size": result.fit.batch_size,
        }
    return metadata
