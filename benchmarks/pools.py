"""What the strategies are measured on, and how; imports numpy alone, so that every arm can use it."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

DIMENSIONS, CLUSTERS, LABELED, BATCH, SEED = 512, 20, 100, 100, 7
# σ of the herding kernel exp(−d²/σ²): about half the distance between two candidates.
SIGMA = 0.5
# Rows are drawn so many at a time: the pool, not its making, is what takes memory.
ROWS = 50_000


def embeddings(n: int, seed: int = SEED) -> npt.NDArray[np.float32]:
    """Return n unit vectors in 20 clusters of different sizes, shape (n, 512)."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((CLUSTERS, DIMENSIONS), dtype=np.float32)
    share = np.arange(1, CLUSTERS + 1) / np.arange(1, CLUSTERS + 1).sum()
    x = np.empty((n, DIMENSIONS), np.float32)
    for start in range(0, n, ROWS):
        part = x[start : start + ROWS]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= 0.7
        part += centers[rng.choice(CLUSTERS, len(part), p=share)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return x


def pool(n: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return n candidates and 100 labeled samples of the same kind."""
    x = embeddings(n + LABELED)
    return x[:n], x[n:]


def probabilities(n: int, classes: int) -> npt.NDArray[np.float64]:
    """Return predictions of every certainty, shape (n, classes)."""
    rng = np.random.default_rng(SEED + 1)
    p = rng.random((n, classes))
    p **= 3
    p /= p.sum(axis=1, keepdims=True)
    return p


def measure(call: Callable[[], Any]) -> dict[str, Any]:
    """Return the CPU and wall seconds of a call, and by how many MiB it raised the peak of this process's memory."""
    # Linux: 5 resets the peak of the resident set.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"result": result, "cpu": cpu, "wall": wall, "mib": (_resident("VmHWM") - before) / 1024}


def _resident(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(f"{name}:")).split()[1])


def answer(measured: dict[str, Any], **more: Any) -> None:
    """Print what was measured, for the process that asked."""
    picks = [int(i) for i in measured.pop("result")]
    json.dump(measured | {"picks": picks} | more, sys.stdout)
