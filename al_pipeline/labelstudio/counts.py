"""How far a large round is, counted by Label Studio itself: listing 10,000 tasks takes seconds, at every tick."""

from collections.abc import Collection
from dataclasses import dataclass

from al_pipeline.labelstudio.client import PAGE, LabelStudio, condition, of_round

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
    first, last = min(task_ids), max(task_ids)
    from_first, to_last = condition("id", "greater", "Number", first - 1), condition("id", "less", "Number", last + 1)
    if client.count(project_id, of_round(round_key), from_first) != (len(task_ids), last):
        return None
    # Where no other round's tasks are among ours, the server need not look into the data of each.
    alone = last - first + 1 == len(task_ids)
    ours = [from_first, to_last] if alone else [of_round(round_key), from_first, to_last]
    labeled, _ = client.count(project_id, *ours, condition("total_annotations", "greater", "Number", min_votes - 1))
    if labeled == len(task_ids):
        return RoundCounts(labeled, 0)
    few = condition("total_annotations", "less", "Number", min_votes)
    skipped, _ = client.count(project_id, *ours, few, condition("cancelled_annotations", "greater", "Number", 0))
    return RoundCounts(labeled, skipped)
