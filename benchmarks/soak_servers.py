"""The services of docker-compose.yml as a soak runs them, with what their processes weigh: for `soak`."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import uv

from al_pipeline.servers.label_studio import VERSION
from al_pipeline.servers.processes import Service, answers
from al_pipeline_tests.compose import ROOT, Compose
from al_pipeline_tests.defs.worlds import write_images
from al_pipeline_tests.faults.worker import write_weights
from al_pipeline_tests.ledger.postgresql import PASSWORD, PostgreSQL

NETWORK = f"127.78.{os.getpid() % 250 + 1}"
STUDIO = f"{NETWORK}.2:8000"
# Of a server that ends with us.
TOKEN = "0123456789abcdef0123456789abcdef01234567"


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
