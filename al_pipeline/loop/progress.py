"""What people have done with a round that is in Label Studio, and what is missing: the facts that `decide` needs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.errors import ALError
from al_pipeline.core.rounds import RoundPolicy, RoundStatus, answers_needed, awaited_round, round_key
from al_pipeline.loop.again import GUESSED, reasons
from al_pipeline.loop.answers import answered_samples
from al_pipeline.loop.classes import obstacle
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.pace import answers_meanwhile, early
from al_pipeline.loop.pull import pull_news
from al_pipeline.loop.remarks import remarks, without_image

if TYPE_CHECKING:
    from al_pipeline.labelstudio.events import ProjectCounts
    from al_pipeline.labelstudio.identity import Project

# What is read of a round's plan when anything has changed.
PROGRESS = ("sample_id", "task_id", "withdrawn_at")


@dataclass(frozen=True)
class Facts:
    """What is known about the newest round, the counts worth recording when they change, and what people should know.

    A warning is about the loop as a whole; each remark is a sentence about what was done in Label Studio. `project` is
    the id of the project that was read, and its counters just before that.
    """

    status: RoundStatus
    counts: dict[str, int | str] = field(default_factory=dict)
    warning: str | None = None
    remarks: tuple[str, ...] = ()
    # Of a moment: what else they say is the same an instant later.
    project: "tuple[int, ProjectCounts] | None" = field(default=None, compare=False)


@dataclass(frozen=True)
class _Progress:
    """Samples of a round: labeled, skipped, without a task, to be asked again, never shown; what people should know.

    The obstacle is why their answers would be no labels.
    """

    labels_total: int
    labeled: int = 0
    skipped: int = 0
    missing: int = 0
    again: int = 0
    away: int = 0
    remarks: tuple[str, ...] = ()
    obstacle: str | None = None
    project: "tuple[int, ProjectCounts] | None" = None
    # The samples without a task, answered or not, and all that they depend on.
    listed: tuple[object, set[str]] | None = None


def pushed(
    deployment: Deployment, policy: RoundPolicy, number: int, *, attempts: int = 1, seconds: float | None = None
) -> Facts:
    """Return the facts of a round whose batch is in Label Studio; what people did is in the ledger then.

    Parameters
    ----------
    deployment : Deployment
    policy : RoundPolicy
    number : int
        The round, which is the newest.
    attempts : int
        Runs it has had.
    seconds : float, optional
        What the last rounds took from their request to their end: whether the next is to be opened early.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read.
    """
    key, ledger = round_key(number), deployment.ledger
    planned = ledger.count_planned(key)
    before = 0 if awaited_round(number, policy) in {None, number} else ledger.count_planned(round_key(number - 1))
    waiting = planned if before else 0
    if before:
        key, planned = round_key(number - 1), before
    progress = _progress(deployment, policy, planned, key)
    meanwhile = answers_meanwhile(ledger, seconds) if waiting else 0.0
    return Facts(
        RoundStatus(
            round_number=number,
            run_state="succeeded",
            attempts=attempts,
            planned=planned,
            labeled=progress.labeled,
            skipped=progress.skipped,
            withdrawn=progress.missing,
            again=progress.again,
            away=progress.away,
            opened_at=ledger.pushed_at(key),
            unlabeled_left=max(0, ledger.count_samples("pool") - ledger.count_asked()),
            obstacle=progress.obstacle,
            ahead=before > 0,
            tests=ledger.count_planned(key, purpose="holdout"),
            # Of interest once nobody is asked any more.
            tests_left=0 if planned else len(ledger.holdout_waiting()),
            early=early(meanwhile, waiting, planned),
            labels_total=progress.labels_total,
        ),
        counts={
            "round": key,
            "planned": planned,
            "labeled": progress.labeled,
            "skipped": progress.skipped,
            "missing": progress.missing,
        },
        remarks=progress.remarks,
        project=progress.project,
    )


def keep_up(deployment: Deployment, policy: RoundPolicy) -> None:
    """Pull what people have answered while a round is made, which decides nothing but is told wherever one looks."""
    with suppress(ALError):
        if deployment.ledger.newest_pushed() is not None:
            _pull(deployment, policy)


def answers_missing(status: RoundStatus, policy: RoundPolicy) -> int:
    """Return how many samples have to be dealt with, at the least, until `decide` can open the next round.

    0 where that depends on anything but answers to tasks that are there. Time alone may open it before.
    """
    if status.run_state != "succeeded" or not status.open_tasks:
        return 0
    missing = max(0, answers_needed(status, policy) - status.early - status.answered)
    # One answer may bring several labels, those of what is shown beside; and be the one that an overdue round lacks.
    one_will_do = policy.label_budget is not None or (policy.timeout is not None and not status.answered)
    return min(missing, 1) if one_will_do else missing


def _progress(deployment: Deployment, policy: RoundPolicy, planned: int, key: str) -> _Progress:
    """Pull what is new, and count in the ledger what people have done with a round, and what is gone."""
    ledger = deployment.ledger
    if not planned:
        gone = ledger.gone()
        return _Progress(ledger.count_labels(policy.min_votes), remarks=without_image(ledger, gone, policy.min_votes))
    counts, project = _pull(deployment, policy)
    classes, event, gone = ledger.class_set(), ledger.newest_event(), ledger.gone()
    # Whatever this depends on: while it stays, so does what was counted.
    seen = (key, project.source, policy, counts.tasks, event, classes and classes.version, planned, frozenset(gone))
    if deployment.counted is None or deployment.counted[0] != seen:
        names = None if classes is None else classes.names
        counted = _count(deployment, project.project_id, policy, key, names, counts.tasks)
        unused = without_image(ledger, gone, policy.min_votes)
        deployment.counted = seen, replace(counted, remarks=counted.remarks + unused)
    problem = None if classes is None else obstacle(classes, counts.label_config)
    return replace(deployment.counted[1], obstacle=problem, project=(project.project_id, counts))


def _pull(deployment: Deployment, policy: RoundPolicy) -> "tuple[ProjectCounts, Project]":
    ledger, client, project = deployment.ledger, deployment.label_studio, deployment.project()
    told = {"source": project.source, "min_seconds": policy.min_seconds}
    return pull_news(ledger, client, project.project_id, **told)[0], project


def _count(
    deployment: Deployment, project_id: int, policy: RoundPolicy, key: str, names: Sequence[str] | None, total: int
) -> _Progress:
    from al_pipeline.labelstudio.push import missing_samples, tasks_between

    ledger, overlap = deployment.ledger, deployment.settings.overlap
    planned, given = ledger.planned(key, columns=PROGRESS), ledger.answers(round_key=key, nobodys=True)
    asked = set(planned["sample_id"])
    known = answered_samples(ledger, key, policy.min_votes, names, given=given)
    tasks = {
        sample: None if pd.isna(task) else int(task)
        for sample, task in zip(planned["sample_id"], planned["task_id"], strict=True)
    }
    client = deployment.label_studio
    # To list a round takes minutes where it is large: while as many tasks are there, the same are missing.
    there = tasks_between(client, project_id, key, tasks)
    seen = (project_id, key, total, there, tasks)
    listed = None if deployment.counted is None else deployment.counted[1].listed
    if there is None or listed is None or listed[0] != seen:
        listed = seen, missing_samples(client, project_id, key, tasks)
    missing = listed[1] - known.keys()
    stuck = reasons(given, planned.assign(round=key), names, policy, overlap)
    # A guess that was made an answer can be deleted: whoever reads the remark does so, or answers.
    again = {sample for sample, why in stuck.items() if why != GUESSED} - known.keys() - missing
    labeled = sum(known[sample] for sample in known.keys() & asked)
    never = set(planned.loc[planned["withdrawn_at"].notna() & planned["task_id"].isna(), "sample_id"])
    return _Progress(
        labels_total=ledger.count_labels(policy.min_votes),
        labeled=labeled,
        skipped=len(known.keys() & asked) - labeled,
        missing=len(missing),
        again=len(again),
        away=len(never & missing),
        remarks=remarks(given, key, names, stuck),
        listed=listed,
    )
