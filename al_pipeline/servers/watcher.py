"""What happens in a loop, for who watches it: read from the databases of Dagster and of the ledger.

Label Studio is not asked: the sensor does so every few seconds, and what it has pulled and decided is read here.
"""

import json
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus as Status
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus

from al_pipeline.core.evaluation.metrics import METRICS, Interval, stored_notes, stored_scores
from al_pipeline.core.rounds import is_round, round_key, round_number
from al_pipeline.defs.jobs import refine_job
from al_pipeline.defs.observe import PARTITION_TAG, REFUSED_TAG, ROUND_JOBS, attempts_of
from al_pipeline.defs.partitions import INTERRUPTED_TAG
from al_pipeline.defs.sensors import ANNOTATIONS_LANDED, DECIDED, UNREAD
from al_pipeline.loop.asked import Batch, batch_of, batches_now
from al_pipeline.loop.kept_predictions import stored_rounds
from al_pipeline.loop.refined import last_network
from al_pipeline.servers.observer import Loop

ENDED = {Status.SUCCESS, Status.FAILURE, Status.CANCELED}
ADVICE = "worth_going_on"
# Dagster's daemon comes to the sensor that often, and what it decides is read that often.
EVERY = 5.0
# Rounds that tell how long the next one takes.
RECENT = 3


@dataclass(frozen=True)
class Run:
    """A run that is in progress: of the round `key`, or of `setup` without one. `began` is a Unix time."""

    job: str
    key: str | None
    began: float


@dataclass(frozen=True)
class Failure:
    """A run that has failed or was canceled, with the cause as far as it told one; `again`: it is tried again."""

    run_id: str
    what: str
    canceled: bool
    cause: str | None
    again: bool

    @property
    def told(self) -> tuple[str, str]:
        """The cause, and what happens next or what to do."""
        if self.canceled:
            return "somebody ended the run", "the loop goes on once it is re-executed in Dagster"
        remedy = "it is tried again by itself" if self.again else "mend the cause, then re-execute the run in Dagster"
        return (self.cause or "the run told no cause").rstrip("."), remedy


@dataclass(frozen=True)
class Result:
    """What a round has brought: labels to learn from, test images, metrics and their paired changes, sentences."""

    key: str
    labels: int
    test: int
    trained: bool
    scores: dict[str, Interval | None]
    changes: dict[str, Interval]
    notes: tuple[str, ...] = ()
    saved: str | None = None
    advice: str | None = None


@dataclass(frozen=True)
class Scene:
    """What is the case now.

    Attributes
    ----------
    batches : tuple of Batch
        As of `loop.asked.batches_now`.
    running : Run, optional
    usual : float, optional
        Seconds that a round needs until its batch is in Label Studio, as the last ones did.
    looked_at : float, optional
        Unix time of the sensor's last look.
    interval : float
        Seconds until it looks again, about.
    decision, reason : str, optional
        The sensor's decision, by the name of its class, and its reason.
    hindered : str, optional
        Why the sensor could not look, or opens no round although it is time to.
    remarks, warning : str, optional
        What people should know of what was done in Label Studio, and of the loop.
    failures : tuple of Failure
        Of the newest runs.
    result : Result, optional
        Of the newest round that is through.
    between : tuple of Result
        Of older rounds that have come through since the look before, oldest first.
    refining : str, optional
        The round on whose labels the network is being refined.
    refined : tuple of str, optional
        The round whose refined network is the newest, and what has come of it.
    seen : bool
        Whether anybody has looked; what there is then is new at the next look.
    """

    batches: tuple[Batch, ...] = ()
    running: Run | None = None
    usual: float | None = None
    looked_at: float | None = None
    interval: float = EVERY
    decision: str | None = None
    reason: str | None = None
    hindered: str | None = None
    remarks: str | None = None
    warning: str | None = None
    failures: tuple[Failure, ...] = ()
    result: Result | None = None
    between: tuple[Result, ...] = ()
    refining: str | None = None
    refined: tuple[str, str] | None = None
    seen: bool = False


