"""What an annotator sees and does, in a real browser: the image loads, a key labels it, the answer arrives."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import FloatRect, Page

from al_pipeline.core.labels.annotation import MIXED, UNSURE, Annotation, choices_of
from al_pipeline.core.labels.consensus import consensus
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.callbacks import register_backend
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import MIXED_BUTTON, UNSURE_BUTTON, Interface, choice, hotkeys, label_config
from al_pipeline.labelstudio.guideline import EXAMPLES, guideline
from al_pipeline.labelstudio.images import publish, publish_together
from al_pipeline.ledger import Ledger
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.pull import pull
from al_pipeline.loop.together import members_for, with_those_beside
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.web.guesses import Guesses
from al_pipeline.web.ml_backend import backend
from al_pipeline.web.serve import serving
from al_pipeline_tests.browser import open_browser, press_until
from al_pipeline_tests.labelstudio.projects import CLASSES, Project
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample
from al_pipeline_tests.web.checkpoints import QUERY, checkpoint, open_ledger, publish_images, save

pytestmark = [pytest.mark.labelstudio, pytest.mark.browser]

HORSE, MEADOW = CLASSES
# The gradient of `make_project`, as the editor shows it: drawn, not merely named.
IMAGE_HAS_LOADED = "[...document.images].some(i => i.complete && i.naturalWidth === 256 && i.clientWidth > 100)"
SUBMIT = "Submit current annotation"
# Of the 768 px the bar with the buttons has the last 50.
GUESS_SHOWN = """name => {
    const line = document.querySelector('.guess [data-testid=textarea-region]');
    const said = line && line.querySelector('p');
    return said && said.innerText.trim() === name && said.getBoundingClientRect().bottom < 718
        && getComputedStyle(line, '::before').content.includes('The model guesses:');
}"""
EXAMPLES_SHOWN = "[...document.querySelectorAll('td img')].filter(i => i.naturalWidth === 640 && i.clientWidth > 90)"
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


def open_stream(page: Page, project: Project, *, read: bool = True) -> None:
    """Open the next task, as "Label All Tasks" does, and, if they have been read, close the instructions."""
    page.goto(project.client.project_url(project.id) + "?labeling=1")
    page.wait_for_function(IMAGE_HAS_LOADED)
    page.get_by_role("button", name=SUBMIT, include_hidden=True).wait_for()
    dialog = page.get_by_text("Labeling Instructions")
    dialog.wait_for()
    if read:
        press_until(page, "Escape", lambda: dialog.count() == 0)


def choose(page: Page, key: str, chosen: list[str], *, settled: float = 250) -> None:
    """Press a key until the editor has made the choice, and keeps it: it forgets one while it sets itself up."""
    press_until(page, key, lambda: page.evaluate(CHOSEN) == chosen, settled=settled)


def submit(page: Page, project: Project, count: int = 1) -> list[Annotation]:
    """Press the key that submits until the project has `count` annotations, and return them.

    Again only while the choice is still there: the next task has none.
    """
    until, again = time.monotonic() + 60, 0.0
    while len(project.client.annotations(project.id)) < count and (now := time.monotonic()) < until:
        if now > again and (not again or page.evaluate(CHOSEN)):
            page.keyboard.press("Control+Enter")
            again = now + 5
        page.wait_for_timeout(50)
    return arrived(project, count)


def assert_guess(page: Page, name: str | None) -> None:
    """See the model's guess, and nothing of its line without one."""
    if name is not None:
        page.wait_for_function(GUESS_SHOWN, arg=name)
        return
    line = page.locator(".guess")
    assert line.inner_text() == ""
    assert not line.get_by_role("textbox").is_visible()


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
    choose(page, "1", [HORSE])
    choose(page, "2", [MEADOW])
    page.screenshot(path=tmp_path / "labeling.png")
    (first,) = submit(page, project)

    page.wait_for_function(f"{CHOSEN}.length === 0")
    page.wait_for_function(IMAGE_HAS_LOADED)
    choose(page, "1", [HORSE])
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


