"""Half an hour of production, with everything killed twice: ten people, 20,000 tasks, PostgreSQL.

`python -m benchmarks.soak [--minutes 30] [--out FOLDER]` runs the commands of docker-compose.yml by hand, Label Studio
under uWSGI on PostgreSQL (initdb has to be on the PATH). One batch of `--tasks` is asked about, then rounds of
`--batch`; half of the people answer the large batch, half the newest rounds, a look of `--look` seconds each. Some
answers are skips, changed later, taken back or given by two people. Meanwhile code server, daemon and Label Studio are
killed (-9) twice each, with all that they had started, as when their container ends, and started again, as by Docker.

Told in the end: answers that the ledger lacks or has too many, against what people have said; tasks that are there
twice; the sensor's ticks; the memory of each server, with its slope since its last start and the slope's noise.

Bars: 0 lost, 0 doubled; p95 of a tick ≤ 1 s; slopes within their noise.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import psutil
import uv
from dagster._core.scheduler.instigation import TickStatus

from al_pipeline.core.rounds import round_key
from al_pipeline.labelstudio.annotator import sign_up
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import choice
from al_pipeline.labelstudio.connection import LabelStudioError, LabelStudioNotFoundError, LabelStudioUnavailableError
from al_pipeline.labelstudio.events import TaskStatus
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.verify import verify
from al_pipeline.servers.dagster_api import ENDED, DagsterApi, DagsterError
from al_pipeline.servers.label_studio import VERSION
from al_pipeline.servers.processes import Service, answers
from al_pipeline_tests.compose import ROOT, Compose
from al_pipeline_tests.defs.worlds import CLASSES, write_images
from al_pipeline_tests.faults.test_crowd import CHANGED, SHARED, SKIPPED, TAKEN_BACK, Said
from al_pipeline_tests.faults.worker import write_weights
from al_pipeline_tests.ledger.postgresql import PASSWORD, PostgreSQL
from benchmarks.table import print_table

NETWORK = f"127.78.{os.getpid() % 250 + 1}"
STUDIO = f"{NETWORK}.2:8000"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
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
# Seconds after a start that say nothing about a slope.
WARM_UP = 180.0
PATIENCE = 600.0


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


class Production:
    """The services of docker-compose.yml, as they run here, with what their processes weigh.

    Parameters
    ----------
    folder : Path
        Of all that is written.
    variables : dict
        What is in `.env`.
    """

    def __init__(self, folder: Path, variables: dict[str, str], postgres: int) -> None:
        self.folder, self.postgres = folder, postgres
        self.compose = Compose(folder, variables, NETWORK, {"127.0.0.1:8080": STUDIO})
        self.running: dict[str, Service] = {}
        self.began: dict[str, float] = {}
        # Seconds since the begin, server, since which start, megabytes.
        self.weights: list[tuple[float, str, float, float]] = []

    def start(self, name: str, command: list[str] | None = None) -> Service:
        given = command or (self.uwsgi() if name == "label-studio" else self.compose.command(name))
        environment, log = self.compose.environment(name), self.folder / "logs" / f"{name}.log"
        if name == "label-studio":
            del environment["PYTHONPATH"]
            environment |= {
                "DJANGO_SETTINGS_MODULE": "core.settings.label_studio",
                "LABEL_STUDIO_BASE_DATA_DIR": str(self.folder / "label-studio" / "data"),
            }
        service = Service(name, given, log=log, health=lambda: True, env=environment)
        service.start()
        self.running[name], self.began[name] = service, time.monotonic()
        return service

    def program(self, name: str) -> Path:
        return self.folder / "label-studio" / "bin" / name

    def uwsgi(self) -> list[str]:
        """Return the command of Label Studio's image for production; processes and headers are in its environment."""
        [code] = (self.folder / "label-studio" / "lib").glob("*/site-packages/label_studio")
        flags = ("--master", "--enable-threads", "--single-interpreter", "--need-app", "--die-on-term")
        values = {"http": STUDIO, "chdir": code, "pythonpath": code, "module": "core.wsgi:application"}
        words = [f"--{name}={value}" for name, value in (values | {"buffer-size": 32768}).items()]
        return [str(self.program("uwsgi")), *flags, *words]

    def install_label_studio(self) -> None:
        """Put Label Studio with its uWSGI into an environment of its own, and let it make its tables and its user."""
        program = uv.find_uv_bin()
        place = str(self.folder / "label-studio")
        subprocess.run([program, "venv", "--quiet", place], check=True)
        package = f"label-studio[uwsgi]=={VERSION}"
        subprocess.run([program, "pip", "install", "--quiet", "--python", place, package], check=True)
        host, port = STUDIO.split(":")
        first = ["start", "--no-browser", "--internal-host", host, "--port", port]
        service = self.start("label-studio", [str(self.program("label-studio")), *first])
        self.wait(lambda: answers(f"http://{STUDIO}/health"), 900)
        service.stop()

    def open(self) -> None:
        """Open the loop; `al open` may be called again where it took too long, and waits for what runs."""
        for _ in range(6):
            with suppress(subprocess.TimeoutExpired):
                self.compose.run("code-server", "al", "open", "--wait", "300")
                return

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"it did not happen within {seconds:.0f} s, see {self.folder}/logs"
            time.sleep(0.5)

    def kill(self, name: str) -> None:
        """Kill a service with all that it has started, as when its container ends, and start it again."""
        service = self.running[name]
        assert service.process is not None
        parent = psutil.Process(service.process.pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        service.process.wait()
        self.start(name)

    def dead(self) -> list[str]:
        """Return services that have ended by themselves."""
        return [name for name, service in self.running.items() if not service.running]

    def weigh(self, at: float) -> None:
        """Note the memory of each server: what is its own, and its part of what it shares (PSS)."""
        trees = {name: service.process.pid for name, service in self.running.items() if service.process is not None}
        for name, number in (trees | {"postgres": self.postgres}).items():
            with suppress(psutil.Error):
                parent = psutil.Process(number)
                below = parent.children(recursive=True)
                # Those of the code server are the process that runs are forked from, and the runs.
                apart = name == "code-server"
                total = _megabytes([parent] if apart else [parent, *below])
                self.weights.append((at, name, self.began.get(name, 0.0), total))
                if apart:
                    self.weights.append((at, "runs", 0.0, _megabytes(below)))

    def stop(self) -> None:
        for service in reversed(self.running.values()):
            service.stop(5)


def _megabytes(processes: list[psutil.Process]) -> float:
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


@contextmanager
def production(folder: Path, tasks: int, batch: int, processes: int) -> Iterator[Production]:
    """Yield all services running, with the large batch asked about and later ones of `batch`."""
    began = time.monotonic()
    write_images(folder / "images", (tasks + 20 * batch) // 2, seed=0, split=None)
    write_weights(folder / "start.safetensors")
    variables = {
        "AL_IMAGES": str(folder / "images"),
        "POSTGRES_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USERNAME": "al@example.com",
        "LABEL_STUDIO_PASSWORD": "soak-password-1",
        "AL_LABEL_STUDIO_TOKEN": TOKEN,
        "AL_LABEL_STUDIO_TIMEOUT": "60",
        "LABEL_STUDIO_PROCESSES": str(processes),
        "AL_GROUP": "none",
        "AL_ROUND__BATCH_SIZE": str(tasks),
        "AL_ROUND__SAMPLE_SIZE": "all",
        "AL_ROUND__STRATEGY": "low_certainty",
        "AL_POLICY__PREFETCH": "false",
        "AL_TRAINING__WEIGHTS": str(folder / "start.safetensors"),
        "AL_TRAINING__IMAGE_SIZE": "32",
        "AL_TRAINING__MODE": "head",
        "AL_TRAINING__REFINE": "off",
    }
    server = PostgreSQL(f"{NETWORK}.1", 5432)
    try:
        environment = {"PATH": os.environ["PATH"], "POSTGRES_USER": "al", "PGHOST": server.host, "PGPASSWORD": PASSWORD}
        subprocess.run(["sh", str(ROOT / "deploy" / "init-databases.sh")], env=environment, check=True)
        number = int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        made = Production(folder, variables, number)
        made.compose.prepare()
        os.chdir(folder / "dagster")
        try:
            made.install_label_studio()
            made.compose.run("migration")
            for name in ("label-studio", "code-server", "webserver", "daemon"):
                made.start(name)
            made.wait(lambda: answers(f"http://{STUDIO}/health"), 300)
            print(f"{time.monotonic() - began:.0f} s until all servers answer", flush=True)
            made.open()
            print(f"{time.monotonic() - began:.0f} s until the large batch is asked about", flush=True)
            variables |= {"AL_ROUND__BATCH_SIZE": str(batch), "AL_POLICY__PREFETCH": "true"}
            made.running["code-server"].stop()
            made.start("code-server")
            yield made
        finally:
            made.stop()
    finally:
        server.stop()


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


def hand_out(client: LabelStudio, project: int, people: list[Person], given: dict[int, int]) -> None:
    """Give the tasks of new rounds to the people who wait for them; `given` has each round's number and its tasks."""
    number = max(given)
    for each in (number, number + 1):
        if each == 0:
            continue
        with suppress(LabelStudioUnavailableError):
            tasks = client.tasks(project, round_key(each))
            for i, task in enumerate(tasks[given.get(each, 0) :]):
                people[i % len(people)].tasks.append(task)
            if tasks:
                given[each] = len(tasks)


def close_round(api: DagsterApi, launched: str) -> str:
    """Launch the job that has the next round opened, unless it runs, and return its run; a dead server has time."""
    with suppress(DagsterError):
        if not launched or api.status(launched) in ENDED:
            return api.launch("next_round")
    return launched


def core_seconds() -> float:
    """Return how many seconds pass while a second of a processor is used: 1 on a quiet machine."""
    wall, own = time.perf_counter(), time.thread_time()
    while time.thread_time() < own + 0.02:
        pass
    return (time.perf_counter() - wall) / 0.02


def soak(made: Production, minutes: float, count: int, look: float) -> None:
    """Let people work while servers are killed, and tell what came of it."""
    settings = made.compose.environment("code-server")
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
    kills, given, ended = dict(KILLS), {0: 0}, list[str]()
    loads, slowness = list[float](), list[float]()
    weighed = listed = 0.0
    with ThreadPoolExecutor(count) as pool:
        working = [pool.submit(person.work, home_time, look) for person in people]
        try:
            closing = ""
            while (at := time.monotonic() - began) < 60 * minutes and not any(each.done() for each in working):
                if kills and at > min(kills) * 60 * minutes:
                    name = kills.pop(min(kills))
                    print(f"{at:5.0f} s: kill -9 {name}", flush=True)
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
                    hand_out(client, project, waiting, given)
                    if max(given) == 1:
                        # People close the large batch: the loop goes on with what there is.
                        closing = close_round(api, closing)
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
    os.environ.update({key: value for key, value in settings.items() if key.startswith(("DAGSTER_", "PG"))})
    with dg.DagsterInstance.from_config(str(made.folder / "dagster")) as instance:
        made.wait(lambda: not instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)), 300)
        caught_up = tell_answers(Ledger(settings["AL_DATABASE_URL"]), said, client, project)
        runs = Counter(
            f"{run.job_name} {run.status.value.lower()}" for run in instance.get_runs() if run.job_name != "setup"
        )
        ticks = ticks_of(instance, "annotations_landed", wall)
    problems = verify(settings["AL_DATABASE_URL"]).problems
    acts, again = sum(person.acts for person in people), sum(person.again for person in people)
    waits = sorted(wait for person in people for wait in person.waits)
    rows = [
        ["minutes, people, tasks at the begin", f"{lasted:.1f}, {count}, {asked}"],
        ["acts of people, of them after trouble with the server", f"{acts}, {again}"],
        ["an answer took: median, p95, longest, seconds", _spread(waits)],
        ["rounds after the large batch", max(given)],
        ["runs", ", ".join(f"{kind} {n}" for kind, n in sorted(runs.items()))],
        ["servers that ended by themselves", ", ".join(ended) or "none"],
        ["load of the machine, mean and most", f"{statistics.mean(loads):.1f}, {max(loads):.1f}"],
        ["a second of a processor took: median, p95, longest, seconds", _spread(sorted(slowness))],
        *caught_up,
        ["`al ledger verify`", "; ".join(map(str, problems)) or "nothing found"],
        *ticks,
    ]
    print_table("A soak", ["what", "found"], rows)
    print_table("Memory of the servers, PSS in MB", MEMORY_COLUMNS, memory(made.weights, began))
    for log in sorted((made.folder / "logs").glob("*.log")):
        print(f"{log.name}: {log.stat().st_size / 1e6:.1f} MB")


UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def tell_answers(ledger: Ledger, said: Said, client: LabelStudio, project: int) -> list[list[object]]:
    """Wait until the sensor has pulled what people have said; return what is lost or there twice all the same."""
    began = time.monotonic()
    while True:
        stored = ledger.answers()
        rows = stored.where(stored.notna(), None)
        held = {row.annotation_id: (row.sample_id, row.annotator, row.value) for row in rows.itertuples()}
        taken = time.monotonic() - began
        if held == said or taken > PATIENCE:
            break
        time.sleep(2)
    per_person = Counter((sample, who) for sample, who, _ in held.values())
    wanted = Counter((sample, who) for sample, who, _ in said.values())
    planned = Counter(ledger.planned()[["round", "sample_id"]].itertuples(index=False, name=None))
    there = Counter((task.round, task.sample_id) for task in client.tasks(project))
    return [
        ["answers that people gave and did not take back", len(said)],
        ["answers in the ledger, pulled by the sensor alone", f"{len(held)}, {taken:.0f} s after the last"],
        ["lost", len(said.keys() - held.keys())],
        ["doubled: a sample and a person more often than said", sum((per_person - wanted).values())],
        ["in the ledger and never said", len(held.keys() - said.keys())],
        ["with another value", sum(held[key] != said[key] for key in held.keys() & said.keys())],
        ["annotation ids that are there twice", int(stored["annotation_id"].duplicated().sum())],
        ["tasks in Label Studio, planned", f"{sum(there.values())}, {sum(planned.values())}"],
        ["tasks that are there twice, that are missing", f"{(there - planned).total()}, {(planned - there).total()}"],
    ]


