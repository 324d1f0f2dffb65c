"""Ask again what is unanswered when Label Studio has lost it: a project that was deleted, or set back in time."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.rounds import RoundPolicy, round_number
from al_pipeline.labelstudio.identity import Project
from al_pipeline.ledger import PLAN_COLUMNS
from al_pipeline.loop.answers import answered_samples
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.identity import sign, was_set_back
from al_pipeline.loop.push import create_missing, prepare, verify_and_record

if TYPE_CHECKING:
    from al_pipeline.labelstudio.events import TaskStatus


def push_again(
    deployment: Deployment,
    project: Project,
    manifest: pd.DataFrame,
    policy: RoundPolicy,
    unanswered: "Sequence[TaskStatus]",
    log: logging.Logger,
    *,
    before: int | None = None,
) -> list[str]:
    """Create the tasks of rounds that Label Studio has lost, and return these rounds.

    All unanswered tasks that are missing if the project is an older state of itself, or another one than was pushed
    to; else those of rounds that have no task left. Where only some are missing, people have deleted them. What people
    have answered is not asked again.

    Parameters
    ----------
    deployment : Deployment
    project : Project
    manifest : DataFrame
        The image pool.
    policy : RoundPolicy
    unanswered : sequence of TaskStatus
        The project's tasks that nobody has answered or skipped.
    log : Logger
    before : int, optional
        Only rounds with a smaller number are looked at.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read or written. What was created is found by the next try.
    """
    ledger, client = deployment.ledger, deployment.label_studio
    planned = ledger.planned()
    live = planned[planned["pushed_at"].notna() & planned["withdrawn_at"].isna()]
    if before is not None:
        live = live[live["round"].map(round_number) < before]
    set_back, open_tasks, restored = was_set_back(ledger, project), ledger.open_tasks(), list[str]()
    present = {(task.round, sample) for task in unanswered for sample in task.samples}
    for key, rows in live.groupby("round"):
        name = str(key)
        waiting = {(name, sample) for sample in rows["sample_id"]}
        if set_back:
            waiting -= {(name, sample) for sample in answered_samples(ledger, name, policy.min_votes)}
        else:
            waiting &= open_tasks
        if waiting <= present:
            continue
        if set_back:
            there = client.tasks(project.project_id, name)
            lost = not waiting <= {(name, sample) for task in there for sample in task.samples}
        else:
            lost = client.newest_task(project.project_id, name) == (None, 0)
        if not lost:
            continue
        batch = prepare(deployment, project.project_id, name, rows[list(PLAN_COLUMNS)], manifest, policy)
        batch = create_missing(deployment, project.project_id, name, batch, log)
        verify_and_record(deployment, project.project_id, name, batch)
        restored.append(name)
    if restored:
        log.warning("Label Studio had lost unanswered tasks of %s: they are created anew", ", ".join(restored))
    if set_back:
        sign(ledger, client, project)
    return restored