@pytest.mark.parametrize("guessed", [HORSE, MEADOW, None], ids=["right", "wrong", "none"])
def test_the_same_keys_give_the_same_answer_whatever_the_model_guesses(
    page: Page, project: Project, guessed: str | None, tmp_path: Path
) -> None:
    project.add(1, predicted=guessed)
    open_stream(page, project)
    assert_guess(page, guessed)
    page.screenshot(path=tmp_path / "guess.png")
    assert page.evaluate(CHOSEN) == []
    choose(page, "1", [HORSE])
    (event,) = submit(page, project)
    assert (event.value, event.kind, event.origin) == (HORSE, "answer", "manual")


def test_a_guess_alone_cannot_be_submitted(page: Page, project: Project) -> None:
    project.add(1, predicted=MEADOW)
    open_stream(page, project)
    choose(page, "2", [MEADOW])
    choose(page, "2", [])
    press_until(page, "Control+Enter", page.get_by_text("Choose a class first.").is_visible)
    assert project.client.annotations(project.id) == []
    choose(page, "1", [HORSE])
    assert [event.value for event in submit(page, project)] == [HORSE]


def test_a_guess_can_be_looked_at_and_answered_from_the_list_of_tasks_too(page: Page, project: Project) -> None:
    [task] = project.add(1, predicted=MEADOW).values()
    page.goto(f"{project.client.project_url(project.id)}?task={task}")
    page.locator(".guess").get_by_text(MEADOW).wait_for()
    page.wait_for_function(IMAGE_HAS_LOADED)
    until = time.monotonic() + 60
    while not project.client.annotations(project.id) and time.monotonic() < until:
        # Here the editor is set up anew once the list around it is there, and has forgotten the choice then.
        press_until(page, "1", lambda: HORSE in page.evaluate(CHOSEN), settled=250)
        press_until(
            page, "Control+Enter", lambda: bool(project.client.annotations(project.id)) or not page.evaluate(CHOSEN)
        )
    assert [event.value for event in arrived(project, 1)] == [HORSE]


def test_a_project_whose_guesses_came_selected_loses_them_where_nobody_has_answered(
    page: Page, project: Project
) -> None:
    client, before = project.client, ElementTree.fromstring(label_config(Interface(CLASSES)))
    [line] = [view for view in before.iter("View") if view.find("TextArea") is not None]
    line.clear()
    config = ElementTree.tostring(before, encoding="unicode")
    client.connection.sdk.projects.update(id=project.id, label_config=config)
    old = [task | {"predictions": [{"result": [choice(HORSE)]}]} for task in project.payloads(["a" * 32, "b" * 32])]
    answered, opened = client.import_tasks(project.id, old)
    client.annotate(answered, MEADOW)
    open_stream(page, project)
    page.wait_for_function(f"{CHOSEN}.length === 1")

    for _ in range(2):
        client.ensure_project(project.title, Interface(CLASSES))
        assert [len(client.connection.json(f"api/tasks/{i}/")["predictions"]) for i in (answered, opened)] == [1, 0]
    open_stream(page, project)
    assert_guess(page, None)
    choose(page, "1", [HORSE])
    assert sorted(str(event.value) for event in submit(page, project, 2)) == sorted(CLASSES)


def test_a_guess_of_the_ml_backend_is_shown_in_the_same_way(page: Page, project: Project, tmp_path: Path) -> None:
    images, ledger = publish_images(tmp_path), open_ledger(tmp_path)
    save(checkpoint(3, CLASSES), tmp_path)
    guesses = Guesses(Artifacts(tmp_path / "artifacts"), images, ledger)
    project.client.import_tasks(project.id, project.payloads(QUERY[:1], "r0003"))
    with serving(backend(guesses, None), "127.0.0.1", 0) as port:
        register_backend(project.client, project.id, f"http://127.0.0.1:{port}", None)
        open_stream(page, project)
        [found], _ = guesses.guess(QUERY[:1])
        assert found is not None
        assert_guess(page, found.name)
        choose(page, "1", [HORSE])
        assert [event.value for event in submit(page, project)] == [HORSE]
    ledger.close()