class Watcher:
    """Looks at a loop. A look costs two small queries, and every few seconds those of what Dagster does.

    Parameters
    ----------
    loop : Loop
    """

    def __init__(self, loop: Loop) -> None:
        self._loop, self._ledger = loop, loop.deployment.ledger
        self._scene = Scene(interval=max(EVERY, float(loop.settings.sensor_interval)))
        self._sensor: tuple[str, str] | None = None
        self._asked = -math.inf
        self._pushed: str | None = None
        self._done: int | None = None
        self._runs_seen: list[tuple[str, str]] | None = None
        self._told = ""

    def look(self) -> Scene:
        """Return what is the case now.

        Raises
        ------
        ALError
            The ledger could not be read.
        """
        pushed, done, now = self._ledger.newest_pushed(), self._ledger.newest_event(), time.monotonic()
        anew = (pushed, done) != (self._pushed, self._done)
        if pushed != self._pushed or now - self._asked >= EVERY:
            self._scene = self._of_sensor(self._scene)
            records, beside = self._runs(pushed)
            seen = [(each.dagster_run.run_id, each.dagster_run.status.value) for each in (*records, *beside)]
            # Of a run on another machine the result may come later than its end.
            seen += [(path.name, "") for path in self._loop.deployment.artifacts.evaluations.glob("*.json")]
            if seen != self._runs_seen:
                self._scene, anew = self._of_refining(self._of_runs(self._scene, records), beside), True
            self._asked, self._runs_seen = now, seen
        if anew:
            batches = batches_now(self._ledger, pushed, self._loop.settings.policy)
            between = self._between({batch.key for batch in batches}, pushed)
            self._scene = replace(self._scene, batches=(*between, *batches), seen=True)
        self._pushed, self._done = pushed, done
        return self._scene

    def _between(self, now: set[str], pushed: str | None) -> Iterator[Batch]:
        """Yield batches that ended between two looks, and those that also came after the first: each is seen once."""
        asked = {batch.key for batch in self._scene.batches if batch.open}
        if self._scene.seen and pushed is not None:
            last = -1 if self._pushed is None else round_number(self._pushed)
            asked |= {round_key(each) for each in range(last + 1, round_number(pushed))}
        for key in sorted(asked - now, key=round_number):
            batch = batch_of(self._ledger, key, self._loop.settings.policy.min_votes)
            if not batch.open:
                yield batch

    def _of_sensor(self, scene: Scene) -> Scene:
        tick = self._tick()
        if tick is None:
            return scene
        told: dict[str, Any] = json.loads(tick.cursor or "{}")
        decision, reason = (told.get(name) for name in DECIDED)
        return replace(
            scene,
            looked_at=tick.timestamp,
            decision=decision,
            reason=reason,
            hindered=_hindered(tick, decision),
            remarks=told.get("remarks"),
            warning=told.get("warning"),
        )

    def _of_runs(self, scene: Scene, records: list[dg.RunRecord]) -> Scene:
        running = [record for record in records if record.dagster_run.status not in ENDED]
        *between, result = self._results(records) or [scene.result]
        return replace(
            scene,
            running=_running(running[0]) if running else None,
            usual=self._usual(records),
            failures=tuple(map(self._failure, _failed(records))),
            result=result,
            between=tuple(each for each in between if each),
        )

    def _of_refining(self, scene: Scene, beside: list[dg.RunRecord]) -> Scene:
        under_way = (
            each.dagster_run.tags.get(PARTITION_TAG) for each in beside if each.dagster_run.status not in ENDED
        )
        newest = last_network(self._loop.deployment.artifacts)
        refined = None if newest is None else (newest.round, newest.sentence)
        return replace(scene, refining=next(under_way, None), refined=refined)

    def _tick(self) -> InstigatorTick | None:
        """Return the sensor's last look that is through."""
        instance = self._loop.instance
        if self._sensor is None:
            states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
            found = [state for state in states if state.name == ANNOTATIONS_LANDED]
            if not found:
                return None
            self._sensor = found[0].instigator_origin_id, found[0].selector_id
        ticks = instance.get_ticks(*self._sensor, limit=2)
        return next((tick for tick in ticks if tick.status != TickStatus.STARTED), None)

    def _runs(self, newest: str | None) -> tuple[list[dg.RunRecord], list[dg.RunRecord]]:
        """Return the newest runs of the loop, newest first: of the last rounds and the next one, and of `setup`.

        The second list is of those that refine the network of these rounds.
        """
        number = -1 if newest is None else round_number(newest)
        keys = [round_key(each) for each in range(max(0, number - RECENT), number + 2)]
        of_rounds = self._loop.instance.get_run_records(dg.RunsFilter(tags={PARTITION_TAG: keys}), limit=20)
        turning = [
            record
            for record in of_rounds
            if record.dagster_run.job_name in ROUND_JOBS
            and record.dagster_run.tags.get(REFUSED_TAG) != record.dagster_run.run_id
        ]
        scans = self._loop.instance.get_run_records(dg.RunsFilter(job_name="setup"), limit=1)
        beside = [record for record in of_rounds if record.dagster_run.job_name == refine_job.name]
        return sorted([*turning, *scans], key=lambda record: record.create_timestamp, reverse=True), beside

    def _usual(self, records: list[dg.RunRecord]) -> float | None:
        took: list[float] = []
        for record in records:
            run, key = record.dagster_run, record.dagster_run.tags.get(PARTITION_TAG, "")
            if run.status == Status.SUCCESS and is_round(key) and record.start_time and record.end_time:
                pushed = self._ledger.pushed_at(key)
                # A run that is executed anew finds its batch pushed already.
                if pushed is not None and record.start_time < pushed.timestamp() < record.end_time:
                    took.append(pushed.timestamp() - record.create_timestamp.timestamp())
        return statistics.median(took[:RECENT]) if took else None

    def _failure(self, record: dg.RunRecord) -> Failure:
        run, key = record.dagster_run, record.dagster_run.tags.get(PARTITION_TAG)
        canceled, again = run.status == Status.CANCELED, False
        if key is not None and not canceled:
            attempts = attempts_of(self._loop.instance, key)
            most = self._loop.settings.policy.max_attempts
            again = attempts.state in {"in_progress", "succeeded"} or attempts.failures < most
        return Failure(run.run_id, key or run.job_name, canceled, self._loop.cause(run.run_id), again)

    def _results(self, records: list[dg.RunRecord]) -> list[Result]:
        """Return the result of the newest run that has one, and before it those of rounds newer than any told."""
        documents = stored_rounds(self._loop.deployment.artifacts.evaluations)
        found: dict[str, Result] = {}
        for record in records:
            run, key = record.dagster_run, record.dagster_run.tags.get(PARTITION_TAG)
            if run.status == Status.SUCCESS and key in documents and key not in found:
                if found and (not self._told or key <= self._told):
                    break
                found[key] = result_of(key, documents[key], *self._words(run.run_id))
        self._told = max(self._told, *found, "")
        return [*found.values()][::-1]

    def _words(self, run_id: str) -> tuple[str | None, str | None]:
        """Return what a run has said of the labels saved, and the advice to go on or to stop."""
        kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
        saved = advice = None
        for record in self._loop.instance.get_records_for_run(run_id, of_type=kinds).records:
            made, checked = record.asset_materialization, record.event_log_entry.asset_check_evaluation
            if made is not None and "labels_saved" in made.metadata:
                saved = str(made.metadata["labels_saved"].value)
            elif checked is not None and checked.check_name == ADVICE:
                advice = checked.description
        return saved, advice


