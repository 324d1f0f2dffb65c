"""Run the demo on real servers and take its rounds apart: what the orchestration costs, what people wait for.

Bars: orchestration of a whole round ≤ 4 s; last annotation → next batch in Label Studio ≤ 45 s; a sensor tick ≤ 1 s;
the demo ≤ 6 minutes.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from benchmarks.table import print_table

# Steps whose time goes into the work itself: decoding, training, predicting, drawing pictures of results.
TRAINING = "checkpoint"
PREDICTION = "uncertainty_scores.predict_candidates"
EVALUATION = "evaluation"


def main() -> None:
    """Run and report."""
    home = Path(tempfile.mkdtemp(prefix="al-rounds-")) / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    command = [sys.executable, "-m", "al_pipeline", "demo", "--home", str(home), "--no-keep"]
    began = time.perf_counter()
    output = subprocess.run(
        command, env=environment | {"COLUMNS": "160"}, check=True, capture_output=True, text=True
    ).stdout
    total = time.perf_counter() - began
    print(output)
    print(f"The demo took {total:.0f} s (bar: ≤ 360 s).")
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        report(instance, home)


def report(instance: dg.DagsterInstance, home: Path) -> None:
    """Print the tables of a home's rounds."""
    overhead, latency = [], []
    for run in reversed(instance.get_run_records(dg.RunsFilter(job_name="round"))):
        key = run.dagster_run.tags["dagster/partition"]
        steps = step_seconds(instance, run.dagster_run.run_id)
        assert run.start_time
        assert run.end_time
        whole = run.end_time - run.start_time
        work = training_seconds(instance, run.dagster_run.run_id) + steps[PREDICTION] + evaluation_seconds(steps)
        overhead.append(
            [key, len(steps), f"{whole:.1f}", f"{work:.1f}", f"{whole - work:.1f}"],
        )
        if (previous := previous_key(key)) is not None:
            latency.append([key, *latency_parts(instance, home, run, previous)])
    print_table("A round's run, seconds", ["round", "steps", "run", "train + predict + evaluate", "overhead"], overhead)
    columns = ["round", "wait for the tick", "queue and process start", "labels", "train", "score", "choose", "push"]
    print_table("Last annotation → next batch in Label Studio, seconds", [*columns, "total"], latency)
    ticks = tick_seconds(instance)
    print(f"sensor ticks: {len(ticks)}, median {ticks.median():.2f} s, 95 % {ticks.quantile(0.95):.2f} s, "
          f"slowest {ticks.max():.2f} s (bar: ≤ 1 s)")
