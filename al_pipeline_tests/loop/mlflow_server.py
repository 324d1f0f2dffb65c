"""MLflow's servers of the tests: the part of its API that we call, in memory, and the real one.

`test_tracking.py` says the same of both; the real one, of which to install and to start takes minutes, where
AL_REQUIRE_MLFLOW is set.
"""

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import uv

from al_pipeline.servers.processes import HOST, Service, answers, free_port


@dataclass
class MemoryMLflow:
    """What an MLflow server holds.

    `cut` has the numbers of requests, from 0, whose sender gets no answer, with whether they are done all the same.
    """

    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    versions: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    received: list[bytes] = field(default_factory=list)
    requests: int = 0
    cut: dict[int, bool] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, given: dict[str, Any], body: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer to a request, after doing it."""
        if method == "PUT":
            self.files[path.partition("/artifacts/")[2]] = body
            return 200, {}
        call = path.rpartition("/mlflow/")[2]
        match call:
            case "experiments/get-by-name":
                name = given["experiment_name"]
                if name not in self.experiments:
                    return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no experiment {name}"}
                return 200, {"experiment": {"experiment_id": self.experiments[name], "name": name}}
            case "experiments/create":
                return 200, {
                    "experiment_id": self.experiments.setdefault(given["name"], str(len(self.experiments) + 1))
                }
            case "runs/create":
                return 200, {"run": self._create(given)}
            case "runs/search":
                return 200, {"runs": [run for run in self.runs.values() if _fits(given, run)]}
            case "runs/get":
                return 200, {"run": self.runs[given["run_id"]]}
            case "runs/log-batch":
                return 200, self._log(self.runs[given["run_id"]], given)
            case "runs/update":
                info = self.runs[given["run_id"]]["info"]
                info |= {name: given[name] for name in ("status", "end_time") if name in given}
                return 200, {"run_info": info}
            case "registered-models/search":
                found = [{"name": name} for name in self.models if given["filter"] == f"name = '{name}'"]
                return 200, {"registered_models": found}
            case "registered-models/create":
                self.models.add(given["name"])
                return 200, {"registered_model": {"name": given["name"]}}
            case "model-versions/search":
                return 200, {
                    "model_versions": [each for each in self.versions if f"'{each['name']}'" in given["filter"]]
                }
            case "model-versions/create":
                made = given | {"version": str(len(self.versions) + 1), "status": "READY"}
                self.versions.append(made)
                return 200, {"model_version": made}
        return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"{method} {path}"}

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        number, experiment = uuid4().hex, given["experiment_id"]
        info = {name: given[name] for name in ("run_name", "start_time")} | {
            "run_id": number,
            "run_uuid": number,
            "experiment_id": experiment,
            "status": "RUNNING",
            "lifecycle_stage": "active",
            "artifact_uri": f"mlflow-artifacts:/{experiment}/{number}/artifacts",
        }
        self.runs[number] = {"info": info, "data": {"tags": given["tags"], "params": [], "metrics": []}}
        return self.runs[number]

    def _log(self, run: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        data = run["data"]
        for param in given.get("params", []):
            if param not in data["params"]:
                assert param["key"] not in {each["key"] for each in data["params"]}, "MLflow changes no parameter"
                data["params"].append(param)
        # The same point again is the same point.
        data["metrics"] += [point for point in given.get("metrics", []) if point not in data["metrics"]]
        return {}


def _fits(given: dict[str, Any], run: dict[str, Any]) -> bool:
    """Say whether a search is for a run."""
    wanted = re.fullmatch(r"tags\.`(.+)` = '(.*)'", given["filter"])
    assert wanted is not None, given["filter"]
    tag = {"key": wanted[1], "value": wanted[2]}
    return run["info"]["experiment_id"] in given["experiment_ids"] and tag in run["data"]["tags"]


@contextmanager
def served(state: MemoryMLflow, port: int = 0) -> Iterator[str]:
    """Serve it on loopback, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            address = urlsplit(self.path)
            given = {name: values[0] for name, values in parse_qs(address.query).items()}
            if self.headers.get("Content-Type", "").startswith("application/json") and body and self.command != "PUT":
                given |= json.loads(body)
            with state.lock:
                number, state.requests = state.requests, state.requests + 1
                state.received.append(body)
                done = state.cut.get(number)
                status, answer = (0, {}) if done is False else state.answer(self.command, address.path, given, body)
            if done is not None:
                self.close_connection = True
                return
            told = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = do_PUT = do_PATCH = handle_one  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def real_server(folder: Path) -> Iterator[str]:
    """Run MLflow's own server, which uv installs the first time, and yield its address."""
    port = free_port()
    command = [
        *(uv.find_uv_bin(), "tool", "run", "--quiet", "--from", f"mlflow=={version('mlflow-skinny')}"),
        *("mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.sqlite3'}"),
        *("--artifacts-destination", str(folder / "files")),
    ]
    url = f"http://{HOST}:{port}"
    # Its workers for jobs that nobody gives it take a gigabyte; statistics for its makers leave the machine.
    told = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log, environment = folder / "mlflow.log", dict(os.environ) | told
    service = Service("MLflow", command, log=log, health=lambda: answers(f"{url}/health"), env=environment)
    service.start()
    try:
        service.wait_ready(600)
        yield url
    finally:
        service.stop()
