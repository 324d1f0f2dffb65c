"""A round's tasks in Label Studio: brought in without ever doubling one (reconcile, import, verify), and counted."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.connection import LabelStudioError
from al_pipeline.labelstudio.events import TaskStatus
from al_pipeline.labelstudio.filters import condition, of_round


@dataclass(frozen=True)
class Reconciliation:
    """What a project holds for a round, compared with the plan.

    Attributes
    ----------
    existing : dict
        sample_id → task id, for planned samples that have a task. Of several it is the first that people have
        answered, or else the first.
    missing : list of str
        Planned samples without a task, in the order of the plan.
    copies : list of int
        Tasks that nobody has answered and that ask what another task of the round asks.
    foreign : list of int
        Tasks of the round that ask about something that was not planned.
    answered_twice : dict
        sample_id → its task ids, where people have answered several: their votes are counted together.
    """

    existing: dict[str, int]
    missing: list[str]
    copies: list[int]
    foreign: list[int]
    answered_twice: dict[str, list[int]] = field(default_factory=dict)


def reconcile(client: LabelStudio, project_id: int, round_key: str, planned: Sequence[str]) -> Reconciliation:
    """Compare the plan with what the project holds for the round."""
    tasks: dict[str, list[TaskStatus]] = defaultdict(list)
    for task in sorted(client.tasks(project_id, round_key), key=lambda task: (not task.answers, task.task_id)):
        tasks[task.sample_id].append(task)
    wanted = set(planned)
    answered = {sample: [task.task_id for task in found if task.answers] for sample, found in tasks.items()}
    return Reconciliation(
        existing={sample: tasks[sample][0].task_id for sample in planned if sample in tasks},
        missing=[sample for sample in planned if sample not in tasks],
        copies=sorted(
            task.task_id for sample in wanted & tasks.keys() for task in tasks[sample][1:] if not task.answers
        ),
        answered_twice={sample: ids for sample, ids in answered.items() if len(ids) > 1 and sample in wanted},
        foreign=sorted(task.task_id for sample, found in tasks.items() if sample not in wanted for task in found),
    )


def import_missing(client: LabelStudio, project_id: int, payloads: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Create these tasks; return sample_id → task id, as the server tells.

    Reconcile just before: Label Studio makes a second task of whatever it is sent twice.
    """
    ids = client.import_tasks(project_id, payloads)
    # A server that does not tell all ids is asked for the tasks by `verify`.
    return dict(zip((task["data"]["sample_id"] for task in payloads), ids, strict=False))


def verify(
    client: LabelStudio,
    project_id: int,
    round_key: str,
    planned: Sequence[str],
    created: Mapping[str, int] | None = None,
) -> Reconciliation:
    """Return what the project holds once the batch is whole; copies that nobody has answered are withdrawn first.

    Parameters
    ----------
    client : LabelStudio
    project_id : int
    round_key : str
    planned : sequence of str
    created : mapping of str to int, optional
        What `import_missing` returned, if the round had no task before. One question tells whether these are all of
        its tasks; listing a thousand takes as long as creating them.

    Raises
    ------
    LabelStudioError
        A planned sample has no task.
    """
    if created and created.keys() == set(planned) and _are_all(client, project_id, round_key, created):
        return Reconciliation(existing={i: created[i] for i in planned}, missing=[], copies=[], foreign=[])
    found = reconcile(client, project_id, round_key, planned)
    if found.copies:
        client.delete_unanswered(found.copies)
        # Somebody may have answered one meanwhile: then it is no copy any more, and stays.
        found = reconcile(client, project_id, round_key, planned)
    if found.missing or found.copies:
        raise LabelStudioError(
            f"Project {project_id} at {client.url} does not hold exactly the batch of {round_key}: "
            f"{len(found.missing)} tasks are missing (first: {found.missing[:3]}) and {len(found.copies)} are there "
            f"twice (first: {found.copies[:3]}). Re-execute labeling_tasks"
        )
    return found


def _are_all(client: LabelStudio, project_id: int, round_key: str, created: Mapping[str, int]) -> bool:
    """Say whether these are all tasks of a round that had none before.

    Whatever is made later has a higher id; but for the newest task, whose id is given out again when it is deleted.
    """
    newest, count = client.newest_task(project_id, round_key)
    last = max(created, key=lambda sample: created[sample])
    return newest is not None and (count, newest.task_id, newest.sample_id) == (len(created), created[last], last)


def missing_samples(
    client: LabelStudio, project_id: int, round_key: str, planned: Mapping[str, int | None]
) -> set[str]:
    """Return the samples of a round that have no task in Label Studio.

    Where the project holds as many tasks between the first and the last that were pushed as were pushed, with no other
    round's among them, nothing is listed: a filter on the tasks' data reads all that are there.

    Parameters
    ----------
    client : LabelStudio
    project_id : int
    round_key : str
    planned : mapping
        sample_id → the id of its task, None where none is recorded.
    """
    ids = [task for task in planned.values() if task is not None]
    if ids and len(ids) == len(planned):
        first, last = min(ids), max(ids)
        theirs = condition("id", "greater", "Number", first - 1), condition("id", "less", "Number", last + 1)
        alone = last - first + 1 == len(ids)
        if client.count(project_id, *theirs, *([] if alone else [of_round(round_key)]))[0] == len(ids):
            return set()
    return set(planned) - {task.sample_id for task in client.tasks(project_id, round_key)}
