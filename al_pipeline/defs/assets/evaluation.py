"""The evaluation of the model group: how good each round's checkpoint is, on samples it never saw."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from al_pipeline.core.data.groups import with_twins
from al_pipeline.core.data.holdout import groups_of
from al_pipeline.core.evaluation.figures import confusion_matrix, learning_curve_picture, reliability, roc_curve
from al_pipeline.core.evaluation.metrics import METRICS, Interval, Metric, columns, stored_scores
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.metadata import absent, for_people, picture, round_page, table
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.pictures import show_batch
from al_pipeline.loop.answers import holdout_labels
from al_pipeline.loop.classes import classes_of, classes_of_round
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.kept_predictions import HoldoutPredictions, StopPredictions, prequential_accuracies, stored_rounds
from al_pipeline.loop.measured import measured_alike, tests_to_come
from al_pipeline.loop.presence import Presence
from al_pipeline.loop.proof import live_proof
from al_pipeline.loop.samples import StoredSamples
from al_pipeline.loop.weights import missing_weights

if TYPE_CHECKING:
    from al_pipeline.core.evaluation.compare import Comparison
    from al_pipeline.core.evaluation.evaluate import ClassScore, Evaluation
    from al_pipeline.core.evaluation.metrics import Difference


# People wait for the batch, nobody for the figures: what is measured runs after what is pushed.
LATER = {"dagster/priority": "-1"}
# Columns of the learning curve: the recall of each class.
RECALL = "recall_"


@dg.asset(group_name="model", kinds={"scikitlearn"}, partitions_def=rounds, io_manager_key="documents", op_tags=LATER)
def evaluation(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    policy: dg.ResourceParam[RoundPolicy],
    image_pool: pd.DataFrame,
    checkpoint: Any,
) -> dg.MaterializeResult[dict[str, Any]]:
    """Accuracy, ROC-AUC and calibration with 95 % intervals, on the holdout alone; better or worse than last round.

    Intervals count groups: frames of one burst are no independent samples. `holdout_groups` says what they are worth.
    """
    from al_pipeline.core.evaluation.compare import holdout_advice
    from al_pipeline.core.evaluation.evaluate import evaluate, overlooked

    show_batch(context, deployment, image_pool)
    names = list(checkpoint.info.class_names)
    classes = replace(classes_of_round(deployment, image_pool, context.partition_key), names=tuple(names))
    holdout = holdout_labels(image_pool, deployment.ledger, classes, policy.min_votes)
    key = context.partition_key
    samples = StoredSamples(image_pool, deployment, training, round_config.seed, context.log, key=key)
    model = samples.model(checkpoint)
    began = time.monotonic()
    coming = tests_to_come(deployment.ledger, samples.pool, holdout) if checkpoint.info.trained else []
    predicted, found = samples.predict(model, [*holdout["sample_id"], *coming])
    every = pd.DataFrame({"sample_id": found.there})
    unused = Presence(found.there, {sample: why for sample, why in found.absent.items() if sample not in coming})
    row_of = {sample: row for row, sample in enumerate(found.there)}
    holdout = holdout[holdout["sample_id"].isin(found.there)].reset_index(drop=True)
    probabilities = predicted[[row_of[sample] for sample in holdout["sample_id"]]]
    seconds, thresholds = time.monotonic() - began, model.thresholds
    known = groups_of(image_pool)
    groups = [known.get(sample, sample) for sample in holdout["sample_id"]]
    told: dict[str, Any] = {"thresholds": thresholds, "groups": groups}
    result = evaluate(probabilities, holdout["label"].tolist(), names, seed=round_config.seed, **told)
    kept = HoldoutPredictions(deployment.artifacts.holdout_predictions)
    # Also of what nobody has answered yet: once it is, this round can be compared by it.
    kept.write(context.partition_key, every, predicted, names, thresholds)
    comparison = kept.compare_with_previous(context.partition_key, holdout, probabilities, classes, **told)
    comparison = None if comparison is None else comparison.if_enough()
    stops = StopPredictions(deployment.artifacts.stop_predictions)
    ids = stops.samples(samples.pool, samples.training, round_config.seed)
    answered, stop_set = samples.predict(model, ids if checkpoint.info.trained else [])
    kappa = stops.compare_with_previous(context.partition_key, checkpoint, stop_set.there, lambda _: answered, classes)
    metadata: dict[str, Any] = round_page(deployment.settings, context.partition_key) | {
        "seconds": round(seconds, 2),
        "holdout_samples": result.n,
        **absent(unused, "unused_holdout_labels"),
        "labels": checkpoint.info.n_labels,
        "trained": checkpoint.info.trained,
    }
    labels = deployment.ledger.frozen_labels(context.partition_key)
    twins = with_twins(image_pool, holdout["sample_id"].tolist(), labels["sample_id"].tolist())
    if len(holdout):
        metadata["holdout_with_near_duplicates"] = f"{len(twins)} of {len(holdout)} have one among the training labels"
    if result.effective is not None:
        worth = f"tell the accuracy as well as {result.effective:,.0f} independent samples"
        metadata["holdout_groups"] = f"{result.groups:,} groups: {worth}"
    if result.note:
        metadata["note"] = result.note
        context.log.info(result.note)
    untrained = None if checkpoint.info.trained else why_untrained(labels["label"])
    if untrained is not None:
        metadata["untrained"] = untrained
        context.log.warning(untrained)
    missed = overlooked(result) if checkpoint.info.trained else None
    hint = None if missed is None else _hint(missed, training)
    if hint is not None:
        metadata["overlooked"] = hint
        context.log.warning(hint)
    if thresholds:
        metadata["thresholds"] = ", ".join(f"{n} {t:.3g}" for n, t in zip(names, thresholds, strict=True))
    for metric in METRICS:
        metadata |= _shown(metric, getattr(result, metric.name))
    if result.accuracy is not None:
        metadata |= {
            "ece": result.ece,
            "confusion_matrix": picture(confusion_matrix(result), "confusion matrix"),
            "calibration": picture(reliability(result), "reliability"),
            "per_class": _per_class(result),
        }
        advice = holdout_advice(result.n, result.accuracy.value, result.effective)
        if advice is not None:
            metadata["holdout_size"] = advice
    if result.roc_auc is not None:
        metadata["roc_curve"] = picture(roc_curve(result), "ROC")
    if comparison is not None:
        metadata |= _compared(comparison)
    if kappa is not None:
        metadata["agreement_with_last_round"] = round(kappa, 4)
    document = {
        "round": context.partition_key,
        "checkpoint": checkpoint.hash,
        "trained": checkpoint.info.trained,
        "n_labels": checkpoint.info.n_labels,
        "n_frozen": len(labels),
        "n_answers": max(0, checkpoint.info.n_labels - int(labels["asked_with"].notna().sum())),
        "evaluation": result.to_json(),
        "comparison": None if comparison is None else comparison.to_json(),
        "agreement": kappa,
        "near_duplicates": len(twins) / len(holdout) if len(holdout) else None,
        "hint": hint,
        "untrained": untrained,
    }
    return dg.MaterializeResult(value=document, metadata=for_people(metadata))


@dg.asset(group_name="model", kinds={"matplotlib"}, io_manager_key="tables", op_tags=LATER, deps=[evaluation])
def learning_curve(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    policy: dg.ResourceParam[RoundPolicy],
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """All rounds: accuracy and ROC-AUC against the labels spent, with 95 % intervals.

    `prequential` is what the answers to a round's own batch say about the checkpoint that chose it, before it learned
    from them; only where samples were drawn with known probability (`explore`, or a random strategy). `agreement` is
    Cohen's kappa of a round's and the last round's checkpoint on a fixed random part of the pool. `other_classes` marks
    rounds that told other classes apart than today's. `near_duplicates` is the share of the holdout that looks like an
    image of the training labels, or belongs to its group: what it says about these says little about new images.
    `unmeasured` counts the classes without a holdout sample, which ROC-AUC leaves out.
    `n_answers` leaves out labels of images that were shown beside the one asked about; where there are any, the picture
    is drawn against it.

    While test images are still being asked about, every round is measured on the same ones, those answered by now.

    `recall_<class>` is the share of a class's holdout samples that were found, a table of its own.

    `labels_saved` compares the loop with what random labels would have given, projected from those that `explore` drew:
    the dashed line.
    """
    prequential = prequential_accuracies(deployment, policy.min_votes)
    classes = classes_of(deployment, image_pool)
    rows = []
    documents = stored_rounds(deployment.artifacts.evaluations)
    for key, document in measured_alike(deployment, image_pool, documents, policy.min_votes, round_config.seed).items():
        n, scores = stored_scores(document["evaluation"])
        row: dict[str, Any] = {"round": key, "n_labels": document["n_labels"], "holdout_samples": n}
        # Rounds of earlier versions do not tell what was shown beside.
        row["n_answers"] = document.get("n_answers", document["n_labels"])
        for name, interval in (scores | {"prequential": prequential.get(key)}).items():
            row |= columns(name, interval)
        # Rounds of earlier versions have none.
        row["agreement"], row["near_duplicates"] = document.get("agreement"), document.get("near_duplicates")
        row |= {RECALL + score["name"]: score["recall"] for score in document["evaluation"]["per_class"]}
        row["unmeasured"] = sum(score["support"] == 0 for score in document["evaluation"]["per_class"])
        row["other_classes"] = not classes.one_to_one(document["evaluation"]["class_names"])
        rows.append(row)
    curve = pd.DataFrame(rows)
    recalls = [name for name in curve if name.startswith(RECALL)]
    without = missing_weights(deployment.settings, training)
    proof = live_proof(context.log, deployment, round_config, training, policy, image_pool)
    png = learning_curve_picture(curve, None if proof.found is None else proof.found.band)
    for path in (deployment.artifacts.learning_curve, deployment.artifacts.curve_picture):
        with whole_file(path, "The picture of the learning curve") as file:
            file.write_bytes(png)
    with whole_file(deployment.artifacts.labels_saved, "What labels have saved") as file:
        file.write_text(proof.sentence)
    return dg.MaterializeResult(
        value=curve,
        metadata={
            "learning_curve": picture(png, "learning curve"),
            "rounds": len(curve),
            "labels_saved": proof.sentence,
            **({"without_weights": without} if without else {}),
            "picture": dg.MetadataValue.path(str(path)),
            "table": table(curve[[name for name in curve if name not in recalls]], rows=None, digits=4),
            "recall": table(curve[["round", "n_labels", *recalls]].astype(dict.fromkeys(recalls, float)), rows=None),
        },
    )


def _shown(metric: Metric, interval: Interval | None) -> dict[str, Any]:
    """Return a metric's value and its interval, in words; nothing where it is not defined."""
    if interval is None:
        return {}
    span = f"{interval.low:.3f} to {interval.high:.3f}" + (f" ({metric.method})" if metric.method else "")
    return {metric.name: interval.value, f"{metric.name}_95": span}


