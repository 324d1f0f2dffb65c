"""What people do in Label Studio arrives as it was meant. Against a real server."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import httpx
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio import client as client_module
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import Interface
from al_pipeline.labelstudio.connection import LabelStudioAuthError, LabelStudioError, LabelStudioNotFoundError
from al_pipeline.servers.label_studio import VERSION, LocalLabelStudio
from al_pipeline_tests.labelstudio.projects import CLASSES, Project

pytestmark = [
    pytest.mark.labelstudio,
    # The SDK reads the exchanged token in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated"),
]
HORSE, MEADOW = CLASSES


def raw(server: LocalLabelStudio, method: str, path: str, **body: Any) -> Any:
    """Ask the server without our client, as somebody else's tool would."""
    answer = httpx.request(
        method, server.url + path, headers={"Authorization": f"Token {server.token}"}, json=body or None, timeout=60
    )
    answer.raise_for_status()
    return answer.json() if answer.content else None


def answer_raw(server: LocalLabelStudio, task_id: int, choices: list[str], **more: Any) -> int:
    """Answer a task with any number of any choices."""
    result = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": choices}}]
    body = {"result": result if choices else []} | more
    return raw(server, "POST", f"/api/tasks/{task_id}/annotations/", **body)["id"]


def test_check_says_which_server_it_is_and_whose_token(server: LocalLabelStudio, client: LabelStudio) -> None:
    info = client.check()
    assert (info.version, info.username) == (VERSION, server.username)


def test_a_wrong_token_is_refused_by_the_real_server_too(server: LocalLabelStudio) -> None:
    with pytest.raises(LabelStudioAuthError, match="AL_LABEL_STUDIO_TOKEN"):
        LabelStudio(server.url, "f" * 40, timeout=60).check()


def test_a_personal_access_token_works_like_a_legacy_one(project: Project) -> None:
    project.add(1)
    email = f"{uuid4().hex[:8]}@example.com"
    personal = LabelStudio(project.client.url, personal_token(project.client, email), timeout=60)
    assert personal.check().username == email
    (task,) = personal.tasks(project.id)
    personal.annotate(task.task_id, HORSE)
    assert [(event.value, event.annotator) for event in personal.annotations(project.id)] == [(HORSE, email)]
    assert personal.image_problem(project.id) is None


def personal_token(client: LabelStudio, email: str) -> str:
    """Join by invitation and make a personal access token, as a new annotator does."""
    invitation = client.invitation()
    with httpx.Client(base_url=client.url, timeout=60, follow_redirects=True) as browser:
        field = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get(invitation).text)
        assert field is not None
        form = {"csrfmiddlewaretoken": field.group(1), "email": email, "password": uuid4().hex}
        browser.post(invitation, data=form, headers={"Referer": client.url + invitation})
        headers = {"X-CSRFToken": browser.cookies["csrftoken"], "Referer": client.url}
        token = browser.post("/api/token/", headers=headers).json()["token"]
    assert token.count(".") == 2
    return token


def test_no_project_is_not_an_error(client: LabelStudio) -> None:
    assert client.find_project(f"never made {uuid4()}") is None


def test_a_title_that_is_part_of_another_is_not_mistaken_for_it(client: LabelStudio) -> None:
    title = f"part {uuid4()}"
    longer = client.ensure_project(f"{title} and more", Interface(CLASSES))
    assert client.find_project(title) is None
    found = client.find_project(f"{title} and more")
    assert found is not None
    assert found.project_id == longer


def test_several_projects_of_one_title_are_named_and_none_is_guessed(
    server: LocalLabelStudio, client: LabelStudio
) -> None:
    title = f"twice {uuid4()}"
    first = client.ensure_project(title, Interface(CLASSES))
    second = raw(server, "POST", "/api/projects/", title=title)["id"]
    for call in (lambda: client.find_project(title), lambda: client.ensure_project(title, Interface(CLASSES))):
        with pytest.raises(LabelStudioError, match=rf"2 projects.*\[{first}, {second}\]"):
            call()


def test_ensuring_a_project_twice_leaves_one_and_updates_it(server: LocalLabelStudio, project: Project) -> None:
    names = [*project.class_names, "third"]
    assert project.client.ensure_project(project.title, Interface(names), overlap=3) == project.id
    found = raw(server, "GET", f"/api/projects/{project.id}/")
    assert "third" in found["label_config"]
    assert "third" in found["expert_instruction"]
    assert found["maximum_annotations"] == 3
    assert found["enable_empty_annotation"] is False
    assert found["show_skip_button"] is True


def test_a_thousand_classes_fit_into_one_project(client: LabelStudio) -> None:
    client.ensure_project(f"many {uuid4()}", Interface([f"class {i} ({i:x})" for i in range(1000)]))


def test_a_class_that_was_answered_with_may_go_and_its_answers_stay(project: Project) -> None:
    tasks = list(project.add(2).values())
    project.client.annotate(tasks[0], HORSE)
    assert project.client.ensure_project(project.title, Interface([MEADOW, "zebra"])) == project.id
    project.client.annotate(tasks[1], "zebra")
    assert [event.value for event in project.client.annotations(project.id)] == [HORSE, "zebra"]


