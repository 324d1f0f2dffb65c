"""A million images: a round through Dagster, and a ledger of as many samples and annotation events.

`python -m benchmarks.million [ROWS]`: 1,000,000 unless said; `python -m benchmarks.million round [ROWS]` leaves the
ledger out, whose views are read in fresh processes, the median of three counts. Bars: a round ≤ 8 s, ≤ 16 CPU seconds,
≤ 1.3 × the memory of the features; current labels ≤ 2 s and ≤ 1 GB on SQLite.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.core.labels.consensus import consensus
from al_pipeline.ledger import Ledger
from benchmarks.million_round import report
from benchmarks.table import print_table

CLASSES = ("cat", "dog")
START = datetime(2026, 1, 1, tzinfo=UTC)
REPEATS = 3
# Events of one pull's page; the rest comes in big batches.
PAGE, PAGES = 250, 40
BATCH = 50_000


def sample(number: int) -> str:
    """Return an id whose order is not that of the numbers."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:016x}"


def event(number: int, rows: int) -> Annotation:
    """Return the event: 8 of 10 are about a sample of their own, 1 is a second person's, 1 a changed answer."""
    kind, about = number % 10, number - number % 10 if number % 10 > 7 else number
    changed = kind == 9
    return Annotation(
        annotation_id=about if changed else number,
        task_id=about,
        sample_id=sample(about % rows),
        annotator="bob" if kind == 8 else f"person {about % 5}",
        value=None if number % 50 == 3 else CLASSES[number % 3 // 2],
        cancelled=number % 50 == 3,
        updated_at=START + timedelta(seconds=number),
        created_at=START,
        round="r0000",
        lead_time=2.5,
        # About as long as Label Studio's.
        raw={"result": [{"value": {"choices": ["cat"]}}], "pad": "x" * 400},
    )


VIEWS: dict[str, Callable[[Ledger], Any]] = {
    "current_labels()": lambda ledger: ledger.current_labels(),
    "count_labels()": lambda ledger: ledger.count_labels(),
    "count_annotations()": lambda ledger: ledger.count_annotations("label_studio"),
    "open_tasks()": lambda ledger: ledger.open_tasks(),
    "answers() and consensus": lambda ledger: consensus(ledger.answers(purpose="query"), class_names=CLASSES).labels,
}


def build(ledger: Ledger, rows: int) -> list[tuple[str, str]]:
    """Fill a ledger; return what was done and how long it took."""
    ids = [sample(number) for number in range(rows)]
    manifest = pd.DataFrame({"sample_id": ids, "uri": "/images/" + pd.Series(ids), "split": "pool", "label": None})
    plan = pd.DataFrame(
        {"sample_id": ids, "purpose": "query", "rank": range(rows), "strategy": "random", "score": 0.5, "seed": 1}
    )
    first = min(PAGE * PAGES, rows)
    pages = [[event(n, rows) for n in range(at, min(at + PAGE, first))] for at in range(0, first, PAGE)]

    def append(pages: list[list[Annotation]]) -> None:
        for page in pages:
            ledger.append(page, START)

    def batches() -> None:
        for at in range(first, rows, BATCH):
            ledger.append([event(n, rows) for n in range(at, min(at + BATCH, rows))], START)

    steps: list[tuple[str, Callable[[], Any]]] = [
        (f"register {rows:,} samples", lambda: ledger.register(manifest)),
        (f"plan {rows:,} tasks", lambda: ledger.plan("r0000", plan)),
        (f"append {rows - first:,} events, {BATCH:,} at a time", batches),
        (f"append {first:,} events, {PAGE} at a time, after them", lambda: append(pages)),
    ]
    done = []
    for name, step in steps:
        start = time.perf_counter()
        step()
        done.append((name, f"{time.perf_counter() - start:.1f}"))
    return done


def read(url: str, view: str) -> None:
    """Read a view and print seconds and the process's greatest memory, in MB."""
    ledger = Ledger(url)
    start = time.perf_counter()
    VIEWS[view](ledger)
    seconds = time.perf_counter() - start
    # `ru_maxrss` would count what the parent had before this program was loaded.
    status = Path("/proc/self/status").read_text()
    print(json.dumps([seconds, int(status.split("VmHWM:")[1].split()[0]) / 1024]))


def main() -> None:
    """Build, measure, print."""
    if sys.argv[1:2] == ["--read"]:
        read(*sys.argv[2:])
        return
    words = [word for word in sys.argv[1:] if word != "round"]
    rows = int(words[0].replace(",", "").replace("_", "")) if words else 1_000_000
    report(rows)
    if "round" in sys.argv[1:]:
        return
    with tempfile.TemporaryDirectory(prefix="al-million-") as folder:
        path = Path(folder) / "ledger.sqlite3"
        ledger = Ledger(f"sqlite:///{path}")
        built = build(ledger, rows)
        ledger.close()
        print_table(f"Building a ledger, {path.stat().st_size / 1e6:,.0f} MB on SQLite", ("step", "seconds"), built)
        table = []
        for view in VIEWS:
            runs = [_measured(f"sqlite:///{path}", view) for _ in range(REPEATS)]
            seconds, memory = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
            table.append((view, f"{seconds:.2f}", f"{memory:,.0f}"))
        title = f"Views of {rows:,} samples and {rows:,} annotation events, SQLite, median of {REPEATS} fresh processes"
        print_table(title, ("view", "seconds", "peak memory, MB"), table)


def _measured(url: str, view: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.million", "--read", url, view]
    return tuple(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


if __name__ == "__main__":
    main()
