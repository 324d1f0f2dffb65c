"""What Prometheus is told: the numbers as they are, none made up, nothing secret; and that examples ask for them."""

import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
import yaml
from dagster import DagsterRunStatus as Status
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, TickData, TickStatus
from starlette.testclient import TestClient

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import stored_scores
from al_pipeline.defs.observe import PARTITION_TAG
from al_pipeline.defs.sensors import ANNOTATIONS_LANDED, UNREAD
from al_pipeline.ledger.database import transaction
from al_pipeline.ledger.schema import annotations
from al_pipeline.servers.observer import Loop
from al_pipeline.settings import load_settings
from al_pipeline.web.metrics import PARTS, metrics
from al_pipeline_tests.cli.test_web import running, wait_for
from al_pipeline_tests.defs.worlds import open_instance
from al_pipeline_tests.web.lived_in import LivedIn, lived_in

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is the extra `metrics`")

DEPLOY = Path(__file__).parents[2] / "deploy"
TOKEN = "s3cret-token"
SERVER = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="al_pipeline")
REPOSITORY = RemoteRepositoryOrigin(SERVER, "__repository__")
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    made = open_instance(tmp_path / "dagster")
    yield made
    made.dispose()


def look(instance: dg.DagsterInstance, status: TickStatus, **what: Any) -> None:
    """Have the sensor looked a minute ago."""
    origin = RemoteInstigatorOrigin(REPOSITORY, ANNOTATIONS_LANDED)
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
    if not instance.all_instigator_state():
        instance.add_instigator_state(state)
    where, kind, moment = state.instigator_origin_id, InstigatorType.SENSOR, time.time() - 60
    tick = TickData(where, ANNOTATIONS_LANDED, kind, status, moment, selector_id=state.selector_id, **what)
    instance.create_tick(tick)


def job_of(name: str, *steps: str, fails: bool = False) -> dg.JobDefinition:
    """Return a job with steps of these names."""

    def made(step: str) -> dg.OpDefinition:
        def work() -> None:
            if fails:
                raise ValueError("of no use")

        return dg.OpDefinition(compute_fn=lambda _context, _inputs: work() or iter([dg.Output(None)]), name=step)

    return dg.GraphDefinition(name=name, node_defs=[made(step) for step in steps]).to_job()


def scraped(app: Any) -> Series:
    with TestClient(app) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return series(answer.text)


def series(text: str) -> Series:
    families = parser.text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for each in families for one in each.samples}


def values(found: Series) -> dict[str, float]:
    return {name: value for (name, labels), value in found.items() if not labels}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[LivedIn]:
    made = lived_in(tmp_path / "home")
    yield made
    made.ledger.close()


@pytest.fixture
def app(home: LivedIn, instance: dg.DagsterInstance) -> Any:
    """The metrics of a home of three rounds, the last half answered; one run has failed, one waits."""
    job_of("setup", "scan", fails=True).execute_in_process(instance=instance, raise_on_error=False)
    # A step that is called like nothing of ours is nobody's label.
    job = job_of("round", "labeled_pool", "checkpoint", "of_somebody_s_project_7")
    assert job.execute_in_process(instance=instance, tags={PARTITION_TAG: "r0002"}).success
    origin = RemoteJobOrigin(REPOSITORY, "refine")
    waiting = job_of("refine", "refined_checkpoint")
    instance.create_run_for_job(waiting, status=Status.QUEUED, remote_job_origin=origin)
    look(instance, TickStatus.SKIPPED, cursor="{}", skip_reason="r0002: 4 of 8 answered")
    settings = load_settings(home=home.settings.home, label_studio_token=TOKEN, label_studio_url="http://127.0.0.1:9")
    return metrics(Loop(settings, instance))


def test_the_numbers_are_those_of_the_ledger_and_of_dagster(app: Any, home: LivedIn) -> None:
    found = scraped(app)
    told, ledger = values(found), home.ledger
    # Two test images, and half of the last batch of eight.
    assert told["al_open_tasks"] == 2 + 4 == len(ledger.open_tasks())
    assert told["al_answers"] == 10 + 8 + 8 + 4 == len(ledger.answers())
    assert told["al_labels"] == ledger.count_labels(1) == 20
    assert told["al_round"] == 2
    seconds = (datetime.now(UTC) - ledger.answers()["updated_at"].max()).total_seconds()
    assert told["al_seconds_since_last_answer"] == pytest.approx(seconds, abs=60)
    _, scores = stored_scores(json.loads((home.artifacts.evaluations / "r0002.json").read_text())["evaluation"])
    for name, score in scores.items():
        assert score is not None
        assert tuple(told[f"al_{name}{end}"] for end in ("", "_low", "_high")) == pytest.approx(tuple(score))
    assert (told["al_failed_runs"], told["al_queued_runs"], told["al_running_runs"]) == (1, 1, 0)
    assert 0 < told["al_round_seconds"] < 600
    parts = {labels[0][1]: value for (name, labels), value in found.items() if name == "al_round_part_seconds"}
    assert parts.keys() == {"labeled_pool", "checkpoint", "other"}
    assert all(0 < value <= told["al_round_seconds"] for value in parts.values())
    assert 0 < told["al_free_disk_bytes"] < told["al_disk_bytes"]
    assert told["al_seconds_since_last_look"] == pytest.approx(90, abs=31)
    assert (told["al_hindered"], told["al_readable"]) == (0, 1)


