"""The code server that forks runs from a warm process. That real runs are warm is said by the end-to-end test."""

import inspect
import subprocess
import sys
from pathlib import Path

import dagster._grpc.server as server

from al_pipeline.servers import code_server


def test_the_names_it_replaces_are_there() -> None:
    assert "_mp_ctx" in inspect.getsource(server.DagsterApiServer.__init__)
    assert "self._mp_ctx.Process(" in inspect.getsource(server.DagsterApiServer.StartRun)
    assert "get_python_environment_entry_point(" in inspect.getsource(server.open_server_process)


def test_servers_it_starts_are_warm_too() -> None:
    replaced = """
import sys
from al_pipeline.servers import code_server
import dagster._cli, dagster._grpc.server as server
dagster._cli.main = lambda: print(server.get_python_environment_entry_point("py"), server.DagsterApiServer.__name__)
code_server.main()
"""
    done = subprocess.run([sys.executable, "-c", replaced], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == f"['py', '-m', '{code_server.MODULE}'] WarmServer"


def test_it_is_the_dagster_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", code_server.MODULE, "code-server", "--help"], check=True, capture_output=True, text=True
    )
    assert "start" in done.stdout


SCRIPT = """
import multiprocessing, sys

def look(queue):
    queue.put(sorted({"torch", "torchvision", "sklearn", "label_studio_sdk.client"} & set(sys.modules)))

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([sys.argv[1]])
    queue = context.SimpleQueue()
    process = context.Process(target=look, args=(queue,))
    process.start()
    process.join()
    print(queue.get())
"""


def test_a_fork_finds_everything_imported(tmp_path: Path) -> None:
    script = tmp_path / "look.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), code_server.RUNS]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == "['label_studio_sdk.client', 'sklearn', 'torch', 'torchvision']", done.stderr
