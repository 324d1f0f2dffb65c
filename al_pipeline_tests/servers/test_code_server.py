"""The code server that forks runs from a warm process. That real runs are warm is said by the end-to-end test."""

import inspect
import os
import platform
import subprocess
import sys
from pathlib import Path

import dagster as dg
import dagster._grpc.server as server
import pytest

from al_pipeline import defs
from al_pipeline.servers import code_server
from al_pipeline.settings import load_settings


def test_the_names_it_replaces_are_there() -> None:
    assert "_mp_ctx" in inspect.getsource(server.DagsterApiServer.__init__)
    assert "self._mp_ctx.Process(" in inspect.getsource(server.DagsterApiServer.StartRun)


def test_the_server_it_starts_is_warm() -> None:
    replaced = """
from al_pipeline.servers import code_server
import dagster._cli
from dagster._cli.api import grpc_command

def served():
    from dagster._grpc.server import DagsterApiServer
    print(DagsterApiServer.__name__)

dagster._cli.main = served
code_server.main()
"""
    done = subprocess.run([sys.executable, "-c", replaced], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "WarmServer"


def test_it_is_the_dagster_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", code_server.__name__, "api", "grpc", "--help"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "--location-name" in done.stdout


ALLOCATING = """
import re, sys, threading
from al_pipeline.servers.code_server import allocate_together

if sys.argv[1] == "together":
    allocate_together()
kept, all_of_them = [], threading.Barrier(8)

def look():
    all_of_them.wait()
    kept.append([bytearray(2000) for _ in range(2000)])
    all_of_them.wait()

looking = [threading.Thread(target=look) for _ in range(8)]
for each in looking:
    each.start()
for each in looking:
    each.join()
starts = [re.match("([0-9a-f]+)-[0-9a-f]+ rw", line) for line in open("/proc/self/maps")]
print(sum(int(found[1], 16) % (64 << 20) == 0 for found in starts if found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has a place to allocate from for each thread")
def test_threads_that_look_one_after_the_other_do_not_keep_memory_each() -> None:
    def places(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", ALLOCATING, how], check=True, capture_output=True, text=True)
        return int(done.stdout)

    # Others may begin where one of these places would; each of the eight threads has one of its own otherwise.
    assert places("together") <= 2
    assert places("each") >= 5


SCRIPT = """
import multiprocessing, os, sys

def look(queue):
    names = {"torch", "torchvision", "sklearn", "label_studio_sdk.client", "alembic.config"}
    # The last one has the settings of a run: each imports it itself.
    names |= {"al_pipeline.defs.assets.tasks", "al_pipeline.definitions"}
    queue.put((sorted(names & set(sys.modules)), os.nice(0)))

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([sys.argv[1]])
    queue = context.SimpleQueue()
    process = context.Process(target=look, args=(queue,))
    process.start()
    process.join()
    print(*queue.get(), os.nice(0))
"""


def test_a_fork_finds_everything_imported_and_lets_servers_go_before_it(tmp_path: Path) -> None:
    script = tmp_path / "look.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), code_server.RUNS]
    # A value that no setting may have: the run says so, and finds everything all the same.
    wrong = os.environ | {"AL_ROUND__BATCH_SIZE": "none at all"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200, env=wrong)
    found = ["al_pipeline.defs.assets.tasks", "alembic.config", "label_studio_sdk.client"]
    assert done.stdout.strip() == f"{[*found, 'sklearn', 'torch', 'torchvision']} 10 0", done.stderr


def test_a_run_takes_what_was_built_beforehand_if_its_settings_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    built = dg.Definitions()
    monkeypatch.setattr(defs, "build", lambda settings: settings)
    monkeypatch.setattr(defs, "READY", [(load_settings(home=tmp_path), built)])
    assert defs.ready(load_settings(home=tmp_path)) is built
    (tmp_path / "al.toml").write_text("overlap = 2")
    assert getattr(defs.ready(load_settings(home=tmp_path)), "overlap", None) == 2
