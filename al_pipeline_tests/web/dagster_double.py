"""A stand-in for Dagster's web server: it takes what opens a round, and creates the run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.test_utils import create_run_for_test

from al_pipeline_tests.labelstudio.servers import Answer, Request, answering


@dataclass
class DagsterDouble:
    """What it was asked to launch, and whether it refuses."""

    url: str = ""
    refuses: bool = False
    launched: list[dg.DagsterRun] = field(default_factory=list)


@contextmanager
def dagster_double(instance: dg.DagsterInstance) -> Iterator[DagsterDouble]:
    """Run it on an instance."""
    double = DagsterDouble()

    def answer(request: Request) -> Answer:
        params = json.loads(request.body)["variables"]["params"]
        if double.refuses:
            return Answer(body={"data": {"launchRun": {"__typename": "PythonError", "message": "no"}}})
        tags = {tag["key"]: tag["value"] for tag in params["executionMetadata"]["tags"]}
        run = create_run_for_test(instance, job_name=params["selector"]["jobName"], tags=tags)
        double.launched.append(run)
        return Answer(body={"data": {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": run.run_id}}}})

    with answering(answer) as server:
        double.url = server.url
        yield double