def test_a_sensor_that_cannot_look_is_told(app: Any, instance: dg.DagsterInstance) -> None:
    look(instance, TickStatus.SKIPPED, cursor="{}", skip_reason=f"{UNREAD} Label Studio did not answer")
    assert values(scraped(app))["al_hindered"] == 1


def test_no_secret_path_or_class_is_told_and_no_label_without_a_bound(app: Any, home: LivedIn) -> None:
    with TestClient(app) as client:
        text = client.get("/metrics").text
    for hidden in (TOKEN, str(home.settings.home), "circle", "ann", home.ids[0], "somebody", "r0002"):
        assert hidden not in re.sub("^#.*$", "", text, flags=re.MULTILINE)
    labels = {pair for _, pairs in series(text) for pair in pairs}
    assert labels <= {("part", part) for part in (*PARTS, "other")}


def test_what_cannot_be_read_is_left_out_and_told(app: Any, home: LivedIn) -> None:
    with transaction(home.ledger._engine, write=True) as connection:  # pyright: ignore[reportPrivateUsage]
        connection.execute(sa.text(f"ALTER TABLE {annotations.name} RENAME TO elsewhere"))
    told = values(scraped(app))
    assert told.keys() == {"al_readable", "al_free_disk_bytes", "al_disk_bytes"}
    assert told["al_readable"] == 0
    with transaction(home.ledger._engine, write=True) as connection:  # pyright: ignore[reportPrivateUsage]
        connection.execute(sa.text(f"ALTER TABLE elsewhere RENAME TO {annotations.name}"))
    assert values(scraped(app))["al_labels"] == 20


def test_a_home_before_its_first_round_has_no_made_up_numbers(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    loop = Loop(load_settings(home=tmp_path / "home"), instance)
    told = values(scraped(metrics(loop)))
    loop.deployment.ledger.close()
    assert {name: told[name] for name in ("al_open_tasks", "al_answers", "al_labels")} == dict.fromkeys(
        ("al_open_tasks", "al_answers", "al_labels"), 0
    )
    assert told.keys().isdisjoint({"al_accuracy", "al_round", "al_round_seconds", "al_seconds_since_last_answer"})


def test_without_the_extra_it_is_told_what_to_install(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(InputError, match=r"uv pip install 'al_pipeline\[metrics\]'"):
        metrics(Loop(load_settings(home=tmp_path / "home"), instance))


def test_the_command_serves_them_on_loopback_at_the_port_that_was_set(home: LivedIn, tmp_path: Path) -> None:
    home.settings.dagster_home.mkdir()
    (home.settings.dagster_home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with running(tmp_path, "metrics", AL_METRICS_PORT="0") as (process, output):
        url = wait_for(r"(http://127\.0\.0\.1:\d+/metrics)", process, output)[1]
        told = values(series(httpx.get(url, timeout=60).text))
        assert told["al_open_tasks"] == 6
        assert httpx.get(url.replace("metrics", "health")).text == "ok"
        assert "Warning" not in output.read_text()


def asked_for(expressions: list[str]) -> set[str]:
    assert expressions
    return {name for each in expressions for name in re.findall(r"\bal_\w+", re.sub(r"\{[^}]*\}", "", each))}


def test_the_alerts_ask_for_what_is_served_and_say_what_to_do(app: Any) -> None:
    file = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    rules = [rule for group in file["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(rule["labels"]["severity"] in {"page", "morning"} for rule in rules)
    assert all(rule["annotations"]["summary"].endswith((".", "?")) for rule in rules)
    served = {name for name, _ in scraped(app)}
    assert asked_for([rule["expr"] for rule in rules]) <= served
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    usual = load_settings().metrics_port
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"] == [f"127.0.0.1:{usual}"]
    assert f':{usual}"' in (DEPLOY.parent / "docker-compose.yml").read_text()
    assert all((DEPLOY / "prometheus" / name).exists() for name in scrape["rule_files"])
    # What `up` is asked of.
    assert scrape["scrape_configs"][0]["job_name"] in next(r["expr"] for r in rules if "up{" in r["expr"])


def test_the_dashboard_shows_all_that_is_served_and_nothing_else(app: Any) -> None:
    board = json.loads((DEPLOY / "grafana" / "al_pipeline.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert taken.isdisjoint(cells), panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    shown = asked_for([target["expr"] for panel in panels for target in panel["targets"]])
    assert shown == {name for name, _ in scraped(app)}
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource"]