def test_images_are_served_once_the_folder_is_connected_and_connecting_twice_is_harmless(
    server: LocalLabelStudio, project: Project
) -> None:
    folder = server.document_root / "images"
    project.add(1)
    assert project.client.image_problem(project.id) is None
    for again in (str(folder), f"{folder}/"):
        project.client.connect_images(project.id, again)
    assert len(raw(server, "GET", f"/api/storages/localfiles?project={project.id}")) == 1
    assert project.client.image_problem(project.id) is None


def test_an_image_that_is_not_served_is_told_with_what_to_do(project: Project) -> None:
    assert project.client.image_problem(project.id) is None, "no task, no problem"
    project.image_name = "missing.png"
    project.add(1)
    assert "404" in str(project.client.image_problem(project.id))
    assert "AL_LABEL_STUDIO_IMAGES" in str(project.client.image_problem(project.id))


def test_the_token_is_not_sent_to_where_a_foreign_task_points(project: Project) -> None:
    (payload,) = project.payloads(["5e"])
    payload["data"]["image"] = "http://127.0.0.1:9/elsewhere.png"
    project.client.import_tasks(project.id, [payload])
    assert "elsewhere.png" in str(project.client.image_problem(project.id))


def test_a_folder_outside_of_what_label_studio_may_serve_is_refused_with_its_reason(
    server: LocalLabelStudio, project: Project
) -> None:
    with pytest.raises(LabelStudioError, match="AL_LABEL_STUDIO_IMAGES"):
        project.client.connect_images(project.id, str(server.document_root.parent))


def test_a_project_that_was_deleted_is_not_found(server: LocalLabelStudio, project: Project) -> None:
    raw(server, "DELETE", f"/api/projects/{project.id}/")
    for call in (
        lambda: project.client.tasks(project.id, "r0000"),
        lambda: project.client.annotations(project.id),
        lambda: project.client.project_counts(project.id),
        lambda: project.client.import_tasks(project.id, project.payloads(["5e"])),
    ):
        with pytest.raises(LabelStudioNotFoundError, match="setup"):
            call()


def test_tasks_are_told_apart_by_round_and_count_their_answers(project: Project) -> None:
    first, second = project.add(3), project.add(2, "r0001")
    a, b, _ = first.values()
    project.client.annotate(a, HORSE)
    project.client.annotate(b, None)
    statuses = {status.task_id: status for status in project.client.tasks(project.id, "r0000")}
    assert {status.sample_id: i for i, status in statuses.items()} == first
    assert [(statuses[i].annotations, statuses[i].cancelled) for i in first.values()] == [(1, 0), (0, 1), (0, 0)]
    assert {s.round for s in statuses.values()} == {"r0000"}
    assert {s.sample_id for s in project.client.tasks(project.id, "r0001")} == set(second)
    assert len(project.client.tasks(project.id)) == 5
    assert project.client.tasks(project.id, "r0002") == []
    assert all(s.updated_at.tzinfo for s in statuses.values())


def test_one_round_is_not_mistaken_for_another_that_begins_like_it(project: Project) -> None:
    project.add(1, "r1000")
    project.add(1, "r10000")
    assert [task.round for task in project.client.tasks(project.id, "r1000")] == ["r1000"]


def test_long_lists_come_whole_page_by_page(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 4)
    monkeypatch.setattr(client_module, "PAGE_WITH_ANNOTATIONS", 3)
    monkeypatch.setattr(client_module, "IMPORT_CHUNK", 5)
    for count in (12, 1):
        expected = project.add(count, f"r{count:04d}")
        assert {s.sample_id: s.task_id for s in project.client.tasks(project.id, f"r{count:04d}")} == expected
    for task in expected.values():
        project.client.annotate(task, HORSE)
    some = [status.task_id for status in project.client.tasks(project.id, "r0012")][:6]
    for task in some:
        project.client.annotate(task, MEADOW)
    assert {e.task_id for e in project.client.annotations(project.id)} == {*some, *expected.values()}


