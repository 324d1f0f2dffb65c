"""Tasks that are gone from Label Studio, and those that nobody needs: what a round finds of the rounds before it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.rounds import round_number
from al_pipeline.loop.answers import answered_samples

if TYPE_CHECKING:
    from al_pipeline.labelstudio.client import LabelStudio
    from al_pipeline.labelstudio.events import TaskStatus
    from al_pipeline.ledger import Ledger


def withdraw_copies(
    ledger: "Ledger", client: "LabelStudio", project_id: int, before: int, unanswered: "Sequence[TaskStatus]"
) -> list[int]:
    """Delete tasks that nobody has answered and that ask what another task of their round asks; return which.

    A push leaves no copies. One may come later: by an import that Label Studio finished long after we had given it up,
    or by hand. Whoever answers it would do so for nothing. The parameters are those of `withdraw_deleted`.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read or written; what was deleted before is no longer there.
    """
    from al_pipeline.labelstudio.push import reconcile

    if not unanswered:
        return []
    planned, open_tasks = ledger.planned(), ledger.open_tasks()
    pushed = planned[planned["task_id"].notna() & planned["round"].isin({task.round for task in unanswered})]
    pushed = pushed[pushed["round"].map(round_number) < before]
    recorded = {(row.round, row.sample_id): int(row.task_id) for row in pushed.itertuples()}

    def odd(task: "TaskStatus") -> bool:
        """Say whether this is another task than the one we know, or one about a sample that was dealt with."""
        asked = [known for sample in task.samples if (known := (task.round, sample)) in recorded]
        return any(recorded[known] != task.task_id or known not in open_tasks for known in asked)

    deleted: list[int] = []
    for key in sorted({task.round for task in unanswered if odd(task)}):
        rows = pushed[pushed["round"] == key]
        found = reconcile(client, project_id, key, rows["sample_id"].tolist())
        deleted += client.delete_unanswered(found.copies)
        # The task that stays may be the later one, if that was answered.
        live = rows.loc[rows["withdrawn_at"].isna(), "sample_id"]
        kept = {sample: found.existing[sample] for sample in live if sample in found.existing}
        moved = {sample: task for sample, task in kept.items() if task != recorded[key, sample]}
        ledger.record_pushed(key, moved, datetime.now(UTC), found.places)
    return deleted


def withdraw_deleted(
    ledger: "Ledger", client: "LabelStudio", project_id: int, before: int, unanswered: "Sequence[TaskStatus]"
) -> list[str]:
    """Withdraw unanswered tasks that people deleted in Label Studio; return their samples.

    A sample that was answered keeps its label, deleted task or not. When every task of a round is gone the project
    was reset, not tidied up, and nothing of that round is withdrawn.

    Parameters
    ----------
    ledger : Ledger
    client : LabelStudio
    project_id : int
    before : int
        Rounds with a smaller number are looked at.
    unanswered : sequence of TaskStatus
        The project's tasks that nobody has answered or skipped, read after the last pull.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read; what was withdrawn before stays so.
    """
    planned, open_tasks = ledger.planned(), ledger.open_tasks()
    still_open = pd.MultiIndex.from_frame(planned[["round", "sample_id"]]).isin(open_tasks)
    waiting = planned[still_open & planned["pushed_at"].notna()]
    present: dict[str, set[str]] = defaultdict(set)
    for task in unanswered:
        present[task.round].update(task.samples)
    withdrawn: list[str] = []
    for key, rows in waiting.groupby("round"):
        if round_number(str(key)) >= before:
            continue
        gone = sorted(set(rows["sample_id"]) - present[str(key)])
        if gone:
            # Somebody may have answered meanwhile, and a round of which only answered tasks are left was not reset.
            left = {sample for task in client.tasks(project_id, str(key)) for sample in task.samples}
            gone = sorted(set(gone) - left) if left else []
        ledger.withdraw(str(key), gone, datetime.now(UTC))
        withdrawn += gone
    return withdrawn


def withdraw_answered(
    ledger: "Ledger", client: "LabelStudio", source: str, unanswered: "Sequence[TaskStatus]", min_votes: int
) -> list[int]:
    """Delete tasks whose answers Label Studio has lost, and the ledger has; return which.

    A server that was set back asks people again what they have answered. A task that has changed since the answer is
    another matter: there somebody took the answer back.

    Parameters
    ----------
    ledger : Ledger
    client : LabelStudio
    source : str
        The name under which the ledger keeps the project's annotations.
    unanswered : sequence of TaskStatus
        As of `withdraw_deleted`.
    min_votes : int
        Answers that a task needs.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read or written; what was deleted before is no longer there.
    """
    lost, known = list[int](), set[int]()
    for key in sorted({task.round for task in unanswered}):
        answers = ledger.answers(round_key=key)
        given = answers[(answers["round"] == key) & (answers["source"] == source)]
        newest = given.groupby("sample_id")["updated_at"].max()
        done = answered_samples(ledger, key, min_votes).keys() & set(newest.index)
        theirs = [task for task in unanswered if task.round == key and done >= set(task.samples)]
        lost += [task.task_id for task in theirs if task.updated_at < min(newest[sample] for sample in task.samples)]
        known |= set(given["annotation_id"].astype(int))
    # Its counters alone may have lost them, and whoever goes by these asks again.
    return client.delete_unanswered(lost, known)
