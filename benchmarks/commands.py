"""How soon commands answer: `al status`, and all that can be refused, each in a process of its own."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

from PIL import Image

from benchmarks.table import print_table

REPEATS = 5
# Seconds, on a quiet machine of two cores.
STATUS_BAR, REFUSAL_BAR = 2.5, 1.5
REFUSALS = {
    "up, no such folder": "up --images nowhere",
    "up, no classes": "up --images flat",
    "up, unknown strategy": "up --images photos ROUND__STRATEGY=entropie",
    "up, no such weights": "up --images photos TRAINING__WEIGHTS=mine.pt",
    "up, port in use": "up --images photos --dagster-port {taken}",
    "up, misspelt setting": "up --images photos IMAGE=photos",
    "demo, no class folders": "demo --images flat",
    "status, no such home": "status --home nowhere",
    "annotate, no such home": "annotate --oracle --home nowhere",
    "predict, no such folder": "predict nowhere",
    "predict, no such checkpoint": "predict photos --checkpoint r0007",
    "export-model, no such checkpoint": "export-model --checkpoint r0007",
    "simulate, unknown strategy": "simulate --images photos --strategies entropie",
    "export, unknown format": "export labels.xlsx",
    "ledger import, no such file": "ledger import nowhere.csv",
    "webhook, no such home": "webhook --home nowhere",
    "ml-backend, port in use": "ml-backend --port {taken}",
}
OTHERS = {
    "--help": "--help",
    "ledger verify, empty": "ledger verify",
    "migrate, up to date": "migrate",
    "doctor": "doctor",
}


@dataclass(frozen=True)
class Timed:
    """Seconds of each run, those that a core worked (a busy machine changes them less), and the last exit code."""

    seconds: list[float]
    worked: list[float]
    code: int


def main() -> None:
    """Time every command and print the table; with a home as argument, `al status` of it too."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as server:
        folder = Path(name)
        for label in ("cat", "dog"):
            (folder / "photos" / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "photos" / label / "1.png")
        (folder / "flat").mkdir()
        Image.new("RGB", (8, 8)).save(folder / "flat" / "1.png")
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        rows = [_row(name, line.format(taken=taken), folder, REFUSAL_BAR, 1) for name, line in REFUSALS.items()]
        rows += [_row(name, line, folder, None, None) for name, line in OTHERS.items()]
        if len(sys.argv) > 1:
            rows.insert(0, _row("status", f"status --home {Path(sys.argv[1]).resolve()}", folder, STATUS_BAR, 0))
    print_table(
        f"Seconds until a command has ended, medians of {REPEATS} (best to worst)",
        ("command", "median", "best to worst", "of a core", "bar"),
        rows,
    )


def _row(name: str, line: str, folder: Path, bar: float | None, code: int | None) -> tuple[str, ...]:
    timed = _time(line, folder)
    seconds = timed.seconds
    if code is not None and timed.code != code:
        raise SystemExit(f"al {line} ended with {timed.code} instead of {code}")
    shown = "–" if bar is None else f"{bar} {'yes' if median(seconds) <= bar else 'NO'}"
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    return name, f"{median(seconds):.2f}", spread, f"{median(timed.worked):.2f}", shown


def _time(line: str, folder: Path) -> Timed:
    """Run a command; words such as ``IMAGE=x`` are variables ``AL_IMAGE``."""
    words = line.split()
    variables = {f"AL_{word.partition('=')[0]}": word.partition("=")[2] for word in words if "=" in word}
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    command = [sys.executable, "-m", "al_pipeline.cli", *(word for word in words if "=" not in word)]
    seconds, worked, code = [], [], 0
    for _ in range(REPEATS):
        began, before = time.perf_counter(), getrusage(RUSAGE_CHILDREN)
        code = subprocess.run(command, cwd=folder, env=ours | variables, capture_output=True, check=False).returncode
        seconds.append(time.perf_counter() - began)
        after = getrusage(RUSAGE_CHILDREN)
        worked.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Timed(seconds, worked, code)


if __name__ == "__main__":
    main()
