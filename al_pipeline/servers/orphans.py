"""Runs whose process has ended without a word: which of those that are said to be in progress are in none any more.

A code server starts runs as its own children, and they end with it: in a power cut, or when memory is short. Nobody
else tells of them, they would count as in progress and the loop wait for ever. Runs of other launchers (Kubernetes,
Docker, the code server of another machine) live on while a code server restarts.

Who has launched a run is in its tag `.dagster/grpc_info`: Dagster's `DefaultRunLauncher` alone writes it, with the
address of the code server whose child the run is. A retry has the tags of what it retries, this one too.
"""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import dagster as dg
import grpc
import psutil
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value

from al_pipeline.defs.partitions import INTERRUPTED_TAG

IN_A_PROCESS = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
MESSAGE = (
    "The code server that ran it has ended and taken this run's process along (a reboot, no memory). "
    "Nothing of it is lost: what had been stored is kept, and the round can be run again."
)
ON_PURPOSE = "The servers were stopped while it ran. What had been stored is kept, and it can be run again."
# Seconds in which a code server answers that is alive, also when all cores are busy.
PATIENCE = 10.0
Say = Callable[[str], object]


def end_orphaned_runs(
    instance: dg.DagsterInstance, location: str, *, on_purpose: bool = False, say: Say = print
) -> list[str]:
    """Report the runs of a code location that a code server has taken along when it ended; return their ids.

    To be called when the location's code server starts. A run reported as failed is retried by Dagster
    (``run_retries``) or by the sensor; one that a person was canceling is canceled. Runs of other launchers, and those
    that a code server elsewhere has, or may have, in progress, are left alone.

    Parameters
    ----------
    instance : DagsterInstance
    location : str
    on_purpose : bool
        The servers were told to end: a run that ended with them is no attempt that failed.
    say : callable
        Receives a sentence per run that is said to be in progress.
    """
    ended, current = [], _CurrentRuns()
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_A_PROCESS)):
        origin = run.remote_job_origin
        if origin is None or origin.repository_origin.code_location_origin.location_name != location:
            continue
        if why := _may_live(instance, run, current):
            say(f"The run {run.run_id} is left alone: {why}.")
            continue
        # Meanwhile it may have ended as it should.
        now = instance.get_run_by_id(run.run_id)
        if now is None or now.status not in IN_A_PROCESS:
            continue
        if now.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(now, message=MESSAGE)
        else:
            if on_purpose:
                instance.add_run_tags(run.run_id, {INTERRUPTED_TAG: run.run_id})
            instance.report_run_failed(now, message=ON_PURPOSE if on_purpose else MESSAGE)
        say(f"The run {run.run_id} was in progress when the last code server ended; it is reported as such.")
        ended.append(run.run_id)
    return ended


def excuse_stopped_runs(instance: dg.DagsterInstance, since: float) -> None:
    """Mark the runs of code servers that have failed since these were told to stop: they are no attempts that failed.

    The process that runs are forked from may end before the server does, which then reports its runs as failed.

    Parameters
    ----------
    instance : DagsterInstance
    since : float
        Unix time.
    """
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.fromtimestamp(since, UTC))
    for run in instance.get_runs(failed):
        if address_of(instance, run) is not None:
            instance.add_run_tags(run.run_id, {INTERRUPTED_TAG: run.run_id})


def address_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, Any] | None:
    """Return the address of the code server that has started a run, as Dagster writes it; None if none has.

    A retry with the address of what it retries has been started by the same code server, or by another launcher: by
    the one that the instance has today.
    """
    written = run.tags.get(GRPC_INFO_TAG)
    if written is None:
        return None
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    if parent is not None and parent.tags.get(GRPC_INFO_TAG) == written:
        launcher = instance.get_ref().run_launcher_data
        if launcher is not None and launcher.class_name != dg.DefaultRunLauncher.__name__:
            return None
    return json.loads(written)


def _may_live(instance: dg.DagsterInstance, run: dg.DagsterRun, current: "_CurrentRuns") -> str | None:
    """Say why a run may be in progress, None if its process is certainly gone."""
    address = address_of(instance, run)
    if address is None:
        return "no code server has started it, but another launcher"
    where = address.get("socket") or f"{address.get('host')}:{address.get('port')}"
    try:
        runs = current(address)
    except _SilentError as error:
        remedy = "if it is gone for good, end its run in Dagster (Terminate, force)"
        return f"the code server at {where}, which has started it, does not answer ({error}); {remedy}"
    return f"the code server at {where} has it in progress" if run.run_id in runs else None


class _SilentError(Exception):
    """Nobody says which runs a code server has in progress."""


class _CurrentRuns:
    """Which runs a code server has in progress, by its address; each is asked once."""

    def __init__(self) -> None:
        self._asked: dict[str, list[str] | str] = {}

    def __call__(self, address: dict[str, Any]) -> list[str]:
        """Return the ids of the runs: none where a code server on this machine is no more.

        Raises
        ------
        _SilentError
            It does not answer, and may be alive.
        """
        key = json.dumps(address, sort_keys=True)
        if key not in self._asked:
            self._asked[key] = self._ask(address)
        found = self._asked[key]
        if isinstance(found, str):
            raise _SilentError(found)
        return found

    def _ask(self, address: dict[str, Any]) -> list[str] | str:
        host, path = address.get("host") or "localhost", address.get("socket")
        client = DagsterGrpcClient(
            port=address.get("port"), socket=path, host=host, use_ssl=bool(address.get("use_ssl"))
        )
        try:
            # Dagster's own method for it asks with the time limit of runs: minutes.
            reply = client._get_response("GetCurrentRuns", dagster_api_pb2.Empty(), timeout=int(PATIENCE))
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            # What is there and busy lives; what else listens there today is no code server.
            if code != grpc.StatusCode.DEADLINE_EXCEEDED and (path or is_this_machine(host)):
                return []
            return code.name if code is not None else type(error).__name__
        return list(deserialize_value(reply.serialized_current_runs, GetCurrentRunsResult).current_runs)


def is_this_machine(host: str) -> bool:
    """Say whether a name or address is one of this machine's (in a container: of the container's) and of no other's."""
    own = {each.address.split("%")[0] for found in psutil.net_if_addrs().values() for each in found}
    try:
        meant = {str(each[4][0]).split("%")[0] for each in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(address in own or ip_address(address).is_loopback for address in meant)
