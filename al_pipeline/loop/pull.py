"""Pull what people did from Label Studio into the ledger: only what changed, and nothing is missed for it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.core.rounds import round_number
from al_pipeline.ledger import Watermark

if TYPE_CHECKING:
    from al_pipeline.labelstudio.client import LabelStudio
    from al_pipeline.labelstudio.events import ProjectCounts, TaskAnswers, TaskStatus
    from al_pipeline.ledger import Ledger

# Pulls look back this far behind the newest change seen: servers' clocks differ and requests overtake each other.
OVERLAP = timedelta(minutes=5)
# People may answer while we read. Then the counts before and after differ, and what is new is read once more.
TRIES = 3
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def source_of(client: "LabelStudio", project_id: int) -> str:
    """Return the name under which the ledger keeps a project's annotations: ids are unique within a server only."""
    return f"{client.url} project {project_id}"


def pull(ledger: "Ledger", client: "LabelStudio", project_id: int, *, round_key: str | None = None) -> int:
    """Append what people did since the last pull to the ledger and return how many events are new.

    Only tasks that changed since the last pull are read. Then the project's own counters are compared with what the
    ledger holds, and if they tell of something that was missed, everything is read. A pull may be killed anywhere and
    run again, also by two at once: what is stored stays, what is not is read again.

    Parameters
    ----------
    ledger : Ledger
    client : LabelStudio
    project_id : int
    round_key : str, optional
        The round that pulls.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read; what was read before is stored.
    """
    source, new = source_of(client, project_id), 0
    for _ in range(TRIES):
        mark, started = ledger.watermark(source), datetime.now(UTC)
        before = client.project_counts(project_id)
        more, newest = _read(ledger, client, project_id, _since(mark, before, started), round_key)
        over, after = _over(ledger, source, before), client.project_counts(project_id)
        quiet = (before.annotations, before.skipped) == (after.annotations, after.skipped)
        if quiet and mark is not None and over != (mark.answers_over, mark.skips_over):
            again, newest = _read(ledger, client, project_id, None, round_key)
            more, over = more + again, _over(ledger, source, after)
        new += more
        # Never later than the server's own time: when its clock is set back, new changes are stamped with that.
        until = min(newest or (mark.until if mark else NEVER), before.at)
        if not quiet:
            # Nothing can be concluded from these counts; those of before stay to be compared with.
            over = (mark.answers_over, mark.skips_over) if mark else (0, 0)
        ledger.set_watermark(source, Watermark(until, started, *over))
        if quiet:
            break
    return new


def _since(mark: Watermark | None, counts: "ProjectCounts", now: datetime) -> datetime | None:
    """Return the moment, by the server's clock, from which changes are read; None for all there are."""
    if mark is None:
        return None
    elapsed = max(timedelta(0), now - (mark.pulled_at or now))
    return min(mark.until, counts.at - elapsed) - OVERLAP


def _over(ledger: "Ledger", source: str, counts: "ProjectCounts") -> tuple[int, int]:
    answers, skips = ledger.count_annotations(source)
    return answers - counts.annotations, skips - counts.skipped


def _read(
    ledger: "Ledger", client: "LabelStudio", project_id: int, since: datetime | None, round_key: str | None
) -> tuple[int, datetime | None]:
    """Append what changed, page by page; return how many events are new, and the moment of the newest change."""
    source, new, newest = source_of(client, project_id), 0, None
    for page in client.answers(project_id, updated_since=since):
        events = [event for task in page for event in task.annotations]
        events += taken_back(page, ledger.known_annotations(source, [task.task_id for task in page]))
        new += ledger.append(events, datetime.now(UTC), source=source, round_key=round_key)
        newest = max([task.updated_at for task in page] + ([newest] if newest else []), default=None)
    return new, newest


def taken_back(page: "list[TaskAnswers]", known: list[Annotation]) -> list[Annotation]:
    """Return the new state of each annotation that somebody has deleted from a task that is still there.

    The task has changed since the annotation did. A server that was set back to an older state shows a task without
    the annotation too, but one that has not changed since: that is a loss, not a deletion, and the answer stays. So it
    does when the task was made after the answer: Label Studio has given the id of a lost task to another one.

    Parameters
    ----------
    page : list of TaskAnswers
        Tasks, and all annotations they have.
    known : list of Annotation
        The latest states that the ledger knows of these tasks' annotations.
    """
    present = {(event.annotation_id, event.created_at) for task in page for event in task.annotations}
    tasks = {task.task_id: task for task in page}
    return [
        replace(event, updated_at=tasks[event.task_id].updated_at, raw={"deleted": True}, deleted=True)
        for event in known
        if not event.deleted
        and (event.annotation_id, event.created_at) not in present
        and tasks[event.task_id].sample_id == event.sample_id
        and tasks[event.task_id].created_at <= event.created_at
        and tasks[event.task_id].updated_at > event.updated_at
    ]


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
        asked = (task.round, task.sample_id)
        return asked in recorded and (recorded[asked] != task.task_id or asked not in open_tasks)

    deleted: list[int] = []
    for key in sorted({task.round for task in unanswered if odd(task)}):
        rows = pushed[pushed["round"] == key]
        found = reconcile(client, project_id, key, rows["sample_id"].tolist())
        deleted += client.delete_unanswered(found.copies)
        # The task that stays may be the later one, if that was answered.
        live = rows.loc[rows["withdrawn_at"].isna(), "sample_id"]
        kept = {sample: found.existing[sample] for sample in live if sample in found.existing}
        moved = {sample: task for sample, task in kept.items() if task != recorded[key, sample]}
        ledger.record_pushed(key, moved, datetime.now(UTC))
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
        present[task.round].add(task.sample_id)
    withdrawn: list[str] = []
    for key, rows in waiting.groupby("round"):
        if round_number(str(key)) >= before:
            continue
        gone = sorted(set(rows["sample_id"]) - present[str(key)])
        if gone:
            # Somebody may have answered meanwhile, and a round of which only answered tasks are left was not reset.
            left = {task.sample_id for task in client.tasks(project_id, str(key))}
            gone = sorted(set(gone) - left) if left else []
        ledger.withdraw(str(key), gone, datetime.now(UTC))
        withdrawn += gone
    return withdrawn


def withdraw_unusable(ledger: "Ledger", before: int, max_skips: int, class_names: Sequence[str]) -> list[str]:
    """Withdraw the tasks that brought no label: their samples return to the pool, and may be drawn again.

    These are samples for which nobody has named a class, and which people skipped fewer times than the limit; so also
    those whose only answers are empty, or name what is no class.

    Parameters
    ----------
    ledger : Ledger
    before : int
        Rounds with a smaller number are looked at.
    max_skips : int
        Skips after which a sample is not asked about again.
    class_names : sequence of str
    """
    answers, planned = ledger.answers(purpose="query"), ledger.planned()
    voted = set(answers.loc[answers["value"].isin(list(class_names)), "sample_id"])
    skips = answers[~answers["sample_id"].isin(voted)].groupby("sample_id")["cancelled"].sum()
    again = set(skips.index[skips < max_skips])
    live = planned[planned["withdrawn_at"].isna() & planned["sample_id"].isin(again) & (planned["purpose"] == "query")]
    asked_again = []
    for key, rows in live.groupby("round"):
        # The answer that counts is the one to this task: a sample that was asked about anew is still open.
        theirs = set(answers.loc[answers["round"] == key, "sample_id"])
        if round_number(str(key)) < before:
            gone = sorted(set(rows["sample_id"]) & theirs)
            ledger.withdraw(str(key), gone, datetime.now(UTC))
            asked_again += gone
    return asked_again
