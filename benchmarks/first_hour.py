"""The first rounds of `al up` as a person lives them: a robot in a browser labels, and what it waits for is counted.

`python -m benchmarks.first_hour [SECONDS] [ROUNDS]`: `al up` on 155 photos in a new home, without weights, batches of
8; the robot looks at each image for 2 seconds, chooses and submits by keys. Told are the seconds in which it sees "No
More Tasks Left in Queue" (bar: none in 10 rounds), when each round was begun and its batch came, how many tasks were
left then, and when the first model was there (bar: 90 s after the first image). Needs chromium; 6 minutes.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from playwright.sync_api import Page, Response

from al_pipeline.core.rounds import round_key
from al_pipeline.loop.deployment import Deployment
from al_pipeline.settings import load_settings
from al_pipeline_tests.browser import open_browser
from benchmarks.starting import READY, make_photos
from benchmarks.table import print_table

SECONDS, ROUNDS = 2.0, 10
DOOR, KEYS = "Label here", ("1", "2")
EMPTY = "Go to Previous Task"
CHOSEN = "document.querySelectorAll('input[type=radio]:checked').length"
# An image is drawn, and nothing is chosen yet; or the queue is empty.
SHOWN = f"""() => [...document.images].some(i => i.complete && i.naturalWidth > 300 && i.clientWidth > 100)
    && {CHOSEN} === 0 && document.querySelectorAll('input[type=radio]').length > 1"""
NEXT = f"() => document.body.innerText.includes('{EMPTY}') || ({SHOWN})()"
# Seconds after which somebody who sees no image loads the page anew.
RELOAD = 3.0
# Of the first trained model, after the first image.
MODEL_BAR = 90


@dataclass
class Robot:
    """Answers in the editor, and keeps the moments: of each answer, and of each stretch without an image."""

    page: Page
    seconds: float
    answers: list[float] = field(default_factory=list)
    empty: list[tuple[float, float]] = field(default_factory=list)
    taken: int = 0

    def begin(self, address: str) -> None:
        """Go through the door and close the instructions, once they have been seen."""
        self.page.on("response", self._heard)
        self.page.goto(address)
        self.page.get_by_text("Labeling Instructions").wait_for()
        self.page.wait_for_function(SHOWN)
        self._close()

    def label(self) -> None:
        """Answer the image that is shown."""
        time.sleep(self.seconds)
        before = self.taken
        while self.taken == before:
            while not self.page.evaluate(CHOSEN):
                # After a reload they come when they come.
                self._close()
                self.page.keyboard.press(KEYS[before % 2])
                self.page.wait_for_timeout(50)
            self.page.keyboard.press("Control+Enter")
            until = time.monotonic() + 5
            while self.taken == before and time.monotonic() < until:
                self.page.wait_for_timeout(20)
        self.answers.append(time.time())

    def go_on(self, more: Callable[[], bool]) -> bool:
        """Wait for the next image while there is more to come; say whether one is there."""
        self.page.wait_for_function(NEXT)
        began = time.time()
        while (empty := self.page.get_by_text(EMPTY).is_visible()) and more():
            time.sleep(RELOAD)
            self.page.reload()
            self.page.wait_for_function(NEXT)
            self._close()
        if time.time() - began > 1:
            self.empty.append((began, time.time()))
        return not empty

    def _heard(self, response: Response) -> None:
        made = response.request.method == "POST" and response.status == 201
        self.taken += made and "/annotations" in response.url

    def _close(self) -> None:
        dialog = self.page.get_by_text("Labeling Instructions")
        while dialog.count():
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(100)


def main() -> None:
    """Start, label, end, print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="al-first-hour-") as name:
        home = Path(name) / "home"
        process, address = _up(home, make_photos(Path(name) / "photos"))
        try:
            with open_browser(width=1280, height=800) as page:
                robot = Robot(page, seconds)
                robot.begin(address)
                began, ledger = time.time(), Deployment(load_settings(home=home)).ledger
                keys = [*map(round_key, range(rounds))]

                def more() -> bool:
                    came = (
                        ledger.pushed_at(keys[-1]) is not None or ledger.count_samples("pool") <= ledger.count_asked()
                    )
                    return not came or len(robot.answers) < sum(map(ledger.count_planned, keys))

                robot.label()
                while more() and robot.go_on(more):
                    robot.label()
        finally:
            family = [process, *process.children(recursive=True)]
            process.send_signal(signal.SIGINT)
            psutil.wait_procs(family, timeout=60)
        report(home, robot, began, rounds)
        if len(sys.argv) > 3:
            print(home.with_suffix(".log").read_text())


def report(home: Path, robot: Robot, began: float, rounds: int) -> None:
    """Print when each round came, and how long there was nothing to label."""
    deployment = Deployment(load_settings(home=home))
    ledger, rows, first = deployment.ledger, [], None
    pushed = {key: at for key in map(round_key, range(rounds + 1)) if (at := ledger.pushed_at(key)) is not None}

    def since(at: datetime) -> float:
        return at.timestamp() - began

    for key, came in pushed.items():
        frozen = ledger.frozen_at(key)
        assert frozen is not None
        labels = len(ledger.frozen_labels(key))
        asked = sum(ledger.count_planned(each) for each, at in pushed.items() if at < came)
        left = asked - sum(at <= came.timestamp() for at in robot.answers)
        model = deployment.artifacts.checkpoints / f"{key}.safetensors"
        if first is None and labels and ledger.planned(key)["predicted"].notna().any():
            first = since(datetime.fromtimestamp(model.stat().st_mtime, UTC))
        rows.append([key, labels, f"{since(frozen):.0f}", f"{since(came):.0f}", ledger.count_planned(key), left])
    print_table(
        f"The first {rounds} rounds, {robot.seconds:g} s per image: seconds since the first image",
        ["round", "labels it learned from", "labels frozen", "its batch came", "its tasks", "tasks left then"],
        rows,
    )
    waited = sum(after - before for before, after in robot.empty)
    spent = robot.answers[-1] - began
    told = "none" if first is None else f"{first:.0f} s"
    print(f"{len(robot.answers)} answers in {spent:.0f} s, one per {spent / len(robot.answers):.2f} s.")
    print(f"First model that was trained: {told} after the first image (bar {MODEL_BAR} s).")
    print(f"Without an image: {len(robot.empty)} times, {waited:.0f} s (bar: none).")
    for before, after in robot.empty:
        print(
            f"  at {before - began:.0f} s for {after - before:.0f} s, after {sum(a <= before for a in robot.answers)}"
        )


def _up(home: Path, photos: Path) -> tuple[psutil.Popen, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    ours |= {"PYTHONUNBUFFERED": "1", "AL_TRAINING__WEIGHTS": "none"}
    command = [sys.executable, "-m", "al_pipeline.cli", "up", "--images", str(photos), "--home", str(home), "--no-open"]
    log = home.with_suffix(".log")
    with log.open("w") as out:
        process = psutil.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=ours, cwd=home.parent)
    while READY not in (said := log.read_text()):
        if process.poll() is not None:
            raise SystemExit(said)
        time.sleep(0.2)
    line = next(line for line in said.splitlines() if line.startswith(DOOR))
    return process, line.removeprefix(DOOR).split()[0]


if __name__ == "__main__":
    main()
