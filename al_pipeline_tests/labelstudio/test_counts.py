"""Which samples of a round have no task any more is found exactly as from the list of its tasks."""

import pytest

from al_pipeline.labelstudio.push import missing_samples
from al_pipeline_tests.labelstudio.projects import Project

pytestmark = pytest.mark.labelstudio


def listed(project: Project, planned: dict[str, int]) -> set[str]:
    """Find them by listing, task by task."""
    return planned.keys() - {task.sample_id for task in project.client.tasks(project.id, "r0000")}


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("made", ["nothing", "deleted", "doubled", "replaced", "foreign"])
def test_samples_without_a_task_are_those_that_the_list_lacks(project: Project, made: str, between: bool) -> None:
    tasks = project.add(2)
    if between:
        project.add(1, "r0001")
    ids = project.client.import_tasks(project.id, project.payloads(["a" * 32, "b" * 32]))
    tasks |= dict(zip(["a" * 32, "b" * 32], ids, strict=True))
    gone = next(iter(tasks))
    if made in {"deleted", "replaced"}:
        project.client.delete_tasks([tasks[gone]])
    if made in {"doubled", "replaced", "foreign"}:
        project.client.import_tasks(project.id, project.payloads(["f" * 32 if made == "foreign" else gone]))
    found = missing_samples(project.client, project.id, "r0000", dict(tasks))
    assert found == listed(project, tasks) == ({gone} if made == "deleted" else set())
    assert missing_samples(project.client, project.id, "r0000", {**tasks, "c" * 32: None}) == found | {"c" * 32}
