"""What Prometheus is told of a loop, read from the databases of Dagster and of the ledger; nothing of it is secret."""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import DagsterRunStatus as Status
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.evaluation.metrics import METRICS
from al_pipeline.core.rounds import round_number
from al_pipeline.defs.jobs import ROUND_ASSETS
from al_pipeline.servers.watcher import Scene, Watcher

if TYPE_CHECKING:
    from prometheus_client import Metric

    from al_pipeline.servers.observer import Loop

# The steps of a round; what else one may come to have is `other`, so that nobody's names become labels.
PARTS = frozenset({*ROUND_ASSETS, "learning_curve"})
RUNNING = [Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING]
NEVER = datetime.min.replace(tzinfo=UTC)

log = logging.getLogger(__name__)


class LoopCollector:
    """Makes the metrics of a loop at each scrape, for a registry of prometheus_client.

    Where a database cannot be read, its metrics are left out and ``al_readable`` is 0: a failed read is not an empty
    one.

    Parameters
    ----------
    loop : Loop
    """

    def __init__(self, loop: "Loop") -> None:
        self._loop, self._watcher = loop, Watcher(loop)
        # A watcher keeps what it saw, and scrapes come in threads.
        self._lock = threading.Lock()

    def collect(self) -> "Iterator[Metric]":
        """Yield all metrics."""
        found: list[Metric] = []
        with self._lock:
            try:
                found = [*self._of_ledger(), *self._of_runs(), *self._of_scene(self._watcher.look())]
            except (ALError, SQLAlchemyError, dg.DagsterError) as error:
                # The message of SQLAlchemy may hold a statement with values.
                log.warning("The loop could not be read: %s", error if isinstance(error, ALError) else type(error))
        yield _gauge("readable", "1 if the ledger and Dagster's history could be read, else 0.", float(bool(found)))
        yield from self._of_disk()
        yield from found

    def _of_ledger(self) -> "Iterator[Metric]":
        ledger, policy = self._loop.deployment.ledger, self._loop.settings.policy
        answered, labels = ledger.answering().values(), ledger.count_labels(policy.min_votes)
        yield _gauge("open_tasks", "Tasks in Label Studio with which nobody has dealt.", len(ledger.open_tasks()))
        yield _gauge("answers", "Answers and skips of people that stand.", sum(each.answers for each in answered))
        yield _gauge("labels", "Samples that people agree on, without the holdout.", labels)
        if (last := max((each.last for each in answered), default=NEVER)) != NEVER:
            seconds = max(0.0, (datetime.now(UTC) - last).total_seconds())
            yield _gauge("seconds_since_last_answer", "Seconds since somebody answered; missing before.", seconds)
        if (newest := ledger.newest_pushed()) is not None:
            yield _gauge("round", "Number of the newest round whose batch is in Label Studio.", round_number(newest))

    def _of_runs(self) -> "Iterator[Metric]":
        instance = self._loop.instance
        queued = instance.get_runs_count(dg.RunsFilter(statuses=[Status.QUEUED]))
        running = instance.get_runs_count(dg.RunsFilter(statuses=RUNNING))
        yield _gauge("queued_runs", "Runs that wait in Dagster's queue.", queued)
        yield _gauge("running_runs", "Runs that have been launched and have not ended.", running)
        done = dg.RunsFilter(job_name="round", statuses=[Status.SUCCESS])
        for record in instance.get_run_records(done, limit=1):
            if record.start_time and record.end_time:
                whole = record.end_time - record.create_timestamp.timestamp()
                yield _gauge("round_seconds", "Seconds of the newest round, from its request to its end.", whole)
            parts = _gauge("round_part_seconds", "Seconds that each part of the newest round took.", labels=["part"])
            for part, seconds in self._parts(record.dagster_run.run_id).items():
                parts.add_metric([part], seconds)
            yield parts

    def _parts(self, run_id: str) -> dict[str, float]:
        took: dict[str, float] = {}
        for step in self._loop.instance.get_run_step_stats(run_id):
            if step.start_time is not None and step.end_time is not None:
                name = step.step_key.partition(".")[0]
                part = name if name in PARTS else "other"
                took[part] = took.get(part, 0.0) + step.end_time - step.start_time
        return took

    def _of_scene(self, scene: Scene) -> "Iterator[Metric]":
        failed = sum(not each.canceled for each in scene.failures)
        yield _gauge("failed_runs", "Failed runs of rounds and of setup after which none has succeeded.", failed)
        if scene.looked_at is not None:
            seconds = max(0.0, time.time() - scene.looked_at)
            yield _gauge("seconds_since_last_look", "Seconds since the sensor last looked at Label Studio.", seconds)
            hindered = float(scene.hindered is not None)
            yield _gauge("hindered", "1 if the sensor could not look or open a round that is due, else 0.", hindered)
        scores = scene.result.scores if scene.result is not None and scene.result.trained else {}
        for metric in METRICS:
            if (score := scores.get(metric.name)) is not None:
                text = f"{metric.title} of the newest round on the holdout"
                yield _gauge(metric.name, f"{text}.", score.value)
                yield _gauge(f"{metric.name}_low", f"{text}: lower end of its 95 % interval.", score.low)
                yield _gauge(f"{metric.name}_high", f"{text}: upper end of its 95 % interval.", score.high)

    def _of_disk(self) -> "Iterator[Metric]":
        try:
            disk = shutil.disk_usage(self._loop.settings.home)
        except OSError as error:
            log.warning("The home could not be looked at: %s", error.strerror)
            return
        yield _gauge("free_disk_bytes", "Bytes that are free where the home is.", disk.free)
        yield _gauge("disk_bytes", "Bytes of the disk where the home is.", disk.total)


def metrics(loop: "Loop") -> Starlette:
    """Return the application that serves ``/metrics`` for Prometheus, and ``/health``.

    Raises
    ------
    InputError
        prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    except ModuleNotFoundError as error:
        raise InputError("prometheus-client is missing: uv pip install 'al_pipeline[metrics]'") from error
    # One of its own: the usual one tells of our process, which nobody asked for.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LoopCollector(loop))

    # Not async: it reads databases, and gets a thread.
    def scrape(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/metrics", scrape), Route("/health", health)])


def _gauge(name: str, text: str, value: float | None = None, labels: list[str] | None = None) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"al_{name}", text, value=value, labels=labels)
