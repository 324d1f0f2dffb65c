"""Labels per minute in the editor, by what submits an answer: a robot with a person's pauses, in a real browser.

`python -m benchmarks.answering [ANSWERS] [--ways …] [--look SECONDS] [--side PIXELS] [--shown-px PIXELS]`: it looks at
each image for 0.7 s once that is drawn, tells the class by the colour that it sees, and takes 0.2 s for each key after
the first, of which Ctrl+Enter has two. Where nothing happens for 30 seconds it presses again. Then every answer is read
and compared with what was shown. Bars: one key ≥ 1.3 × Ctrl+Enter; wrong or lost answers: 0.
`--side` makes photos of that width; with `--shown-px` they are published as large ones are.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as TooLate

from al_pipeline.core.rounds import RoundPolicy, round_key
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import Interface, hotkeys, payload
from al_pipeline.labelstudio.images import publish
from al_pipeline.labelstudio.submitting import Submit, editor_keymap
from al_pipeline.loop.pull import hurried
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.processes import free_port
from al_pipeline_tests.browser import open_browser, press_until
from benchmarks.table import print_table

CLASSES = ("red", "blue")
LOOK, STROKE, BAR = 0.7, 0.2, 1.3
PATIENCE = 30_000
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


@dataclass(frozen=True)
class Run:
    """What a robot did: answers, seconds for all of them, how often it pressed again, and what was wrong or lost."""

    answers: int
    seconds: float
    again: int
    wrong: int
    lost: int

    @property
    def per_minute(self) -> float:
        """Labels per minute."""
        return 60 * self.answers / self.seconds


def main() -> None:
    """Measure one way after the other on one database, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=int, nargs="?", default=100)
    parser.add_argument("--ways", nargs="+", choices=list(MORE), default=list(MORE))
    parser.add_argument("--look", type=float, default=LOOK)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--shown-px", type=int)
    options = parser.parse_args()
    runs: dict[Submit, Run] = {}
    with tempfile.TemporaryDirectory(prefix="al-answering-") as scratch:
        for way in options.ways:
            runs[way] = measure(Path(scratch), way, options.answers, options.look, options.side, options.shown_px)
            print(way, runs[way], flush=True)
    first = next(iter(runs.values()))
    rows = [
        [
            way,
            run.answers,
            f"{run.per_minute:.1f}",
            f"{run.per_minute / first.per_minute:.2f}",
            f"{run.seconds / run.answers - options.look - STROKE * STROKES[way]:.2f}",
            *(run.again, run.wrong, run.lost),
        ]
        for way, run in runs.items()
    ]
    columns = ["submits", "answers", "labels a minute", f"× {options.ways[0]}", "s of the editor"]
    title = f"{options.look:g} s a look, {STROKE:g} s a further key, images of {options.side} px"
    print_table(f"{title} (bars: key ≥ {BAR} ×, none wrong or lost)", [*columns, "again", "wrong", "lost"], rows)


def measure(folder: Path, way: Submit, answers: int, look: float, side: int, shown_px: int | None) -> Run:
    """Start a server that has this way, and let the robot answer."""
    images = folder / "published" / "images"
    images.mkdir(parents=True, exist_ok=True)
    keymap, log = editor_keymap(way, hotkeys(CLASSES).values()), folder / "label-studio.log"
    server = LocalLabelStudio(folder / "labelstudio", images, port=free_port(), log=log, keymap=keymap)
    server.start()
    try:
        server.wait_ready(900)
        client = LabelStudio(server.url, server.token, timeout=600)
        project = client.ensure_project(f"answering {uuid4()}", Interface(CLASSES, submit=way))
        client.connect_images(project, str(images))
        truth = make_tasks(client, project, images, answers + 1, side, shown_px)
        with open_browser(width=1366, height=768) as page:
            join(page, server.url, client.invitation())
            page.goto(client.project_url(project) + "?labeling=1")
            page.wait_for_function(SEEN, arg="")
            dialog = page.get_by_text("Labeling Instructions")
            dialog.wait_for()
            press_until(page, "Escape", lambda: dialog.count() == 0)
            seconds, again = answer(page, way, answers, look)
        said = [hurried(each, RoundPolicy().min_seconds or 0) for each in client.annotations(project)]
        right = {each.sample_id for each in said if each.kind == "answer" and each.value == truth[str(each.sample_id)]}
        wrong = sum(each.kind == "answer" and each.sample_id not in right for each in said)
        return Run(answers, seconds, again, wrong, answers - len(right) - wrong)
    finally:
        server.stop()


def make_tasks(
    client: LabelStudio, project: int, images: Path, count: int, side: int, shown_px: int | None
) -> dict[str, str]:
    """Publish pictures of one colour and much noise, import a task for each, and return the class of each sample."""
    rng, truth, tasks = np.random.default_rng(0), dict[str, str](), []
    noise = rng.integers(0, 60, (side * 3 // 4, side, 3), dtype=np.uint8)
    for name in rng.choice(CLASSES, count):
        sample = uuid4().hex
        pixels = np.roll(noise, int(rng.integers(side)), axis=1) + np.uint8(60)
        pixels[..., 0 if name == "red" else 2] += np.uint8(90)
        original = images.parent / f"{sample}.jpg"
        Image.fromarray(pixels).save(original, quality=85)
        row = {"sample_id": sample, "purpose": "query", "predicted": None}
        shown = publish(original, sample, images, shown_px=shown_px)
        tasks.append(payload(row, round_key=round_key(0), image_name=shown, prediction=False))
        truth[sample] = str(name)
    client.import_tasks(project, tasks)
    return truth


def join(page: Page, url: str, invitation: str) -> None:
    """Log in as an annotator who has just joined."""
    page.goto(url + invitation)
    page.fill("input[name=email]", f"{uuid4().hex[:8]}@example.com")
    page.fill("input[name=password]", uuid4().hex)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"^{re.escape(url)}/(projects/?.*)?$"))


def answer(page: Page, way: Submit, answers: int, look: float) -> tuple[float, int]:
    """Answer so many images; return the seconds that took, and how often a key had to be pressed again."""
    seen, again = page.wait_for_function(SEEN, arg="").json_value(), 0
    began = time.monotonic()
    for _ in range(answers):
        page.wait_for_timeout(1000 * look)
        while True:
            press(page, [hotkeys(CLASSES)[seen["name"]], *MORE[way]], 1000 * STROKE * STROKES[way])
            try:
                seen = page.wait_for_function(SEEN, arg=seen["src"], timeout=PATIENCE).json_value()
                break
            except TooLate:
                again += 1
    return time.monotonic() - began, again


def press(page: Page, keys: Sequence[str], pause: float) -> None:
    """Press a key, and after so many milliseconds the others."""
    page.keyboard.press(keys[0])
    for key in keys[1:]:
        page.wait_for_timeout(pause)
        page.keyboard.press(key)


if __name__ == "__main__":
    main()