def result_of(key: str, document: dict[str, Any], saved: str | None = None, advice: str | None = None) -> Result:
    """Return what a round has brought, of its stored evaluation and two sentences."""
    compared: dict[str, Any] = document.get("comparison") or {}
    found = {each.name: compared.get(each.name) for each in METRICS}
    changes = {name: Interval(**each) for name, each in found.items() if each}
    test, scores = stored_scores(document["evaluation"])
    told = tuple(dict.fromkeys(note for note in (*stored_notes(document), compared.get("note")) if note))
    return Result(key, document["n_labels"], test, document["trained"], scores, changes, told, saved, advice)


def _running(record: dg.RunRecord) -> Run:
    run = record.dagster_run
    return Run(run.job_name, run.tags.get(PARTITION_TAG), record.create_timestamp.timestamp())


def _hindered(tick: InstigatorTick, decision: str | None) -> str | None:
    if tick.status == TickStatus.FAILURE:
        cause = tick.error.message.strip() if tick.error else "it tells no cause"
        return f"The sensor {ANNOTATIONS_LANDED} failed: {cause}"
    skipped = tick.skip_reason or ""
    return skipped if skipped.startswith(UNREAD) or decision == "Open" else None


def _is_interrupted(run: dg.DagsterRun) -> bool:
    return run.tags.get(INTERRUPTED_TAG) == run.run_id


def _failed(records: list[dg.RunRecord]) -> list[dg.RunRecord]:
    """Return the failed runs, newest first, after which none of their kind, rounds or scans, has succeeded."""
    of_rounds = [record for record in records if record.dagster_run.job_name in ROUND_JOBS]
    scans = [record for record in records if record.dagster_run.job_name not in ROUND_JOBS]
    return [
        record
        for kind in (of_rounds, scans)
        for record in takewhile(lambda each: each.dagster_run.status != Status.SUCCESS, kind)
        if record.dagster_run.status in {Status.FAILURE, Status.CANCELED} and not _is_interrupted(record.dagster_run)
    ]
