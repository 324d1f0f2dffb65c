"""How seconds and memory grow with the number of images: scans, pulls, labels, rounds through Dagster, studies.

`python -m benchmarks.growth [LARGEST]`: ten times as many images from size to size, from 1,000 to 100,000 unless said;
each in a fresh process. The slope is how many times ten the processor seconds grow where the images grow tenfold, as an
exponent: 1 is in proportion. Bar: nothing above n log n. `--picture FILE` draws it. Rounds and studies go by features
that are there, in 20 clusters, and choose 100 by `auto` among all, without Label Studio's own time: the round after the
first answers, and four rounds of one seed.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.scan_cache import ScanCache
from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.simulate import Embedded, known, simulate_seed
from al_pipeline.ledger import Ledger
from al_pipeline_tests.faults.worker import write_weights
from benchmarks.pools import embeddings
from benchmarks.table import print_table

SMALLEST, LARGEST = 1_000, 100_000
# As Label Studio hands annotations over.
PAGE = 250
HOLDOUT, NAMES = 500, ("cat", "dog")
START = datetime(2026, 1, 1, tzinfo=UTC)
Done = dict[str, tuple[float, float]]


def measured(done: Done, name: str, work: Callable[[], object]) -> None:
    """Note the processor seconds of some work, and the most memory that the process has had by its end, in MB."""
    before = sum(os.times()[:4])
    work()
    status = Path("/proc/self/status").read_text()
    done[name] = sum(os.times()[:4]) - before, int(status.split("VmHWM:")[1].split()[0]) / 1024


def scans(folder: Path, n: int) -> Done:
    """Scan n pictures of 16 pixels, which decode in no time: what is measured is the scan itself."""
    rng, images = np.random.default_rng(0), folder / "images"
    for number in range(n):
        path = images / f"class {number % 20}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
        # Written a minute ago, or it would not be kept.
        moment = path.stat().st_mtime - 60
        os.utime(path, (moment, moment))
    done: Done = {}
    cache = ScanCache(folder / "scans")
    measured(done, "first scan", lambda: scan(images, cache=cache))
    measured(done, "second scan", lambda: scan(images, cache=cache))
    return done


def pulls(folder: Path, n: int) -> Done:
    """Store n annotations page by page, as a pull does, and read the labels that people agree on."""
    ids = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:016x}" for number in range(n)]
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite3'}")
    ledger.register(pd.DataFrame({"sample_id": ids, "uri": ids, "split": "pool", "label": None}))
    plan = {"sample_id": ids, "purpose": "query", "rank": range(n), "strategy": "random", "score": 0.5, "seed": 1}
    ledger.plan("r0000", pd.DataFrame(plan))

    def pull() -> None:
        for at in range(0, n, PAGE):
            ledger.append([answer(number, ids[number]) for number in range(at, min(at + PAGE, n))], START)

    done: Done = {}
    measured(done, "pull, its part in the ledger", pull)
    measured(done, "current labels", ledger.current_labels)
    ledger.close()
    return done


def answer(number: int, sample_id: str) -> Annotation:
    """Return what one of five people said, with about as much JSON as Label Studio's."""
    moment = START + timedelta(seconds=number)
    return Annotation(
        annotation_id=number, task_id=number, sample_id=sample_id, annotator=f"person {number % 5}", value="cat",
        cancelled=False, updated_at=moment, created_at=START, round="r0000", lead_time=2.5,
        raw={"result": [{"value": {"choices": ["cat"]}}], "pad": "x" * 400},
    )  # fmt: skip


def rounds(folder: Path, n: int) -> Done:
    """Run a round on n images, in a process of its own, as `benchmarks.million` does."""
    command = [sys.executable, "-m", "benchmarks.million_round", str(folder / "home")]
    subprocess.run([*command, str(n)], check=True, capture_output=True)
    found = json.loads(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()[-1])
    return {"a round through Dagster": (found["cpu"], found["peak"] / 2**20)}


def studies(folder: Path, n: int) -> Done:
    """Simulate four rounds of one seed on n images and 500 to test on, whose class is the side of a plane."""
    features = embeddings(n + HOLDOUT)
    side = features @ np.random.default_rng(1).standard_normal(features.shape[1], dtype=np.float32) > 0
    ids = [f"{number:032x}" for number in range(n + HOLDOUT)]
    split = ["pool"] * n + ["holdout"] * HOLDOUT
    samples = known(
        pd.DataFrame({"sample_id": ids, "uri": ids, "label": np.where(side, *NAMES), "split": split}), NAMES
    )
    write_weights(folder / "start.safetensors")
    options = TrainingOptions(mode="head", weights=str(folder / "start.safetensors"), image_size=32)
    chosen = {"strategies": ["auto"], "batch_size": 100, "budget": 300, "sample_size": None}
    plan = Plan(**chosen, seeds=[0], options=options, stop_set=False)
    done: Done = {}
    measured(done, "a study", lambda: simulate_seed(samples, plan, 0, Embedded(features[:n], features[n:])))
    return done


WORK = {"scans": scans, "pulls": pulls, "rounds": rounds, "studies": studies}


def slope(sizes: list[int], values: list[float]) -> float:
    """Return the exponent between the last two sizes."""
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def draw(found: dict[str, dict[int, tuple[float, float]]], path: Path) -> None:
    """Draw seconds and memory against images, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for panel, (axes, title) in enumerate(zip(figure.subplots(1, 2), ("processor seconds", "peak MB"), strict=True)):
        for name, by_size in found.items():
            axes.loglog(list(by_size), [each[panel] for each in by_size.values()], marker="o", label=name)
        axes.set(xlabel="images", title=title)
        axes.grid(visible=True, alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure each size in a fresh process, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("largest", nargs="?", type=int, default=LARGEST)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--work", choices=WORK)
    given = parser.parse_args()
    if given.work:
        with tempfile.TemporaryDirectory(prefix="al-growth-") as folder:
            print(json.dumps(WORK[given.work](Path(folder), given.largest)))
        return
    found: dict[str, dict[int, tuple[float, float]]] = {}
    sizes = [SMALLEST * 10**power for power in range(round(math.log10(given.largest / SMALLEST)) + 1)]
    for work in WORK:
        for size in sizes:
            command = [sys.executable, "-m", "benchmarks.growth", "--work", work, str(size)]
            done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for name, numbers in json.loads(done.splitlines()[-1]).items():
                found.setdefault(name, {})[size] = tuple(numbers)
    rows = [
        (name, *(f"{seconds:.2f} s, {memory:.0f} MB" for seconds, memory in by_size.values()),
         f"{slope(sizes, [seconds for seconds, _ in by_size.values()]):.2f}")
        for name, by_size in found.items()
    ]  # fmt: skip
    print_table("Growth", ("work", *(f"{size:,} images" for size in sizes), "slope"), rows)
    if given.picture:
        draw(found, given.picture)


if __name__ == "__main__":
    main()
