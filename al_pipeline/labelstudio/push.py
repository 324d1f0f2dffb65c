"""Bring a batch into Label Studio without ever doubling a task: reconcile, import, verify."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.errors import LabelStudioError


@dataclass(frozen=True)
class Reconciliation:
    """What a project holds for a round, compared with the plan.

    Attributes
    ----------
    existing : dict
        sample_id → task id, for planned samples that have exactly one task or several (then the first).
    missing : list of str
        Planned samples without a task, in the order of the plan.
    double : dict
        sample_id → all its task ids, where there is more than one.
    foreign : list of int
        Tasks of the round that ask about something that was not planned.
    """

    existing: dict[str, int]
    missing: list[str]
    double: dict[str, list[int]]
    foreign: list[int]


def reconcile(client: LabelStudio, project_id: int, round_key: str, planned: Sequence[str]) -> Reconciliation:
    """Compare the plan with what the project holds for the round."""
    tasks: dict[str, list[int]] = defaultdict(list)
    for task in client.tasks(project_id, round_key):
        tasks[task.sample_id].append(task.task_id)
    wanted = set(planned)
    return Reconciliation(
        existing={sample: min(tasks[sample]) for sample in planned if sample in tasks},
        missing=[sample for sample in planned if sample not in tasks],
        double={sample: sorted(ids) for sample, ids in tasks.items() if len(ids) > 1 and sample in wanted},
        foreign=sorted(i for sample, ids in tasks.items() if sample not in wanted for i in ids),
    )


def import_missing(client: LabelStudio, project_id: int, payloads: Sequence[dict[str, Any]]) -> None:
    """Create these tasks. Reconcile just before: Label Studio makes a second task of whatever it is sent twice."""
    client.import_tasks(project_id, payloads)


def verify(client: LabelStudio, project_id: int, round_key: str, planned: Sequence[str]) -> dict[str, int]:
    """Return sample_id → task id of the whole batch.

    Raises
    ------
    LabelStudioError
        A planned sample has no task, or more than one.
    """
    found = reconcile(client, project_id, round_key, planned)
    if found.missing or found.double:
        raise LabelStudioError(
            f"Project {project_id} at {client.url} does not hold exactly the batch of {round_key}: "
            f"{len(found.missing)} tasks are missing (first: {found.missing[:3]}), {len(found.double)} samples have "
            f"several tasks (first: {list(found.double.items())[:3]}). Re-execute labeling_tasks for missing ones; "
            "delete the unanswered copy of a double one in Label Studio"
        )
    return found.existing
