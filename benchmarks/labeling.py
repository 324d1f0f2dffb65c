"""What the labeling side costs on a real Label Studio with many tasks: push, pull and the sensor's tick.

Bars: the push of 1,000 tasks ≤ 1.3 × the bare import of the SDK; the pull of 100 new answers among 10,000 ≤ 0.6 s;
a tick of the sensor with 10,000 tasks ≤ 0.3 s. `--part`, `--tasks`, `--push` and `--turns` make it shorter; `--home`
names a folder whose Label Studio is used again (its first start takes minutes).
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pandas as pd

from al_pipeline.core.rounds import round_key
from al_pipeline.defs.sensors import annotations_landed
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import Interface, choice, payload
from al_pipeline.labelstudio.push import import_missing, reconcile, verify
from al_pipeline.ledger import Ledger
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.pull import pull
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.processes import free_port
from al_pipeline.settings import load_settings
from benchmarks.table import print_table

KEY = round_key(0)
CLASSES = ("cat", "dog")
ANSWERS = 100
PUSH_BAR, PULL_BAR, TICK_BAR = 1.3, 0.6, 0.3


def main() -> None:
    """Start a server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["push", "large", "all"], default="all", help="large: pull and tick")
    parser.add_argument("--push", type=int, default=1000, help="tasks of a push")
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks of the large project")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="al-labeling-") as scratch:
        home = options.home or Path(scratch)
        images = home / "published" / "images"
        log = home / "logs" / "label-studio.log"
        server = LocalLabelStudio(home / "labelstudio", images, port=free_port(), log=log)
        server.start()
        try:
            server.wait_ready(900)
            client = LabelStudio(server.url, server.token, timeout=600)
            if options.part in {"push", "all"}:
                push(client, options.push, options.turns)
            if options.part in {"large", "all"}:
                large(client, server, Path(scratch), options.tasks, next((home / "labelstudio").glob("*.sqlite3")))
        finally:
            server.stop()


def push(client: LabelStudio, count: int, turns: int) -> None:
    """Compare the ops' push with the bare import, in turns, each in a fresh project."""
    tasks = payloads(count)
    samples = [task["data"]["sample_id"] for task in tasks]
    sdk: Any = client.connection.sdk

    def ours(project: int) -> None:
        # As the ops of labeling_tasks do.
        missing = set(reconcile(client, project, KEY, samples).missing)
        made = import_missing(client, project, [task for task in tasks if task["data"]["sample_id"] in missing])
        assert len(verify(client, project, KEY, samples, made).existing) == count

    def once(project: int) -> None:
        sdk.projects.import_tasks(project, request=tasks, return_task_ids=True)

    ways: dict[str, Callable[[int], None]] = {"ours": ours, "SDK": once}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        # Nobody is always first.
        for name in [*ways][turn % len(ways) :] + [*ways][: turn % len(ways)]:
            project = client.ensure_project(f"push {uuid4()}", Interface(CLASSES))
            taken[name].append(seconds(lambda way=ways[name], project=project: way(project)))
            sdk.projects.delete(id=project)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    rows = [
        [name, *(f"{value:.2f}" for value in taken[name]), f"{median:.2f}", f"{medians['ours'] / median:.2f}"]
        for name, median in medians.items()
    ]
    columns = ["way", *(f"turn {turn}" for turn in range(turns)), "median", "ours / this"]
    print_table(f"Push of {count} tasks, seconds (bar: ours ≤ {PUSH_BAR} × the SDK's import)", columns, rows)


