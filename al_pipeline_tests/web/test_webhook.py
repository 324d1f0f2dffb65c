"""The receiver of webhooks: what it answers, and that a wake leads to what the sensor would have done."""

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import httpx
import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.sensor import fetch_existing_runs

from al_pipeline.core.errors import InputError
from al_pipeline.core.files import kept_secret
from al_pipeline.core.rounds import Open, RoundStatus
from al_pipeline.defs.sensors import ANNOTATIONS_LANDED, annotations_landed, request
from al_pipeline.labelstudio.callbacks import SECRET_HEADER
from al_pipeline.labelstudio.connection import LabelStudioNotFoundError
from al_pipeline.labelstudio.events import ProjectCounts
from al_pipeline.loop.claims import STALE, Claims
from al_pipeline.loop.progress import Facts
from al_pipeline.servers.dagster_api import DagsterApi, DagsterError
from al_pipeline.servers.observer import Loop
from al_pipeline.settings import load_settings
from al_pipeline.web import webhook as module
from al_pipeline.web.opening import Opener, launch_tags
from al_pipeline.web.serve import is_loopback, serving
from al_pipeline.web.webhook import Waker, receiver
from al_pipeline_tests.ledger.builders import plan_rows
from al_pipeline_tests.web.dagster_double import dagster_double

SECRET = "correct horse".replace(" ", "-")
BOUND = 10.0


class Work:
    """Work that can be seen to begin, and goes on when it is let."""

    def __init__(self) -> None:
        self.began, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self) -> None:
        self.began.release()
        assert self.go.acquire(timeout=BOUND)


@contextmanager
def receiving(work: Callable[[], object]) -> Iterator[httpx.Client]:
    """Run the receiver, and yield a client of it."""
    with (
        serving(receiver(SECRET, Waker(work, rest=0)), "127.0.0.1", 0) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


def post(client: httpx.Client) -> int:
    headers = {SECRET_HEADER: SECRET}
    return client.post("/webhook", json={"action": "ANNOTATION_CREATED"}, headers=headers).status_code


def test_a_webhook_with_the_secret_is_accepted_and_wakes() -> None:
    work = Work()
    with receiving(work) as client:
        assert post(client) == 202
        assert work.began.acquire(timeout=BOUND)
        work.go.release()


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "x", SECRET[:-1], "Bücher"])
def test_without_the_secret_nobody_is_woken_and_the_answer_does_not_tell_it(secret: str | None) -> None:
    work = Work()
    with receiving(work) as client:
        headers = {} if secret is None else {SECRET_HEADER.encode(): secret.encode("latin-1")}
        answer = client.post("/webhook", content=b"{}", headers=headers)
        assert answer.status_code == 401
        assert SECRET not in answer.text + str(answer.headers)
        assert not work.began.acquire(timeout=0.2)


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY", 100)
    work = Work()
    with receiving(work) as client:
        headers = {SECRET_HEADER: SECRET}
        assert client.post("/webhook", content=b"x" * 101, headers=headers).status_code == 413
        assert client.post("/webhook", content=iter([b"x" * 60] * 2), headers=headers).status_code == 413
        assert not work.began.acquire(timeout=0.2)
        assert client.post("/webhook", content=b"x" * 100, headers=headers).status_code == 202
        assert work.began.acquire(timeout=BOUND)
        work.go.release()


def test_the_answer_is_constant_whatever_the_body_says() -> None:
    with receiving(lambda: None) as client:
        answers = [
            client.post("/webhook", content=content, headers={SECRET_HEADER: SECRET})
            for content in (b"", b"{}", b"no json", b'{"action": "PROJECT_UPDATED"}')
        ]
        assert {(each.status_code, each.text) for each in answers} == {(202, '{"status":"ACCEPTED"}')}


def test_health_and_what_is_not_there() -> None:
    with receiving(lambda: None) as client:
        assert client.get("/health").json() == {"status": "UP"}
        assert client.get("/webhook").status_code == 405
        assert client.post("/").status_code == 404


def test_any_number_of_webhooks_during_a_decision_lead_to_one_more() -> None:
    work = Work()
    with receiving(work) as client:
        post(client)
        assert work.began.acquire(timeout=BOUND)
        assert {post(client) for _ in range(20)} == {202}
        assert not work.began.acquire(timeout=0.2), "two decisions at a time"
        work.go.release(30)
        assert work.began.acquire(timeout=BOUND)
        assert not work.began.acquire(timeout=0.3), "a third decision for nothing new"


def test_decisions_that_fail_are_told_in_a_line_and_the_next_wake_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    failures = [DagsterError("Dagster\ndid not answer"), RuntimeError("a\nbug"), None]
    done = threading.Semaphore(0)

    def work() -> None:
        done.release()
        if (error := failures.pop(0)) is not None:
            raise error

    with caplog.at_level(logging.INFO, logger="al_pipeline"), receiving(work) as client:
        for _ in range(3):
            post(client)
            assert done.acquire(timeout=BOUND)
    assert [record.getMessage() for record in caplog.records] == [
        "Nothing is decided, the sensor looks again: Dagster did not answer",
        "Nothing is decided: RuntimeError: a bug",
    ]


