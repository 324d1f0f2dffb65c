"""From `al up --images FOLDER` to the first task, and from Ctrl-C to the end: in a new home, and in one that was used.

python -m benchmarks.starting [REPEATS]
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from PIL import Image

from al_pipeline.servers.processes import wait_until_ended
from benchmarks.table import print_table

PHOTOS = 155
READY = "Ctrl-C ends everything"
# Seconds on a quiet machine of two cores.
FIRST_BAR, AGAIN_BAR, END_BAR = 30, 12, 3


@dataclass(frozen=True)
class Start:
    """Seconds to the first task, those of all processors in it, seconds from Ctrl-C until nothing runs, exit code."""

    ready: float
    worked: float
    ended: float
    code: int
    output: str


def main() -> None:
    """Start and end a new home and then the same again, as often as asked for, and print the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    starts: dict[str, list[Start]] = {"new home": [], "again": []}
    with tempfile.TemporaryDirectory(prefix="al-starting-") as name:
        photos = make_photos(Path(name) / "photos")
        for number in range(repeats):
            for each in starts.values():
                each.append(start(Path(name) / f"home{number}", photos))
    print(starts["new home"][0].output)
    rows = [_row(*each, bar) for each, bar in zip(starts.items(), (FIRST_BAR, AGAIN_BAR), strict=True)]
    print_table(
        f"al up --images, {PHOTOS} photos: seconds, medians of {repeats} (best to worst)",
        ("start", "to the first task", "bar", "of all cores", "Ctrl-C to the end", f"bar {END_BAR}", "exit code"),
        rows,
    )


def make_photos(folder: Path) -> Path:
    """Write JPEG files of 1.2 megapixels, in class folders, that look different to a network."""
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        colours = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        path = folder / ("dog" if number % 2 else "cat") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours).resize((1280, 960), Image.Resampling.BICUBIC).save(path)
    return folder


def start(home: Path, photos: Path) -> Start:
    """Start, wait for the first task, press Ctrl-C and wait until nothing runs."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    command = [sys.executable, "-m", "al_pipeline.cli", "up", "--images", str(photos), "--home", str(home)]
    log = home.with_suffix(".log")
    began = time.perf_counter()
    with log.open("w") as out:
        process = psutil.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=ours | {"PYTHONUNBUFFERED": "1"}, cwd=home.parent
        )
    said: list[str] = []
    while not any(READY in line for line in said):
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.1)
        now = time.perf_counter() - began
        said += [f"{now:6.1f}  {line}" for line in log.read_text().splitlines()[len(said) :]]
    ready = time.perf_counter() - began
    family = [process, *process.children(recursive=True)]
    worked = sum(sum(each.cpu_times()[:4]) for each in family)
    pressed = time.perf_counter()
    process.send_signal(signal.SIGINT)
    wait_until_ended(family, 60)
    process.wait(1)
    return Start(ready, worked, time.perf_counter() - pressed, process.returncode, "\n".join(said))


def _row(name: str, starts: list[Start], bar: float) -> tuple[str, ...]:
    def column(values: list[float]) -> str:
        return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    ready, ended = [each.ready for each in starts], [each.ended for each in starts]
    return (
        name,
        column(ready),
        f"{bar} {'yes' if median(ready) <= bar else 'NO'}",
        column([each.worked for each in starts]),
        column(ended),
        "yes" if max(ended) <= END_BAR else "NO",
        ", ".join(sorted({str(each.code) for each in starts})),
    )


if __name__ == "__main__":
    main()
