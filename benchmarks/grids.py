"""Labels per minute with grids of 4 and of 9 images beside one image after the other: a robot in a real browser.

`python -m benchmarks.grids [IMAGES] [--grids 1 4 9]`: the robot looks at each image for 0.7 s once all of a task are
drawn, tells the class by the colour that it sees, and takes 0.2 s for each of the two keys that submit. Then every
answer is read and compared with what was shown. Bars: 2 × one after the other; wrong or lost answers: 0.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from playwright.sync_api import Page

from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import Interface, hotkeys
from al_pipeline.labelstudio.grid import as_grids, cell_keys
from al_pipeline.labelstudio.images import publish
from al_pipeline.loop.pull import hurried
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.processes import free_port
from al_pipeline_tests.browser import open_browser, press_until
from benchmarks.painted import CLASSES, join, painted_tasks
from benchmarks.table import print_table

LOOK, STROKE, BAR, WIDTH = 0.7, 0.2, 2.0, 640
# One image has radio buttons; places of a grid cannot, as a browser lets one of a name be chosen.
CHECKED = "input[type=radio]:checked, .cell input:checked"
# The colours of all images of a task, once they are drawn and nothing is chosen; not of the one that was there before.
SEEN = f"""([before, count]) => {{
    const images = [...document.images].filter(i => i.complete && i.naturalWidth === {WIDTH} && i.clientWidth > 50);
    if (images.length !== count || document.querySelector('{CHECKED}')) return null;
    const sources = images.map(i => i.src);
    if (sources.some(s => before.includes(s))) return null;
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 1;
    const context = canvas.getContext('2d');
    return {{sources, names: images.map(i => {{
        context.drawImage(i, 0, 0, 1, 1);
        const [red, , blue] = context.getImageData(0, 0, 1, 1).data;
        return red > blue ? 'red' : 'blue';
    }})}};
}}"""
# The places of a task where nothing is chosen; one image alone is no cell.
EMPTY = """(() => {
    const cells = [...document.querySelectorAll('.cell')];
    return (cells.length ? cells : [document]).flatMap((c, i) => c.querySelector('input:checked') ? [] : [i]);
})()"""


@dataclass(frozen=True)
class Run:
    """What a robot did: answers, seconds for all of them, and what was wrong or lost."""

    answers: int
    seconds: float
    wrong: int
    lost: int

    @property
    def per_minute(self) -> float:
        """Labels per minute."""
        return 60 * self.answers / self.seconds


def main() -> None:
    """Measure one way after the other on one server, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=int, nargs="?", default=108)
    parser.add_argument("--grids", type=int, nargs="+", choices=[1, 4, 9], default=[1, 4, 9])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="al-grids-") as scratch:
        folder = Path(scratch)
        images = folder / "published" / "images"
        images.mkdir(parents=True)
        server = LocalLabelStudio(folder / "labelstudio", images, port=free_port(), log=folder / "label-studio.log")
        server.start()
        try:
            server.wait_ready(900)
            client = LabelStudio(server.url, server.token, timeout=600)
            with open_browser(width=1280, height=768) as page:
                join(page, server.url, client.invitation())
                runs = {grid: measure(client, page, images, grid, options.images) for grid in options.grids}
        finally:
            server.stop()
    first = next(iter(runs.values()))
    rows = [
        [
            *(grid, run.answers, f"{run.per_minute:.1f}", f"{run.per_minute / first.per_minute:.2f}"),
            *(f"{run.seconds / run.answers - LOOK - 2 * STROKE / grid:.2f}", run.wrong, run.lost),
        ]
        for grid, run in runs.items()
    ]
    columns = ["grid", "labels", "a minute", f"× {options.grids[0]}", "s of the editor per label", "wrong", "lost"]
    print_table(f"{LOOK:g} s a look, {STROKE:g} s a further key (bar: {BAR:g} ×, none wrong or lost)", columns, rows)


def measure(client: LabelStudio, page: Page, images: Path, grid: int, count: int) -> Run:
    """Let the robot answer the whole grids of so many images; of the one task more it sees only that it comes."""
    project = client.ensure_project(f"grid {grid} {uuid4()}", Interface(CLASSES, grid=grid))
    client.connect_images(project, str(images))
    turns = count // grid
    truth = make_tasks(client, project, images, (turns + 1) * grid, grid)
    page.goto(client.project_url(project) + "?labeling=1")
    page.wait_for_function(SEEN, arg=[[], grid])
    dialog = page.get_by_text("Labeling Instructions")
    dialog.wait_for()
    press_until(page, "Escape", lambda: dialog.count() == 0)
    seconds = answer(page, grid, turns)
    said = [hurried(each, RoundPolicy().min_seconds or 0) for each in client.annotations(project)]
    votes = {str(each.sample_id): each.value for each in said if each.kind == "answer"}
    wrong = sum(value != truth[sample] for sample, value in votes.items())
    return Run(turns * grid, seconds, wrong, turns * grid - len(votes))


def answer(page: Page, grid: int, turns: int) -> float:
    """Answer so many tasks; return the seconds that took."""
    keys = cell_keys(len(CLASSES), grid) if grid > 1 else ["".join(hotkeys(CLASSES).values())]
    seen, began = page.wait_for_function(SEEN, arg=[[], grid]).json_value(), time.monotonic()
    for _ in range(turns):
        for place, name in enumerate(seen["names"]):
            page.wait_for_timeout(1000 * LOOK)
            page.keyboard.press(keys[place][CLASSES.index(name)])
        # As a person would, it looks whether all are chosen before it submits, and presses again what was forgotten.
        while empty := page.evaluate(EMPTY):
            page.wait_for_timeout(1000)
            for place in set(empty) & set(page.evaluate(EMPTY)):
                page.keyboard.press(keys[place][CLASSES.index(seen["names"][place])])
        page.wait_for_timeout(2000 * STROKE)
        page.keyboard.press("Control+Enter")
        seen = page.wait_for_function(SEEN, arg=[seen["sources"], grid]).json_value()
    return time.monotonic() - began


def make_tasks(client: LabelStudio, project: int, images: Path, count: int, grid: int) -> dict[str, str]:
    """Publish pictures, import the tasks, and return the class of each sample."""
    tasks, truth = painted_tasks(
        images.parent, count, WIDTH, lambda original, sample: publish(original, sample, images)
    )
    client.import_tasks(project, as_grids(tasks, grid, grid))
    return truth


if __name__ == "__main__":
    main()
