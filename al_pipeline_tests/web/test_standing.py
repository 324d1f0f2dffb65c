"""What the pages tell of a loop whose round has failed, by runs of a real Dagster."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import httpx
import pytest
import yaml

from al_pipeline.core.errors import InputError
from al_pipeline.defs.observe import PARTITION_TAG
from al_pipeline.servers.watcher import Failure, Scene
from al_pipeline.web.page.app import pages
from al_pipeline.web.page.standing import Standing, Told, told
from al_pipeline.web.serve import serving
from al_pipeline_tests.web.lived_in import LivedIn

NOW = 10_000.0
FAILED = Failure("abc", "r0004", canceled=False, cause="The disk is full", again=False)
STALLED = "r0004: 3 of 3 attempts failed; mend the cause"
SCENE = Scene(
    looked_at=NOW - 4, decision="Stalled", reason=STALLED, remarks="2 were skipped.", failures=(FAILED,), interval=5
)


def test_a_round_tells_what_is_about_itself_alone_and_old_words_are_called_old() -> None:
    assert told(SCENE, NOW) == Told((FAILED,), "Stalled", STALLED, ("2 were skipped.",))
    assert told(SCENE, NOW, key="r0004") == Told((FAILED,), "Stalled", STALLED)
    assert told(SCENE, NOW, key="r0003") == Told()
    assert told(SCENE, NOW + 500).asleep == 504
    assert told(Scene(), NOW) == Told()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance that DAGSTER_HOME names."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    log = {"module": "al_pipeline.servers.event_log", "class": "OpenEventLog", "config": {"base_dir": str(folder)}}
    (folder / "dagster.yaml").write_text(yaml.safe_dump({"event_log_storage": log, "telemetry": {"enabled": False}}))
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    with dg.DagsterInstance.from_config(str(folder)) as made:
        yield made


def fail(instance: dg.DagsterInstance, key: str) -> None:
    """Let a round fail."""

    @dg.op
    def step() -> None:
        raise InputError("The disk is <full>: make room")

    @dg.job(name="round")
    def of_one_step() -> None:
        step()

    of_one_step.execute_in_process(instance=instance, tags={PARTITION_TAG: key}, raise_on_error=False)


def test_the_pages_tell_why_a_round_has_failed_and_what_happens_next(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    made = LivedIn(tmp_path / "home", pool=20, batch=4, blind=4)
    made.round(0, 0)
    attempts = made.settings.policy.max_attempts
    fail(instance, "r0000")
    with (
        serving(pages(made.deployment, "token"), "127.0.0.1", 0) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=60) as client,
    ):
        client.get("/health", params={"token": "token"})
        sentence = "<b>r0000 failed</b>: The disk is &lt;full&gt;: make room; it is tried again by itself."
        look(made, "it is tried again by itself")
        for path in ("/", "/rounds/r0000"):
            until = time.monotonic() + 60
            # What is read in a thread of its own is there a little later.
            while sentence not in (text := client.get(path).text):
                assert time.monotonic() < until, text
    for _ in range(attempts - 1):
        fail(instance, "r0000")
    look(made, "mend the cause, then re-execute the run in Dagster")


def look(made: LivedIn, remedy: str) -> None:
    """Look as the pages do, for as long as it takes."""
    standing = Standing(made.deployment)
    assert {failure.told[1] for failure in standing.told(patience=60).failures} == {remedy}
    standing.close()
