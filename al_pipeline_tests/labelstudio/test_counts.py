"""A round is counted by the server exactly as it would be from the list of its tasks, or not at all."""

import numpy as np
import pytest

from al_pipeline.labelstudio.push import RoundCounts, count_round
from al_pipeline_tests.labelstudio.projects import Project

pytestmark = pytest.mark.labelstudio


def listed(project: Project, min_votes: int) -> RoundCounts:
    """Count by listing, task by task."""
    tasks = project.client.tasks(project.id, "r0000")
    labeled = {task.task_id for task in tasks if task.annotations >= min_votes}
    skipped = {task.task_id for task in tasks if task.cancelled} - labeled
    return RoundCounts(len(labeled), len(skipped))


@pytest.mark.parametrize("between", [False, True])
def test_answers_and_skips_are_counted_as_in_the_list(project: Project, between: bool) -> None:
    tasks = list(project.add(6).values())
    if not between:
        tasks += project.add(6).values()
    project.client.annotate(project.add(1, "r0001").popitem()[1], project.class_names[0])
    if between:
        tasks += project.add(6).values()
    assert count_round(project.client, project.id, "r0000", tasks, 1) == RoundCounts(0, 0)
    rng = np.random.default_rng(0)
    for task in rng.choice(tasks, 16):
        project.client.annotate(int(task), project.class_names[0] if rng.random() < 0.6 else None)
    found = [count_round(project.client, project.id, "r0000", tasks, votes) for votes in (1, 2)]
    assert found == [listed(project, 1), listed(project, 2)]
    assert all(counts and counts.labeled and counts.skipped for counts in found)
    assert found[0] != found[1]


@pytest.mark.parametrize("made", ["deleted", "doubled", "replaced", "foreign"])
def test_a_round_that_is_not_what_was_pushed_has_to_be_listed(project: Project, made: str) -> None:
    tasks = project.add(4)
    if made in {"deleted", "replaced"}:
        project.client.delete_tasks([tasks[f"r0000{2:027d}"]])
    if made != "deleted":
        sample = "f" * 32 if made == "foreign" else f"r0000{2:027d}"
        project.client.import_tasks(project.id, project.payloads([sample]))
    assert count_round(project.client, project.id, "r0000", list(tasks.values()), 1) is None
