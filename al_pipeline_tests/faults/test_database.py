"""PostgreSQL dies in the middle of a round and comes back: the round run again is the same round.

`make faults` lets it die before and after each of the ledger's writes, CI before one, after the next.
"""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import dagster as dg
import pandas as pd
import pytest

from al_pipeline.core.rounds import round_key
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.verify import verify
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline_tests.defs.worlds import CLASSES, World
from al_pipeline_tests.faults.report import report
from al_pipeline_tests.faults.size import FULL
from al_pipeline_tests.ledger.postgresql import PASSWORD, PostgreSQL

pytestmark = [pytest.mark.labelstudio, pytest.mark.faults]

# What writes the ledger in a round, in this order. The first is tried again by Dagster, the others end the run.
WRITES = ("append", "set_watermark", "snapshot", "plan", "record_pushed")
BATCH = 2


@pytest.fixture
def world(make_world: Any, server: LocalLabelStudio, own_postgresql: PostgreSQL) -> World:
    world = make_world(
        home=server.document_root.parent,
        label_studio_url=server.url,
        label_studio_token=server.token,
        label_studio_project=f"database {uuid4()}",
        label_studio_timeout=60,
        database_url=own_postgresql.new_database(),
        round={"strategy": "low_certainty", "batch_size": BATCH, "sample_size": None},
        training={"image_size": 32, "epochs": 1},
    )
    assert world.run("setup").success
    return world


class Outage:
    """Ends PostgreSQL as a method of the ledger begins, or when it has ended, once; then starts it again."""

    def __init__(self, server: PostgreSQL, method: Callable[..., Any], *, before: bool) -> None:
        self._server, self._method, self._before = server, method, before
        self.over = False

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self.over:
            return self._method(*args, **options)
        self.over = True
        try:
            if self._before:
                self._server.crash()
            result = self._method(*args, **options)
            if not self._before:
                self._server.crash()
            return result
        finally:
            self._server.start()


def run(world: World, key: str) -> dg.ExecuteInProcessResult:
    """Run a round; it may fail."""
    if not world.instance.has_dynamic_partition("rounds", key):
        world.instance.add_dynamic_partitions("rounds", [key])
    job = world.defs.resolve_job_def("round")
    return job.execute_in_process(instance=world.instance, partition_key=key, raise_on_error=False)


def test_a_round_in_which_the_database_dies_is_the_same_round_once_it_is_back(
    world: World, own_postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, project = world.deployment.label_studio, world.deployment.project_id()
    assert run(world, "r0000").success
    given: dict[tuple[str, int], str] = {}
    cases = [(name, before) for name in WRITES for before in (True, False)]
    # The first, the fourth, the fifth, the eighth …
    cases = [case for i, case in enumerate(cases) if FULL or i % 4 in {0, 3}]
    failed = 0
    for number, (name, before) in enumerate(cases, start=1):
        for task in client.tasks(project, round_key(number - 1)):
            value = CLASSES[task.task_id % 2]
            given[task.sample_id, client.annotate(task.task_id, value)] = value
        key = round_key(number)
        with monkeypatch.context() as patch:
            outage = Outage(own_postgresql, getattr(Ledger, name), before=before)
            patch.setattr(Ledger, name, lambda *args, _outage=outage, **options: _outage(*args, **options))
            result = run(world, key)
        assert outage.over, f"{name} was not reached"
        if not result.success:
            failed += 1
            told = "\n".join(
                event.event_specific_data.error.to_string()  # type: ignore[union-attr]
                for event in result.all_events
                if event.is_step_failure
            )
            assert "could not be" in told
            assert PASSWORD not in told
        ledger = Ledger(world.settings.ledger_url)
        planned = ledger.planned(key)["sample_id"].tolist()
        frozen = ledger.frozen_labels(key)
        assert run(world, key).success
        if planned:
            assert ledger.planned(key)["sample_id"].tolist() == planned
        if len(frozen):
            pd.testing.assert_frame_equal(ledger.frozen_labels(key), frozen)
        labels = ledger.frozen_labels(key)
        by_sample = dict(zip(labels["sample_id"], labels["label"], strict=True))
        assert by_sample == {sample: value for (sample, _), value in given.items()}
        batch = ledger.planned(key)["sample_id"].tolist()
        assert len(batch) == BATCH
        assert sorted(task.sample_id for task in client.tasks(project, key)) == sorted(batch)
        ledger.close()
    assert failed, "no run ended for want of the database"
    held = {(row.sample_id, row.annotation_id): row.value for row in world.deployment.ledger.answers().itertuples()}
    assert held == given
    assert verify(world.settings.ledger_url).problems == []
    report("PostgreSQL killed", outages=len(cases), failed_runs=failed, answers=len(given))
