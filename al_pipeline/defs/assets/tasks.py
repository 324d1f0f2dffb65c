"""The batch in Label Studio: reconcile, import, verify. One pusher at a time; what is there is not sent again."""

# Inside a graph an op is called with its inputs alone; Dagster hands it the rest.
# pyright: reportCallIssue=false

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.rounds import RoundPolicy, decide, round_number
from al_pipeline.defs.partitions import rounds
from al_pipeline.loop.asked import what_is_asked
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.identity import sign
from al_pipeline.loop.progress import pushed
from al_pipeline.loop.push import create_missing, prepare, verify_and_record
from al_pipeline.loop.waiting import tell_annotators

POOL = "label_studio"


@dg.op(pool=POOL)
def reconcile_tasks(
    context: dg.OpExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[RoundPolicy],
    query_batch: pd.DataFrame,
    image_pool: pd.DataFrame,
) -> pd.DataFrame:
    """Compare the batch with what people have answered; put the images where Label Studio can serve them."""
    project_id = deployment.project_id(context.run_id) if len(query_batch) else 0
    return prepare(deployment, project_id, context.partition_key, query_batch, image_pool, policy)


@dg.op(pool=POOL)
def import_tasks(
    context: dg.OpExecutionContext, deployment: dg.ResourceParam[Deployment], batch: pd.DataFrame
) -> pd.DataFrame:
    """Compare the batch with what Label Studio holds for this round, and create the tasks that are missing."""
    project_id = deployment.project_id(context.run_id) if len(batch) else 0
    return create_missing(deployment, project_id, context.partition_key, batch, context.log)


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
    key = context.partition_key
    metadata: dict[str, Any] = {"tasks": len(batch), "dagster/row_count": len(batch)}
    project = deployment.project(context.run_id) if len(batch) else None
    project_id = project.project_id if project else 0
    found = verify_and_record(deployment, project_id, key, batch)
    if found is not None and project is not None:
        sign(deployment.ledger, deployment.label_studio, project)
        metadata["answered_twice"] = len(found.answered_twice)
        metadata["label_here"] = dg.MetadataValue.url(deployment.project_url(project_id))
        metadata["purposes"] = dg.MetadataValue.json({k: int(v) for k, v in batch["purpose"].value_counts().items()})
    if (asked := what_is_asked(deployment.ledger, key)) is not None:
        metadata["asked"] = asked
    tasks = found.existing if found is not None else {}
    status = pushed(deployment, policy, round_number(key)).status
    decision = decide(status, policy, datetime.now(UTC))
    # Whoever opens the first task is told at once.
    if found is not None:
        tell_annotators(deployment, status, decision, "")
    metadata["state"] = decision.reason
    places = {(task, found.places.get(sample)) for sample, task in tasks.items()} if found is not None else set()
    table = pd.DataFrame({"sample_id": list(tasks), "task_id": pd.array(list(tasks.values()), dtype="int64")})
    yield dg.Output(table, "result", metadata=metadata)
    yield dg.AssetCheckResult(
        asset_key="labeling_tasks",
        check_name="exactly_the_batch",
        # Of a task that asks about several each has a place of its own.
        passed=sorted(batch["sample_id"]) == sorted(tasks) and len(places) == len(tasks),
        metadata={"planned": len(batch), "tasks": len(table)},
    )


@dg.graph_asset(
    group_name="labeling",
    kinds={"labelstudio"},
    partitions_def=rounds,
    check_specs=[
        dg.AssetCheckSpec(
            "exactly_the_batch",
            asset="labeling_tasks",
            blocking=True,
            description="Label Studio holds a task for each image of the batch, and no other. If it fails launch the "
            "round again for this partition: what is missing is created, nothing twice.",
        )
    ],
)
def labeling_tasks(query_batch: pd.DataFrame, image_pool: pd.DataFrame) -> Any:
    """The query batch as tasks in Label Studio: reconcile, import, verify. From here it is people's turn."""
    batch = import_tasks(reconcile_tasks(query_batch, image_pool))
    tasks, check = verify_tasks(batch)
    return {"result": tasks, "labeling_tasks_exactly_the_batch": check}
