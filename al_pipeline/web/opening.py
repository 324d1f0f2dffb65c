"""Make the sensor's decision now, and launch the run that the sensor would request."""

import logging
import time
import uuid
from collections.abc import Mapping

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType

from al_pipeline.core.errors import ALError
from al_pipeline.core.rounds import Open, Wait, round_key
from al_pipeline.defs.images import UNDER_WAY
from al_pipeline.defs.jobs import round_job
from al_pipeline.defs.observe import PARTITION_TAG
from al_pipeline.defs.partitions import rounds
from al_pipeline.defs.sensors import ANNOTATIONS_LANDED, request
from al_pipeline.labelstudio.events import ProjectCounts
from al_pipeline.loop.claims import Claims
from al_pipeline.loop.progress import answers_missing
from al_pipeline.servers.dagster_api import LOCATION, DagsterApi
from al_pipeline.servers.observer import Loop

log = logging.getLogger(__name__)
# How Dagster's daemon recognises the runs that a sensor has requested (dagster/_daemon/sensor.py).
RUN_KEY_TAG, SENSOR_TAG = "dagster/run_key", "dagster/sensor_name"
PAUSE = 0.2
# Seconds that a round may need for its figures; later than that the sensor goes on.
FIGURES = 60.0


class Opener:
    """Opens the next round once it is due, whenever it is called.

    The sensor and this one both take a claim (`loop.claims`) before a run is launched, so that one of them does. The
    daemon looks for the sensor's run key before it creates a run, and this one once it has the claim: nobody launches
    what the other has. Should both all the same (a launch that takes longer than claims last, folders that are not
    shared), the second run finds the first one's snapshot, plan and tasks, and adds nothing.

    Parameters
    ----------
    loop : Loop
    api : DagsterApi
    """

    def __init__(self, loop: Loop, api: DagsterApi) -> None:
        self._loop, self._api, self._name = loop, api, uuid.uuid4().hex
        # What was counted before the last look, and how many samples were left to deal with by it.
        self._last: tuple[int, ProjectCounts, int] | None = None

    def __call__(self) -> str | None:
        """Look at the newest round; if the next is to be opened, launch its run and return the run's id.

        A sensor that somebody has stopped stops this too. While a round is made there is nothing to open. Where its
        batch is out and it measures and draws, its end is waited for, a minute at most: nobody says when it comes.

        Raises
        ------
        ALError
            The state could not be read, or Dagster does not launch.
        """
        if self._cannot_be() or self._is_made():
            return None
        facts = self._loop.facts()
        decision = self._loop.decision(facts)
        if isinstance(decision, Wait) and facts.project is not None:
            self._last = *facts.project, answers_missing(facts.status, self._loop.settings.policy)
        else:
            self._last = None
        return self._launch(decision) if isinstance(decision, Open) else None

    def _cannot_be(self) -> bool:
        """Say whether too few have answered since the last look: one request, where a look takes half a dozen.

        While people answer one after the other, none of them comes in the middle of a look that knows nothing of it.
        What no counter tells, such as an answer that was changed, waits for the sensor's next look.
        """
        if self._last is None:
            return False
        project_id, then, missing = self._last
        try:
            now = self._loop.deployment.label_studio.project_counts(project_id)
        except ALError:
            return False
        given = now.annotations + now.skipped - then.annotations - then.skipped
        return now.tasks == then.tasks and given * self._loop.settings.grid < missing

    def _launch(self, decision: Open) -> str | None:
        instance, run, key = self._loop.instance, request(decision), round_key(decision.round_number)
        claims = Claims(self._loop.deployment.artifacts.claims)
        if sensor_is_stopped(instance) or (claim := claims.take(str(run.run_key), self._name)) is None:
            return None
        tags = launch_tags(run)
        known = {name: tags[name] for name in (RUN_KEY_TAG, SENSOR_TAG)}
        try:
            if instance.get_runs(dg.RunsFilter(tags=known), limit=1):
                return None
            instance.add_dynamic_partitions(str(rounds.name), [key])
            run_id = self._api.launch(round_job.name, partition=key, tags=tags)
        except BaseException:
            claims.give_back(claim)
            raise
        log.info("%s: run %s/runs/%s", decision.reason, self._api.url, run_id)
        return run_id

    def _is_made(self) -> bool:
        """Say whether a round is under way, once there is none that has only its figures left to make."""
        under_way = dg.RunsFilter(job_name=round_job.name, statuses=[*UNDER_WAY])
        newest, until = self._loop.deployment.ledger.newest_pushed(), time.monotonic() + FIGURES
        while runs := self._loop.instance.get_runs(under_way, limit=1):
            if newest is None or runs[0].tags.get(PARTITION_TAG) != newest or time.monotonic() > until:
                return True
            time.sleep(PAUSE)
        return False


def launch_tags(run: dg.RunRequest) -> Mapping[str, str]:
    """Return the tags with which the sensor takes a run for its own, and does not request it again."""
    return {**run.tags, RUN_KEY_TAG: str(run.run_key), SENSOR_TAG: ANNOTATIONS_LANDED}


def sensor_is_stopped(instance: dg.DagsterInstance) -> bool:
    """Say whether people have stopped the sensor: then Dagster keeps that, else it runs as declared."""
    stopped = {InstigatorStatus.STOPPED}
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR, instigator_statuses=stopped)
    return any(
        (state.instigator_name, state.origin.repository_origin.code_location_origin.location_name)
        == (ANNOTATIONS_LANDED, LOCATION)
        for state in states
    )
