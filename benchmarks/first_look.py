"""The first look at a pool by the arithmetic of features: a first round, and prediction from files beside the cache's.

`python -m benchmarks.first_look FOLDER [WAY ...]`: FOLDER holds chi_muf_224.tar and resnet18_tin199.safetensors, WAY is
pytorch-float32, openvino-float32, openvino-bfloat16 or openvino-int8; all of them unless said. `--only round` runs a
round on the 1,105 photos at 224 px in a fresh process each, nothing decoded or embedded before: imports are not
counted, calibration for int8 is. `--only cold` predicts photos from their files and from the cache in turns. Bars: the
first round ≤ 20 s with bfloat16 and ≤ 36 s in float32, prediction from files ≥ 0.9 of the cache's rate, on a quiet
machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from al_pipeline.core.learning.arithmetic import Arithmetic
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.train import untrained
from benchmarks.engine import CLASSES, Photos, in_turns, ratios
from benchmarks.engine_round import Parts, cached_round
from benchmarks.pairs import in_turn
from benchmarks.precision import computed_by
from benchmarks.table import print_table

WAYS = ("pytorch-float32", "openvino-float32", "openvino-bfloat16", "openvino-int8")


def first_round(folder: Path, way: str) -> None:
    """Run a first round; print seconds of its parts, and of the processor in all."""
    with tempfile.TemporaryDirectory(prefix="al-first-") as place:
        photos, parts = Photos.unpacked(folder, Path(place)), Parts()
        began = time.process_time()
        cached_round(photos, Path(place) / "embeddings", parts, labels=100, way=Arithmetic.of(way))
        print(json.dumps({"parts": parts.seconds, "total": parts.total, "processor": time.process_time() - began}))


def rounds(arguments: argparse.Namespace) -> None:
    """Print the first rounds."""
    rows = []
    for way in arguments.ways:
        command = [sys.executable, "-m", "benchmarks.first_look", str(arguments.folder), way, "--inside"]
        runs = []
        for _ in range(arguments.repeats):
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
        cells = [statistics.median(run[name] for run in runs) for name in ("total", "processor")]
        embedding = statistics.median(run["parts"]["embeddings"] for run in runs)
        rows.append((way, *(f"{cell:.1f}" for cell in (*cells, embedding))))
    columns = ("arithmetic", "seconds", "seconds of the processor", "of the features, seconds")
    print_table(f"A first round of 1,105 photos at 224 px, {torch.get_num_threads()} threads", columns, rows)


def cold(arguments: argparse.Namespace) -> None:
    """Print the rate from files over that from the cache."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="al-first-") as place:
        photos = Photos.unpacked(arguments.folder, Path(place))
        for size, count in ((224, arguments.images), (64, 4 * arguments.images)):
            found = photos.cached(f"warm-{size}")
            images = replace(found, sample_ids=found.sample_ids[:count], paths=found.paths[:count])
            for way in arguments.ways:
                start = untrained(CLASSES, photos.options(size, mode="head"), seed=0, round_number=0).checkpoint
                one = computed_by(start, Arithmetic.of(way), images)
                files = [str(path) for path in images.paths]
                cached, read = partial(embed, one, images), partial(embed, one, files)
                cached()
                rates = in_turns(
                    {"cached": lambda cached=cached: len(cached()), "cold": lambda read=read: len(read())},
                    arguments.repeats,
                )
                pair = in_turn(cached, read, arguments.repeats)
                rate = f"{statistics.median(rates['cold']):.0f}"
                rows.append((size, way, rate, ratios(rates, "cold", "cached"), f"{pair.ratio:.2f}"))
    columns = (
        "px",
        "arithmetic",
        "from files, images/s",
        "of the rate from the cache (bar: ≥ 0.9)",
        "by the processor",
    )
    print_table(f"Prediction from files beside the cache, {torch.get_num_threads()} threads", columns, rows)


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("ways", nargs="*", default=list(WAYS))
    parser.add_argument("--only", choices=("round", "cold"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=192, help="of 224 px to predict; four times as many of 64")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        first_round(arguments.folder, arguments.ways[0])
        return
    if arguments.only != "cold":
        rounds(arguments)
    if arguments.only != "round":
        cold(arguments)


if __name__ == "__main__":
    main()