def large(client: LabelStudio, server: LocalLabelStudio, folder: Path, count: int, database: Path) -> None:
    """Measure ticks and pulls in a project of many tasks, all but the last `ANSWERS` answered at first."""
    settings = load_settings(
        home=folder / "home",
        label_studio_url=server.url,
        label_studio_token=server.token,
        label_studio_project=f"large {uuid4()}",
        label_studio_timeout=600,
    )
    deployment = Deployment(settings)
    project = client.ensure_project(settings.label_studio_project, Interface(CLASSES))
    tasks = payloads(count)
    ids = answered_tasks(client, project, tasks)
    make_old(database, project, max(ids))
    plan(deployment.ledger, tasks, ids)
    (folder / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(folder / "dagster")) as instance:
        instance.add_dynamic_partitions("rounds", [KEY])
        instance.report_runless_asset_event(dg.AssetMaterialization("labeling_tasks", partition=KEY))
        source = deployment.project().source
        first = seconds(lambda: pull(deployment.ledger, client, project, source=source))
        counting = tick(instance, deployment)
        ticks = [tick(instance, deployment) for _ in range(7)]
        listing = seconds(lambda: client.tasks(project, KEY))
        with ThreadPoolExecutor(4) as people:
            list(people.map(lambda task: client.annotate(task, CLASSES[0]), ids[-ANSWERS:]))
        began, new = time.perf_counter(), pull(deployment.ledger, client, project, source=source)
        increment = time.perf_counter() - began
        assert new == ANSWERS, f"{new} answers are new instead of {ANSWERS}"
        nothing = seconds(lambda: pull(deployment.ledger, client, project, source=source))
        last = tick(instance, deployment)
    naive = seconds(lambda: sum(1 for _ in client.connection.sdk.tasks.list(project=project, fields="all")))
    anew = Ledger(f"sqlite:///{folder / 'anew.sqlite3'}")
    again = seconds(lambda: pull(anew, client, project, source="project"))
    answers = [ledger.answers().drop(columns="pulled_at") for ledger in (deployment.ledger, anew)]
    names = ["sample_id", "annotation_id", "value", "cancelled", "annotator", "created_at", "updated_at"]
    pd.testing.assert_frame_equal(answers[0][names], answers[1][names])
    assert len(answers[0]) == count
    counted = [
        ["pull of 100 new answers", f"{increment:.2f}", f"≤ {PULL_BAR}"],
        ["pull of nothing new", f"{nothing:.2f}", ""],
        ["first pull", f"{first:.1f}", ""],
        ["first pull into another ledger: the same answers", f"{again:.1f}", ""],
        ["SDK's list of all tasks with their answers", f"{naive:.1f}", ""],
        ["sensor's tick, waiting: median of 7", f"{statistics.median(ticks):.2f}", f"≤ {TICK_BAR}"],
        ["sensor's tick, waiting: slowest of 7", f"{max(ticks):.2f}", ""],
        ["the first tick, which counts all that was pulled", f"{counting:.2f}", ""],
        ["sensor's tick, all answered", f"{last:.2f}", f"≤ {TICK_BAR}"],
        ["list of the round's tasks, for comparison", f"{listing:.2f}", ""],
    ]
    print_table(f"A project of {count} tasks, seconds", ["what", "seconds", "bar"], counted)
    client.connection.sdk.projects.delete(id=project)


def tick(instance: dg.DagsterInstance, deployment: Deployment) -> float:
    """Evaluate the sensor once; return the seconds it took."""
    resources = {"deployment": deployment, "policy": deployment.settings.policy}
    context = dg.build_sensor_context(instance=instance, resources=resources)
    began = time.perf_counter()
    result: Any = annotations_landed(deployment.settings)(context)
    taken = time.perf_counter() - began
    said = result.skip_reason or result.run_requests[0].run_key
    print(f"tick in {taken:.2f} s: {said}", flush=True)
    assert isinstance(result, dg.SensorResult), said
    return taken


def payloads(count: int) -> list[dict[str, Any]]:
    """Return tasks as the loop sends them; their images are never opened here."""
    row = {"purpose": "query", "predicted": None}
    samples = [f"{number:032x}" for number in range(count)]
    return [payload(row | {"sample_id": i}, round_key=KEY, image_name=f"{i}.png", prediction=False) for i in samples]


def answered_tasks(client: LabelStudio, project: int, tasks: list[dict[str, Any]]) -> list[int]:
    """Import the tasks, all but the last `ANSWERS` of them with an answer; return their ids."""
    answered = [
        task | {"annotations": [{"result": [choice(CLASSES[number % 2])]}] if number < len(tasks) - ANSWERS else []}
        for number, task in enumerate(tasks)
    ]
    return client.import_tasks(project, answered)


def make_old(database: Path, project: int, last: int) -> None:
    """Date a project's tasks and answers back: six a minute, until a day ago.

    Every pull reads once more what happened in the five minutes before the newest change, which here would be all.
    """
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table, task in (("task", "id"), ("task_completion", "task_id")):
            for column in ("created_at", "updated_at"):
                back = f"strftime('%Y-%m-%d %H:%M:%f', {column}, '-1 day', ((? - {task}) * -10) || ' seconds')"
                statement = f"UPDATE {table} SET {column} = {back} WHERE project_id = ?"
                connection.execute(statement, [last, project])


def plan(ledger: Ledger, tasks: list[dict[str, Any]], ids: list[int]) -> None:
    """Store the round as the ops would."""
    samples = [task["data"]["sample_id"] for task in tasks]
    uris = [f"/images/{sample}.png" for sample in samples]
    ledger.register(pd.DataFrame({"sample_id": samples, "uri": uris, "split": "pool", "label": "cat"}))
    rows = {"sample_id": samples, "purpose": "query", "rank": range(len(samples)), "strategy": "random", "seed": 0}
    ledger.plan(KEY, pd.DataFrame(rows))
    ledger.record_pushed(KEY, dict(zip(samples, ids, strict=True)), datetime.now(UTC))


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
