"""What an annotator sees and does, in a real browser: the image loads, a key labels it, the answer arrives."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import hotkeys
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline_tests.browser import open_browser
from al_pipeline_tests.labelstudio.projects import CLASSES, Project

pytestmark = [pytest.mark.labelstudio, pytest.mark.browser]

HORSE, MEADOW = CLASSES
# The gradient of `make_project`, as the editor shows it: drawn, not merely named.
IMAGE_HAS_LOADED = "[...document.images].some(i => i.complete && i.naturalWidth === 256 && i.clientWidth > 100)"
SUBMIT = "Submit current annotation"
CHOSEN = "[...document.querySelectorAll('input[type=radio]:checked')].map(i => i.name)"


@pytest.fixture(scope="module")
def page(server: LocalLabelStudio) -> Iterator[Page]:
    """A browser in which a new annotator has just joined through an invitation."""
    client = LabelStudio(server.url, server.token, timeout=60)
    with open_browser(width=1366, height=768) as page:
        page.goto(server.url + client.invitation())
        page.fill("input[name=email]", f"{uuid4().hex[:8]}@example.com")
        page.fill("input[name=password]", uuid4().hex)
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(f"^{re.escape(server.url)}/(projects/?.*)?$"))
        yield page


def open_stream(page: Page, project: Project) -> None:
    """Open the next task, as "Label All Tasks" does."""
    page.goto(project.client.project_url(project.id) + "?labeling=1")
    page.wait_for_function(IMAGE_HAS_LOADED)
    page.get_by_role("button", name=SUBMIT).wait_for()


def press_until(page: Page, key: str, chosen: list[str]) -> None:
    """Press a key and wait for the choice."""
    page.keyboard.press(key)
    page.wait_for_function(f"want => JSON.stringify({CHOSEN}) === JSON.stringify(want)", arg=chosen)


def arrived(project: Project, count: int) -> list[Annotation]:
    """Return the project's annotations once there are `count`."""
    until = time.monotonic() + 30
    while len(events := project.client.annotations(project.id)) < count:
        assert time.monotonic() < until, f"{len(events)} of {count} annotations arrived within 30 s"
    assert len(events) == count
    return events


def test_an_annotator_sees_the_image_labels_it_with_a_key_and_submits(
    page: Page, project: Project, tmp_path: Path
) -> None:
    project.add(3)
    open_stream(page, project)
    for name in CLASSES:
        page.get_by_text(name, exact=False).first.wait_for()
    press_until(page, "1", [HORSE])
    press_until(page, "2", [MEADOW])
    page.screenshot(path=tmp_path / "labeling.png")
    page.keyboard.press("Control+Enter")
    (first,) = arrived(project, 1)

    page.wait_for_function(f"{CHOSEN}.length === 0")
    page.wait_for_function(IMAGE_HAS_LOADED)
    press_until(page, "1", [HORSE])
    page.get_by_role("button", name=SUBMIT).click()
    events = arrived(project, 2)
    assert [event.value for event in sorted(events, key=lambda e: e.annotation_id)] == [MEADOW, HORSE]
    assert first.annotator.endswith("@example.com")
    assert first.lead_time
    assert len({event.task_id for event in events}) == 2


def test_a_skipped_task_arrives_as_a_skip_and_is_not_asked_again(page: Page, project: Project) -> None:
    project.add(1)
    open_stream(page, project)
    page.get_by_role("button", name="Skip").click()
    (event,) = arrived(project, 1)
    assert (event.cancelled, event.value) == (True, None)
    assert (
        SimulatedAnnotator(project.client, project.id, {str(event.sample_id): HORSE}, CLASSES)
        .answer_open_tasks()
        .labeled
        == 0
    )


def test_a_prediction_can_be_taken_back_but_no_empty_answer_is_stored(page: Page, project: Project) -> None:
    project.add(1, predicted=MEADOW)
    open_stream(page, project)
    page.wait_for_function(f"{CHOSEN}.length === 1")
    assert page.evaluate(CHOSEN) == [MEADOW]
    press_until(page, "2", [])
    assert page.get_by_role("button", name=SUBMIT).is_disabled()
    page.keyboard.press("Control+Enter")
    press_until(page, "1", [HORSE])
    page.keyboard.press("Control+Enter")
    assert [event.value for event in arrived(project, 1)] == [HORSE]


def test_every_key_chooses_its_class_and_many_classes_can_be_filtered(
    page: Page, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    names = [f"class {i}" for i in range(60)]
    project = make_project(names)
    project.add(1)
    open_stream(page, project)
    for name, key in hotkeys(names).items():
        press_until(page, key, [name])
    page.keyboard.press("Shift+F")
    page.keyboard.type("57")
    page.wait_for_function(
        "[...document.querySelectorAll('input[type=radio]')].filter(i => i.offsetParent).length === 1"
    )
    press_until(page, "Enter", ["class 57"])
    page.screenshot(path=tmp_path / "many.png")
