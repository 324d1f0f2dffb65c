"""Two writers at once, and writers killed in the middle of a transaction: one plan, no half of anything."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from al_pipeline.core.labels.consensus import consensus
from al_pipeline.ledger import Ledger
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample

# Runs in a process of its own: kills it, as kill -9 would, right after the database has run a certain statement.
KILLED_AFTER = """
import json, os, signal, sys
import sqlalchemy as sa
from al_pipeline.ledger import Ledger
from al_pipeline_tests.ledger import test_concurrency

url, what, statement = json.loads(sys.stdin.read())

@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def kill(connection, cursor, text, *rest):
    if text.startswith(statement):
        os.kill(os.getpid(), signal.SIGKILL)

getattr(test_concurrency, what)(Ledger(url))
"""

# Plans rounds from its own choice of samples, as soon as the line arrives, and prints what was stored.
PLANNER = """
import json, sys
from al_pipeline.ledger import Ledger
from al_pipeline_tests.ledger.builders import plan_rows

url, numbers = json.loads(sys.stdin.readline())
ledger = Ledger(url)
print("ready", flush=True)
sys.stdin.readline()
for number in range(5):
    rows = plan_rows(*(10 * number + offset for offset in numbers))
    print(ledger.plan(f"r{number:04d}", rows)["sample_id"].tolist())
"""


def plan(ledger: Ledger) -> pd.DataFrame:
    return ledger.plan("r0000", plan_rows(1, 2, 3))


def append(ledger: Ledger) -> int:
    return ledger.append([said(number, sample(number), "cat") for number in range(5)], moment(1))


def snapshot(ledger: Ledger) -> pd.DataFrame:
    events = pd.DataFrame([vars(said(number, sample(number), "cat")) for number in range(5)])
    return ledger.snapshot("r0000", consensus(events, class_names=["cat"]).labels)


def register(ledger: Ledger) -> None:
    ledger.register(manifest(pool=40))


@pytest.fixture
def ledger(url: str):
    ledger = Ledger(url)
    ledger.register(manifest())
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        (plan, "INSERT INTO planned_rounds"),
        (plan, "INSERT INTO planned_tasks"),
        (append, "INSERT INTO annotation_events"),
        (snapshot, "INSERT INTO label_snapshots"),
        (snapshot, "INSERT INTO snapshot_labels"),
        (register, "INSERT INTO samples"),
    ],
)
def test_a_writer_killed_in_the_middle_leaves_nothing_and_the_next_one_writes_all(
    ledger: Ledger, url: str, what: Callable[[Ledger], Any], statement: str
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER],
        input=json.dumps([url, what.__name__, statement]),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not ledger.is_planned("r0000")
    assert not ledger.has_snapshot("r0000")
    assert ledger.planned().empty
    assert ledger.answers().empty
    assert ledger.count_samples("pool") == 20
    result = what(ledger)
    assert result is None or (result if isinstance(result, int) else len(result)) == (3 if what is plan else 5)


def test_two_processes_that_plan_the_same_rounds_store_one_plan(ledger: Ledger, url: str) -> None:
    ledger.register(manifest(pool=60))
    processes = [
        subprocess.Popen([sys.executable, "-c", PLANNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process, numbers in zip(processes, ([1, 2, 3], [3, 4, 5]), strict=True):
        assert process.stdin is not None
        process.stdin.write(json.dumps([url, numbers]) + "\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    # Both are connected and wait: one line each lets them go at the same time.
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 5
    assert len(ledger.planned()) == 15


def run_together(*calls: Callable[[], Any]) -> list[Any]:
    """Start all calls at the same moment, in threads, and return what each returned or raised."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait(timeout=30)
        try:
            results[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 (handed to the test)
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def test_threads_that_plan_the_same_round_all_get_the_same_batch(ledger: Ledger) -> None:
    batches = run_together(*(lambda n=n: ledger.plan("r0000", plan_rows(n, n + 1, n + 2)) for n in range(8)))
    for batch in batches:
        assert isinstance(batch, pd.DataFrame), batch
        pd.testing.assert_frame_equal(batch, ledger.planned("r0000")[list(batch.columns)])


def test_two_rounds_planned_at_once_never_ask_about_the_same_sample(ledger: Ledger) -> None:
    results = run_together(*(lambda n=n: ledger.plan(f"r{n:04d}", plan_rows(1, 2 + n)) for n in range(6)))
    assert sum(isinstance(result, pd.DataFrame) for result in results) == 1, results
    assert ledger.planned()["sample_id"].is_unique
    assert len(ledger.planned()) == 2


def test_events_appended_by_several_threads_are_counted_and_stored_once(ledger: Ledger) -> None:
    events = [said(number, sample(number % 20), "cat", annotator=f"u{number}") for number in range(300)]
    pulls = [events, events[::-1], events[100:], events[:200]]
    counts = run_together(*(lambda pull=pull: ledger.append(pull, moment(1)) for pull in pulls))
    assert sum(count for count in counts if isinstance(count, int)) == 300, counts
    assert len(ledger.answers()) == 300