def ticks_of(instance: dg.DagsterInstance, sensor: str, since: float) -> list[list[object]]:
    """Return what the ticks of a sensor took."""
    [state] = [each for each in instance.all_instigator_state() if each.name == sensor]
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=since)
    taken = sorted(
        tick.end_timestamp - tick.timestamp
        for tick in found
        if tick.end_timestamp is not None and tick.status in (TickStatus.SKIPPED, TickStatus.SUCCESS)
    )
    kinds = Counter(tick.status.value.lower() for tick in found)
    return [
        ["ticks of the sensor", ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items()))],
        ["a tick took: median, p95, longest, seconds", _spread(taken)],
    ]


def _spread(values: list[float]) -> str:
    return "none" if not values else f"{np.median(values):.2f}, {np.percentile(values, 95):.2f}, {values[-1]:.2f}"


MEMORY_COLUMNS = ["server", "starts", "most", "minutes of the last start", "MB at 3 minutes, at the end", "slope, MB/h"]


def memory(weights: list[tuple[float, str, float, float]], began: float) -> list[list[object]]:
    """Return a row per server: its most, and how its memory went since its last start, warm-up left out."""
    frame, rows = pd.DataFrame(weights, columns=["at", "server", "start", "mb"]), []
    for name, part in frame.groupby("server"):
        last = part[part["start"] == part["start"].max()]
        since = max(0.0, float(last["start"].max()) - began)
        last = last[last["at"] > since + WARM_UP]
        if len(last) < 12:
            rows.append([name, part["start"].nunique(), f"{part['mb'].max():.0f}", "too short", "", ""])
            continue
        slope, noise = slope_of(last["at"].to_numpy() / 3600, last["mb"].to_numpy())
        ends = f"{last['mb'].iloc[:3].mean():.0f}, {last['mb'].iloc[-3:].mean():.0f}"
        span = f"{(last['at'].max() - last['at'].min()) / 60:.0f}"
        most = f"{part['mb'].max():.0f}"
        rows.append([name, part["start"].nunique(), most, span, ends, f"{slope:+.0f} ± {noise:.0f}"])
    return rows


def slope_of(hours: "np.ndarray[Any, Any]", values: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """Return the slope of a line through values and twice its standard error, of neighbours that are alike (AR(1))."""
    slope, level = np.polyfit(hours, values, 1)
    rest = values - (slope * hours + level)
    spread = hours - hours.mean()
    error = np.sqrt((rest**2).sum() / (len(rest) - 2) / (spread**2).sum())
    alike = float(np.corrcoef(rest[:-1], rest[1:])[0, 1]) if rest.std() > 0 else 0.0
    alike = min(max(alike, 0.0), 0.95)
    return float(slope), float(2 * error * np.sqrt((1 + alike) / (1 - alike)))


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
