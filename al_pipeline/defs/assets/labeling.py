"""The labeling group: what people answered, frozen per round, and the tasks they are given."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.data.known_pool import known_pool
from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import Consensus, consensus, labels_hash
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import RoundPolicy, round_key, round_number
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.io import TABLE
from al_pipeline.defs.metadata import absent, for_people, people, some
from al_pipeline.defs.observe import refuse_other_keys
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.retries import tried_again
from al_pipeline.labelstudio.identity import Project
from al_pipeline.loop.again import withdraw_unusable
from al_pipeline.loop.answers import changed_labels
from al_pipeline.loop.changes import published_places
from al_pipeline.loop.classes import bring_up, check_project, classes_of, classes_of_round, translated
from al_pipeline.loop.copies import Copies
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.how_read import how_of_home
from al_pipeline.loop.known_tasks import KnownTasks
from al_pipeline.loop.presence import Files
from al_pipeline.loop.published import asked_about, publish_again, shown_px
from al_pipeline.loop.pull import pull_news
from al_pipeline.loop.restore import push_again
from al_pipeline.loop.samples import StoredSamples
from al_pipeline.loop.together import with_those_beside
from al_pipeline.loop.withdrawals import withdraw_answered, withdraw_copies, withdraw_deleted

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
PULL_RETRIES = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL)

annotations = dg.AssetSpec(
    "annotations",
    group_name="labeling",
    kinds={"labelstudio"},
    description="What people did in Label Studio. It changes outside of Dagster; the sensor annotations_landed records "
    "an observation when the counts change. labeling_tasks leads here, through people.",
)


@dg.asset(group_name="labeling", kinds={"labelstudio"}, io_manager_key="documents", pool="label_studio")
def labeling_project(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[RoundPolicy],
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult[dict[str, Any]]:
    """The Label Studio project: its label config made of the class names, hotkeys, guideline and images.

    A project that is new, or was set back in time, gets the unanswered tasks of all rounds anew.
    """
    settings, client = deployment.settings, deployment.label_studio
    classes = classes_of(deployment, image_pool)
    settings.published_images.mkdir(parents=True, exist_ok=True)
    project = bring_up(deployment, classes)
    project_id = project.project_id
    deployment.artifacts.own(str(project.identity))
    copies, places = Copies(settings), published_places(settings)
    copies.mark()
    for place in places:
        client.connect_images(project_id, place)
    # Where Label Studio sees the folder, too, tasks from before there was a bucket show files of it.
    copied = copies.samples if places == [copies.shown_at] else set[str]()
    if not copied:
        copies.fetch(asked_about(deployment.ledger))
    how, side = how_of_home(deployment.artifacts), shown_px(settings)
    publish_again(deployment.ledger, image_pool, settings.published_images, context.log, how, side, copied)
    copies.put_all()
    unanswered = client.tasks(project_id, unanswered=True)
    again = push_again(deployment, project, image_pool, policy, unanswered, context.log)
    withdraw_answered(deployment.ledger, client, project.source, unanswered, policy.min_votes)
    url = deployment.project_url(project_id)
    return dg.MaterializeResult(
        value={
            "project_id": project_id,
            "url": url,
            "classes": list(classes.names),
            "images": " ".join(published_places(settings)),
            "submit": settings.submits,
        },
        metadata={
            "project": dg.MetadataValue.url(url),
            "project_id": project_id,
            "classes": len(classes.names),
            "rounds_again": len(again),
        },
    )


@dg.asset(
    group_name="labeling",
    kinds={"labelstudio"},
    partitions_def=rounds,
    io_manager_key="tables",
    dagster_type=TABLE,
    pool="label_studio",
    deps=["annotations", "embeddings"],
    check_specs=[
        dg.AssetCheckSpec(
            "no_holdout_sample",
            asset="labeled_pool",
            blocking=True,
            description="No test image is among the labels to train on. If it fails nothing is trained: scores would "
            "be too good.",
        ),
        dg.AssetCheckSpec(
            "within_class_set",
            asset="labeled_pool",
            blocking=True,
            description="Every label is one of today's classes (`al classes list`). If it fails nothing is trained.",
        ),
        dg.AssetCheckSpec(
            "two_classes",
            asset="labeled_pool",
            description="People have named two classes at least. Yellow in the first rounds is no fault: there is "
            "nothing to tell apart yet, and the next batch is chosen by what images look like.",
        ),
    ],
)
def labeled_pool(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[RoundPolicy],
    training: dg.ResourceParam[TrainingOptions],
    round_config: dg.ResourceParam[RoundSettings],
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """The labels that people agree on, frozen for this round: pull, consensus, snapshot.

    Re-running a round uses its snapshot again; late answers and changed ones enter at the next round.
    """
    with tried_again(context, PULL_RETRIES):
        new_events = _pull(context, deployment, policy, image_pool)
    found, classes = _agree(context, deployment, policy, training, round_config, image_pool)
    return _freeze(context, deployment, found, classes, new_events, image_pool)


def _pull(
    context: dg.AssetExecutionContext, deployment: Deployment, policy: RoundPolicy, image_pool: pd.DataFrame
) -> int:
    """Append what people did since the last pull to the ledger; returns how many events are new."""
    ledger = deployment.ledger
    if ledger.has_snapshot(context.partition_key):
        context.log.info("The labeled pool of %s is frozen: nothing is pulled for it", context.partition_key)
        return 0
    refuse_other_keys(context, ledger)
    key, client, project = context.partition_key, deployment.label_studio, deployment.project(context.run.run_id)
    number, project_id, classes = round_number(key), project.project_id, classes_of(deployment, image_pool)
    told = {"source": project.source, "round_key": key, "min_seconds": policy.min_seconds}
    counts, new = pull_news(ledger, client, project_id, **told)
    try:
        check_project(deployment, project_id, classes, counts.label_config)
    except InputError as error:
        # What people answer now would be frozen as no labels.
        raise dg.Failure(str(error), allow_retries=False) from error
    gone, known = list[str](), KnownTasks(deployment, project, counts.tasks)
    if number and not known.as_before():
        gone = _set_right(context, deployment, project, policy, image_pool, known)
    unusable = withdraw_unusable(ledger, number, classes.names, policy, deployment.settings.overlap)
    context.log.info("%d new annotation events, %d tasks withdrawn", new, len(gone) + len(unusable))
    for why, count in pd.Series(unusable, dtype=object).value_counts().items():
        context.log.info("%d tasks withdrawn because %s", count, why)
    return new


def _set_right(
    context: dg.AssetExecutionContext,
    deployment: Deployment,
    project: Project,
    policy: RoundPolicy,
    image_pool: pd.DataFrame,
    known: KnownTasks,
) -> list[str]:
    """List the open tasks, and have those that should be there, once each; return the samples whose task is gone."""
    ledger, client, number = deployment.ledger, deployment.label_studio, round_number(context.partition_key)
    project_id = project.project_id
    unanswered = client.tasks(project_id, unanswered=True)
    again = push_again(deployment, project, image_pool, policy, unanswered, context.log, before=number)
    if again:
        unanswered = client.tasks(project_id, unanswered=True)
    copies = withdraw_copies(ledger, client, project_id, number, unanswered)
    lost = withdraw_answered(ledger, client, project.source, unanswered, policy.min_votes)
    gone = withdraw_deleted(ledger, client, project_id, number, unanswered)
    if not (again or copies or lost or gone):
        known.note()
    if copies:
        context.log.warning(
            "%d tasks were in Label Studio twice; the unanswered copies %s are deleted", len(copies), copies[:10]
        )
    if lost:
        context.log.warning(
            "Label Studio has lost the answers to %d tasks; the ledger has them, and the tasks %s are deleted",
            *(len(lost), lost[:10]),
        )
    return gone


def _agree(
    context: dg.AssetExecutionContext,
    deployment: Deployment,
    policy: RoundPolicy,
    training: TrainingOptions,
    round_config: RoundSettings,
    image_pool: pd.DataFrame,
) -> tuple[Consensus, ClassSet]:
    """Turn votes into labels: the latest answer of each person counts, disputes are left out."""
    classes = classes_of_round(deployment, image_pool, context.partition_key)
    names, answers = list(classes.names), deployment.ledger.answers(purpose="query", class_set=classes)
    agreed = consensus(answers, class_names=names, min_votes=policy.min_votes)
    if policy.consensus == "crowdlab":
        from al_pipeline.core.labels.label_quality import weigh_annotators

        samples = StoredSamples(image_pool, deployment, training, round_config.seed, context.log)

        def weighed(there: Sequence[str]) -> Consensus:
            own, seed = agreed.only(there), round_config.seed
            return weigh_annotators(own, answers, names, samples.features, seed=seed, groups=samples.groups)

        # Without its image only the majority tells of a sample.
        known = [*agreed.labels["sample_id"], *agreed.disputed["sample_id"]]
        found, present = samples.using(known, weighed)
        agreed = found.beside(agreed.only(present.absent))
    if len(agreed.outside):
        context.log.warning("%d answers name no class of %s and are left out", len(agreed.outside), names)
    return replace(agreed, labels=with_those_beside(deployment.ledger, agreed.labels, answers, names)), classes


def _freeze(
    context: dg.AssetExecutionContext,
    deployment: Deployment,
    found: Consensus,
    classes: ClassSet,
    new_events: int,
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """Store the labels as the snapshot of this round, a round that has one keeps it; then check it."""
    ledger, key = deployment.ledger, context.partition_key
    frozen = ledger.has_snapshot(key)
    labels = ledger.snapshot(key, found.labels, class_set=classes.version)
    number, planned, answers = round_number(key), ledger.planned(), ledger.answers(purpose="query", class_set=classes)
    planned["predicted"] = translated(planned["predicted"], classes)
    before = ledger.frozen_labels(round_key(number - 1)) if number else None
    if before is not None:
        before["label"] = translated(before["label"], classes)
    unused = Files(image_pool, deployment).known(labels["sample_id"])
    if unused.absent:
        context.log.warning(unused.sentence("labels are kept, and not trained on while they are"))
    metadata: dict[str, Any] = {
        "labels": len(labels),
        **absent(unused, "unused_labels"),
        "labels_of_members": int(labels["asked_with"].notna().sum()),
        "n_changed": 0 if before is None else len(changed_labels(before, labels)),
        "new_events": new_events,
        "skipped": len(found.skipped),
        "frozen_before": frozen,
        **people(answers, found, planned, classes.names),
        "labels_hash": labels_hash(labels),
        "per_class": dg.MetadataValue.json({k: int(v) for k, v in labels["label"].value_counts().items()}),
        "dagster/row_count": len(labels),
    }
    checks = check_labels(labels, image_pool, planned, classes.names, ledger.holdout())
    return dg.MaterializeResult(value=labels, metadata=for_people(metadata), check_results=list(checks))


def check_labels(
    labels: pd.DataFrame,
    manifest: pd.DataFrame,
    planned: pd.DataFrame,
    names: Sequence[str],
    drawn: Collection[str] = (),
) -> Iterator[dg.AssetCheckResult]:
    """Look that nothing of the holdout is trained on, every label is a class, and there are two to tell apart.

    Without two classes the round goes on with an untrained checkpoint.
    """
    holdout = set(manifest["sample_id"].iloc[known_pool(manifest).holdout_rows])
    holdout |= set(planned.loc[planned["purpose"] == "holdout", "sample_id"]) | set(drawn)
    leaked = sorted(holdout & set(labels["sample_id"]))
    seen = sorted(labels["label"].unique())
    outside = sorted(set(seen) - set(names))
    for name, passed, severity, metadata in (
        ("no_holdout_sample", not leaked, ERROR, {"holdout": len(holdout), "leaked": some(leaked)}),
        ("within_class_set", not outside, ERROR, {"outside": some(outside)}),
        ("two_classes", len(seen) >= 2, WARN, {"classes": some(seen)}),
    ):
        yield dg.AssetCheckResult(
            asset_key="labeled_pool", check_name=name, passed=passed, severity=severity, metadata=metadata
        )
