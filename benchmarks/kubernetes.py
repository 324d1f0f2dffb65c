"""deploy/kubernetes/base as processes of this machine, runs as Jobs of a cluster in memory: what is lost with a part.

Each service has the command, variables and secrets that its manifest gives it, PostgreSQL is real, Label Studio too
(on SQLite). The cluster is its API alone: it allows what the Role allows, and starts the command of each Job. Three
rounds: one as it should be; one while whose run the API is away and the code server is ended and started again; one
whose pod is killed. Bars: each sample asked about once, each run but the killed one succeeds, the ledger's check finds
nothing. `--plain` takes Dagster's own K8sRunLauncher, and ends after the second round's run.
"""

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import sqlalchemy as sa
import yaml

from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.observer import truth
from al_pipeline.servers.processes import free_port
from al_pipeline_tests.cluster import THEN, Cluster, cluster_of
from al_pipeline_tests.compose import ROOT, Compose
from al_pipeline_tests.defs.worlds import CLASSES, write_images
from al_pipeline_tests.ledger.postgresql import PASSWORD, PostgreSQL
from al_pipeline_tests.manifests import FOLDER, Document, build, documents, named, pods
from benchmarks.table import print_table

BATCH, BOUND, AWAY = 4, 600.0, 40.0
NETWORK = f"127.79.{os.getpid() % 250 + 1}"
SETTINGS = {
    "AL_ROUND__BATCH_SIZE": str(BATCH),
    "AL_POLICY__PREFETCH": "false",
    "AL_TRAINING__WEIGHTS": "none",
    "AL_TRAINING__IMAGE_SIZE": "32",
    "AL_TRAINING__EPOCHS": "1",
    "AL_KUBERNETES__TRAIN__CPU": "1",
    "AL_KUBERNETES__TRAIN__GPU": "1",
    "AL_KUBERNETES__FEATURES__MEMORY": "6Gi",
}


class Pods(Compose):
    """The services of deploy/kubernetes/base in place of docker-compose.yml's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.made = build(FOLDER / "base")
        self.secrets: dict[str, dict[str, str]] = {
            each["metadata"]["name"]: {
                key: value.replace("postgres.example.com", "postgres") for key, value in each["stringData"].items()
            }
            for each in documents(FOLDER / "secrets.example.yaml")
        }
        for name, template in pods(self.made).items():
            self.add(name, template)

    def add(self, name: str, template: Document) -> None:
        """Have a pod be a service."""
        [container] = template["spec"]["containers"]
        ours = {"build": {}} if container["image"].startswith("al_pipeline") else {}
        command = container.get("command") or container["args"]
        self.services[name] = ours | {"command": command, "environment": self.told(container)}
        self.hosts.setdefault(name, "127.0.0.1")

    def told(self, container: Document) -> dict[str, str]:
        """Return the variables that a container is given."""
        found: dict[str, str] = {}
        for source in container["envFrom"]:
            if "configMapRef" in source:
                found |= named(self.made, "ConfigMap", source["configMapRef"]["name"])["data"]
            else:
                found |= self.secrets[source["secretRef"]["name"]]
        found |= {each["name"]: each.get("value") or "al-pipeline" for each in container.get("env", [])}
        return found | (SETTINGS if "AL_HOME" in found else {})

    def environment(self, name: str) -> dict[str, str]:
        """Return the whole environment of a service's processes, with as many threads as a pod is to have."""
        threads = self.services[name]["environment"].get("OMP_NUM_THREADS")
        return super().environment(name) | ({"OMP_NUM_THREADS": threads} if threads else {})

    def command(self, name: str, words: list[str] | None = None) -> list[str]:
        """Return a command as it is run here; what a run is told in JSON stays as it is."""
        given = words or self.services[name]["command"]
        return [word if word.startswith("{") else self.here(word, self.hosts[name]) for word in given]


