"""What people have done with a round that is in Label Studio, and what is missing: the facts that `decide` needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from al_pipeline.core.rounds import RoundPolicy, RoundStatus, awaited_round, round_key
from al_pipeline.loop.again import GUESSED, reasons
from al_pipeline.loop.answers import answered_samples
from al_pipeline.loop.classes import obstacle
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.pull import pull_news
from al_pipeline.loop.remarks import remarks

# What is read of a round's plan at every tick.
PROGRESS = ("sample_id", "purpose", "task_id")


@dataclass(frozen=True)
class Facts:
    """What is known about the newest round, the counts worth recording when they change, and what people should know.

    A warning is about the loop as a whole; each remark is a sentence about what was done in Label Studio.
    """

    status: RoundStatus
    counts: dict[str, int | str] = field(default_factory=dict)
    warning: str | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Progress:
    """Samples of a round: labeled, skipped, without a task, to be asked again; and what people should know.

    The obstacle is why their answers would be no labels.
    """

    labeled: int = 0
    skipped: int = 0
    missing: int = 0
    again: int = 0
    remarks: tuple[str, ...] = ()
    obstacle: str | None = None


def pushed(deployment: Deployment, policy: RoundPolicy, number: int, *, attempts: int = 1) -> Facts:
    """Return the facts of a round whose batch is in Label Studio; what people did is in the ledger then.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read.
    """
    key, ledger = round_key(number), deployment.ledger
    planned = ledger.planned(key, columns=PROGRESS)
    awaited = awaited_round(number, policy)
    before = planned if awaited in {None, number} else ledger.planned(round_key(number - 1), columns=PROGRESS)
    ahead = before is not planned and not before.empty
    if ahead:
        key, planned = round_key(number - 1), before
    progress = _progress(deployment, policy, planned, key)
    return Facts(
        RoundStatus(
            round_number=number,
            run_state="succeeded",
            attempts=attempts,
            planned=len(planned),
            labeled=progress.labeled,
            skipped=progress.skipped,
            withdrawn=progress.missing,
            again=progress.again,
            opened_at=ledger.pushed_at(key),
            unlabeled_left=max(0, ledger.count_samples("pool") - ledger.count_asked()),
            obstacle=progress.obstacle,
            ahead=ahead,
            labels_total=ledger.count_labels(policy.min_votes),
        ),
        counts={
            "round": key,
            "planned": len(planned),
            "labeled": progress.labeled,
            "skipped": progress.skipped,
            "missing": progress.missing,
        },
        remarks=progress.remarks,
    )


def _progress(deployment: Deployment, policy: RoundPolicy, planned: pd.DataFrame, key: str) -> _Progress:
    """Pull what is new, and count in the ledger what people have done with a round, and what is gone."""
    if planned.empty:
        return _Progress()
    client, project, ledger = deployment.label_studio, deployment.project(), deployment.ledger
    counts = pull_news(ledger, client, project.project_id, source=project.source, min_seconds=policy.min_seconds)
    class_set = ledger.class_set()
    # Whatever this depends on: while it stays, so does what was counted.
    seen = (
        key,
        project.source,
        policy,
        counts.tasks,
        ledger.newest_event(),
        class_set and class_set.version,
        len(planned),
    )
    if deployment.counted is None or deployment.counted[0] != seen:
        names = None if class_set is None else class_set.names
        deployment.counted = seen, _count(deployment, project.project_id, policy, planned, key, names)
    problem = None if class_set is None else obstacle(class_set, counts.label_config)
    return replace(deployment.counted[1], obstacle=problem)


def _count(
    deployment: Deployment,
    project_id: int,
    policy: RoundPolicy,
    planned: pd.DataFrame,
    key: str,
    names: Sequence[str] | None,
) -> _Progress:
    from al_pipeline.labelstudio.push import missing_samples

    ledger, asked, overlap = deployment.ledger, set(planned["sample_id"]), deployment.settings.overlap
    known = answered_samples(ledger, key, policy.min_votes, names)
    tasks = {row.sample_id: None if pd.isna(row.task_id) else int(row.task_id) for row in planned.itertuples()}
    missing = missing_samples(deployment.label_studio, project_id, key, tasks) - known.keys()
    given = ledger.answers(round_key=key, nobodys=True)
    stuck = reasons(given, planned.assign(round=key), names, policy, overlap)
    # A guess that was made an answer can be deleted: whoever reads the remark does so, or answers.
    again = {sample for sample, why in stuck.items() if why != GUESSED} - known.keys() - missing
    labeled = sum(known[sample] for sample in known.keys() & asked)
    return _Progress(
        labeled, len(known.keys() & asked) - labeled, len(missing), len(again), remarks(given, key, names, stuck)
    )