def test_a_task_deleted_while_the_list_is_read_hides_no_other(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(project.add(10).values())
    monkeypatch.setattr(client_module, "PAGE_WITH_ANNOTATIONS", 4)
    listing = project.client.answers(project.id)
    seen = [task.task_id for task in next(listing)]
    project.client.delete_tasks(expected[1:3])
    seen += [task.task_id for page in listing for task in page]
    assert set(expected) - set(expected[1:3]) <= set(seen)


def test_deleting_a_task_twice_is_no_error(project: Project) -> None:
    tasks = project.add(3)
    gone = list(tasks.values())[:2]
    project.client.delete_tasks(gone)
    project.client.delete_tasks(gone)
    assert [t.task_id for t in project.client.tasks(project.id)] == list(tasks.values())[2:]


def test_an_answer_arrives_as_an_event_with_everything_known_about_it(
    server: LocalLabelStudio, project: Project
) -> None:
    ((sample, task),) = project.add(1, "r0007").items()
    before = datetime.now(UTC) - timedelta(seconds=2)
    made = project.client.annotate(task, MEADOW, lead_time=3.5)
    (event,) = project.client.annotations(project.id)
    assert (event.annotation_id, event.task_id, event.sample_id, event.round) == (made, task, sample, "r0007")
    assert (event.value, event.cancelled, event.lead_time) == (MEADOW, False, 3.5)
    assert event.annotator == server.username
    assert before < event.created_at <= event.updated_at < datetime.now(UTC) + timedelta(seconds=2)
    assert event.raw["ground_truth"] is False


def test_a_skip_is_an_event_without_a_value(project: Project) -> None:
    (task,) = project.add(1).values()
    project.client.annotate(task, None)
    (event,) = project.client.annotations(project.id)
    assert (event.value, event.cancelled) == (None, True)
    counts = project.client.project_counts(project.id)
    assert (counts.tasks, counts.annotations, counts.skipped) == (1, 0, 1)


def test_an_answer_that_was_skipped_afterwards_has_no_value(server: LocalLabelStudio, project: Project) -> None:
    (task,) = project.add(1).values()
    answer_raw(server, task, [HORSE], was_cancelled=True)
    (event,) = project.client.annotations(project.id)
    assert (event.value, event.cancelled) == (None, True)


@pytest.mark.parametrize("choices", [[], [HORSE, MEADOW]])
def test_an_empty_or_ambiguous_answer_has_no_value(
    server: LocalLabelStudio, project: Project, choices: list[str]
) -> None:
    (task,) = project.add(1).values()
    answer_raw(server, task, choices)
    (event,) = project.client.annotations(project.id)
    assert (event.value, event.cancelled) == (None, False)


def test_a_class_outside_of_the_set_arrives_as_it_is_for_the_consensus_to_refuse(
    server: LocalLabelStudio, project: Project
) -> None:
    (task,) = project.add(1).values()
    answer_raw(server, task, ["zebra"])
    (event,) = project.client.annotations(project.id)
    assert event.value == "zebra"


def test_only_what_changed_since_a_moment_is_read_again(server: LocalLabelStudio, project: Project) -> None:
    a, b, c, d = project.add(4).values()
    first = project.client.annotate(a, HORSE)
    project.client.annotate(d, HORSE)
    seen = max(task.updated_at for task in project.client.tasks(project.id))
    assert project.client.annotations(project.id, updated_since=seen) == []

    changed = project.client.annotate(b, HORSE)
    skipped = project.client.annotate(c, None)
    raw(server, "PATCH", f"/api/annotations/{first}/", result=[])
    in_tokyo = seen.astimezone(timezone(timedelta(hours=9)))
    for since in (seen, in_tokyo):
        events = {e.annotation_id: e for e in project.client.annotations(project.id, updated_since=since)}
        assert set(events) == {first, changed, skipped}
        assert events[first].value is None
    assert project.client.annotations(project.id, updated_since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_a_moment_without_a_time_zone_is_refused(project: Project) -> None:
    with pytest.raises(InputError, match="time zone"):
        project.client.annotations(project.id, updated_since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_prediction_is_stored_with_its_score_and_is_no_answer(server: LocalLabelStudio, project: Project) -> None:
    (task,) = project.add(1, predicted=HORSE).values()
    (prediction,) = raw(server, "GET", f"/api/tasks/{task}/")["predictions"]
    assert prediction["score"] == 0.75
    assert project.client.annotations(project.id) == []
    assert project.client.tasks(project.id)[0].annotations == 0


def test_guesses_of_every_round_are_given_to_people(server: LocalLabelStudio, project: Project) -> None:
    """Label Studio gives out those of one version alone, that of the first guess it got."""

    def given() -> list[Any]:
        return raw(server, "GET", f"/api/projects/{project.id}/next")["predictions"]

    # As earlier versions of ours did.
    (old,) = project.payloads(["a" * 32], predicted=HORSE)
    old["predictions"][0]["model_version"] = "r0000 c0ffee"
    project.client.annotate(project.client.import_tasks(project.id, [old])[0], HORSE)
    tasks = [project.add(1, key, predicted=HORSE).popitem()[1] for key in ("r0001", "r0002")]
    assert given() == []
    project.client.show_guesses(project.id)
    assert len(given()) == 1
    project.client.annotate(tasks[0], HORSE)
    assert len(given()) == 1
    # A class goes, and so do the guesses that may name it.
    project.client.ensure_project(project.title, Interface((*CLASSES[1:], "pony")))
    assert given() == []


def test_answering_a_task_that_is_gone_is_not_found(project: Project) -> None:
    (task,) = project.add(1).values()
    project.client.delete_tasks([task])
    with pytest.raises(LabelStudioNotFoundError):
        project.client.annotate(task, HORSE)


def test_the_address_leads_to_the_project(make_project: Callable[..., Project], server: LocalLabelStudio) -> None:
    project = make_project()
    url = project.client.project_url(project.id)
    assert url.startswith(server.url)
    answer = httpx.get(url, headers={"Authorization": f"Token {server.token}"}, timeout=60, follow_redirects=True)
    assert answer.status_code == 200
