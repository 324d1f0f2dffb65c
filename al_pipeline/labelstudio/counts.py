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

    From the first of their ids on the round has as many tasks as were pushed, and the newest is the last of them. A
    task that was made again, or by somebody else, after the push has a later id: then the tasks have to be listed.

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
    first, last, connection = min(task_ids), max(task_ids), client.connection
    from_first, to_last = _item("id", "greater", "Number", first - 1), _item("id", "less", "Number", last + 1)
    of_round = _item("data.round", "equal", "String", round_key)

    def count(*filters: dict[str, object]) -> tuple[int, int | None]:
        """Return how many tasks there are, and the newest of them."""
        conditions = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["-tasks:id"]}
        params = {"project": project_id, "page": 1, "page_size": 1, "fields": "task_only", "include": "id"}
        asked = params | {"query": json.dumps(conditions)}
        answer = connection.read(
            f"count the tasks of project {project_id}", lambda: connection.json("api/tasks/", asked)
        )
        return int(answer["total"]), next((int(task["id"]) for task in answer["tasks"]), None)

    if count(of_round, from_first) != (len(task_ids), last):
        return None
    # Where no other round's tasks are among ours, the server need not look into the data of each.
    ours = [from_first, to_last] if last - first + 1 == len(task_ids) else [of_round, from_first, to_last]
    labeled, _ = count(*ours, _item("total_annotations", "greater", "Number", min_votes - 1))
    if labeled == len(task_ids):
        return RoundCounts(labeled, 0)
    few = _item("total_annotations", "less", "Number", min_votes)
    return RoundCounts(labeled, count(*ours, few, _item("cancelled_annotations", "greater", "Number", 0))[0])


def _item(column: str, operator: str, kind: str, value: str | int) -> dict[str, object]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
