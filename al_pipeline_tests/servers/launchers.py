"""A launcher of runs as those of Kubernetes and Docker are: each run is a process of its own."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData


class ProcessLauncher(RunLauncher, ConfigurableClass):
    """Starts `dagster api execute_run`, which no code server knows of and which ends with nobody else."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self.processes: list[subprocess.Popen[bytes]] = []
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> "ProcessLauncher":
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        assert run.job_code_origin is not None
        asked = ExecuteRunArgs(
            job_origin=run.job_code_origin, run_id=run.run_id, instance_ref=self._instance.get_ref()
        ).get_command_args()
        self.processes.append(subprocess.Popen([sys.executable, "-m", *asked]))

    def terminate(self, run_id: str) -> bool:
        raise NotImplementedError


def launcher_of(instance: dg.DagsterInstance) -> ProcessLauncher:
    launcher = instance.run_launcher
    assert isinstance(launcher, ProcessLauncher)
    return launcher
