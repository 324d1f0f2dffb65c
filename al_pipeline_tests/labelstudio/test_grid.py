"""Several images in one task of a real Label Studio: what fits, what is answered by keys, what a project keeps."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.config import Interface, cells_in, differences, label_config
from al_pipeline.labelstudio.grid import KEYS, as_grids, cell_keys
from al_pipeline.labelstudio.push import missing_samples, reconcile
from al_pipeline.ledger import Ledger
from al_pipeline.loop.pull import pull
from al_pipeline_tests.browser import press_until
from al_pipeline_tests.labelstudio.projects import CLASSES, Project
from al_pipeline_tests.labelstudio.test_browser import arrived, page
from al_pipeline_tests.ledger.builders import manifest, sample

__all__ = ["page"]
HORSE, MEADOW = CLASSES
# Names that fit one line below a picture.
SHORT = ("muffin", "chihuahua")
IN_EACH = "[...document.querySelectorAll('.cell')].map(c => c.querySelector('input:checked')?.name ?? null)"
# The pictures of a task, and whether all that can be chosen lies on the page above the bar with the buttons.
PICTURES = "[...document.querySelectorAll('.cell img')].filter(i => i.complete && i.naturalWidth === 256)"
ON_THE_PAGE = """[...document.querySelectorAll('.cell:has(img) input')]
    .every(input => input.getBoundingClientRect().bottom < innerHeight - 50)"""


@pytest.mark.parametrize(
    ("count", "grid", "keys"),
    [
        (2, 4, ["12", "34", "qw", "er"]),
        (2, 9, ["12", "34", "56", "qw", "er", "ty", "as", "df", "gj"]),
        (3, 9, ["123", "456", "789", "0qw", "ert", "yio", "pas", "dfg", "jkl"]),
        (8, 4, [KEYS[:8], KEYS[8:16], KEYS[16:24], KEYS[24:]]),
    ],
)
def test_every_image_has_keys_of_its_own_a_row_of_the_keyboard_for_each_row_of_images(
    count: int, grid: int, keys: list[str]
) -> None:
    assert cell_keys(count, grid) == keys


def test_a_grid_says_how_many_classes_it_takes_and_which_names_it_does_not() -> None:
    assert Interface(tuple("abcdefgh"), grid=4)
    with pytest.raises(InputError, match=r"9 images .* for 3 classes, and there are 4: set AL_GRID=4, which takes 8"):
        Interface(tuple("abcd"), grid=9)
    with pytest.raises(InputError, match="there are 8, beside the button of AL_UNSURE_CLASS: set AL_GRID=1"):
        Interface(tuple("abcdefgh"), unsure=True, grid=4)
    with pytest.raises(InputError, match=r"'\?'.* set AL_GRID=1"):
        Interface(("a", "?"), grid=4)


def test_answers_of_every_place_are_read_by_its_own_choices() -> None:
    config = label_config(Interface(CLASSES, unsure=True, grid=4))
    assert cells_in(config) == 4
    assert cells_in(label_config(Interface(CLASSES))) == 1
    # What was answered in nine places stays readable.
    assert cells_in(label_config(Interface(CLASSES, grid=4), 9)) == 9
    assert differences(config, Interface(CLASSES, unsure=True)) == []
    wrong = config.replace('toName="image3" choice="single"', 'toName="image3" choice="multiple"')
    assert differences(wrong, Interface(CLASSES, unsure=True)) == [
        'choice="multiple" lets people name several classes of one image for image 3.'
    ]
    missing = differences(config, Interface((*CLASSES, "cow"), unsure=True))
    assert missing[:2] == ["It does not offer 'cow'.", "It does not offer 'cow' for image 2."]


@pytest.mark.labelstudio
def test_a_project_takes_grids_in_place_of_single_images_and_keeps_what_was_answered(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    project = make_project()
    client = project.client
    [single] = project.add(1).values()
    client.annotate(single, HORSE)
    for grid in (9, 4):
        client.ensure_project(project.title, Interface(CLASSES, grid=grid))
        assert cells_in(client.project_counts(project.id).label_config) == 9
    samples = [*map(sample, range(6))]
    ids = client.import_tasks(project.id, as_grids(project.payloads(samples, "r0001"), 4, 9))
    found = reconcile(client, project.id, "r0001", samples)
    assert found.existing == {each: ids[number // 4] for number, each in enumerate(samples)}
    assert [found.places[each] for each in samples] == [1, 2, 3, 4, 1, 2]
    assert missing_samples(client, project.id, "r0001", dict(found.existing)) == set()

    truth = {each: CLASSES[number % 2] for number, each in enumerate(samples)}
    answered = SimulatedAnnotator(client, project.id, truth, CLASSES).answer_open_tasks(round_key="r0001")
    assert (answered.labeled, answered.skipped, answered.wrong) == (6, 0, 0)
    client.annotate(ids[0], [None, MEADOW, None, None])
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.register(manifest(pool=6))
    assert pull(ledger, client, project.id, source="grids") == 1 + 6 + 4
    assert pull(ledger, client, project.id, source="grids") == 0
    told = ledger.answers(nobodys=True)
    told = told[told["round"] == "r0001"]
    assert told["value"].value_counts().to_dict() == {HORSE: 3, MEADOW: 4}
    assert told["kind"].value_counts().to_dict() == {"answer": 7, "left_open": 3}
    counts = client.project_counts(project.id)
    assert ledger.count_annotations("grids") == (counts.annotations, counts.skipped) == (4, 0)
    ledger.close()


def choose_each(page: Page, wanted: list[str | None]) -> None:
    """Press the keys of what is to be chosen until it is: the editor forgets keys while it sets itself up."""
    keys, until = cell_keys(len(SHORT), len(wanted)), time.monotonic() + 60
    while (chosen := page.evaluate(IN_EACH)) != wanted:
        assert time.monotonic() < until, f"{chosen} is chosen, not {wanted}"
        for place, name in enumerate(wanted):
            if name is not None and chosen[place] != name:
                page.keyboard.press(keys[place][SHORT.index(name)])
        page.wait_for_timeout(250)


@pytest.mark.labelstudio
@pytest.mark.browser
@pytest.mark.parametrize("grid", [4, 9])
def test_a_grid_fits_the_page_and_is_answered_by_keys(
    page: Page, make_project: Callable[..., Project], tmp_path: Path, grid: int
) -> None:
    project = make_project(SHORT, grid=grid)
    tasks = as_grids(project.payloads([*map(sample, range(grid + 1))]), grid, grid)
    project.client.import_tasks(project.id, tasks)
    page.set_viewport_size({"width": 1280, "height": 768})
    page.goto(project.client.project_url(project.id) + "?labeling=1")
    page.wait_for_function(f"{PICTURES}.length === {grid}")
    dialog = page.get_by_text("Labeling Instructions")
    dialog.wait_for()
    press_until(page, "Escape", lambda: dialog.count() == 0)
    page.screenshot(path=tmp_path / f"grid-{grid}.png")
    assert page.evaluate(ON_THE_PAGE)
    widths = page.evaluate(f"{PICTURES}.map(i => i.clientWidth)")
    assert min(widths) >= (220 if grid == 4 else 140), widths

    # All but the second, which stays open.
    expected = [None if place == 1 else SHORT[place % 2] for place in range(grid)]
    choose_each(page, expected)
    page.keyboard.press("Control+Enter")
    events = arrived(project, grid)
    assert [event.value for event in events] == expected
    assert [event.sample_id for event in events] == [*map(sample, range(grid))]
    assert [event.cell for event in events] == [*range(1, grid + 1)]
    assert all(event.lead_time for event in events)

    # What is left over is shown by itself, and by its usual keys.
    page.wait_for_function(f"{PICTURES}.length === 1 && {IN_EACH}.every(name => name === null)")
    choose_each(page, [SHORT[1], *[None] * (grid - 1)])
    page.screenshot(path=tmp_path / f"alone-{grid}.png")
    page.keyboard.press("Control+Enter")
    assert arrived(project, grid + 1)[-1].value == SHORT[1]
