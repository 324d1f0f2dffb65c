"""A batch reaches Label Studio whole and once, whatever happens on the way. Against a real server."""

import sqlite3
from contextlib import closing

import pytest

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.connection import LabelStudioError, LabelStudioUnavailableError
from al_pipeline.labelstudio.push import Reconciliation, import_missing, reconcile, verify
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline_tests.labelstudio.databases import DATABASE
from al_pipeline_tests.labelstudio.projects import Project
from al_pipeline_tests.labelstudio.servers import Answer, Request, answering, forward

pytestmark = pytest.mark.labelstudio

PLAN = [f"{i:032x}" for i in range(7)]


def push(project: Project, client: LabelStudio | None = None) -> dict[str, int]:
    """Reconcile, import, verify, as a round does."""
    client = client or project.client
    before = reconcile(client, project.id, "r0000", PLAN)
    made = import_missing(client, project.id, project.payloads(before.missing))
    return verify(client, project.id, "r0000", PLAN, {} if before.existing or before.foreign else made).existing


def test_a_new_batch_is_all_missing_then_all_there(project: Project) -> None:
    found = reconcile(project.client, project.id, "r0000", PLAN)
    assert found == Reconciliation(existing={}, missing=PLAN, copies=[], answered_twice={}, foreign=[])
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


def test_tasks_that_were_just_created_are_not_listed(server: LocalLabelStudio, project: Project) -> None:
    with answering(lambda request: forward(request, server.url)) as proxy:
        behind = LabelStudio(proxy.url, server.token, timeout=60)
        made = import_missing(behind, project.id, project.payloads(PLAN))
        before = proxy.count("GET")
        assert verify(behind, project.id, "r0000", PLAN, made).existing == made
        assert proxy.count("GET") - before == 1
    assert {task.sample_id: task.task_id for task in project.client.tasks(project.id)} == made


@pytest.mark.parametrize("happens", ["one is deleted", "one is doubled", "the newest is another's copy by now"])
def test_what_happens_between_import_and_verify_is_noticed(project: Project, happens: str) -> None:
    made = import_missing(project.client, project.id, project.payloads(PLAN))
    if happens == "one is doubled":
        project.client.import_tasks(project.id, project.payloads(PLAN[:1]))
        assert verify(project.client, project.id, "r0000", PLAN, made).existing == made
        assert len(project.client.tasks(project.id)) == len(PLAN)
        return
    project.client.delete_tasks([made[PLAN[-1]]])
    if happens == "the newest is another's copy by now":
        # Label Studio on SQLite gives the id of the newest task out again when that was deleted.
        assert project.client.import_tasks(project.id, project.payloads(PLAN[:1])) == [made[PLAN[-1]]]
    with pytest.raises(LabelStudioError, match=rf"1 tasks are missing.*{PLAN[-1]}"):
        verify(project.client, project.id, "r0000", PLAN, made)


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


@pytest.mark.parametrize("answered", ["none", "first", "copy", "both"])
def test_of_a_doubled_task_the_unanswered_copy_goes_and_no_answer_is_lost(project: Project, answered: str) -> None:
    tasks = push(project)
    first = tasks[PLAN[1]]
    (copy,) = project.client.import_tasks(project.id, project.payloads([PLAN[1]]))
    for task in {"none": [], "first": [first], "copy": [copy], "both": [first, copy]}[answered]:
        project.client.annotate(task, project.class_names[0])
    before = len(project.client.annotations(project.id))
    found = verify(project.client, project.id, "r0000", PLAN)
    assert found.existing == tasks | {PLAN[1]: copy if answered == "copy" else first}
    assert found.answered_twice == ({PLAN[1]: [first, copy]} if answered == "both" else {})
    left = {task.task_id for task in project.client.tasks(project.id) if task.sample_id == PLAN[1]}
    assert left == {"none": {first}, "first": {first}, "copy": {copy}, "both": {first, copy}}[answered]
    assert len(project.client.annotations(project.id)) == before


def test_a_copy_that_is_answered_while_we_look_is_not_deleted(project: Project) -> None:
    tasks = push(project)
    (copy,) = project.client.import_tasks(project.id, project.payloads([PLAN[1]]))
    found = reconcile(project.client, project.id, "r0000", PLAN)
    assert found.copies == [copy]
    project.client.annotate(copy, None)
    assert project.client.delete_unanswered([copy, 999_999_999]) == []
    assert verify(project.client, project.id, "r0000", PLAN).existing == tasks | {PLAN[1]: copy}


def test_an_answer_that_the_counters_have_lost_is_not_deleted(project: Project, server: LocalLabelStudio) -> None:
    """As after a server was killed between an answer and the counters of its task."""
    answered, skipped = project.add(2).values()
    given = [project.client.annotate(answered, project.class_names[0]), project.client.annotate(skipped, None)]
    database = server.log.parent.parent / "labelstudio" / DATABASE
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute(
            "UPDATE task SET total_annotations = 0, cancelled_annotations = 0, is_labeled = 0 WHERE id IN (?, ?)",
            (answered, skipped),
        )
    unanswered = [task.task_id for task in project.client.tasks(project.id, unanswered=True)]
    assert unanswered == [answered, skipped]
    assert project.client.delete_unanswered(unanswered) == []
    assert project.client.delete_unanswered(unanswered, given[:1]) == [answered]


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
    assert verify(project.client, project.id, "r0000", []).existing == {}
