"""`select` beside scikit-activeml, modAL and small-text, and on pools that they cannot hold.

Every figure is of one call in a fresh process with one thread on the CPU: CPU seconds, and by how much it raised the
peak of the process's memory. The peers live in an environment of their own, made on the first run from `peers.txt`.
`python -m benchmarks.strategies` takes about fifteen minutes; `--quick` leaves out the pools of 50,000 and more.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uv

from benchmarks.pools import BATCH, SEED
from benchmarks.table import print_table

HERE = Path(__file__).parent
PEERS = HERE.parent / ".bench" / "peers"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SECONDS = 300
SKACTIVEML = "scikit-activeml"
# ProbCover's balls where both are given the same: a few candidates to some hundred.
RADIUS = 0.85
# Strategy, classes, pool sizes, and the least CPU-time ratio that is called a pass (None: no bar).
COMPARED: list[tuple[str, int, dict[int, float | None]]] = [
    ("k_center", 2, {2_000: None, 10_000: 7, 50_000: 7}),
    ("badge", 2, {2_000: None, 10_000: 12, 50_000: 12}),
    ("badge", 10, {2_000: None, 10_000: 50, 50_000: 50}),
    ("prob_cover", 2, {2_000: None, 10_000: 5}),
    ("max_herding", 2, {2_000: None, 10_000: 6}),
    ("typiclust", 2, {2_000: None, 10_000: None, 50_000: 5}),
    ("margin", 2, {2_000: None, 10_000: None, 50_000: None}),
]
# Calls without a peer that could finish: task, and the most CPU seconds and MiB that are called a pass.
ALONE: list[tuple[str, dict[str, Any], float | None, float | None]] = [
    ("prob_cover", {"n": 50_000}, 45, 1024),
    ("max_herding", {"n": 50_000}, 90, 1024),
    ("max_herding", {"n": 50_000, "options": {"candidates": 50_000}}, 90, 1024),
    ("uncertainty_herding", {"n": 50_000}, 90, 1024),
    ("uncertainty_herding", {"n": 50_000, "options": {"candidates": 50_000}}, 90, 1024),
    ("margin", {"n": 1_000_000, "options": {"dedup": 0.95}}, 5, 2048),
    ("k_center", {"n": 1_000_000, "batch": 1000}, 300, 2048),
    ("uncertainty_herding", {"n": 1_000_000}, 120, 2048),
    ("badge", {"n": 1_000_000, "classes": 10}, None, 2048),
    *(
        (name, {"n": 10_000_000}, 1.0, 0.2 * 10_000_000 * 2 * 8 / 2**20)
        for name in ("margin", "low_certainty", "high_certainty", "low_high_certainty", "mid_certainty", "random")
    ),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="pools of 2,000 and 10,000 only")
    parser.add_argument("--cuda", action="store_true", help="our calls once more on the GPU: time and picks")
    parser.add_argument("--only", metavar="STRATEGY", help="one strategy")
    arguments = parser.parse_args()
    most = 10_000 if arguments.quick else 10_000_000
    columns = ("strategy", "pool", "peer", "its CPU s", "+MiB", "our CPU s", "+MiB", "×", "same picks", "bar")
    _table("Against other libraries", columns, compared(most, arguments.only))
    if not arguments.quick:
        columns = ("strategy", "pool", "CPU s", "bar", "+MiB", "bar", "input MiB")
        _table("On larger pools", columns, alone(arguments.only))
    if not arguments.quick and arguments.only in (None, "typiclust"):
        _table("Clusters of TypiClust, pool of 50,000, three seeds", ("", SKACTIVEML, "ours"), quality())
    if arguments.cuda:
        _table("On the GPU", ("strategy", "pool", "CPU s of one thread", "GPU wall s", "same picks"), on_gpu())


def compared(most: int, only: str | None) -> Iterator[tuple[object, ...]]:
    """Yield a row per strategy, pool and peer."""
    peers = peers_python()
    for name, classes, sizes in COMPARED:
        for n, bar in sizes.items():
            if n > most or only not in (None, name):
                continue
            task: dict[str, Any] = {"name": name, "n": n, "classes": classes}
            label = f"{name}, {classes} classes" if name == "badge" else name
            ours = run([sys.executable, "-m", "benchmarks.strategies_ours"], task | {"peers_stream": name == "badge"})
            theirs = run([peers, "-m", "benchmarks.strategies_peer"], task | {"peer": SKACTIVEML})
            same = _same(ours, theirs)
            if name == "badge":
                corrected = run([peers, "-m", "benchmarks.strategies_peer"], task | {"peer": SKACTIVEML, "no_ghost": 1})
                same = f"{same}; {_same(ours, corrected)} without its ghost centre"
            if name == "typiclust":
                same = "another k-means: see below"
            if name == "prob_cover":
                one = run([sys.executable, "-m", "benchmarks.strategies_ours"], task | {"options": {"radius": RADIUS}})
                given = task | {"peer": SKACTIVEML, "options": {"deltas": [RADIUS]}}
                other = run([peers, "-m", "benchmarks.strategies_peer"], given)
                same = f"another radius; with {RADIUS:g} and the first of equals: {_same(one, other)}"
            yield _row(label, n, SKACTIVEML, theirs, ours, same, bar)
            if name == "margin":
                theirs = run([peers, "-m", "benchmarks.strategies_peer"], task | {"peer": "modAL"})
                yield _row(label, n, "modAL", theirs, ours, _same(ours, theirs), None)
            if name == "k_center" and n <= 10_000:
                theirs = run([peers, "-m", "benchmarks.strategies_peer"], task | {"peer": "small-text"})
                yield _row(label, n, "small-text", theirs, ours, _same(ours, theirs), None)
            if name == "max_herding":
                ours = run([sys.executable, "-m", "benchmarks.strategies_ours"], task | {"name": "uncertainty_herding"})
                yield _row("uncertainty_herding", n, "its MaxHerding", theirs, ours, "it has none", bar)


def alone(only: str | None) -> Iterator[tuple[object, ...]]:
    """Yield a row per call on a large pool."""
    for name, task, seconds, mib in ALONE:
        if only not in (None, name):
            continue
        ours = run([sys.executable, "-m", "benchmarks.strategies_ours"], {"name": name} | task)
        extra = ", ".join(
            f"{key}={value}" for key, value in (task.get("options", {}) | {"b": task.get("batch", BATCH)}).items()
        )
        yield (
            f"{name} ({extra})",
            f"{task['n']:,}",
            f"{ours['cpu']:.2f}",
            "" if seconds is None else _verdict(f"≤ {seconds:g}", ours["cpu"] <= seconds),
            f"{ours['mib']:.0f}",
            "" if mib is None else _verdict(f"≤ {mib:.0f}", ours["mib"] <= mib),
            f"{ours['input_mib']:.0f}",
        )


def quality() -> Iterator[tuple[object, ...]]:
    """Yield how good the clusters of both arms are, and how well their batches cover the pool."""
    task: dict[str, Any] = {"name": "typiclust", "n": 50_000, "classes": 2}
    measured: list[dict[str, list[float]]] = []
    for seed in range(SEED, SEED + 3):
        ours = run([sys.executable, "-m", "benchmarks.strategies_ours"], task | {"seed": seed})
        theirs = run([peers_python(), "-m", "benchmarks.strategies_peer"], task | {"peer": SKACTIVEML, "seed": seed})
        picks = {"n": task["n"], "seed": seed, "picks": [theirs["picks"], ours["picks"]]}
        measured.append(run([sys.executable, "-m", "benchmarks.strategies_quality"], picks))
    for title, key in (
        ("silhouette of the 200 clusters (more is better)", "silhouette"),
        ("mean squared distance to the center (less)", "inertia"),
        ("mean distance to the nearest of batch and labeled (less)", "coverage"),
    ):
        yield title, *(", ".join(f"{one[key][arm]:.4f}" for one in measured) for arm in range(2))


def on_gpu() -> Iterator[tuple[object, ...]]:
    """Yield a row per call that can use the GPU."""
    for name, n in (("k_center", 1_000_000), ("badge", 1_000_000), ("prob_cover", 50_000), ("max_herding", 50_000)):
        task = {"name": name, "n": n}
        cpu = run([sys.executable, "-m", "benchmarks.strategies_ours"], task)
        gpu = run([sys.executable, "-m", "benchmarks.strategies_ours"], task, cuda=True)
        yield name, f"{n:,}", f"{cpu['cpu']:.2f}", f"{gpu['wall']:.2f}", _same(cpu, gpu)


def run(command: list[str], task: dict[str, Any], *, cuda: bool = False) -> dict[str, Any]:
    """Return what a fresh process measured."""
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(HERE.parent), "OMP_WAIT_POLICY": "PASSIVE"}
    if not cuda:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [*command, json.dumps(task)], capture_output=True, text=True, env=environment, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} {task} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def peers_python() -> str:
    """Return the interpreter of the peers' environment, which is made if it is not there."""
    python = PEERS / "bin" / "python"
    wanted = (HERE / "peers.txt").read_text()
    marker = PEERS / "installed.txt"
    if not marker.exists() or marker.read_text() != wanted:
        tool = uv.find_uv_bin()
        subprocess.run([tool, "venv", "--quiet", "--clear", "--python", sys.executable, str(PEERS)], check=True)
        subprocess.run(
            [tool, "pip", "install", "--quiet", "--python", str(python), "-r", str(HERE / "peers.txt")], check=True
        )
        marker.write_text(wanted)
    return str(python)


