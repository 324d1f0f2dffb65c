"""A round's tasks in Label Studio: brought in without ever doubling one (reconcile, import, verify), and counted."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.connection import LabelStudioError
from al_pipeline.labelstudio.events import TaskStatus, samples_of
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
    places : dict
        sample_id → the place of its image in the task, from 1, of those that share a task with others.
    """

    existing: dict[str, int]
    missing: list[str]
    copies: list[int]
    foreign: list[int]
    answered_twice: dict[str, list[int]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)


def reconcile(client: LabelStudio, project_id: int, round_key: str, planned: Sequence[str]) -> Reconciliation:
    """Compare the plan with what the project holds for the round."""
    wanted, places = set(planned), dict[str, int]()
    asked: dict[str, list[TaskStatus]] = defaultdict(list)
    copies, foreign = list[int](), list[int]()
    for task in sorted(client.tasks(project_id, round_key), key=lambda task: (not task.answers, task.task_id)):
        ours = [sample for sample in task.samples if sample in wanted]
        if not ours:
            foreign.append(task.task_id)
        elif not task.answers and any(sample in asked for sample in ours):
            # All of a grid goes if any of it is asked about by another: no image is asked about twice.
            copies.append(task.task_id)
        else:
            places |= {i: place for i, place in _places(task.samples).items() if i not in asked}
            for sample in dict.fromkeys(ours):
                asked[sample].append(task)
    return Reconciliation(
        existing={sample: asked[sample][0].task_id for sample in planned if sample in asked},
        missing=[sample for sample in planned if sample not in asked],
        copies=sorted(copies),
        answered_twice={i: [task.task_id for task in found] for i, found in asked.items() if len(found) > 1},
        foreign=sorted(foreign),
        places={sample: place for sample, place in places.items() if sample in wanted},
    )


def import_missing(client: LabelStudio, project_id: int, payloads: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Create these tasks; return sample_id → task id, as the server tells.

    Reconcile just before: Label Studio makes a second task of whatever it is sent twice.
    """
    ids = client.import_tasks(project_id, payloads)
    # A server that does not tell all ids is asked for the tasks by `verify`.
    return {sample: made for task, made in zip(payloads, ids, strict=False) for sample in asked_by(task)}


def asked_by(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the samples that a task asks about, each by itself."""
    return samples_of(payload["data"]) or (payload["data"]["sample_id"],)


def places_in(payloads: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the place of each sample in its task, from 1, of those that share a task with others."""
    return {sample: place for task in payloads for sample, place in _places(asked_by(task)).items()}


def _places(samples: Sequence[str]) -> dict[str, int]:
    """Return the place of each sample of a grid, nothing for a sample that is alone."""
    return {sample: place for place, sample in enumerate(samples, 1)} if len(samples) > 1 else {}


def verify(
    client: LabelStudio,
    project_id: int,
    round_key: str,
    planned: Sequence[str],
    created: Mapping[str, int] | None = None,
    places: Mapping[str, int] | None = None,
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
    places : mapping of str to int, optional
        As of `places_in`, of these.

    Raises
    ------
    LabelStudioError
        A planned sample has no task.
    """
    if created and created.keys() == set(planned) and _are_all(client, project_id, round_key, created):
        existing = {sample: created[sample] for sample in planned}
        return Reconciliation(existing, missing=[], copies=[], foreign=[], places=dict(places or {}))
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
    last, ids = max(created.values()), set(created.values())
    theirs = {sample for sample, task in created.items() if task == last}
    return newest is not None and (count, newest.task_id, set(newest.samples)) == (len(ids), last, theirs)


def tasks_between(
    client: LabelStudio, project_id: int, round_key: str, planned: Mapping[str, int | None]
) -> int | None:
    """Return how many tasks a round has between its first and its last that were pushed; None if some never were.

    Nothing is listed for it: a filter on the tasks' data reads all that are there. The parameters are those of
    `missing_samples`.
    """
    ids = {task for task in planned.values() if task is not None}
    if not ids or None in planned.values():
        return None
    first, last = min(ids), max(ids)
    theirs = condition("id", "greater", "Number", first - 1), condition("id", "less", "Number", last + 1)
    alone = last - first + 1 == len(ids)
    return client.count(project_id, *theirs, *([] if alone else [of_round(round_key)]))[0]


def missing_samples(
    client: LabelStudio, project_id: int, round_key: str, planned: Mapping[str, int | None]
) -> set[str]:
    """Return the samples of a round that have no task in Label Studio.

    Where the project holds as many tasks between the first and the last that were pushed as were pushed, with no other
    round's among them, nothing is listed.

    Parameters
    ----------
    client : LabelStudio
    project_id : int
    round_key : str
    planned : mapping
        sample_id → the id of its task, None where none is recorded.
    """
    if tasks_between(client, project_id, round_key, planned) == len(set(planned.values())):
        return set()
    return set(planned) - {sample for task in client.tasks(project_id, round_key) for sample in task.samples}
