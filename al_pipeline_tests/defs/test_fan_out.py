"""Features in parts: who asks for runs, which are launched, and that none computes what another one has stored."""

import logging
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from al_pipeline.core.data.parts import part_of
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.train import untrained
from al_pipeline.defs.fan_out import feature_parts_wanted
from al_pipeline.loop import fan_out
from al_pipeline.loop.fan_out import asked, asking
from al_pipeline.loop.samples import StoredSamples
from al_pipeline_tests.defs.worlds import World

PARTS = {"compute": {"engine": "parts", "workers": 3}}


def computed(result: dg.ExecuteInProcessResult, asset: str) -> int:
    [event] = result.asset_materializations_for_node(asset)
    return int(event.metadata["computed"].value)  # type: ignore[arg-type]


def test_runs_of_parts_fill_the_store_and_embeddings_computes_what_is_left(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fan_out, "LARGE_FOR_PARTS", 1)
    weights = tmp_path / "start.safetensors"
    untrained(["0", "1"], TrainingOptions(image_size=32), seed=5, round_number=0).checkpoint.save(weights)
    world = make_world(training={"image_size": 32, "weights": str(weights)}, **PARTS)
    assert world.materialize("image_pool").success
    ids = world.value("image_pool")["sample_id"].tolist()
    part = part_of(ids[0])
    job = world.defs.resolve_job_def("compute_features")
    counts = [
        computed(job.execute_in_process(instance=world.instance, partition_key=part), "feature_parts") for _ in "12"
    ]
    assert counts == [sum(part_of(i) == part for i in ids), 0]
    assert computed(world.materialize("embeddings"), "embeddings") == len(ids) - counts[0]
    assert asked(world.deployment.artifacts) is None
    manifest, settings = world.value("image_pool"), world.settings
    log = logging.getLogger(__name__)
    samples = StoredSamples(manifest, world.deployment, settings.training, settings.round.seed, log)
    # All at once, from the files.
    np.testing.assert_array_equal(samples.store.load(ids), embed(samples.start, [samples.uris[i] for i in ids]))


def test_the_sensor_launches_each_part_that_is_wanted_once(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = make_world(**PARTS)
    artifacts = world.deployment.artifacts

    def look(cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(
            world.instance, cursor=cursor, resources={"deployment": world.deployment}, definitions=world.defs
        )
        found = feature_parts_wanted(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    assert isinstance(look(), dg.SkipReason)
    few, many = ["0a" + "0" * 30], ["0a" + f"{i:030d}" for i in range(3)] + ["ff" + "0" * 30]
    monkeypatch.setattr(fan_out, "LARGE_FOR_PARTS", 4)
    with asking(artifacts, few):
        assert isinstance(look(), dg.SkipReason)
    with asking(artifacts, many):
        launched = look()
        assert isinstance(launched, dg.SensorResult)
        assert [run.partition_key for run in launched.run_requests or []] == ["ff", "0a"]
        assert world.instance.event_log_storage.get_concurrency_info("features").slot_count == 3
        assert isinstance(look(launched.cursor), dg.SkipReason)
    assert isinstance(look(), dg.SkipReason)
    with asking(artifacts, many):
        again = look(launched.cursor)
        assert isinstance(again, dg.SensorResult)  # other runs, as those before are over
        assert {run.run_key for run in again.run_requests or []}.isdisjoint(
            run.run_key for run in launched.run_requests or []
        )


def test_without_the_setting_there_is_nothing_of_it(make_world: Callable[..., World]) -> None:
    by_parts = make_world(**PARTS).defs
    dg.Definitions.validate_loadable(by_parts)
    repository, of_parts = make_world().defs.get_repository_def(), by_parts.get_repository_def()
    assert not repository.has_job("compute_features")
    assert of_parts.has_job("compute_features")
    assert "feature_parts_wanted" not in {sensor.name for sensor in repository.sensor_defs}
