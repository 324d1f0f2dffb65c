"""What Docker would make of docker-compose.yml, on this machine without Docker.

A service has an address of its own on loopback, with the ports of its container, and folders of the test stand for
those of its image and for its volumes.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from al_pipeline.servers.processes import Service, stop_all

ROOT = Path(__file__).parents[1]
# Every service listens on all addresses of its container.
EVERYWHERE = "0.0.0.0"


def interpolated(value: str, variables: Mapping[str, str]) -> str:
    """Put variables into a value as Compose does: ``${NAME:-usual}``, ``${NAME:?why it must be set}``, ``$$``."""

    def found(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        given = variables.get(match["name"], "")
        assert given or match["kind"] == "-", f"{match['name']} is not set: {match['rest']}"
        return given or match["rest"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+):(?P<kind>[-?])(?P<rest>[^}]*)\}", found, value)


def image_environment(dockerfile: str) -> dict[str, str]:
    """Return the variables that an image has, but for PATH."""
    code = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    [block] = re.findall(r"^ENV ((?:.*\\\n)*.*)", code, re.MULTILINE)
    return {name: value for name, value in re.findall(r"(\w+)=(\S+)", block) if name != "PATH"}


@dataclass
class Compose:
    """The services of docker-compose.yml.

    Parameters
    ----------
    folder : Path
        Stands for the root of the containers' file systems.
    variables : mapping
        What is in `.env`.
    network : str
        The first three numbers of the services' addresses on loopback.
    elsewhere : mapping
        Addresses with ports, such as ``label-studio:8000``, and where they are instead.
    """

    folder: Path
    variables: Mapping[str, str]
    network: str
    elsewhere: Mapping[str, str]

    def __post_init__(self) -> None:
        self.services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        self.hosts = {name: f"{self.network}.{number}" for number, name in enumerate(self.services, 1)}
        self.started: list[Service] = []

    def prepare(self) -> None:
        """Make what deploy/Dockerfile puts into the image."""
        for name in ("dagster/storage", "al/published"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        deploy, home = ROOT / "deploy", self.folder / "dagster"
        (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + (deploy / "storage.yaml").read_text())
        (home / "workspace.yaml").write_text(self.here((deploy / "workspace.yaml").read_text()))

    def here(self, text: str, host: str = "127.0.0.1") -> str:
        """Return a text of a container with our addresses and folders; `host` is where it listens itself."""
        for there, instead in self.elsewhere.items():
            text = text.replace(there, instead)
        names = "|".join(self.hosts)
        text = re.sub(rf"(?:(?<=//)|(?<=@)|(?<=host: )|^)({names})(?=[:/\n]|$)", lambda m: self.hosts[m[1]], text)
        text = re.sub(r"(?<![\w/.])/(al|dagster|images)(?=[/ \"]|$)", rf"{self.folder}/\1", text)
        return text.replace(EVERYWHERE, host)

    def environment(self, name: str) -> dict[str, str]:
        """Return the whole environment of a service's processes."""
        service = self.services[name]
        inside = image_environment((ROOT / "deploy" / "Dockerfile").read_text()) if "build" in service else {}
        inside |= dict(self.variables) if service.get("env_file") == ".env" else {}
        inside |= {key: interpolated(value, self.variables) for key, value in service["environment"].items()}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        ours = {"PATH": path, "HOME": str(self.folder), "PYTHONPATH": str(ROOT)}
        ours |= {key: value for key in ("TMPDIR", "OMP_NUM_THREADS") if (value := os.environ.get(key))}
        return {key: self.here(value) for key, value in inside.items()} | ours

    def command(self, name: str, words: list[str] | None = None) -> list[str]:
        """Return the command of a service, or other words, as they are run here."""
        given = words or self.services[name]["command"]
        return [self.here(interpolated(word, self.variables), self.hosts[name]) for word in given]

    def run(self, name: str, *words: str, check: bool = True) -> str:
        """Run a service's command to its end, or another one in it, as `docker compose exec`; return what it prints."""
        done = subprocess.run(
            self.command(name, list(words)),
            env=self.environment(name) | {"COLUMNS": "300"},
            cwd=self.folder / "dagster",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0 or not check, f"{words or name} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def is_healthy(self, name: str) -> bool:
        """Run the check of a service's health once."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        given = [self.here(word).replace("127.0.0.1", self.hosts[name]) for word in words]
        if "grpc-health-check" in given:
            # Inside of the container it asks localhost.
            given.append(f"--host={self.hosts[name]}")
        return subprocess.run(given, env=self.environment(name), capture_output=True, check=False).returncode == 0

    def start(self, name: str) -> Service:
        """Start a service, whose dependencies have been started before; it goes on in the background."""
        log = self.folder / "logs" / f"{name}.log"
        service = Service(name, self.command(name), log=log, health=lambda: True, env=self.environment(name))
        with contextlib.chdir(self.folder / "dagster"):
            service.start()
        self.started.append(service)
        return service

    def order(self, *names: str) -> Iterator[str]:
        """Yield services, each after those that it depends on."""
        left = dict.fromkeys(names)
        while left:
            ready = [name for name in left if not left.keys() & self.services[name].get("depends_on", {}).keys()]
            assert ready, f"{list(left)} depend on each other"
            for name in ready:
                del left[name]
            yield from ready

    def stop(self) -> None:
        """End everything that was started."""
        stop_all(self.started, 2)
