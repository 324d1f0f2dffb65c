"""Labels per minute in the editor, by what submits an answer: a robot with a person's pauses, in a real browser.

`python -m benchmarks.answering [ANSWERS] [--ways …] [--look SECONDS] [--side PIXELS] [--shown-px PIXELS]`: it looks at
each image for 0.7 s once that is drawn, tells the class by the colour that it sees, and takes 0.2 s for each key after
the first, of which Ctrl+Enter has two. Where nothing happens for 30 seconds it presses again. Then every answer is read
and compared with what was shown. Bars: one key ≥ 1.3 × Ctrl+Enter; wrong or lost answers: 0.
`--side` makes photos of that width; with `--shown-px` they are published as large ones are.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as TooLate

from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import Interface, hotkeys
from al_pipeline.labelstudio.images import publish
from al_pipeline.labelstudio.submitting import Submit, editor_keymap
from al_pipeline.loop.pull import hurried
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.processes import free_port
from al_pipeline_tests.browser import SET_KEYS, open_browser, press_until
from benchmarks.painted import CLASSES, join, painted_tasks
from benchmarks.table import print_table

LOOK, STROKE, BAR = 0.7, 0.2, 1.3
PATIENCE, BLOCK = 30_000, 5
# The keys after the one that chooses.
MORE: dict[Submit, tuple[str, ...]] = {"ctrl+enter": ("Control+Enter",), "enter": ("Enter",), "key": ()}
STROKES: dict[Submit, int] = {"ctrl+enter": 2, "enter": 1, "key": 0}
# The address and the colour of an image that is drawn, once nothing is chosen; not of the one that was there before.
SEEN = """before => {
    const image = [...document.images].find(i => i.complete && i.naturalWidth >= 300 && i.clientWidth > 100);
    if (!image || image.src === before || document.querySelector('input[type=radio]:checked')) return null;
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 1;
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, 1, 1);
    const [red, , blue] = context.getImageData(0, 0, 1, 1).data;
    return {src: image.src, name: red > blue ? 'red' : 'blue'};
}"""


@dataclass
class Robot:
    """One annotator with one way to submit, before a project of its own; it counts seconds, and keys pressed again."""

    way: Submit
    page: Page
    project: int
    truth: dict[str, str]
    look: float
    seen: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    again: int = 0

    def open(self, address: str) -> None:
        """Open the first task, and close the instructions."""
        self.page.goto(address)
        self.seen = self.page.wait_for_function(SEEN, arg="").json_value()
        dialog = self.page.get_by_text("Labeling Instructions")
        dialog.wait_for()
        press_until(self.page, "Escape", lambda: dialog.count() == 0)

    def answer(self, count: int) -> None:
        """Answer so many images."""
        began = time.monotonic()
        for _ in range(count):
            self.page.wait_for_timeout(1000 * self.look)
            while True:
                self._press()
                try:
                    shown = self.page.wait_for_function(SEEN, arg=self.seen["src"], timeout=PATIENCE)
                    self.seen = shown.json_value()
                    break
                except TooLate:
                    self.again += 1
        self.seconds += time.monotonic() - began

    def _press(self) -> None:
        self.page.keyboard.press(hotkeys(CLASSES)[self.seen["name"]])
        for key in MORE[self.way]:
            self.page.wait_for_timeout(1000 * STROKE * STROKES[self.way])
            self.page.keyboard.press(key)

    def judged(self, client: LabelStudio) -> tuple[int, int]:
        """Return how many of its answers are right, and how many wrong."""
        said = [hurried(each, RoundPolicy().min_seconds or 0) for each in client.annotations(self.project)]
        given = [each.value == self.truth[str(each.sample_id)] for each in said if each.kind == "answer"]
        return sum(given), len(given) - sum(given)


def main() -> None:
    """Let robots answer in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=int, nargs="?", default=100)
    parser.add_argument("--ways", nargs="+", choices=list(MORE), default=list(MORE))
    parser.add_argument("--look", type=float, default=LOOK)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--shown-px", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="al-answering-") as scratch, open_browser(width=1366, height=768) as page:
        images = Path(scratch) / "published" / "images"
        images.mkdir(parents=True)
        log = Path(scratch) / "label-studio.log"
        server = LocalLabelStudio(Path(scratch) / "labelstudio", images, port=free_port(), log=log)
        server.start()
        try:
            server.wait_ready(900)
            client = LabelStudio(server.url, server.token, timeout=600)
            robots = [employ(way, client, server.url, images, page, options) for way in options.ways]
            # In turns: what else the machine does is everybody's.
            for start in range(0, options.answers, BLOCK):
                for robot in robots:
                    robot.answer(min(BLOCK, options.answers - start))
            report(robots, client, options)
        finally:
            server.stop()


def employ(way: Submit, client: LabelStudio, url: str, images: Path, page: Page, options: argparse.Namespace) -> Robot:
    """Make a project, and an annotator in a browser session of its own who has these keys."""
    project = client.ensure_project(f"answering {uuid4()}", Interface(CLASSES, submit=way))
    client.connect_images(project, str(images))
    truth = make_tasks(client, project, images, options.answers + 1, options.side, options.shown_px)
    assert page.context.browser is not None
    own = page.context.browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    own.set_default_timeout(120_000)
    join(own, url, client.invitation())
    keymap = json.loads(editor_keymap(way, hotkeys(CLASSES).values()))
    assert own.evaluate(SET_KEYS, keymap["annotation:submit"]["key"]) == 200
    robot = Robot(way, own, project, truth, options.look)
    robot.open(client.project_url(project) + "?labeling=1")
    return robot


def report(robots: list[Robot], client: LabelStudio, options: argparse.Namespace) -> None:
    """Print a row for each way."""
    rows, first = [], robots[0].seconds
    for robot in robots:
        right, wrong = robot.judged(client)
        editor = robot.seconds / options.answers - options.look - STROKE * STROKES[robot.way]
        minute = 60 * options.answers / robot.seconds
        rows.append([robot.way, options.answers, f"{minute:.1f}", f"{first / robot.seconds:.2f}", f"{editor:.2f}"])
        rows[-1] += [robot.again, wrong, options.answers - right - wrong]
    columns = ["submits", "answers", "labels a minute", f"× {robots[0].way}", "s of the editor", "again"]
    shown = f", shown at {options.shown_px}" if options.shown_px else ""
    title = f"{options.look:g} s a look, {STROKE:g} s a further key, images of {options.side} px{shown}"
    print_table(f"{title} (bars: key ≥ {BAR} ×, none wrong or lost)", [*columns, "wrong", "lost"], rows)


def make_tasks(
    client: LabelStudio, project: int, images: Path, count: int, side: int, shown_px: int | None
) -> dict[str, str]:
    """Publish pictures, import a task for each, and return the class of each sample."""

    def shown(original: Path, sample: str) -> str:
        return publish(original, sample, images, shown_px=shown_px)

    tasks, truth = painted_tasks(images.parent, count, side, shown)
    client.import_tasks(project, tasks)
    return truth


if __name__ == "__main__":
    main()
