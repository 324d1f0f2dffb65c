"""How far a large round is, counted by Label Studio itself: listing 10,000 tasks takes seconds, at every tick."""

import json
from collections.abc import Collection
from dataclasses import dataclass

from al_pipeline.labelstudio.client import PAGE, LabelStudio

# A round that fits into one page is listed: one request, and it tells more.
LISTED = PAGE


@dataclass(frozen=True)
class RoundCounts:
    """How many tasks of a round have enough answers, and how many of the others somebody has skipped."""

    labeled: int
    skipped: int


def count_round(
    client: LabelStudio, project_id: int, round_key: str, task_ids: Collection[int], min_votes: int
) -> RoundCounts | None:
    """Count the answers to a round; None if the project does not hold exactly the tasks that were pushed.

    The round has no others, and as many as were pushed lie between the first and the last of their ids. A task that
    was made again, or by somebody else, after the push has a later id: then the tasks have to be listed.

    Parameters
    ----------
    client : LabelStudio
    project_id : int
    round_key : str
    task_ids : collection of int
        The tasks that were pushed, not empty; each asks about another sample.
    min_votes : int
        Answers that a task needs.
    """
    ours = [
        _item("data.round", "equal", "String", round_key),
        _item("id", "greater", "Number", min(task_ids) - 1),
        _item("id", "less", "Number", max(task_ids) + 1),
    ]

    def count(*filters: dict[str, object]) -> int:
        conditions = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
        params = {"project": project_id, "page": 1, "page_size": 1, "fields": "task_only", "include": "id"}
        path, asked = "api/tasks/", params | {"query": json.dumps(conditions)}
        connection = client.connection
        return int(
            connection.read(f"count the tasks of project {project_id}", lambda: connection.json(path, asked)["total"])
        )

    if not count(ours[0]) == count(*ours) == len(task_ids):
        return None
    labeled = count(*ours, _item("total_annotations", "greater", "Number", min_votes - 1))
    if labeled == len(task_ids):
        return RoundCounts(labeled, 0)
    few = _item("total_annotations", "less", "Number", min_votes)
    return RoundCounts(labeled, count(*ours, few, _item("cancelled_annotations", "greater", "Number", 0)))


def _item(column: str, operator: str, kind: str, value: str | int) -> dict[str, object]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
