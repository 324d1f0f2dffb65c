"""What Dagster loads: valid, quick to import, and without the heavy libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import yaml

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "torchvision", "matplotlib", "sklearn", "scipy", "statsmodels", "label_studio_sdk", "imagehash"]


def in_fresh_process(code: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_location_and_the_rounds_pages_import_no_heavy_library(tmp_path: Path) -> None:
    ours = "al_pipeline.definitions, al_pipeline.web.page.app"
    code = f"import json, sys, {ours}; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    assert json.loads(in_fresh_process(code, tmp_path)) == []


def test_the_definitions_are_valid_and_complete() -> None:
    from al_pipeline.definitions import defs

    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        "image_pool",
        "embeddings",
        "annotations",
        "labeling_project",
        "labeled_pool",
        "checkpoint",
        "evaluation",
        "uncertainty_scores",
        "query_batch",
        "labeling_tasks",
        "refined_checkpoint",
        "learning_curve",
        "simulation",
        "strategy_comparison",
    }
    repository = defs.get_repository_def()
    assert {"setup", "round", "next_round", "refine", "retrain", "draw_learning_curve", "simulate"} <= set(
        repository.job_names
    )
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "annotations_landed",
        "images_changed",
        "round_failed",
        "materialize_all_stopped",
        "old_checkpoints_deleted",
    }
    assert [schedule.name for schedule in repository.schedule_defs] == ["nightly_round"]


def test_the_launchpad_explains_every_tunable() -> None:
    from al_pipeline.definitions import defs

    for name in ("round_config", "training", "policy"):
        schema = defs.get_repository_def().get_top_level_resources()[name].config_schema.config_type.fields  # type: ignore[attr-defined]
        undescribed = [key for key, field in schema.items() if not field.description]
        assert schema
        assert not undescribed, undescribed


def test_the_launchpad_shows_every_tunable_also_those_that_are_null() -> None:
    from dagster._core.snap import JobSnap
    from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap

    from al_pipeline.definitions import defs
    from al_pipeline.settings import settings

    snap = JobSnap.from_job_def(defs.resolve_job_def("round"))
    schema = snap.config_schema_snapshot
    root = schema.get_config_snap(snap.mode_def_snaps[0].root_config_key or "")
    # What an empty Launchpad shows.
    shown = yaml.safe_load(default_values_yaml_from_type_snap(schema, root))["resources"]
    usual = settings()
    for name, group in (("round_config", usual.round), ("training", usual.training), ("policy", usual.policy)):
        assert set(shown[name]["config"]) == set(type(group).model_fields)
        assert type(group)(**shown[name]["config"]) == group
    assert shown["policy"]["config"]["label_budget"] == "none"


def test_whatever_can_be_clicked_has_a_description_for_operators() -> None:
    from al_pipeline.definitions import defs

    graph, repository = defs.resolve_asset_graph(), defs.get_repository_def()
    silent = [key.to_user_string() for key in graph.get_all_asset_keys() if not graph.get(key).description]
    silent += [str(key) for key in graph.asset_check_keys if not graph.get(key).description]
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    things = [*jobs, *repository.sensor_defs, *repository.schedule_defs]
    silent += [thing.name for thing in things if not thing.description]
    assert silent == []


def test_the_instance_file_loads_without_any_environment_variable(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    code = f"""
import dagster as dg
with dg.DagsterInstance.from_config({str(tmp_path)!r}) as instance:
    config = instance.get_concurrency_config()
    print(config.pool_config.default_pool_limit, config.pool_config.pool_granularity.value, instance.telemetry_enabled)
"""
    assert in_fresh_process(code, tmp_path).split() == ["1", "op", "False"]


def test_no_module_is_too_long_to_read_and_no_room_too_full_to_enter() -> None:
    package = ROOT / "al_pipeline"
    lines = {path.relative_to(package): len(path.read_text().splitlines()) for path in package.rglob("*.py")}
    assert {path: n for path, n in lines.items() if n > 400} == {}
    for room, most in ((package, 12), (package / "core", 14)):
        entries = sorted(path.name for path in room.iterdir() if path.name != "__pycache__")
        assert len(entries) <= most, entries