@dataclass
class Node:
    """Starts the command of each Job, and tells the cluster how it ended."""

    services: Pods
    cluster: Cluster
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, job: Document) -> None:
        """Start a Job's pod."""
        name, template = job["metadata"]["name"], job["spec"]["template"]
        self.services.add(name, template)
        resources = template["spec"]["containers"][0]["resources"]
        print(f"  pod of {job['metadata']['labels']['dagster/job']}: {json.dumps(resources)}", flush=True)
        log = self.services.folder / "logs" / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.services.command(name),
                env=self.services.environment(name),
                cwd=self.services.folder / "dagster",
                stdout=out,
                stderr=out,
            )
        self.processes[name] = process
        threading.Thread(target=self._watch, args=(name,), daemon=True).start()

    def _watch(self, name: str) -> None:
        ended = "succeeded" if self.processes[name].wait() == 0 else "failed"
        self.cluster.statuses[name] = {ended: 1, "startTime": THEN}

    def stop(self) -> None:
        """End all pods."""
        for process in self.processes.values():
            process.kill()


@dataclass
class Deployment:
    """All of it, running."""

    services: Pods
    cluster: Cluster
    node: Node
    client: LabelStudio
    history: sa.Engine

    def runs(self) -> list[tuple[str, str, str]]:
        """Return id, job and status of each run, the oldest first."""
        asked = sa.text("SELECT run_id, pipeline_name, status FROM runs ORDER BY id")
        with self.history.connect() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(asked)]

    def status(self, run_id: str) -> str:
        """Return a run's status."""
        return next(status for each, _, status in self.runs() if each == run_id)

    def answer(self, key: str) -> str:
        """Have everybody answer a round once it is with the people; return the id of the next round's run."""
        wait(lambda: bool(self.tasks(key)), key)
        before = {each for each, *_ in self.runs()}
        project = self.client.find_project("al_pipeline")
        assert project is not None
        known = truth(pd.read_parquet(self.services.folder / "al" / "artifacts" / "image_pool.parquet"))
        SimulatedAnnotator(self.client, project.project_id, known, CLASSES).answer_open_tasks()

        def begun() -> list[str]:
            return [each for each, _, status in self.runs() if each not in before and status == "STARTED"]

        wait(lambda: bool(begun()), "the next round's run")
        return begun()[0]

    def tasks(self, key: str) -> list[Any]:
        """Return a round's tasks in Label Studio."""
        project = self.client.find_project("al_pipeline")
        assert project is not None
        return list(self.client.tasks(project.project_id, key))

    def until_begun(self, run_id: str) -> str:
        """Say how long it took from a run's launch to its first step."""
        asked = sa.text("SELECT dagster_event_type, min(timestamp) FROM event_logs WHERE run_id = :run GROUP BY 1")
        with self.history.connect() as connection:
            first = {row[0]: row[1] for row in connection.execute(asked, {"run": run_id})}
        if "STEP_START" not in first:
            return "–"
        return f"{(first['STEP_START'] - first['PIPELINE_STARTING']).total_seconds():.1f} s"


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait for something.

    Raises
    ------
    TimeoutError
        It did not happen.
    """
    deadline = time.monotonic() + BOUND
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {BOUND:.0f} s")
        time.sleep(0.2)


@contextmanager
def deployed(folder: Path, *, plain: bool) -> Iterator[Deployment]:
    """Start everything."""
    write_images(folder / "images", 12, seed=0)
    write_images(folder / "images", 6, seed=1, split="holdout")
    port, postgresql = free_port(), PostgreSQL(f"{NETWORK}.1", 5432)
    log = folder / "logs" / "label-studio.log"
    studio = LocalLabelStudio(folder / "labelstudio", folder / "al" / "published" / "images", port=port, log=log)
    services = Pods(
        folder, {}, NETWORK, {"label-studio:8000": f"127.0.0.1:{port}", "127.0.0.1:8080": f"127.0.0.1:{port}"}
    )
    services.secrets["dagster"]["DAGSTER_POSTGRES_PASSWORD"] = services.secrets["settings"]["PGPASSWORD"] = PASSWORD
    services.secrets["settings"]["AL_LABEL_STUDIO_TOKEN"] = studio.token
    for name, template in pods(services.made).items():
        services.add(name, template)
    services.prepare()
    with cluster_of(named(services.made, "Role", "launcher")["rules"]) as cluster:
        node = Node(services, cluster)
        cluster.started = node.start
        try:
            environment = {"PATH": os.environ["PATH"], "POSTGRES_USER": "al", "PGHOST": postgresql.host}
            script = ["sh", str(ROOT / "deploy" / "init-databases.sh")]
            subprocess.run(script, env=environment | {"PGPASSWORD": PASSWORD}, check=True, stdout=subprocess.DEVNULL)
            studio.env = {**studio.env, "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(folder / "al" / "published")}
            studio.start()
            _configure(services, cluster, plain=plain)
            services.run("migration")
            for name in ("code-server", "webserver", "daemon"):
                services.start(name)
            studio.wait_ready(BOUND)
            told = services.environment("code-server")
            client = LabelStudio(told["AL_LABEL_STUDIO_URL"], told["AL_LABEL_STUDIO_TOKEN"], timeout=60)
            history = sa.create_engine(postgresql.url("dagster"))
            yield Deployment(services, cluster, node, client, history)
            history.dispose()
        finally:
            node.stop()
            services.stop()
            studio.stop()
            postgresql.stop()


def _configure(services: Pods, cluster: Cluster, *, plain: bool) -> None:
    """Write the instance's ConfigMap, and where the cluster is: nobody here is in it."""
    told = yaml.safe_load(named(services.made, "ConfigMap", "instance")["data"]["dagster.yaml"])
    file = services.folder / "kubeconfig"
    told["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(file)}
    # A pod's folders are ours.
    told["run_launcher"]["config"]["dagster_home"] = str(services.folder / "dagster")
    if plain:
        told["run_launcher"] |= {"module": "dagster_k8s", "class": "K8sRunLauncher"}
    (services.folder / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(told))
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    at, users = {"name": "c", "cluster": {"server": cluster.url}}, [{"name": "u", "user": {"token": "t"}}]
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [context], "users": users}
    file.write_text(yaml.safe_dump(config | {"clusters": [at]}))


