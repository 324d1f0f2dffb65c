"""Which keys submit, in a real browser: Enter, and the key of a class. Both rest on how the editor hears keys."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.labelstudio.config import Interface
from al_pipeline.labelstudio.submitting import editor_keymap
from al_pipeline.ledger import Ledger
from al_pipeline.loop.pull import pull
from al_pipeline_tests.browser import SET_KEYS
from al_pipeline_tests.labelstudio.projects import CLASSES, Project
from al_pipeline_tests.labelstudio.test_browser import (
    CHOSEN,
    IMAGE_HAS_LOADED,
    SUBMIT,
    arrived,
    choose,
    open_stream,
    page,
)

__all__ = ["page"]
pytestmark = [pytest.mark.labelstudio, pytest.mark.browser]
HORSE, MEADOW = CLASSES


def next_task(page: Page) -> None:
    """Wait until a task is shown anew, and a person would have seen it."""
    page.wait_for_function(f"{CHOSEN}.length === 0")
    page.wait_for_function(IMAGE_HAS_LOADED)
    page.get_by_role("button", name=SUBMIT).wait_for()
    page.wait_for_function("window.Htx?.annotationStore?.selected && !Htx.isLoading && !Htx.isSubmitting")
    page.wait_for_timeout(500)


def test_enter_submits_as_the_server_was_told_and_never_with_nothing_chosen(
    page: Page, make_project: Callable[..., Project]
) -> None:
    project = make_project(submit="enter")
    project.add(2)
    open_stream(page, project)
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert project.client.annotations(project.id) == []
    choose(page, "2", [MEADOW])
    page.keyboard.press("Enter")
    # Whoever keeps it down has chosen nothing of the next image.
    for _ in range(20):
        page.keyboard.down("Enter")
        page.wait_for_timeout(33)
    page.keyboard.up("Enter")
    assert [event.value for event in arrived(project, 1)] == [MEADOW]


def test_one_key_answers_and_submits_and_what_no_person_meant_is_no_answer(
    page: Page, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    keymap = json.loads(editor_keymap("key", Interface(CLASSES).keys))
    assert page.evaluate(SET_KEYS, keymap["annotation:submit"]["key"]) == 200
    project, ledger = make_project(submit="key"), Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    project.add(12)

    def pulled() -> list[tuple[str, str | None]]:
        pull(ledger, project.client, project.id, source="project keys", min_seconds=RoundPolicy().min_seconds)
        answers = ledger.answers().sort_values("annotation_id")
        return list(zip(answers["kind"], answers["value"], strict=True))

    open_stream(page, project)
    for count, (key, name) in enumerate([("2", MEADOW), ("1", HORSE), ("2", MEADOW)], 1):
        next_task(page)
        page.keyboard.press(key)
        assert arrived(project, count)[-1].value == name
    assert pulled() == [("answer", MEADOW), ("answer", HORSE), ("answer", MEADOW)]

    # Twice within a blink is once.
    next_task(page)
    page.keyboard.press("1")
    page.wait_for_timeout(60)
    page.keyboard.press("1")
    arrived(project, 4)
    next_task(page)
    assert pulled()[3:] == [("answer", HORSE)]

    # Whoever keeps a key down has answered the first image; what came sooner than anybody can look is no answer.
    for _ in range(40):
        page.keyboard.down("2")
        page.wait_for_timeout(33)
    page.keyboard.up("2")
    events = list[Annotation]()
    while len(events) < max(5, len(events := project.client.annotations(project.id))):
        page.wait_for_timeout(1500)
    assert pulled()[4] == ("answer", MEADOW)
    assert len({event.task_id for event in events}) == len(events)
    kinds = dict(zip(*ledger.answers()[["annotation_id", "kind"]].to_numpy().T, strict=True))
    quick = [event for event in events if event.lead_time is not None and event.lead_time < 0.3]
    assert {kinds[event.annotation_id] for event in quick} <= {"hasty", "empty"}
    assert all(event.value in {MEADOW, None} for event in events[4:])
    ledger.close()
