"""The store of features alone: what it takes to read a few of many, or all, in a process of its own.

`python -m benchmarks.features [COUNT]`: vectors of 512 numbers, a million unless said, in shards of 4,096; 5 minutes,
3 GB of disk. CPU seconds and peak memory beyond what the process has at its start, median and greatest of three. Bars
for a million: 200 of them ≤ 0.5 CPU seconds, all streamed ≤ 2.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from al_pipeline.core.data.embeddings import EmbeddingStore
from benchmarks.table import print_table

WIDTH, SHARD, FEW, REPEATS = 512, 4096, 200, 3
BARS = {"200 of them": "≤ 0.5", "all, streamed": "≤ 2"}


def ids_of(count: int) -> list[str]:
    """Return ids as those of images are: 32 digits without an order."""
    digits = np.random.default_rng(0).bytes(16 * count).hex()
    return [digits[i : i + 32] for i in range(0, len(digits), 32)]


def fill(folder: Path, count: int) -> None:
    """Write a store."""
    store, ids, rng = EmbeddingStore(folder), ids_of(count), np.random.default_rng(1)
    for start in range(0, count, SHARD):
        part = ids[start : start + SHARD]
        store.append(part, rng.random((len(part), WIDTH), dtype=np.float32))


def few(store: EmbeddingStore, ids: list[str]) -> None:
    """Read 200."""
    store.load([ids[int(i)] for i in np.random.default_rng(2).choice(len(ids), FEW, replace=False)])


def again(store: EmbeddingStore, ids: list[str]) -> None:
    """Read 200 ten times, anew from the folder each time."""
    for _ in range(10):
        few(EmbeddingStore(store.folder), ids)


def streamed(store: EmbeddingStore, ids: list[str]) -> None:
    """Look at all of them, block by block."""
    assert sum(len(vectors) for vectors in store.stream(ids)) == len(ids)


def whole(store: EmbeddingStore, ids: list[str]) -> None:
    """Read all of them into one array, as a selection among all does."""
    store.load(ids)


READS: dict[str, Callable[[EmbeddingStore, list[str]], None]] = {
    "200 of them": few,
    "200 of them, ten times": again,
    "all, streamed": streamed,
    "all in one array": whole,
}


def read(folder: Path, count: int, name: str) -> None:
    """Read as the name says, and print CPU seconds and MB."""
    ids = ids_of(count)
    began, before = time.process_time(), peak()
    READS[name](EmbeddingStore(folder), ids)
    print(json.dumps([time.process_time() - began, peak() - before]))


def peak() -> float:
    """Return the greatest memory of this process so far, in MB; `ru_maxrss` would count its parent's."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3


def main() -> None:
    """Fill, read, print."""
    if len(sys.argv) == 4:
        read(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
        return
    count = int(sys.argv[1].replace(",", "").replace("_", "")) if len(sys.argv) > 1 else 1_000_000
    rows = []
    with tempfile.TemporaryDirectory(prefix="al-features-") as folder:
        fill(Path(folder), count)
        for name in READS:
            command = [sys.executable, "-m", "benchmarks.features", folder, str(count), name]
            runs = [json.loads(subprocess.check_output(command, text=True)) for _ in range(REPEATS)]
            seconds, memory = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
            rows.append((name, f"{seconds:.2f}", BARS.get(name, "") if count == 1_000_000 else "", f"{memory:,.0f}"))
    title = f"{count:,} stored vectors of {WIDTH} numbers, median of {REPEATS} fresh processes"
    print_table(title, ("read", "CPU seconds", "bar", "memory, MB"), rows)


if __name__ == "__main__":
    main()
