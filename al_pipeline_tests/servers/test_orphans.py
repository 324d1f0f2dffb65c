"""Runs that their code server took along are reported; others are left alone."""

from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus as Status
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from al_pipeline.servers.orphans import end_orphaned_runs


@pytest.mark.parametrize(
    ("status", "location", "becomes"),
    [
        (Status.STARTED, "al_pipeline", Status.FAILURE),
        (Status.CANCELING, "al_pipeline", Status.CANCELED),
        (Status.STARTED, "somebody_elses", Status.STARTED),
        (Status.QUEUED, "al_pipeline", Status.QUEUED),
        (Status.STARTING, "al_pipeline", Status.STARTING),
        (Status.SUCCESS, "al_pipeline", Status.SUCCESS),
    ],
)
def test_what_was_in_a_process_is_ended_and_nothing_else(
    tmp_path: Path, status: Status, location: str, becomes: Status
) -> None:
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name=location)
    job = dg.GraphDefinition(name="round").to_job()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run = instance.create_run_for_job(
            job,
            status=status,
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "round"),
            job_code_origin=None,
        )
        ended = end_orphaned_runs(instance, "al_pipeline")
        after = instance.get_run_by_id(run.run_id)
        assert after is not None
        assert after.status == becomes
        assert ended == ([run.run_id] if becomes != status else [])
        assert end_orphaned_runs(instance, "al_pipeline") == []


def test_a_run_without_a_code_location_is_left_alone(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.create_run_for_job(dg.GraphDefinition(name="round").to_job(), status=Status.STARTED)
        assert end_orphaned_runs(instance, "al_pipeline") == []
