"""A batch reaches Label Studio whole and once, whatever happens on the way. Against a real server."""

import pytest

from al_pipeline.labelstudio.client import LabelStudio, LabelStudioError, LabelStudioUnavailableError
from al_pipeline.labelstudio.push import import_missing, reconcile, verify
from al_pipeline.labelstudio.server import LocalLabelStudio
from al_pipeline_tests.labelstudio.conftest import Project
from al_pipeline_tests.labelstudio.servers import Answer, Request, answering, forward

pytestmark = pytest.mark.labelstudio

PLAN = [f"{i:032x}" for i in range(7)]


def push(project: Project, client: LabelStudio | None = None) -> dict[str, int]:
    """Reconcile, import, verify, as a round does."""
    client = client or project.client
    missing = reconcile(client, project.id, "r0000", PLAN).missing
    import_missing(client, project.id, project.payloads(missing))
    return verify(client, project.id, "r0000", PLAN)


def test_a_new_batch_is_all_missing_then_all_there(project: Project) -> None:
    found = reconcile(project.client, project.id, "r0000", PLAN)
    assert (found.existing, found.missing, found.double, found.foreign) == ({}, PLAN, {}, [])
    tasks = push(project)
    assert list(tasks) == PLAN
    assert {task.sample_id: task.task_id for task in project.client.tasks(project.id)} == tasks


def test_pushing_again_changes_nothing(project: Project) -> None:
    tasks = push(project)
    project.client.annotate(tasks[PLAN[0]], project.class_names[0])
    assert push(project) == tasks
    assert len(project.client.tasks(project.id)) == len(PLAN)
    assert len(project.client.annotations(project.id)) == 1


def test_what_was_imported_before_a_crash_is_not_imported_again(project: Project) -> None:
    before = project.client.import_tasks(project.id, project.payloads(PLAN[2:5]))
    tasks = push(project)
    assert [tasks[sample] for sample in PLAN[2:5]] == before
    assert len(project.client.tasks(project.id)) == len(PLAN)


@pytest.mark.parametrize("silence", ["hangs up", "says nothing"])
def test_an_import_whose_answer_is_lost_is_not_repeated(
    server: LocalLabelStudio, project: Project, silence: str
) -> None:
    def lose_the_answer(request: Request) -> Answer | None:
        answer = forward(request, server.url)
        if request.method == "POST" and request.path.split("?")[0].endswith("/import"):
            assert answer.status == 201, "Label Studio itself took the tasks"
            if silence == "says nothing":
                proxy.over.wait(60)
            return None
        return answer

    with answering(lose_the_answer) as proxy:
        behind = LabelStudio(proxy.url, server.token, timeout=6)
        with pytest.raises(LabelStudioUnavailableError):
            push(project, behind)
        tasks = push(project, behind)
        imports = proxy.count("POST", "/import")
    assert imports == 1
    assert list(tasks) == PLAN
    assert len(project.client.tasks(project.id)) == len(PLAN)


def test_a_deleted_task_is_missing_until_somebody_asks_for_it_again(project: Project) -> None:
    tasks = push(project)
    project.client.delete_tasks([tasks[PLAN[3]]])
    with pytest.raises(LabelStudioError, match=rf"1 tasks are missing.*{PLAN[3]}"):
        verify(project.client, project.id, "r0000", PLAN)
    assert reconcile(project.client, project.id, "r0000", PLAN).missing == [PLAN[3]]
    again = push(project)
    assert again[PLAN[3]] not in tasks.values()
    assert {sample: again[sample] for sample in PLAN if sample != PLAN[3]} == {
        sample: tasks[sample] for sample in PLAN if sample != PLAN[3]
    }


def test_a_doubled_task_is_reported_and_the_first_one_counts(project: Project) -> None:
    tasks = push(project)
    (copy,) = project.client.import_tasks(project.id, project.payloads([PLAN[1]]))
    found = reconcile(project.client, project.id, "r0000", PLAN)
    assert found.existing == tasks
    assert found.double == {PLAN[1]: [tasks[PLAN[1]], copy]}
    with pytest.raises(LabelStudioError, match=f"1 samples have several tasks.*{copy}"):
        verify(project.client, project.id, "r0000", PLAN)


def test_tasks_of_other_rounds_are_not_looked_at(project: Project) -> None:
    project.client.import_tasks(project.id, project.payloads(PLAN, "r0001"))
    assert reconcile(project.client, project.id, "r0000", PLAN).missing == PLAN


def test_a_task_that_nobody_planned_is_told_and_does_no_harm(project: Project) -> None:
    (foreign,) = project.client.import_tasks(project.id, project.payloads(["f" * 32]))
    assert reconcile(project.client, project.id, "r0000", PLAN).foreign == [foreign]
    assert foreign not in push(project).values()


def test_an_empty_plan_needs_nothing(project: Project) -> None:
    assert reconcile(project.client, project.id, "r0000", []).missing == []
    import_missing(project.client, project.id, [])
    assert verify(project.client, project.id, "r0000", []) == {}
