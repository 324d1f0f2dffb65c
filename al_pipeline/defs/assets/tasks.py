"""The batch in Label Studio: reconcile, import, verify. One pusher at a time; what is there is not sent again."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.rounds import RoundPolicy, decide, round_number
from al_pipeline.defs.io import TABLE
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.retries import tried_again
from al_pipeline.loop.asked import what_is_asked
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.identity import sign
from al_pipeline.loop.progress import pushed
from al_pipeline.loop.pull import pull
from al_pipeline.loop.push import create_missing, prepare, verify_and_record
from al_pipeline.loop.waiting import tell_annotators

LOOK_AGAIN = dg.RetryPolicy(max_retries=3, delay=1, backoff=dg.Backoff.EXPONENTIAL)


@dg.asset(
    group_name="labeling",
    kinds={"labelstudio"},
    partitions_def=rounds,
    io_manager_key="tables",
    dagster_type=TABLE,
    pool="label_studio",
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
def labeling_tasks(
    context: dg.AssetExecutionContext,
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[RoundPolicy],
    query_batch: pd.DataFrame,
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult:
    """The query batch as tasks in Label Studio: reconcile, import, verify. From here it is people's turn."""
    key, project = context.partition_key, deployment.project(context.run.run_id) if len(query_batch) else None
    project_id = project.project_id if project else 0
    batch = prepare(deployment, project_id, key, query_batch, image_pool, policy)
    # It has looked before it creates, so what follows may have all of this done again; creating fails at once.
    batch = create_missing(deployment, project_id, key, batch, context.log)
    with tried_again(context, LOOK_AGAIN):
        found = verify_and_record(deployment, project_id, key, batch)
        if found is not None and project is not None:
            # What looks may have overtaken, and the round has not waited for (`pull_news`).
            told = {"source": project.source, "min_seconds": policy.min_seconds}
            pull(deployment.ledger, deployment.label_studio, project_id, **told)
            sign(deployment.ledger, deployment.label_studio, project)
        status = pushed(deployment, policy, round_number(key)).status
        decision = decide(status, policy, datetime.now(UTC))
        # Whoever opens the first task is told at once.
        if found is not None:
            tell_annotators(deployment, status, decision, "")
    metadata: dict[str, Any] = {"tasks": len(batch), "dagster/row_count": len(batch)}
    if found is not None:
        metadata["answered_twice"] = len(found.answered_twice)
        metadata["label_here"] = dg.MetadataValue.url(deployment.project_url(project_id))
        metadata["purposes"] = dg.MetadataValue.json({k: int(v) for k, v in batch["purpose"].value_counts().items()})
    if (asked := what_is_asked(deployment.ledger, key)) is not None:
        metadata["asked"] = asked
    metadata["state"] = decision.reason
    tasks, places = (found.existing, found.places) if found is not None else ({}, {})
    own = {(task, places.get(sample)) for sample, task in tasks.items()}
    table = pd.DataFrame({"sample_id": list(tasks), "task_id": pd.array(list(tasks.values()), dtype="int64")})
    whole = dg.AssetCheckResult(
        check_name="exactly_the_batch",
        # Of a task that asks about several each has a place of its own.
        passed=sorted(batch["sample_id"]) == sorted(tasks) and len(own) == len(tasks),
        metadata={"planned": len(batch), "tasks": len(table)},
    )
    return dg.MaterializeResult(value=table, metadata=metadata, check_results=[whole])
