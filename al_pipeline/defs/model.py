"""The model group: what was learned from the labels so far, and how good it is on samples it never saw."""

import time
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.consensus import labels_hash
from al_pipeline.core.rounds import round_number
from al_pipeline.defs.answers import holdout_labels
from al_pipeline.defs.features import classes_of
from al_pipeline.defs.io import CHECKPOINT, stored_rounds
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.report import (
    confusion_matrix,
    learning_curve_picture,
    loss_curve,
    picture,
    reliability,
    roc_curve,
)
from al_pipeline.defs.resources import Deployment
from al_pipeline.settings import RoundSettings, TrainingSettings


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
    training: dg.ResourceParam[TrainingSettings],
    image_pool: pd.DataFrame,
    labeled_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """The ResNet trained on this round's labeled pool, from the configured weights anew.

    While people have named fewer than two classes there is nothing to learn: the checkpoint is the untrained network,
    says so, and the batch is chosen without predictions.
    """
    began = time.monotonic()
    from al_pipeline.core.train import TrainingOptions, train, untrained

    import_seconds = time.monotonic() - began
    number = round_number(context.partition_key)
    options = TrainingOptions(**training.model_dump())
    names = classes_of(image_pool, deployment.settings)
    learned = sorted(labeled_pool["label"].unique())
    if len(learned) >= 2:
        uris = image_pool[image_pool["split"] == "pool"].set_index("sample_id")["uri"]
        result = train(
            uris.loc[labeled_pool["sample_id"]].tolist(),
            labeled_pool["label"].tolist(),
            names,
            options,
            seed=round_config.seed,
            round_number=number,
            labels_hash=labels_hash(labeled_pool),
        )
    else:
        context.log.info("%d classes are labeled: the network stays untrained in this round", len(learned))
        result = untrained(names, options, seed=round_config.seed, round_number=number)

    info = result.checkpoint.info
    metadata: dict[str, Any] = {
        "trained": info.trained,
        "labels": len(labeled_pool),
        "classes_seen": len(learned),
        "seconds": round(result.seconds, 2),
        "import_seconds": round(import_seconds, 2),
        "parameters": result.n_parameters,
        "architecture": info.architecture,
        "weights": info.weights,
        "checkpoint": result.checkpoint.hash,
    }
    if result.losses:
        metadata["final_loss"] = round(result.losses[-1], 5)
        metadata["loss_curve"] = picture(loss_curve(result.losses), "loss per epoch")
    finite = all(bool(tensor.isfinite().all()) for tensor in result.checkpoint.state.values())
    return dg.MaterializeResult(
        value=result.checkpoint,
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(check_name="finite_weights", passed=finite),
            dg.AssetCheckResult(
                check_name="trained_on_two_classes",
                passed=len(learned) >= 2 if info.trained else True,
                metadata={"classes": ", ".join(learned) or "none yet", "trained": info.trained},
            ),
        ],
    )


# People wait for the batch, nobody for the figures: what is measured runs after what is pushed.
LATER = {"dagster/priority": "-1"}


@dg.asset(group_name="model", kinds={"scikitlearn"}, partitions_def=rounds, io_manager_key="documents", op_tags=LATER)
def evaluation(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    image_pool: pd.DataFrame,
    checkpoint: Any,
) -> dg.MaterializeResult[dict[str, Any]]:
    """Accuracy, ROC-AUC and calibration with 95 % intervals, on the holdout alone."""
    from al_pipeline.core.evaluate import evaluate
    from al_pipeline.core.predict import predict

    names = list(checkpoint.info.class_names)
    holdout = holdout_labels(image_pool, deployment.ledger, names, deployment.settings.policy.min_votes)
    began = time.monotonic()
    probabilities = predict(checkpoint, holdout["uri"].tolist())
    seconds = time.monotonic() - began
    result = evaluate(probabilities, holdout["label"].tolist(), names, seed=round_config.seed)
    metadata: dict[str, Any] = {
        "seconds": round(seconds, 2),
        "holdout_samples": result.n,
        "labels": checkpoint.info.n_labels,
        "trained": checkpoint.info.trained,
    }
    if result.note:
        metadata["note"] = result.note
        context.log.info(result.note)
    if result.accuracy is not None:
        metadata |= {
            "accuracy": result.accuracy.value,
            "accuracy_95": f"{result.accuracy.low:.3f} to {result.accuracy.high:.3f} (Wilson)",
            "ece": result.ece,
            "confusion_matrix": picture(confusion_matrix(result), "confusion matrix"),
            "calibration": picture(reliability(result), "reliability"),
        }
    if result.roc_auc is not None:
        metadata |= {
            "roc_auc": result.roc_auc.value,
            "roc_auc_95": f"{result.roc_auc.low:.3f} to {result.roc_auc.high:.3f}",
            "roc_curve": picture(roc_curve(result), "ROC"),
        }
    document = {
        "round": context.partition_key,
        "checkpoint": checkpoint.hash,
        "trained": checkpoint.info.trained,
        "n_labels": checkpoint.info.n_labels,
        "evaluation": result.to_json(),
    }
    return dg.MaterializeResult(value=document, metadata=metadata)


@dg.asset(
    group_name="model",
    kinds={"matplotlib"},
    io_manager_key="tables",
    op_tags=LATER,
    deps=[evaluation],
)
def learning_curve(deployment: dg.ResourceParam[Deployment]) -> dg.MaterializeResult[pd.DataFrame]:
    """All rounds: accuracy and ROC-AUC against the labels spent, with 95 % intervals."""
    from al_pipeline.core.evaluate import Evaluation

    rows = []
    for key, document in stored_rounds(deployment.settings.artifacts / "evaluation").items():
        result = Evaluation.from_json(document["evaluation"])
        row: dict[str, Any] = {"round": key, "n_labels": document["n_labels"], "holdout_samples": result.n}
        for name, interval in (("accuracy", result.accuracy), ("roc_auc", result.roc_auc)):
            row[name] = interval.value if interval else None
            row[f"{name}_low"] = interval.low if interval else None
            row[f"{name}_high"] = interval.high if interval else None
        rows.append(row)
    curve = pd.DataFrame(rows)
    png = learning_curve_picture(curve)
    path = deployment.settings.home.resolve() / "learning_curve.png"
    path.write_bytes(png)
    return dg.MaterializeResult(
        value=curve,
        metadata={
            "rounds": len(curve),
            "learning_curve": picture(png, "learning curve"),
            "picture": dg.MetadataValue.path(str(path)),
            "table": dg.MetadataValue.table(
                [
                    dg.TableRecord({k: (round(v, 4) if isinstance(v, float) else v) for k, v in row.items()})
                    for row in rows
                ]
            ),
        },
    )
