"""The batch in Label Studio: reconcile, import, verify. One pusher at a time; what is there is not sent again."""

# Inside a graph an op is called with its inputs alone; Dagster hands it the rest.
# pyright: reportCallIssue=false

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from al_pipeline.core.errors import ALError
from al_pipeline.core.rounds import RoundPolicy, decide, round_number
from al_pipeline.defs.observe import pushed
from al_pipeline.defs.partitions import rounds
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.answers import answered_samples, planned_before
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.samples import classes_of

if TYPE_CHECKING:
    from al_pipeline.labelstudio.client import LabelStudio
    from al_pipeline.ledger import Ledger

POOL = "label_studio"


class BatchError(ALError):
    """A query batch that must not be sent."""


@dg.op(pool=POOL)
def reconcile_tasks(
    context: dg.OpExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[RoundPolicy],
    query_batch: pd.DataFrame,
    image_pool: pd.DataFrame,
) -> pd.DataFrame:
    """Compare the batch with what people have answered; put the images where Label Studio can serve them."""
    from al_pipeline.labelstudio.images import publish

    refuse_bad_batch(deployment, context.partition_key, query_batch)
    if len(query_batch):
        key, project_id = context.partition_key, deployment.project_id(context.run_id)
        ledger, client, names = deployment.ledger, deployment.label_studio, classes_of(image_pool, deployment.settings)
        query_batch = to_ask(ledger, client, project_id, key, query_batch, policy.min_votes, names)
    uris = image_pool[image_pool["split"] != "excluded"].set_index("sample_id")["uri"]
    folder = deployment.settings.published_images
    return query_batch.assign(image=[publish(uris.loc[i], i, folder) for i in query_batch["sample_id"]])


@dg.op(pool=POOL)
def import_tasks(
    context: dg.OpExecutionContext, deployment: dg.ResourceParam[Deployment], batch: pd.DataFrame
) -> pd.DataFrame:
    """Compare the batch with what Label Studio holds for this round, and create the tasks that are missing.

    It looks just before: re-executing this op alone must not double a task.
    """
    from al_pipeline.labelstudio.push import import_missing, reconcile
    from al_pipeline.labelstudio.tasks import payload

    created: dict[str, int] = {}
    if len(batch):
        client, project_id, key = deployment.label_studio, deployment.project_id(context.run_id), context.partition_key
        found = reconcile(client, project_id, key, list(batch["sample_id"]))
        context.log.info("%d of %d tasks exist already", len(found.existing), len(batch))
        if found.foreign:
            context.log.warning("Tasks %s of this round ask about something nobody planned", found.foreign[:10])
        rows = batch[batch["sample_id"].isin(found.missing)].to_dict("records")
        guess = deployment.settings.predictions
        payloads = [payload(row, round_key=key, image_name=row["image"], prediction=guess) for row in rows]
        made = import_missing(client, project_id, payloads)
        context.log.info("%d tasks created", len(rows))
        # Where there were tasks before, `verify` has to choose among them.
        created = {} if found.existing or found.foreign else made
    return batch.assign(created=batch["sample_id"].map(created).astype("Int64"))