def outage(all_: Deployment, run_id: str) -> str:
    """Have the API be away while a run is in progress, and the code server restart; return the run's status then."""
    pod = psutil.Process(all_.node.processes[f"dagster-run-{run_id}"].pid)
    # So that it does not end meanwhile.
    pod.suspend()
    all_.cluster.up = False
    [server] = [each for each in all_.services.started if each.name == "code-server"]
    server.stop()
    all_.services.start("code-server")
    time.sleep(AWAY)
    found = all_.status(run_id)
    all_.cluster.up = True
    pod.resume()
    return found


def main() -> None:
    """Start everything, take parts away, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true", help="Dagster's own launcher")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="al-kubernetes-") as scratch:
        # PostgreSQL and pods are other users' here and there.
        Path(scratch).chmod(0o755)
        with deployed(Path(scratch), plain=options.plain) as all_:
            all_.services.run("code-server", "al", "open", "--wait", str(BOUND))
            second = all_.answer("r0000")
            during = outage(all_, second)
            print(f"API away for {AWAY:.0f} s, code server restarted: the run is {during}", flush=True)
            if options.plain:
                pod = all_.node.processes[f"dagster-run-{second}"]
                print(f"and its pod {'goes on' if pod.poll() is None else 'has ended'}")
                return
            third = all_.answer("r0001")
            all_.node.processes[f"dagster-run-{third}"].kill()
            began = time.monotonic()
            wait(lambda: all_.status(third) == "FAILURE", "the failure")
            print(f"pod killed: told as failed after {time.monotonic() - began:.0f} s", flush=True)
            all_.answer("r0002")
            wait(lambda: bool(all_.tasks("r0003")), "r0003")
            wait(lambda: not any(status == "STARTED" for *_, status in all_.runs()), "the end of all runs")
            rows = [[job, status, all_.until_begun(each)] for each, job, status in all_.runs()]
            print_table("Runs as Jobs of a cluster in memory", ["job", "status", "launch to first step"], rows)
            for key in ("r0000", "r0001", "r0002", "r0003"):
                asked = [task.sample_id for task in all_.tasks(key)]
                print(f"{key}: {len(asked)} tasks of {len(set(asked))} samples")
            print(all_.services.run("code-server", "al", "ledger", "verify"))


if __name__ == "__main__":
    main()
