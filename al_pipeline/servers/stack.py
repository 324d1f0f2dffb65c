"""Label Studio and Dagster on this machine: start, wait, stop."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml

from al_pipeline.core.errors import InputError
from al_pipeline.core.files import private_folder
from al_pipeline.loop.local import Servers, label_studio_folder
from al_pipeline.loop.submitting import keymap
from al_pipeline.servers.dagster_api import LOCATION, STOPPED, DagsterApi
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.ports import Ports
from al_pipeline.servers.processes import (
    HOST,
    Service,
    ServiceError,
    answers,
    free_port,
    port_in_use,
    stop_all,
    undisturbed,
)
from al_pipeline.settings import Settings

# The first start of Label Studio installs it and migrates its database: minutes on a slow disk.
LABEL_STUDIO_TIMEOUT, DAGSTER_TIMEOUT = 900.0, 240.0
# Seconds to end in, for what needs them to end well. What is killed then loses nothing: every step can be run again.
ENDING = 1.5
Say = Callable[[str], None]


class Stack:
    """All servers of one AL_HOME; use it as a context manager: it starts them, and leaving it ends every process.

    They start side by side, and `wait_ready` waits for them: whoever needs time for something else takes it before.

    Parameters
    ----------
    settings : Settings
        Handed on to Dagster's servers, whole.
    dagster_port, label_studio_port : int, optional
        Ports asked for; by default those of the last time, or, the first time, the usual ones or any free one.
    say : callable
        Receives a line of progress.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        dagster_port: int | None = None,
        label_studio_port: int | None = None,
        say: Say = print,
    ) -> None:
        self.settings, self.say = settings, say
        self.logs = settings.home / "logs"
        last = Servers.last(settings)
        if last is not None and last.running and last.pid != os.getpid():
            raise InputError(
                f"The servers of {settings.home} run already (process {last.pid}): Dagster at "
                f"{last.dagster_url}, Label Studio at {last.label_studio_url}. Stop them there with Ctrl-C first"
            )
        private_folder(settings.home)
        self._ports = Ports()
        port = self._ports.choose("Dagster", dagster_port, last and last.dagster_url)
        self.dagster_url = f"http://{HOST}:{port}"
        self.label_studio: LocalLabelStudio | None = None
        others = {name: value for name, value in os.environ.items() if not name.upper().startswith("AL_")}
        environment = others | settings.environment()
        if settings.label_studio_url:
            self.label_studio_url = settings.label_studio_url
        else:
            studio = self.label_studio = LocalLabelStudio(
                label_studio_folder(settings),
                settings.published_images,
                port=self._ports.choose("Label Studio", label_studio_port, last and last.label_studio_url, taken=port),
                log=self.logs / "label-studio.log",
                keymap=keymap(settings),
                bucket=_shows_bucket(settings),
            )
            self.label_studio_url = studio.url
            environment |= {"AL_LABEL_STUDIO_URL": studio.url, "AL_LABEL_STUDIO_TOKEN": studio.token}
            # It sees our folder, also where it shows images from a bucket: runs cannot tell it from another one.
            environment |= {"AL_SUBMIT": settings.submits, "AL_LABEL_STUDIO_IMAGES": settings.seen_folder}
        self.api = DagsterApi(self.dagster_url)
        self.dagster = self._dagster(environment, port)

    def _dagster(self, environment: dict[str, str], port: int) -> list[Service]:
        home = self.settings.dagster_home
        home.mkdir(parents=True, exist_ok=True)
        # Where Dagster has them by default.
        storages = {
            "event_log_storage": ("event_log", "OpenEventLog", home / "history" / "runs"),
            "run_storage": ("open_storages", "OpenRunStorage", home / "history"),
            "schedule_storage": ("open_storages", "OpenScheduleStorage", home / "schedules"),
        }
        ours = {
            kind: {"module": f"al_pipeline.servers.{module}", "class": name, "config": {"base_dir": str(folder)}}
            for kind, (module, name, folder) in storages.items()
        }
        # Beside the package in a checkout, inside of it when installed from a wheel.
        usual = next(file for folder in Path(__file__).parents[1:3] if (file := folder / "dagster.yaml").exists())
        (home / "dagster.yaml").write_text(usual.read_text() + yaml.safe_dump(ours))
        code_port = free_port()
        workspace = home / "workspace.yaml"
        server = {"host": HOST, "port": code_port, "location_name": LOCATION}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        environment |= {"DAGSTER_HOME": str(home), "PYTHONUNBUFFERED": "1"}
        # Threads that spin while they wait slow training five-fold when a server needs the same cores.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # The first run begins when the warm process has imported all that runs need: minutes on a slow disk.
        environment.setdefault("DAGSTER_GRPC_TIMEOUT_SECONDS", "170")

        def service(name: str, *arguments: str, health: Callable[[], bool], port: int | None = None) -> Service:
            log = self.logs / f"{name.lower().replace(' ', '-')}.log"
            return Service(name, [sys.executable, "-m", *arguments], log=log, health=health, env=environment, port=port)

        code = ["--host", HOST, "--port", str(code_port), "--module-name", f"{LOCATION}.definitions"]
        # They take as long to import as the code server, and need it when they begin.
        after = ("al_pipeline.servers.after", str(code_port))
        return [
            service(
                "Dagster code server",
                *("al_pipeline.servers.code_server", "api", "grpc", *code, "--location-name", LOCATION),
                health=lambda: port_in_use(code_port),
            ),
            service(
                "Dagster web server",
                *(*after, "dagster_webserver.cli", "--host", HOST, "--port", str(port), "--workspace", str(workspace)),
                health=lambda: answers(f"{self.dagster_url}/server_info") and self.api.loaded(),
                port=port,
            ),
            service(
                "Dagster daemon",
                *(*after, "al_pipeline.servers.daemon", "run", "--workspace", str(workspace)),
                health=lambda: True,
            ),
        ]

    @property
    def services(self) -> list[Service]:
        """Every process, in the order of starting."""
        return [*([self.label_studio] if self.label_studio else []), *self.dagster]

    def __enter__(self) -> "Stack":
        if self.label_studio:
            self.say(f"Starting Label Studio at {self.label_studio_url} …")
            if self.label_studio.remark:
                self.say(f"Note: {self.label_studio.remark}")
        self.say(f"Starting Dagster at {self.dagster_url} …")
        try:
            for service in self.services:
                service.start()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_ready(self) -> None:
        """Wait until all servers answer, and tell the commands in other terminals where they are.

        Raises
        ------
        ServiceError
            One of them ended, or did not answer in time.
        """
        began = time.monotonic()
        for service in self.dagster:
            service.wait_ready(DAGSTER_TIMEOUT, self.say)
        self.say(f"Dagster answers after {time.monotonic() - began:.0f} s")
        if self.label_studio:
            seconds = self.label_studio.wait_ready(LABEL_STUDIO_TIMEOUT, self.say)
            self.say(f"Label Studio answers after {seconds:.0f} s more")
        urls = {"dagster_url": self.dagster_url, "label_studio_url": self.label_studio_url}
        Servers(pid=os.getpid(), started=psutil.Process().create_time(), **urls).write(self.settings)

    def check_alive(self) -> None:
        """Raise ServiceError if a server has ended by itself."""
        for service in self.services:
            if not service.running:
                raise ServiceError(f"{service.name} has ended. {service.log_tail()}")

    def stop(self) -> None:
        """End every process, all at once and within three seconds."""
        with undisturbed():
            if self.dagster[0].running:
                # What runs now does not fail: nobody need mend it.
                (self.settings.dagster_home / STOPPED).touch()
            stop_all(self.services, ENDING)
        self._ports.release()

    def __exit__(self, *_: object) -> None:
        self.say("Stopping the servers …")
        self.stop()


def _shows_bucket(settings: Settings) -> bool:
    """Say whether tasks may show images of a bucket: those from before go on so where `published` was taken away."""
    mark = settings.home / "shows_a_bucket"
    if settings.published is not None:
        mark.touch()
    return mark.exists()
