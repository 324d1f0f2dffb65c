"""Run the demo on real servers and take its rounds apart: what the orchestration costs, what people wait for.

Bars: orchestration until the batch is out ≤ 1.5 s; last annotation → next batch in Label Studio ≤ 45 s; a sensor tick
≤ 1 s; the demo ≤ 6 minutes. `python -m benchmarks.rounds [HOME]` reads the rounds of an existing demo instead.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from benchmarks.table import print_table

PHASES = {
    "labels": "labeled_pool",
    "train": "checkpoint",
    "score": "uncertainty_scores",
    "choose": "query_batch",
    "push": "labeling_tasks",
}
MOMENTS = {"PIPELINE_STARTING": "queue", "PIPELINE_START": "process start"}
Steps = dict[str, tuple[float, float]]


def main() -> None:
    """Run the demo unless a home is given, and report."""
    if len(sys.argv) > 1:
        home = Path(sys.argv[1]).resolve()
    else:
        home = Path(tempfile.mkdtemp(prefix="al-rounds-")) / "home"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
        command = [sys.executable, "-m", "al_pipeline.cli", "demo", "--home", str(home), "--no-keep"]
        began = time.perf_counter()
        done = subprocess.run(command, env=environment | {"COLUMNS": "160"}, check=True, capture_output=True, text=True)
        print(done.stdout)
        print(f"The demo took {time.perf_counter() - began:.0f} s (bar: ≤ 360 s).")
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        report(instance, home)


def report(instance: dg.DagsterInstance, home: Path) -> None:
    """Print the tables of a home's rounds."""
    overhead, latency = [], []
    for record in reversed(
        instance.get_run_records(dg.RunsFilter(job_name="round", statuses=[dg.DagsterRunStatus.SUCCESS]))
    ):
        run = record.dagster_run
        key = run.tags["dagster/partition"]
        steps = step_times(instance, run.run_id)
        assert record.start_time is not None
        assert record.end_time is not None
        whole = record.end_time - record.start_time
        training = metadata(instance, "checkpoint", key, "seconds")
        evaluating = metadata(instance, "evaluation", key, "seconds")
        importing = metadata(instance, "checkpoint", key, "import_seconds")
        predicting = metadata(instance, "uncertainty_scores", key, "seconds")
        # The step goes on after it: it tells people what is asked, and looks how far the round is.
        pushed = moment(home, "max(pushed_at) from planned_tasks", key)
        until = pushed - record.start_time
        numbers = (whole, until, importing, training, predicting, until - importing - training - predicting, evaluating)
        overhead.append([key, len(steps), *(f"{number:.1f}" for number in numbers)])
        number = int(key[1:])
        if number > 0:
            last = moment(home, "max(created_at) from annotation_events", f"r{number - 1:04d}")
            moments = [last, record.create_timestamp.timestamp(), *begun(instance, run.run_id)]
            moments.append(min(start for start, _ in steps.values()))
            waits = [after - before for before, after in pairwise(moments)]
            phases = [min(steps[name][1], pushed) - steps[name][0] for name in PHASES.values()]
            latency.append([key, *(f"{part:.2f}" for part in (*waits, *phases, pushed - last))])
    print_table(
        "A round's run in seconds; orchestration is what is left of it until the batch is out",
        [
            "round",
            "steps",
            "run",
            "until the push",
            "import of torch",
            "training",
            "predicting candidates",
            "orchestration",
            "predicting holdout",
        ],
        overhead,
    )
    columns = ["round", "until its run is requested", *MOMENTS.values(), "first step", *PHASES, "total"]
    print_table("Last annotation → next batch in Label Studio, seconds", columns, latency)
    ticks = tick_seconds(instance)
    print(
        f"{len(ticks)} sensor ticks: median {ticks.median():.2f} s, 95 % below {ticks.quantile(0.95):.2f} s, "
        f"slowest {ticks.max():.2f} s (bar: ≤ 1 s)"
    )


def step_times(instance: dg.DagsterInstance, run_id: str) -> Steps:
    """Return when each step of a run started and ended, Unix seconds."""
    return {
        stats.step_key: (stats.start_time, stats.end_time)
        for stats in instance.get_run_step_stats(run_id)
        if stats.start_time is not None and stats.end_time is not None
    }


def begun(instance: dg.DagsterInstance, run_id: str) -> list[float]:
    """Return when a run left the queue, and when its process began with it, Unix seconds."""
    told = instance.all_logs(run_id, of_type={dg.DagsterEventType(name) for name in MOMENTS})
    logs = {entry.get_dagster_event().event_type_value: entry.timestamp for entry in told}
    return [logs[name] for name in MOMENTS]


def metadata(instance: dg.DagsterInstance, asset: str, key: str, name: str) -> float:
    """Return a number from the newest materialization of an asset's partition."""
    filters = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[key])
    record = instance.fetch_materializations(filters, limit=1).records[0]
    assert record.asset_materialization is not None
    return float(record.asset_materialization.metadata[name].value)  # type: ignore[arg-type]


def moment(home: Path, what: str, key: str) -> float:
    """Return a moment of a round from the ledger, Unix seconds: column and table, as SQL has them."""
    engine = sa.create_engine(f"sqlite:///{home / 'ledger.sqlite3'}")
    with engine.connect() as connection:
        found = connection.execute(sa.text(f"select {what} where round = :key"), {"key": key}).scalar_one()
    engine.dispose()
    return pd.Timestamp(found, tz="UTC").timestamp()


def tick_seconds(instance: dg.DagsterInstance) -> pd.Series:
    """Return how long each tick of the sensor annotations_landed took."""
    seconds: list[float] = []
    for state in instance.all_instigator_state():
        if state.name == "annotations_landed":
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
            seconds += [tick.end_timestamp - tick.timestamp for tick in ticks if tick.end_timestamp]
    return pd.Series(seconds, dtype=float)


if __name__ == "__main__":
    main()