def test_whoever_cannot_tell_presses_a_key_too(page: Page, make_project: Callable[..., Project]) -> None:
    project = make_project(unsure=True)
    project.add(1)
    open_stream(page, project)
    choose(page, "0", [UNSURE_BUTTON])
    (event,) = submit(page, project)
    assert (event.kind, event.cancelled, choices_of(event.raw)) == ("unsure", False, [UNSURE])


def test_a_task_that_shows_nine_is_answered_once_and_split_with_a_key(
    page: Page, make_project: Callable[..., Project], server: LocalLabelStudio, tmp_path: Path
) -> None:
    pool = manifest(pool=18, holdout=0).dropna(subset="sample_id")
    pool = pool.assign(group=[str(number // 9) for number in range(18)])
    for number in range(18):
        Image.new("RGB", (400, 300), (14 * number, 90, 90)).save(tmp_path / f"{number}.png")
    images = dict(zip(pool["sample_id"], (tmp_path / f"{number}.png" for number in range(18)), strict=True))
    rows = plan_rows(0, 9)
    members, ledger = members_for(rows.to_dict("records"), pool, ()), Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.register(pool)
    ledger.plan("r0000", rows, members)
    project, tasks = make_project(mixed=True), []
    for one, others in members.groupby("sample_id")["member_id"]:
        shown = {i: str(images[i]) for i in [str(one), *others]}
        project.image_name, _ = publish_together(shown, server.document_root / "images")
        tasks += project.payloads([str(one)], shown=len(shown))
    project.client.import_tasks(project.id, tasks)
    # All nine are in sight, above the buttons.
    in_sight = "[...document.images].some(i => i.naturalWidth === 1212 && i.getBoundingClientRect().bottom < 650)"
    for key, chosen in (("2", MEADOW), ("m", MIXED_BUTTON)):
        page.goto(project.client.project_url(project.id) + "?labeling=1")
        page.wait_for_function(in_sight)
        choose(page, key, [chosen])
        page.screenshot(path=tmp_path / f"together-{key}.png")
        submit(page, project, 1 if key == "2" else 2)
    pull(ledger, project.client, project.id, source="project")
    answers = ledger.answers(purpose="query")
    assert sorted(answers["kind"]) == ["answer", "mixed"]
    assert answers.set_index("kind").loc["mixed", "value"] == MIXED
    labels = with_those_beside(ledger, consensus(answers, class_names=CLASSES).labels, answers, CLASSES)
    answered = answers.set_index("kind").loc["answer", "sample_id"]
    first = int(answered, 16)
    assert labels["sample_id"].tolist() == [*map(sample, range(first, first + 9))]
    assert set(labels["label"]) == {MEADOW}
    assert set(ledger.split()["member_id"]) == {*map(sample, range(18))} - set(labels["sample_id"]) - set(
        rows["sample_id"]
    )
    ledger.close()


def test_the_guideline_is_shown_before_the_first_task_with_its_examples(
    page: Page, server: LocalLabelStudio, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    for number, name in enumerate(CLASSES):
        (tmp_path / "examples" / name).mkdir(parents=True)
        for i in range(EXAMPLES):
            Image.new("RGB", (640, 480), (90 * number, 60 * i, 90)).save(tmp_path / "examples" / name / f"{i}.png")
    text = "# Horses\n\nA <b>zebra</b> is *none*."
    told = guideline(text, tmp_path / "examples", CLASSES, server.document_root / "images")
    project = make_project(guideline=told)
    project.add(1)
    open_stream(page, project, read=False)
    dialog = page.get_by_text("Labeling Instructions").locator("xpath=ancestor::*[.//img][1]")
    dialog.get_by_role("heading", name="Horses").wait_for()
    dialog.get_by_text("A <b>zebra</b> is none.").wait_for()
    page.wait_for_function(f"{EXAMPLES_SHOWN}.length === {2 * EXAMPLES}")
    assert page.evaluate("getComputedStyle(document.querySelector('.told ul')).listStyleType") == "disc"
    page.screenshot(path=tmp_path / "guideline.png")
    for name in CLASSES:
        dialog.get_by_text(name).first.wait_for()
    press_until(page, "Escape", lambda: dialog.count() == 0)
    choose(page, "1", [HORSE])
    submit(page, project)


def painted(page: Page, file: Path) -> tuple[npt.NDArray[np.int_], FloatRect]:
    """Wait until the image is painted, gray in its middle, and nothing moves any more.

    Return the gray levels of where it lies, and that place.
    """
    until, before = time.monotonic() + 60, np.empty(0, dtype=int)
    while time.monotonic() < until:
        box = page.locator(".lsf-image canvas").bounding_box()
        page.screenshot(path=file)
        shown = np.asarray(Image.open(file).convert("L"), dtype=int)
        if box is not None:
            shown = shown[round(box["y"]) :, round(box["x"]) :][: round(box["height"]), : round(box["width"])]
            gray = shown.size > 0 and shown[shown.shape[0] // 2, shown.shape[1] // 2] == 128
            if gray and np.array_equal(shown, before):
                return shown, box
            before = shown
        page.wait_for_timeout(100)
    raise AssertionError("the image was not painted")


def test_a_thin_frame_shows_where_the_crop_ends_and_none_where_it_takes_next_to_nothing_away(
    page: Page, make_project: Callable[..., Project], server: LocalLabelStudio, tmp_path: Path
) -> None:
    project, folder = make_project(crop=True), server.document_root / "images"
    sizes = {"wide": (1600, 900), "long": (1500, 500), "tall": (450, 800), "square": (610, 600)}
    tasks = []
    for number, (name, size) in enumerate(sizes.items()):
        Image.new("RGB", size, (128, 128, 128)).save(tmp_path / f"{name}.png")
        project.image_name = publish(tmp_path / f"{name}.png", uuid4().hex, folder)
        tasks += project.payloads([f"{number:032x}"])
    for name, task in zip(sizes, project.client.import_tasks(project.id, tasks), strict=True):
        page.goto(f"{project.client.project_url(project.id)}?task={task}")
        width, height = sizes[name]
        page.wait_for_function(f"document.querySelector('.lsf-image img')?.naturalWidth === {width}")
        shown, box = painted(page, tmp_path / f"{name}-page.png")
        assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.02)
        drawn = np.abs(shown[2:-2, 2:-2] - 128) > 30
        side = min(box["width"], box["height"])
        if name == "square":
            assert not drawn.any()
            continue
        # Lines across the shorter side, at both ends of the square, and nothing else.
        across, longer = (0, box["width"]) if width > height else (1, box["height"])
        lines = np.flatnonzero(drawn.mean(axis=across) > 0.5) + 2
        assert drawn.mean() < 0.02
        for end in ((longer - side) / 2, (longer + side) / 2):
            assert np.abs(lines - end).min() < 3, (name, lines, end)
        assert all(min(abs(line - (longer - side) / 2), abs(line - (longer + side) / 2)) < 3 for line in lines), name


def test_every_key_chooses_its_class_and_many_classes_can_be_filtered(
    page: Page, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    names = [f"class {i}" for i in range(60)]
    project = make_project(names)
    project.add(1, predicted="class 41")
    open_stream(page, project)
    assert_guess(page, "class 41")
    for name, key in hotkeys(names).items():
        choose(page, key, [name], settled=0)
    page.keyboard.press("Shift+F")
    page.keyboard.type("57")
    page.wait_for_function(
        "[...document.querySelectorAll('input[type=radio]')].filter(i => i.offsetParent).length === 1"
    )
    choose(page, "Enter", ["class 57"])
    page.screenshot(path=tmp_path / "many.png")
