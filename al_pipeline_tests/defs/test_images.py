"""The sensor has changed images scanned once, tells when that does not help, and is quiet while a scan goes on."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus as Status

from al_pipeline.core.data.changes import Changes
from al_pipeline.core.data.pool import scan
from al_pipeline.defs import build
from al_pipeline.defs.images import IMAGES_CHANGED, LISTING_TAG, ScanError, decide, images_changed
from al_pipeline.defs.partitions import INTERRUPTED_TAG
from al_pipeline.servers.observer import Loop
from al_pipeline.settings import load_settings
from al_pipeline_tests.defs.worlds import World

NOW = 1_000_000.0
OURS, OTHER = {LISTING_TAG: "abc"}, {LISTING_TAG: "xyz"}


def changes(came: int = 1, *, touched: float = 0.0) -> Changes:
    return Changes(came, 0, 0, known=9, present=9 + came, elsewhere=False, touched=touched, digest="abc")


def said(answer: dg.RunRequest | dg.SkipReason) -> str:
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)


def key(runs: list[tuple[str, Status, dict[str, str]]]) -> str:
    answer = decide(changes(), runs, NOW)
    assert isinstance(answer, dg.RunRequest)
    assert answer.tags[LISTING_TAG] == "abc"
    return str(answer.run_key)


def test_nothing_is_requested_before_the_first_scan_or_without_a_change() -> None:
    assert "never scanned" in said(decide(None, [], NOW))
    assert "as it was scanned" in said(decide(changes(0), [], NOW))


def test_files_that_are_still_being_written_wait_for_the_next_look() -> None:
    assert "being written" in said(decide(changes(touched=NOW - 2), [], NOW))
    for settled in (NOW - 60, NOW + 3600):
        assert isinstance(decide(changes(touched=settled), [], NOW), dg.RunRequest)


def test_the_same_look_gives_the_same_key_and_the_same_files_after_others_another_one() -> None:
    first = key([])
    assert first == key([])
    # The files changed, were scanned, and are as before again.
    again = key([("run-2", Status.SUCCESS, OTHER), ("run-1", Status.SUCCESS, OURS)])
    assert len({first, again, key([("run-3", Status.FAILURE, OURS)])}) == 3


def test_files_that_cannot_be_scanned_are_tried_three_times_and_told() -> None:
    failed = [(f"run-{n}", Status.FAILURE, OURS) for n in (3, 2, 1)]
    assert isinstance(decide(changes(), failed[1:], NOW), dg.RunRequest)
    with pytest.raises(ScanError, match="in 3 runs, the last is run-3"):
        decide(changes(), failed, NOW)
    # Somebody launched it by hand since: what is there then is tried anew.
    assert isinstance(decide(changes(), [("run-4", Status.FAILURE, {}), *failed[:2]], NOW), dg.RunRequest)


def test_a_scan_that_ended_with_the_servers_is_no_failed_try() -> None:
    stopped = [(f"run-{n}", Status.FAILURE, OURS | {INTERRUPTED_TAG: f"run-{n}"}) for n in (4, 3, 2, 1)]
    answer = decide(changes(), stopped, NOW)
    assert isinstance(answer, dg.RunRequest)
    assert answer.tags["al_pipeline/attempt"] == "1"


def test_what_a_scan_does_not_settle_is_not_scanned_for_ever() -> None:
    with pytest.raises(ScanError, match="run-1 has scanned these very files"):
        decide(changes(), [("run-1", Status.SUCCESS, OURS)], NOW)


def test_a_look_at_a_real_folder_and_real_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = world.settings.images
    assert isinstance(images, Path)

    def look(sensor: dg.SensorDefinition) -> dg.RunRequest | dg.SkipReason:
        answer = sensor(dg.build_sensor_context(instance=world.instance))
        assert isinstance(answer, dg.RunRequest | dg.SkipReason)
        return answer

    sensor = images_changed(world.settings)
    assert "never scanned" in said(look(sensor))
    world.settings.artifact_folder.mkdir(parents=True, exist_ok=True)
    scan(images).to_parquet(world.settings.artifact_folder / "image_pool.parquet")
    assert "as it was scanned, 36 files" in said(look(sensor))
    # The same images below another folder.
    copy = shutil.copytree(images, tmp_path / "copy")
    moved = images_changed(world.settings.model_copy(update={"images": copy}))
    assert "being written" in said(look(moved))
    monkeypatch.setattr("al_pipeline.defs.images.SETTLED", 0.0)
    answer = look(moved)
    assert isinstance(answer, dg.RunRequest)
    run = world.instance.create_run_for_job(
        world.defs.resolve_job_def("setup"), tags=answer.tags, status=Status.STARTED
    )
    assert run.run_id in said(look(moved))
    world.instance.report_run_failed(run)
    shutil.rmtree(copy)
    assert "cannot be listed" in said(look(moved))


def test_how_often_it_looks_is_a_setting_and_0_is_never(tmp_path: Path) -> None:
    def sensors(minutes: float) -> dict[str, dg.SensorDefinition]:
        found = build(load_settings(home=tmp_path, rescan_minutes=minutes)).sensors or []
        return {sensor.name: sensor for sensor in found}

    assert sensors(2.5)[IMAGES_CHANGED].minimum_interval_seconds == 150
    assert sensors(2.5)[IMAGES_CHANGED].default_status == dg.DefaultSensorStatus.RUNNING
    assert IMAGES_CHANGED not in sensors(0)


def test_setting_up_has_a_reason_until_there_is_nothing_to_do(world: World) -> None:
    loop = Loop(world.settings, world.instance)
    assert "scan the images" in str(loop.why_set_up(None))
    world.instance.report_runless_asset_event(dg.AssetMaterialization("labeling_project"))
    assert loop.why_set_up(None) is None
    assert loop.why_set_up(changes(0)) is None
    assert loop.why_set_up(changes(2)) == "since the last scan 2 files came"
    # As a home that lay elsewhere has it.
    project = loop.deployment.artifacts.labeling_project
    project.parent.mkdir(parents=True, exist_ok=True)
    project.write_text('{"images": "/elsewhere/published/images"}')
    told = str(loop.why_set_up(changes(2)))
    assert "served from today" in told
    assert "2 files came" in told