def test_a_waker_ends_also_while_it_rests_and_drops_what_is_left() -> None:
    work = Work()
    with Waker(work, rest=3600) as waker:
        waker.wake()
        assert work.began.acquire(timeout=BOUND)
        work.go.release()
        waker.wake()
    assert not waker._thread.is_alive()
    assert not work.began.acquire(blocking=False)


def test_the_port_is_free_again_at_the_end_and_one_in_use_is_told() -> None:
    with receiving(lambda: None) as client:
        url = client.base_url
        with pytest.raises(InputError, match=rf"Nothing can listen on port {url.port} of 127.0.0.1"):
            serving(receiver(SECRET, Waker(lambda: None)), "127.0.0.1", url.port or 0).__enter__()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_hosts_that_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "example.org")))


def test_the_drawn_secret_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "webhook_secret"
    secret = kept_secret(path)
    assert len(secret) >= 32
    assert kept_secret(path) == secret != kept_secret(tmp_path / "other")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop of which Label Studio is not asked: its newest round has no run yet."""
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        found = Loop(load_settings(home=tmp_path / "home"), instance)
        for key in ("r0000", "r0001"):
            found.deployment.ledger.plan(key, plan_rows())
        yield found


def test_a_round_that_is_due_is_launched_with_the_tags_of_the_sensor(loop: Loop) -> None:
    loop.instance.add_dynamic_partitions("rounds", ["r0000", "r0001"])
    with dagster_double(loop.instance) as dagster:
        assert Opener(loop, DagsterApi(dagster.url))() == dagster.launched[0].run_id
    [run] = dagster.launched
    assert run.job_name == "round"
    assert run.tags == {
        "dagster/partition": "r0001",
        "dagster/run_key": "r0001-attempt-1",
        "dagster/sensor_name": "annotations_landed",
        "al_pipeline/attempt": "1",
    }
    assert loop.instance.get_dynamic_partitions("rounds") == ["r0000", "r0001"]


def test_the_daemon_takes_our_run_for_the_sensors_own(loop: Loop) -> None:
    run_request = request(Open(3, 2, ""))
    run = create_run_for_test(loop.instance, job_name="round", tags=dict(launch_tags(run_request)))
    sensor = cast(Any, SimpleNamespace(name=ANNOTATIONS_LANDED))
    assert fetch_existing_runs(loop.instance, sensor, [run_request]) == {"r0003-attempt-2": run}
    other = cast(Any, SimpleNamespace(name="another"))
    assert fetch_existing_runs(loop.instance, other, [run_request]) == {}


def test_a_run_that_the_sensor_has_requested_is_not_launched_again(loop: Loop) -> None:
    loop.instance.add_dynamic_partitions("rounds", ["r0001"])
    # It has come and gone since the state was read: whatever it is by now, it had this key.
    tags = {"dagster/run_key": "r0001-attempt-1", "dagster/sensor_name": "annotations_landed"}
    create_run_for_test(loop.instance, job_name="round", tags=tags, status=dg.DagsterRunStatus.FAILURE)
    with dagster_double(loop.instance) as dagster:
        assert Opener(loop, DagsterApi(dagster.url))() is None
    assert not dagster.launched


def test_nothing_is_launched_while_there_is_nothing_to_open(loop: Loop) -> None:
    with dagster_double(loop.instance) as dagster:
        assert Opener(loop, DagsterApi(dagster.url))() is None, "no round was ever run"
        loop.instance.add_dynamic_partitions("rounds", ["r0000"])
        assert Opener(loop, DagsterApi(dagster.url))() is None, "round 0 is launched by people"
        run = create_run_for_test(loop.instance, job_name="round", tags={"dagster/partition": "r0000"})
        assert Opener(loop, DagsterApi(dagster.url))() is None, "its run is under way"
        loop.instance.report_run_canceled(run)
        assert Opener(loop, DagsterApi(dagster.url))() is None, "stalled"
    assert not dagster.launched


def test_a_second_wake_after_a_launch_launches_nothing(loop: Loop) -> None:
    loop.instance.add_dynamic_partitions("rounds", ["r0001"])
    with dagster_double(loop.instance) as dagster:
        assert Opener(loop, DagsterApi(dagster.url))() is not None
        assert Opener(loop, DagsterApi(dagster.url))() is None
    assert len(dagster.launched) == 1


@pytest.mark.parametrize("times", range(3))
def test_of_the_sensor_and_the_receiver_at_once_one_alone_requests_the_run(loop: Loop, times: int) -> None:
    loop.instance.add_dynamic_partitions("rounds", ["r0001"])
    requested, both, sensor = list[Any](), threading.Barrier(2), annotations_landed(loop.settings)

    def look() -> None:
        resources = {"deployment": loop.deployment, "policy": loop.settings.policy}
        context = dg.build_sensor_context(instance=loop.instance, resources=resources)
        both.wait(BOUND)
        requested.extend(cast(dg.SensorResult, sensor(context)).run_requests or [])

    with dagster_double(loop.instance) as dagster:
        opener, thread = Opener(loop, DagsterApi(dagster.url)), threading.Thread(target=look)
        thread.start()
        both.wait(BOUND)
        opener()
        thread.join(BOUND)
        assert len(dagster.launched) + len(requested) == 1
        assert opener() is None


def test_a_claim_is_anothers_until_it_is_given_back_or_its_holder_is_long_gone(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    first = claims.take("r0001-attempt-1", "ours")
    assert first is not None
    assert claims.take("r0001-attempt-1", "theirs") is None
    assert claims.take("r0001-attempt-1", "ours") == first
    assert claims.take("r0001-attempt-11", "theirs") is not None
    claims.give_back(first)
    second = claims.take("r0001-attempt-1", "theirs")
    assert second is not None
    # Late, by who had it before: nothing of the new holder's.
    claims.give_back(first)
    assert claims.take("r0001-attempt-1", "ours") is None
    os.utime(second, (then := time.time() - STALE - 1, then))
    assert claims.take("r0001-attempt-1", "ours") is not None
    assert claims.take("r0001-attempt-1", "theirs") is None


def test_one_of_many_has_the_claim_also_where_one_that_was_killed_has_left_it(tmp_path: Path) -> None:
    def takers() -> int:
        with ThreadPoolExecutor(16) as pool:
            return sum(each is not None for each in pool.map(lambda i: Claims(tmp_path).take("run", str(i)), range(64)))

    assert takers() == 1
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert takers() == 1


def test_a_launch_that_fails_gives_its_claim_back(loop: Loop) -> None:
    loop.instance.add_dynamic_partitions("rounds", ["r0001"])
    with dagster_double(loop.instance) as dagster:
        opener, dagster.refuses = Opener(loop, DagsterApi(dagster.url)), True
        with pytest.raises(DagsterError, match="did not launch round"):
            opener()
        dagster.refuses = False
        assert opener() == dagster.launched[0].run_id


def test_a_round_whose_launch_was_cut_off_is_left_alone_for_as_long_as_it_may_take(loop: Loop) -> None:
    loop.instance.add_dynamic_partitions("rounds", ["r0001"])
    claim = Claims(loop.deployment.artifacts.claims).take("r0001-attempt-1", "one that was killed")
    assert claim is not None
    with dagster_double(loop.instance) as dagster:
        opener = Opener(loop, DagsterApi(dagster.url))
        assert opener() is None
        resources = {"deployment": loop.deployment, "policy": loop.settings.policy}
        context = dg.build_sensor_context(instance=loop.instance, resources=resources)
        told = cast(dg.SensorResult, annotations_landed(loop.settings)(context))
        assert not told.run_requests
        assert '"decision": "Wait"' in str(told.cursor)
        os.utime(claim, (then := time.time() - STALE - 1, then))
        assert opener() is not None


def test_a_sensor_that_people_have_stopped_stops_this_too(loop: Loop) -> None:
    loop.instance.add_dynamic_partitions("rounds", ["r0001"])
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="al_pipeline")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(server, "__repository__"), ANNOTATIONS_LANDED)
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED)
    loop.instance.add_instigator_state(state)
    with dagster_double(loop.instance) as dagster:
        opener = Opener(loop, DagsterApi(dagster.url))
        assert opener() is None
        loop.instance.update_instigator_state(state.with_status(InstigatorStatus.RUNNING))
        assert opener() is not None


class Counted(Loop):
    """A loop whose looks are counted, of a Label Studio that has no more than counters."""

    looks = 0

    def __init__(self, loop: Loop, missing: int) -> None:
        super().__init__(loop.settings, loop.instance)
        self.now, self.missing = ProjectCounts(20, 0, 0, datetime.now(UTC), ""), missing
        self.deployment.label_studio = cast(Any, SimpleNamespace(project_counts=self.count))

    def count(self, project_id: int) -> ProjectCounts:
        if project_id != 7:
            raise LabelStudioNotFoundError("it is gone")
        return self.now

    def facts(self) -> Facts:
        self.looks += 1
        status = RoundStatus(1, "succeeded", 1, planned=20, labeled=20 - self.missing, ahead=True)
        return Facts(status, project=(7, self.now))


def test_answers_are_looked_at_once_the_counters_say_that_enough_can_be_there(loop: Loop) -> None:
    counted = Counted(loop, missing=3)
    opener = Opener(counted, DagsterApi("http://127.0.0.1:9"))
    opener()
    for annotations, skipped, tasks, looks in (
        (1, 0, 20, 1),
        (1, 1, 20, 1),
        (2, 1, 20, 2),
        (2, 1, 19, 3),
        (1, 1, 19, 3),
    ):
        counted.now = replace(counted.now, annotations=annotations, skipped=skipped, tasks=tasks)
        opener()
        assert counted.looks == looks, (annotations, skipped, tasks)


def test_a_dagster_that_is_away_is_an_error_that_names_it(loop: Loop) -> None:
    loop.instance.add_dynamic_partitions("rounds", ["r0001"])
    with pytest.raises(DagsterError, match=r"http://127.0.0.1:9 did not answer"):
        Opener(loop, DagsterApi("http://127.0.0.1:9"))()
