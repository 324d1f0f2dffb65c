"""Half an hour of production, with everything killed twice: ten people, 20,000 tasks, PostgreSQL.

`python -m benchmarks.soak [--minutes 30] [--out FOLDER]` runs the commands of docker-compose.yml by hand, Label Studio
under uWSGI on PostgreSQL (initdb has to be on the PATH). One batch of `--tasks` is asked about, then rounds of
`--batch`; half of the people answer the large batch, half the newest rounds, a look of `--look` seconds each. Some
answers are skips, changed later, taken back or given by two people. Meanwhile code server, daemon and Label Studio are
killed (-9) twice each, with all that they had started, as when their container ends, and started again, as by Docker.

Told in the end: answers that the ledger lacks or has too many, against what people have said; tasks that are there
twice; the sensor's ticks; the memory of each server, with its slope since its last start and the slope's noise.

Bars: 0 lost, 0 doubled; p95 of a tick ≤ 1 s; slopes within their noise. Ticks wait for a server that was killed until
it is there again: told with them and without.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from al_pipeline.core.rounds import round_key, round_number
from al_pipeline.labelstudio.annotator import sign_up
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import choice
from al_pipeline.labelstudio.connection import LabelStudioError, LabelStudioNotFoundError, LabelStudioUnavailableError
from al_pipeline.labelstudio.events import TaskStatus
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.verify import verify
from al_pipeline.servers.dagster_api import DagsterApi, DagsterError
from al_pipeline_tests.defs.worlds import CLASSES
from al_pipeline_tests.faults.test_crowd import CHANGED, SHARED, SKIPPED, TAKEN_BACK, Said
from benchmarks.soak_found import MEMORY_COLUMNS, memory, spread, tell_answers, ticks_of
from benchmarks.soak_servers import Production, production
from benchmarks.table import print_table

# When what is killed, in parts of the time: early, so that memory can be watched long enough afterwards.
KILLS = {
    0.07: "code-server",
    0.12: "daemon",
    0.17: "label-studio",
    0.22: "code-server",
    0.27: "daemon",
    0.32: "label-studio",
}
SAMPLE, LIST = 10.0, 10.0
# As often does somebody press the button that closes the large batch, until the next one is there.
CLOSE = 60.0
# As long as somebody goes on trying.
PATIENCE = 600.0
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dataclass
class Person:
    """Somebody who answers what is before them until it is time to go home, whatever happens to the server."""

    client: LabelStudio
    id: int
    name: str
    tasks: deque[TaskStatus] = field(default_factory=deque)
    said: Said = field(default_factory=dict)
    acts: int = 0
    again: int = 0
    waits: list[float] = field(default_factory=list)

    def work(self, home_time: threading.Event, look: float) -> None:
        number = 0
        while not home_time.wait(look):
            if not self.tasks:
                continue
            task, number = self.tasks.popleft(), number + 1
            value = None if number % SKIPPED == 0 else CLASSES[task.task_id % 2]
            began = time.monotonic()
            made = self.answer(task.task_id, value, look)
            self.waits.append(time.monotonic() - began)
            if made is None:
                continue
            self.said[made] = (task.sample_id, self.name, value)
            self.acts += 1
            if number % CHANGED == 0:
                value = CLASSES[(task.task_id + 1) % 2]
                self.insist(lambda made=made, value=value: self.change(made, value))
                self.said[made] = (task.sample_id, self.name, value)
                self.acts += 1
            elif number % TAKEN_BACK == 0:
                self.insist(lambda made=made: self.client.connection.sdk.annotations.delete(made))
                del self.said[made]
                self.acts += 1

    def answer(self, task_id: int, value: str | None, look: float) -> int | None:
        """Answer a task and return the annotation's id, once only; None where the task is withdrawn."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                return self.client.annotate(task_id, value, lead_time=look)
            except LabelStudioNotFoundError:
                return None
            except LabelStudioError:
                self.again += 1
                # It may have been done all the same.
                there = self.insist(lambda: self.client.connection.json(f"api/tasks/{task_id}/annotations/", {}))
                if mine := [each["id"] for each in there or () if each["completed_by"] == self.id]:
                    return int(mine[0])
        raise AssertionError(f"task {task_id} could not be answered within {PATIENCE:.0f} s")

    def insist(self, call: Callable[[], Any]) -> Any:
        """Repeat what may be done twice until it is done; None where there is nothing to do it to."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return self.client.connection.read("insist", call)
            except LabelStudioNotFoundError:
                return None
            except LabelStudioError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def change(self, annotation_id: int, value: str) -> None:
        changed: Any = {"result": [choice(value)], "was_cancelled": False}
        self.client.connection.sdk.annotations.update(annotation_id, **changed)


def employ(client: LabelStudio, project: int, count: int) -> list[Person]:
    """Return people with accounts of their own, each second of them with a part of the large batch."""
    people = []
    for number in range(1, count + 1):
        each = sign_up(client, number)
        identity = int(each.connection.json("api/current-user/whoami", {})["id"])
        people.append(Person(LabelStudio(each.url, each.secret, timeout=60), identity, each.check().username))
    steady = people[::2]
    for i, task in enumerate(client.tasks(project, round_key(0))):
        steady[i % len(steady)].tasks.append(task)
        if i % SHARED == 0:
            steady[(i + 1) % len(steady)].tasks.append(task)
    return people


def hand_out(client: LabelStudio, project: int, ledger: Ledger, people: list[Person], given: dict[int, int]) -> None:
    """Give the tasks of a new round to the people who wait for them; `given` has each round's number and its tasks.

    Label Studio is asked once for each: it would find them among all tasks anew every time.
    """
    if (newest := ledger.newest_pushed()) is None or (number := round_number(newest)) in given:
        return
    with suppress(LabelStudioUnavailableError):
        tasks = client.tasks(project, newest)
        for i, task in enumerate(tasks):
            people[i % len(people)].tasks.append(task)
        given[number] = len(tasks)


def close_round(api: DagsterApi) -> None:
    """Launch the job that has the next round opened; a dead server has time."""
    with suppress(DagsterError):
        api.launch("next_round")


def core_seconds() -> float:
    """Return how many seconds pass while a second of a processor is used: 1 on a quiet machine."""
    wall, own = time.perf_counter(), time.thread_time()
    while time.thread_time() < own + 0.02:
        pass
    return (time.perf_counter() - wall) / 0.02


def soak(made: Production, minutes: float, count: int, look: float) -> None:
    """Let people work while servers are killed, and tell what came of it."""
    settings = made.compose.environment("code-server")
    os.environ.update({key: value for key, value in settings.items() if key.startswith(("DAGSTER_", "PG"))})
    client = LabelStudio(settings["AL_LABEL_STUDIO_URL"], settings["AL_LABEL_STUDIO_TOKEN"], timeout=60)
    found = client.find_project("al_pipeline")
    assert found is not None
    project = found.project_id
    people = employ(client, project, count)
    waiting = people[1::2]
    asked = len(client.tasks(project))
    print(f"{asked} tasks are open; {count} people begin", flush=True)
    api = DagsterApi(settings["AL_DAGSTER_URL"])
    home_time, began, wall = threading.Event(), time.monotonic(), time.time()
    kills, given, ended, killed = dict(KILLS), {0: 0}, list[str](), list[float]()
    loads, slowness = list[float](), list[float]()
    weighed = listed = closed = 0.0
    ledger = Ledger(settings["AL_DATABASE_URL"])
    with ThreadPoolExecutor(count) as pool:
        working = [pool.submit(person.work, home_time, look) for person in people]
        try:
            while (at := time.monotonic() - began) < 60 * minutes and not any(each.done() for each in working):
                if kills and at > min(kills) * 60 * minutes:
                    name = kills.pop(min(kills))
                    print(f"{at:5.0f} s: kill -9 {name}", flush=True)
                    killed.append(time.time())
                    made.kill(name)
                for name in made.dead():
                    ended.append(name)
                    print(f"{at:5.0f} s: {name} has ended by itself", flush=True)
                    made.start(name)
                if at > weighed + SAMPLE:
                    weighed = at
                    made.weigh(at)
                    loads.append(os.getloadavg()[0])
                    slowness.append(core_seconds())
                if at > listed + LIST:
                    listed = at
                    hand_out(client, project, ledger, waiting, given)
                if max(given) <= 1 and at > closed + CLOSE:
                    closed = at
                    # People close the large batch: the loop goes on with what there is.
                    close_round(api)
                time.sleep(0.2)
        finally:
            home_time.set()
    for each in working:
        each.result()
    lasted = (time.monotonic() - began) / 60
    said: Said = {}
    for person in people:
        assert not said.keys() & person.said.keys()
        said |= person.said
    with dg.DagsterInstance.from_config(str(made.folder / "dagster")) as instance:
        # Rounds go on for as long as answers are left to learn from: no more than a while is waited for them.
        with suppress(AssertionError):
            made.wait(lambda: not instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)), 300)
        caught_up = tell_answers(ledger, said, client, project)
        runs = Counter(
            f"{run.job_name} {run.status.value.lower()}" for run in instance.get_runs() if run.job_name != "setup"
        )
        ticks = ticks_of(instance, "annotations_landed", wall, killed, made.folder / "ticks.csv")
    problems = verify(settings["AL_DATABASE_URL"]).problems
    acts, again = sum(person.acts for person in people), sum(person.again for person in people)
    waits = sorted(wait for person in people for wait in person.waits)
    rows = [
        ["minutes, people, tasks at the begin", f"{lasted:.1f}, {count}, {asked}"],
        ["acts of people, of them after trouble with the server", f"{acts}, {again}"],
        ["an answer took: median, p95, longest, seconds", spread(waits)],
        ["rounds after the large batch", max(given)],
        ["runs", ", ".join(f"{kind} {n}" for kind, n in sorted(runs.items()))],
        ["servers that ended by themselves", ", ".join(ended) or "none"],
        ["load of the machine, mean and most", f"{statistics.mean(loads):.1f}, {max(loads):.1f}"],
        ["a second of a processor took: median, p95, longest, seconds", spread(sorted(slowness))],
        *caught_up,
        ["`al ledger verify`", "; ".join(map(str, problems)) or "nothing found"],
        *ticks,
    ]
    print_table("A soak", ["what", "found"], rows)
    print_table("Memory of the servers, PSS in MB", MEMORY_COLUMNS, memory(made.weights, began))
    for log in sorted((made.folder / "logs").glob("*.log")):
        print(f"{log.name}: {log.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Start everything, wait, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--look", type=float, default=3.0, help="seconds that somebody looks at an image")
    parser.add_argument("--batch", type=int, default=200, help="batch_size of the rounds after the large batch")
    parser.add_argument("--processes", type=int, default=4, help="of Label Studio's uWSGI")
    parser.add_argument("--out", type=Path, help="a new folder for all that is written; a temporary one by default")
    options = parser.parse_args()
    with ExitStack() as stack:
        scratch = options.out or Path(tempfile.mkdtemp(prefix="al-soak-"))
        scratch.mkdir(parents=True, exist_ok=True)
        if options.out is None:
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        made = stack.enter_context(production(scratch.resolve(), options.tasks, options.batch, options.processes))
        soak(made, options.minutes, options.people, options.look)


if __name__ == "__main__":
    main()
