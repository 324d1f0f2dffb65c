"""A stand-in for Dagster's web server: it tells of the sensor, takes what opens a round, and creates the run."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.test_utils import create_run_for_test

from al_pipeline_tests.labelstudio.servers import Answer, Request, answering


@dataclass
class DagsterDouble:
    """What it was asked to launch, and what it says of the sensor."""

    url: str = ""
    status: str = "RUNNING"
    # The status of the sensor's newest looks and how many seconds ago they began; the last one is told for ever.
    looks: list[tuple[str, float]] = field(default_factory=lambda: [("SKIPPED", 1.5)])
    asked: int = 0
    launched: list[dg.DagsterRun] = field(default_factory=list)


@contextmanager
def dagster_double(instance: dg.DagsterInstance) -> Iterator[DagsterDouble]:
    """Run it on an instance."""
    double = DagsterDouble()

    def answer(request: Request) -> Answer:
        body = json.loads(request.body)
        given = body["variables"]
        if "sensorOrError" in body["query"]:
            status, age = double.looks.pop(0) if len(double.looks) > 1 else double.looks[0]
            double.asked += 1
            ticks = [{"status": status, "timestamp": time.time() - age}]
            state = {"status": double.status, "ticks": ticks}
            known = given["selector"]["sensorName"] == "annotations_landed"
            sensor = {"__typename": "Sensor", "minIntervalSeconds": 4, "sensorState": state}
            return Answer(body={"data": {"sensorOrError": sensor if known else {"__typename": "SensorNotFoundError"}}})
        params = given["params"]
        tags = {tag["key"]: tag["value"] for tag in params["executionMetadata"]["tags"]}
        run = create_run_for_test(instance, job_name=params["selector"]["jobName"], tags=tags)
        double.launched.append(run)
        return Answer(body={"data": {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": run.run_id}}}})

    with answering(answer) as server:
        double.url = server.url
        yield double