def _row(
    label: str, n: int, peer: str, theirs: dict[str, Any], ours: dict[str, Any], same: str, bar: float | None
) -> tuple[object, ...]:
    ratio = theirs["cpu"] / ours["cpu"]
    return (
        label,
        f"{n:,}",
        peer,
        f"{theirs['cpu']:.3f}",
        f"{theirs['mib']:.0f}",
        f"{ours['cpu']:.3f}",
        f"{ours['mib']:.0f}",
        f"{ratio:.1f}",
        same,
        "" if bar is None else _verdict(f"≥ {bar:g}", ratio >= bar),
    )


def _same(one: dict[str, Any], other: dict[str, Any]) -> str:
    if one["picks"] == other["picks"]:
        return "yes"
    common = len(set(one["picks"]) & set(other["picks"]))
    return f"same {common}, other order" if common == len(one["picks"]) else f"{common} of {len(one['picks'])}"


def _verdict(bar: str, met: bool) -> str:
    return f"{bar}: {'met' if met else 'NOT met'}"


def _table(title: str, columns: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> None:
    kept = []
    for row in rows:
        print(*row, sep=" | ", file=sys.stderr)
        kept.append(row)
    print_table(f"{title} (d = 512, {BATCH} labeled, b = {BATCH}, seed {SEED}, one thread)", columns, kept)


if __name__ == "__main__":
    main()
