"""Make the sensor's decision now, and launch the run that the sensor would request."""

import logging
import time
from collections.abc import Mapping

import dagster as dg

from al_pipeline.core.rounds import Open, round_key
from al_pipeline.defs.images import UNDER_WAY
from al_pipeline.defs.jobs import round_job
from al_pipeline.defs.observe import PARTITION_TAG
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.sensors import ANNOTATIONS_LANDED, request
from al_pipeline.servers.dagster_api import DagsterApi, SensorState
from al_pipeline.servers.observer import Loop

log = logging.getLogger(__name__)
# How Dagster's daemon recognises the runs that a sensor has requested (dagster/_daemon/sensor.py).
RUN_KEY_TAG, SENSOR_TAG = "dagster/run_key", "dagster/sensor_name"
# Seconds that a launch may take from the decision to the run's record (0.2 to 0.35 measured): the sensor must not begin
# to look meanwhile.
LAUNCH = 0.6
# Dagster's daemon looks every 5 s whether a sensor is due; later than this it does not run.
DAEMON = 6.0
# A look takes seconds at most (gRPC gives up after 60); one that is still "in progress" then was cut off.
LONGEST_LOOK = 60.0
PAUSE = 0.2
# Seconds that a round may need for its figures; later than that the sensor goes on.
FIGURES = 60.0


def launch_tags(run: dg.RunRequest) -> Mapping[str, str]:
    """Return the tags with which the sensor takes a run for its own, and does not request it again."""
    return {**run.tags, RUN_KEY_TAG: str(run.run_key), SENSOR_TAG: ANNOTATIONS_LANDED}


def sensor_is_near(sensor: SensorState, now: float) -> bool:
    """Say whether the sensor looks now, or may begin to while we launch; then the round is left to it.

    Parameters
    ----------
    sensor : SensorState
    now : float
        Unix time.
    """
    if sensor.looked_at is None:
        return False
    age = now - sensor.looked_at
    if sensor.looking:
        return age < LONGEST_LOOK
    return sensor.interval - LAUNCH <= age <= sensor.interval + DAEMON


def open_round(loop: Loop, api: DagsterApi) -> str | None:
    """Look at the newest round; if the next is to be opened, launch its run and return the run's id.

    A run that has the sensor's run key is not launched again, and one that is launched here has that key. The daemon
    looks for the key before it creates a run, not while: so nothing is launched shortly before the sensor's next
    look and during it, about two of its five seconds. Should both launch all the same (a launch took longer, clocks
    differ), the second run finds the first one's snapshot, plan and tasks, and adds nothing.

    A sensor that somebody has stopped stops this too. A run whose batch is out and that draws pictures and measures is
    waited for, a minute at most: nobody says when it ends.

    Parameters
    ----------
    loop : Loop
    api : DagsterApi

    Raises
    ------
    ALError
        The state could not be read, or Dagster does not launch.
    """
    _wait_for_figures(loop)
    while isinstance(decision := loop.decision(loop.facts()), Open):
        key, run = round_key(decision.round_number), request(decision)
        tags = launch_tags(run)
        known = {name: tags[name] for name in (RUN_KEY_TAG, SENSOR_TAG)}
        sensor = api.sensor(ANNOTATIONS_LANDED)
        if not sensor.running or loop.instance.get_runs(dg.RunsFilter(tags=known), limit=1):
            return None
        if not sensor_is_near(sensor, time.time()):
            loop.instance.add_dynamic_partitions(str(rounds.name), [key])
            run_id = api.launch(round_job.name, partition=key, tags=tags)
            log.info("%s: run %s/runs/%s", decision.reason, api.url, run_id)
            return run_id
        time.sleep(PAUSE)
    return None


def _wait_for_figures(loop: Loop) -> None:
    newest, until = loop.deployment.ledger.newest_pushed(), time.monotonic() + FIGURES
    if newest is None:
        return
    measuring = dg.RunsFilter(job_name=round_job.name, tags={PARTITION_TAG: newest}, statuses=[*UNDER_WAY])
    while time.monotonic() < until and loop.instance.get_runs(measuring, limit=1):
        time.sleep(PAUSE)
