"""What people have done with a round that is in Label Studio, and what is missing: the facts that `decide` needs."""

from dataclasses import dataclass, field

import pandas as pd

from al_pipeline.core.rounds import RoundPolicy, RoundStatus, awaited_round, round_key
from al_pipeline.loop.answers import answered_samples
from al_pipeline.loop.deployment import Deployment

# What is read of a round's plan at every tick.
PROGRESS = ("sample_id", "purpose", "task_id")


@dataclass(frozen=True)
class Facts:
    """What is known about the newest round, the counts worth recording when they change, and a warning if any."""

    status: RoundStatus
    counts: dict[str, int | str] = field(default_factory=dict)
    warning: str | None = None


@dataclass(frozen=True)
class _Progress:
    """Samples of a round: labeled, skipped, without a task; and those labeled that are no holdout or review."""

    labeled: int = 0
    skipped: int = 0
    missing: int = 0
    labeled_queries: int = 0


def pushed(deployment: Deployment, policy: RoundPolicy, number: int, *, attempts: int = 1) -> Facts:
    """Return the facts of a round whose batch is in Label Studio.

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
    progress = _progress(deployment, planned, key, policy.min_votes)
    return Facts(
        RoundStatus(
            round_number=number,
            run_state="succeeded",
            attempts=attempts,
            planned=len(planned),
            labeled=progress.labeled,
            skipped=progress.skipped,
            withdrawn=progress.missing,
            opened_at=ledger.pushed_at(key),
            unlabeled_left=max(0, ledger.count_samples("pool") - ledger.count_asked()),
            # The awaited round's answers are counted where they are; the ledger gets them when the next round pulls.
            ahead=ahead,
            labels_total=ledger.count_labels(policy.min_votes, but=key) + progress.labeled_queries,
        ),
        counts={
            "round": key,
            "planned": len(planned),
            "labeled": progress.labeled,
            "skipped": progress.skipped,
            "missing": progress.missing,
        },
    )


def _progress(deployment: Deployment, planned: pd.DataFrame, key: str, min_votes: int) -> _Progress:
    """Count in Label Studio what people have done with a round, and what is gone."""
    from al_pipeline.labelstudio.push import LISTED, count_round

    if planned.empty:
        return _Progress()
    client, project_id = deployment.label_studio, deployment.project_id()
    only_queries = bool((planned["purpose"] == "query").all())
    if len(planned) > LISTED and only_queries and planned["task_id"].notna().all():
        counts = count_round(client, project_id, key, planned["task_id"].tolist(), min_votes)
        if counts is not None:
            return _Progress(counts.labeled, counts.skipped, 0, counts.labeled)

    asked = set(planned["sample_id"])
    tasks = client.tasks(project_id, key)
    labeled = {task.sample_id for task in tasks if task.annotations >= min_votes} & asked
    skipped = ({task.sample_id for task in tasks if task.cancelled} & asked) - labeled
    missing = asked - {task.sample_id for task in tasks}
    if missing:
        # An answer that was pulled is known, whatever became of its task.
        known = answered_samples(deployment.ledger, key, min_votes)
        labeled |= {sample for sample in missing if known.get(sample) is True}
        skipped |= {sample for sample in missing if known.get(sample) is False}
        missing -= known.keys()
    query = set(planned.loc[planned["purpose"] == "query", "sample_id"])
    return _Progress(len(labeled), len(skipped), len(missing), len(labeled & query))
