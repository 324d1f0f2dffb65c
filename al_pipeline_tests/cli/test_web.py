"""`al webhook` and `al ml-backend` as people start them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.settings import load_settings
from al_pipeline_tests.web.checkpoints import QUERY, checkpoint, open_ledger, publish_images, save

BOUND = 120.0


@contextmanager
def running(folder: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a command on the home in a folder; yields the process and its output so far."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    output = folder / "output.txt"
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "al_pipeline.cli", *arguments],
            env=ours | {"AL_HOME": str(folder / "home"), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            text=True,
        )
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


def wait_for(pattern: str, process: subprocess.Popen[str], output: Path) -> re.Match[str]:
    deadline = time.monotonic() + BOUND
    while (found := re.search(pattern, output.read_text())) is None:
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
    return found


def test_the_ml_backend_needs_no_other_server_warns_of_an_open_port_and_ends_on_a_signal(tmp_path: Path) -> None:
    home = tmp_path / "home"
    publish_images(home)
    open_ledger(home).close()
    version = save(checkpoint(2, ("dark horse", "grüner Wald")), home)
    secret = {"AL_ML_BACKEND_PASSWORD": "sword-fish"}
    with running(tmp_path, "ml-backend", "--port", "0", "--host", "0.0.0.0", **secret) as (process, output):
        url = wait_for(r"(http://\S+) answers with the checkpoint (.+)\.", process, output)
        assert url[2] == version
        tasks = {"tasks": [{"id": 1, "data": {"sample_id": QUERY[0]}}]}
        answer = httpx.post(f"{url[1]}/predict", json=tasks, auth=("al_pipeline", "sword-fish"), timeout=60)
        assert answer.json()["results"][0]["model_version"] == version
        assert httpx.get(f"{url[1]}/health").status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 0
        assert "sword-fish" not in output.read_text()
        assert "Warning: 0.0.0.0 is not loopback" in output.read_text()


def test_the_receiver_says_what_has_to_run_first(tmp_path: Path) -> None:
    with running(tmp_path, "webhook", "--port", "0") as (process, output):
        assert process.wait(BOUND) == 1
        assert "Dagster has never run in" in output.read_text()


@pytest.mark.parametrize("name", ["webhook_secret", "ml_backend_password"])
def test_a_secret_that_fits_no_header_is_refused_and_not_shown(name: str) -> None:
    for value in ("with space", "Schlüssel", "two\nlines"):
        with pytest.raises(InputError, match="it travels in an HTTP header") as told:
            load_settings(**{name: value})
        assert value not in str(told.value)
    assert getattr(load_settings(**{name: ""}), name) is None
    assert "fine-secret" not in repr(load_settings(**{name: "fine-secret"}))
