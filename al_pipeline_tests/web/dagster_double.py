"""A stand-in for Dagster's web server: it takes what opens a round, creates the run, and tells of those there are."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.test_utils import create_run_for_test

from al_pipeline_tests.labelstudio.servers import Answer, Request, answering

READY = {"name": "al_pipeline", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}


@dataclass
class DagsterDouble:
    """What it was asked to launch, whether it refuses, and how it stands.

    `entries` are its code locations, `healthy` says that the daemon takes runs from the queue, `launching` is called
    with each run that it has created, `told` with each query.
    """

    url: str = ""
    refuses: bool = False
    launched: list[dg.DagsterRun] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=lambda: [READY])
    healthy: bool = True
    launching: Callable[[dg.DagsterRun], object] = lambda run: None
    told: Callable[[str], object] = lambda query: None

    def names(self) -> list[tuple[str, str | None]]:
        """Return job and partition of what was launched."""
        return [(run.job_name, run.tags.get("dagster/partition")) for run in self.launched]


@contextmanager
def dagster_double(instance: dg.DagsterInstance) -> Iterator[DagsterDouble]:
    """Run it on an instance."""
    double = DagsterDouble()

    def launch(params: dict[str, Any]) -> dict[str, Any]:
        if double.refuses:
            return {"__typename": "PythonError", "message": "no"}
        tags = {tag["key"]: tag["value"] for tag in params["executionMetadata"]["tags"]}
        run = create_run_for_test(instance, job_name=params["selector"]["jobName"], tags=tags)
        double.launched.append(run)
        double.launching(run)
        return {"__typename": "LaunchRunSuccess", "run": {"runId": run.run_id}}

    def status(run_id: str) -> dict[str, Any]:
        run = instance.get_run_by_id(run_id)
        if run is None:
            return {"__typename": "RunNotFoundError"}
        tags = [{"key": key, "value": value} for key, value in run.tags.items()]
        return {"__typename": "Run", "status": run.status.value, "tags": tags}

    def answer(request: Request) -> Answer:
        body = json.loads(request.body)
        query, variables = body["query"], body["variables"]
        double.told(query)
        if "launchRun" in query:
            data: dict[str, Any] = {"launchRun": launch(variables["params"])}
        elif "locationEntries" in query:
            data = {"workspaceOrError": {"locationEntries": double.entries}}
        elif "daemonHealth" in query:
            queue = {"required": True, "healthy": double.healthy}
            data = {"instance": {"daemonHealth": {"daemonStatus": queue}}}
        elif "runsOrError" in query:
            data = {"runsOrError": {"results": [{"runId": run.run_id} for run in instance.get_runs(limit=1)]}}
        elif "runOrError" in query:
            data = {"runOrError": status(variables["id"])}
        elif "logsForRun" in query:
            data = {"logsForRun": {"events": [{"stepKey": "image_pool", "error": {"message": "no", "errorChain": []}}]}}
        else:
            data = {"reloadRepositoryLocation": {"__typename": "WorkspaceLocationEntry"}}
        return Answer(body={"data": data})

    with answering(answer) as server:
        double.url = server.url
        yield double