def why_untrained(labels: "pd.Series[str]") -> str | None:
    """Say why a round with labels has an untrained network; None before there are any."""
    if labels.empty:
        return None
    if labels.nunique() == 1:
        return f"untrained: all labels so far are {labels.iloc[0]!r}, and what is measured says nothing yet"
    return "untrained: the labels whose images are there are of one class"


def _hint(missed: "ClassScore", training: TrainingOptions) -> str:
    """Say that a class is found far less often than it could be, and what to do."""
    found = f"class {missed.name!r} is found in {missed.recall:.0%} of its {missed.support} holdout samples"
    remedy = "label more of it" if training.class_weights != "false" else "set training.class_weights = auto"
    return f"{found}; its ranking would allow {missed.reachable:.0%} with few false alarms: {remedy}"


def _per_class(result: "Evaluation") -> dg.TableMetadataValue:
    """Return precision and recall of each class as a table."""
    rows = [(score.name, score.support, score.precision, score.recall) for score in result.per_class]
    frame = pd.DataFrame(rows, columns=["class", "samples", "precision", "recall"])
    return table(frame.astype({"precision": float, "recall": float}), rows=None, digits=4)


def _compared(comparison: "Comparison") -> dict[str, Any]:
    """Return what changed since the round before, in words."""
    lines = {"note_on_last_round": comparison.note} if comparison.note else {}
    for metric in METRICS:
        # Not every metric has a test of its own.
        difference: Difference | None = getattr(comparison, metric.name, None)
        if difference is not None:
            span = f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
            lines[f"{metric.name}_since_last_round"] = f"{span}: {difference.verdict}"
    return lines
