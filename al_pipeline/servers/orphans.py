"""Runs whose process is gone: without a word about them they would count as in progress, and the loop wait for ever."""

import dagster as dg

IN_A_PROCESS = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
MESSAGE = (
    "The code server that ran it has ended and taken this run's process along (a reboot, Ctrl-C, no memory). "
    "Nothing of it is lost: what had been stored is kept, and the round can be run again."
)


def end_orphaned_runs(instance: dg.DagsterInstance, location: str) -> list[str]:
    """Report every run of a code location that is said to be in a process; return their ids.

    To be called when the location's code server starts: run processes are its children and end with it, so none of
    these can be alive. A run reported as failed is retried by Dagster (``run_retries``) or by the sensor; one that a
    person was canceling is canceled.
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_A_PROCESS)):
        origin = run.remote_job_origin
        if origin is None or origin.repository_origin.code_location_origin.location_name != location:
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message=MESSAGE)
        else:
            instance.report_run_failed(run, message=MESSAGE)
        ended.append(run.run_id)
    return ended