@dg.op(
    pool=POOL,
    retry_policy=dg.RetryPolicy(max_retries=3, delay=1, backoff=dg.Backoff.EXPONENTIAL),
    out={"result": dg.Out(pd.DataFrame, io_manager_key="tables"), "exactly_the_batch": dg.Out(dg.Nothing)},
)
def verify_tasks(
    context: dg.OpExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[RoundPolicy],
    batch: pd.DataFrame,
) -> Iterator[Any]:
    """Look at the round's tasks once more, record in the ledger which asks about which sample, check that all do."""
    from al_pipeline.labelstudio.push import verify

    tasks: dict[str, int] = {}
    metadata: dict[str, Any] = {"tasks": len(batch), "dagster/row_count": len(batch)}
    if len(batch):
        project_id = deployment.project_id(context.run_id)
        made = batch[batch["created"].notna()]
        created = dict(zip(made["sample_id"], made["created"].astype(int), strict=True))
        samples = list(batch["sample_id"])
        found = verify(deployment.label_studio, project_id, context.partition_key, samples, created)
        tasks = found.existing
        metadata["answered_twice"] = len(found.answered_twice)
        metadata["label_here"] = dg.MetadataValue.url(deployment.project_url(project_id))
        metadata["purposes"] = dg.MetadataValue.json({k: int(v) for k, v in batch["purpose"].value_counts().items()})
    deployment.ledger.record_pushed(context.partition_key, tasks, datetime.now(UTC))
    facts = pushed(deployment, policy, round_number(context.partition_key))
    metadata["state"] = decide(facts.status, policy, datetime.now(UTC)).reason
    table = pd.DataFrame({"sample_id": list(tasks), "task_id": pd.array(list(tasks.values()), dtype="int64")})
    yield dg.Output(table, "result", metadata=metadata)
    yield dg.AssetCheckResult(
        asset_key="labeling_tasks",
        check_name="exactly_the_batch",
        passed=sorted(batch["sample_id"]) == sorted(table["sample_id"]) and bool(table["task_id"].is_unique),
        metadata={"planned": len(batch), "tasks": len(table)},
    )


@dg.graph_asset(
    group_name="labeling",
    kinds={"labelstudio"},
    partitions_def=rounds,
    check_specs=[dg.AssetCheckSpec("exactly_the_batch", asset="labeling_tasks", blocking=True)],
)
def labeling_tasks(query_batch: pd.DataFrame, image_pool: pd.DataFrame) -> Any:
    """The query batch as tasks in Label Studio: reconcile, import, verify. From here it is people's turn."""
    batch = import_tasks(reconcile_tasks(query_batch, image_pool))
    tasks, check = verify_tasks(batch)
    return {"result": tasks, "labeling_tasks_exactly_the_batch": check}


def to_ask(
    ledger: "Ledger",
    client: "LabelStudio",
    project_id: int,
    key: str,
    batch: pd.DataFrame,
    min_votes: int,
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Return the part of a batch that needs tasks; all of it, unless the round was pushed before.

    What people have answered is in the ledger, and they are not asked again when Label Studio lost its tasks. A sample
    that was withdrawn from this round may be asked about by another one by now; one that was withdrawn from another,
    skipped or answered with no class, is asked about here.
    """
    from al_pipeline.labelstudio.push import reconcile

    planned = ledger.planned()
    elsewhere = planned[(planned["round"] != key) & planned["withdrawn_at"].isna() & (planned["purpose"] != REVIEW)]
    batch = batch[(batch["purpose"] == REVIEW) | ~batch["sample_id"].isin(elsewhere["sample_id"])]
    settled = answered_samples(ledger, key, min_votes, class_names)
    if not settled:
        return batch
    there = reconcile(client, project_id, key, list(batch["sample_id"])).existing
    return batch[batch["sample_id"].isin(there) | ~batch["sample_id"].isin(settled)]


def refuse_bad_batch(deployment: Deployment, key: str, batch: pd.DataFrame) -> None:
    """Raise if a batch holds a sample twice or one asked about before.

    The checks of query_batch say so too, but a run of labeling_tasks alone does not look at them.
    """
    twice = sorted(batch.loc[batch["sample_id"].duplicated(), "sample_id"])
    new = batch.loc[batch["purpose"] != REVIEW, "sample_id"]
    before = sorted(set(new) & planned_before(deployment.ledger, round_number(key)))
    if twice or before:
        raise BatchError(
            f"The batch of {key} cannot be sent: {len(twice)} samples are in it twice and {len(before)} were asked "
            f"about in earlier rounds (the first is {(twice + before)[0]}). Look at query_batch[{key}] and its checks"
        )
