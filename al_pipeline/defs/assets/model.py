"""The model group: what was learned from the labels so far."""

import time
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd

from al_pipeline.core.evaluation.figures import loss_curve
from al_pipeline.core.labels.consensus import labels_hash
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rng import generator
from al_pipeline.core.rounds import round_key, round_number
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.io import CHECKPOINT
from al_pipeline.defs.metadata import picture
from al_pipeline.defs.partitions import rounds
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.samples import Samples, classes_of

if TYPE_CHECKING:
    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.core.learning.train import TrainingOptions, TrainingResult, Unlabeled


@dg.asset(
    group_name="model",
    kinds={"pytorch"},
    partitions_def=rounds,
    io_manager_key="checkpoints",
    dagster_type=CHECKPOINT,
    pool="train",
    check_specs=[
        dg.AssetCheckSpec("finite_weights", asset="checkpoint", blocking=True),
        dg.AssetCheckSpec("trained_on_two_classes", asset="checkpoint", blocking=True),
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
    from al_pipeline.core.learning.train import untrained

    import_seconds = time.monotonic() - began
    options = training
    names = classes_of(image_pool, deployment.settings)
    learned = sorted(labeled_pool["label"].unique())
    if len(learned) >= 2:
        samples = Samples(image_pool, deployment, training, round_config.seed)
        result = _train(context, deployment, samples, labeled_pool, names, options, round_config.seed)
    else:
        context.log.info("%d classes are labeled: the network stays untrained in this round", len(learned))
        number = round_number(context.partition_key)
        result = untrained(names, options, seed=round_config.seed, round_number=number)

    info = result.checkpoint.info
    finite = all(bool(tensor.isfinite().all()) for tensor in result.checkpoint.state.values())
    return dg.MaterializeResult(
        value=result.checkpoint,
        metadata={
            "trained": info.trained,
            "labels": len(labeled_pool),
            "classes_seen": len(learned),
            "seconds": round(result.seconds, 2),
            "import_seconds": round(import_seconds, 2),
            "parameters": result.n_parameters,
            "architecture": info.architecture,
            "weights": info.weights,
            "test_time_flip": info.test_time_flip,
            "checkpoint": result.checkpoint.hash,
            **_training_metadata(result),
        },
        check_results=[
            dg.AssetCheckResult(check_name="finite_weights", passed=finite),
            dg.AssetCheckResult(
                check_name="trained_on_two_classes",
                passed=len(learned) >= 2 if info.trained else True,
                metadata={"classes": ", ".join(learned) or "none yet", "trained": info.trained},
            ),
        ],
    )


def _train(
    context: dg.AssetExecutionContext,
    deployment: Deployment,
    samples: Samples,
    labeled_pool: pd.DataFrame,
    names: list[str],
    options: "TrainingOptions",
    seed: int,
) -> "TrainingResult":
    """Train on the labeled pool, with features where the mode or the semi-supervised arm goes by them."""
    from al_pipeline.core.learning.checkpoint import device
    from al_pipeline.core.learning.train import train

    number = round_number(context.partition_key)
    ids = labeled_pool["sample_id"].tolist()
    mode = options.resolve_mode(int(labeled_pool["label"].value_counts().min()), device().type)
    by_features = mode == "head" or options.semi_supervised == "label_propagation"
    return train(
        samples.images(ids),
        labeled_pool["label"].tolist(),
        names,
        options,
        seed=seed,
        round_number=number,
        labels_hash=labels_hash(labeled_pool),
        features=samples.features(ids, context.log) if by_features else None,
        unlabeled=_unlabeled(context, samples, options, set(ids), number, seed, by_features),
        previous=_previous(deployment, number) if options.warm_start else None,
    )


def _unlabeled(
    context: dg.AssetExecutionContext,
    samples: Samples,
    options: "TrainingOptions",
    labeled: set[str],
    number: int,
    seed: int,
    by_features: bool,
) -> "Unlabeled | None":
    """Return random unlabeled samples of the pool for the semi-supervised arms; None if they are off."""
    if options.semi_supervised == "none":
        return None
    from al_pipeline.core.learning.semi_supervised import MOST_FEATURES
    from al_pipeline.core.learning.train import Unlabeled

    others = sorted(set(samples.pool) - labeled)
    rng = generator(seed, number, "unlabeled pool")
    chosen = [others[i] for i in np.sort(rng.permutation(len(others))[:MOST_FEATURES])]
    return Unlabeled(samples.images(chosen), samples.features(chosen, context.log) if by_features else None)


def _previous(deployment: Deployment, number: int) -> "Checkpoint | None":
    """Return the checkpoint of the round before, if there is one."""
    from al_pipeline.core.learning.checkpoint import Checkpoint

    path = deployment.settings.artifacts / "checkpoint" / f"{round_key(number - 1)}.safetensors" if number else None
    return Checkpoint.load(path) if path is not None and path.exists() else None


def _training_metadata(result: "TrainingResult") -> dict[str, Any]:
    """Return what the UI shows about the training, where there was any."""
    info = result.checkpoint.info
    if not info.trained:
        return {}
    metadata: dict[str, Any] = {"mode": info.mode, "temperature": round(info.temperature, 3)}
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
