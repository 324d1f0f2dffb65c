"""Experiments in Dagster: a cell is what a whole simulation would find, and only like is compared with like."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.train import untrained
from al_pipeline.core.strategies import available
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.run import one_thread
from al_pipeline.core.study.simulate import Embedded, known, simulate, simulate_seed
from al_pipeline.defs.assets.simulation import cells
from al_pipeline.loop.samples import StoredSamples
from al_pipeline_tests.defs.rounds import errors_of, metadata_of
from al_pipeline_tests.defs.worlds import CLASSES, World, write_usual_images

BUDGET = {"budget": 12}


def with_heads(weights: Path) -> dict[str, Any]:
    return {
        "round": {"batch_size": 4, "sample_size": None},
        "training": {"image_size": 16, "weights": str(weights), "mode": "head"},
    }


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    untrained(CLASSES, TrainingOptions(image_size=16), seed=5, round_number=0).checkpoint.save(path)
    return path


@pytest.fixture(scope="module")
def once_embedded(scan_once: Callable[..., Path], weights: Path) -> Path:
    return scan_once(write_usual_images, **with_heads(weights))


@pytest.fixture
def heads(go_on: Callable[..., World], once_embedded: Path, weights: Path) -> World:
    """A world with given weights, in which heads learn from features that are there."""
    return go_on(once_embedded, **with_heads(weights))


def run_cell(world: World, strategy: str, seed: int, **config: Any) -> dg.ExecuteInProcessResult:
    """Run one partition."""
    settings = {name: {"config": config.pop(name)} for name in ("round_config", "training") if name in config}
    return world.defs.resolve_job_def("simulate").execute_in_process(
        instance=world.instance,
        partition_key=dg.MultiPartitionKey({"strategy": strategy, "seed": str(seed)}),
        run_config={"ops": {"simulation": {"config": BUDGET | config}}, "resources": settings},
        raise_on_error=False,
    )


def stored(world: World, strategy: str, seed: int) -> pd.DataFrame:
    return pd.read_parquet(world.settings.artifact_folder / "simulation" / str(seed) / f"{strategy}.parquet")


def compare(world: World) -> tuple[dict[str, Any], bool]:
    """Materialize the comparison; return its metadata and whether all settings agree."""
    result = world.materialize("strategy_comparison")
    assert result.success
    [check] = result.get_asset_check_evaluations()
    return metadata_of(result, "strategy_comparison"), check.passed


def plan_of(world: World, strategies: list[str], seed: int) -> Plan:
    size = world.settings.round
    return Plan(
        strategies=strategies,
        seeds=[seed],
        batch_size=size.batch_size,
        sample_size=size.sample_size,
        options=world.settings.training,
        budget=12,
    )


def test_there_is_a_partition_for_every_strategy_and_twenty_seeds() -> None:
    expected = {f"{seed}|{strategy}" for strategy in available() for seed in range(20)}
    assert set(cells.get_partition_keys()) == expected


def test_a_cell_is_its_part_of_the_whole_simulation_to_the_last_bit(heads: World) -> None:
    assert run_cell(heads, "margin", 3).success
    manifest, plan = heads.value("image_pool"), plan_of(heads, ["random", "margin"], 3)
    samples = known(manifest, CLASSES)
    store = StoredSamples(manifest, heads.deployment, heads.settings.training, 3, logging.getLogger()).store
    features = Embedded(*(store.load(split["sample_id"].tolist()) for split in (samples.pool, samples.holdout)))
    whole = simulate_seed(samples, plan, 3, features)
    found = stored(heads, "margin", 3)
    pd.testing.assert_frame_equal(found, whole[whole["strategy"] == "margin"].reset_index(drop=True), check_exact=True)
    # Embedded image by image or all at once, features may differ by rounding.
    apart = simulate(manifest, CLASSES, plan)
    pd.testing.assert_frame_equal(found, apart[apart["strategy"] == "margin"].reset_index(drop=True), rtol=1e-5)


def test_a_fine_tuned_cell_is_its_part_of_the_whole_simulation_to_the_last_bit(scanned: World) -> None:
    assert run_cell(scanned, "low_certainty", 1).success
    plan = plan_of(scanned, ["random", "low_certainty", "k_center"], 1)
    # Sums over several threads are rounded in another order.
    with one_thread():
        whole = simulate(scanned.value("image_pool"), CLASSES, plan)
    expected = whole[whole["strategy"] == "low_certainty"].reset_index(drop=True)
    pd.testing.assert_frame_equal(stored(scanned, "low_certainty", 1), expected, check_exact=True)


def test_with_features_in_the_store_no_image_is_looked_at(heads: World) -> None:
    assert isinstance(heads.settings.images, Path)
    elsewhere = heads.settings.images.rename(heads.settings.images.with_name("elsewhere"))
    result = run_cell(heads, "auto", 0, start="own")
    elsewhere.rename(heads.settings.images)
    assert result.success, errors_of(result)
    shown = metadata_of(result, "simulation")
    assert (shown["labels"], shown["rounds"], shown["dagster/row_count"]) == (12, 4, 4)
    assert shown["settings"]["plan"]["start"] == "own"
    assert 0 <= shown["accuracy"] <= 1


def test_the_cells_there_are_are_compared_in_words_a_table_and_pictures(heads: World) -> None:
    for strategy, seed in (("random", 0), ("random", 1), ("margin", 0), ("margin", 1), ("margin", 7)):
        assert run_cell(heads, strategy, seed).success
    shown, agree = compare(heads)
    assert agree
    assert (shown["strategies"], shown["seeds"]) == (2, 2)
    assert "random's ROC-AUC at 12 labels" in shown["findings"]
    assert "| margin |" in shown["report"]
    for picture in ("curves", "differences", "areas", "wins"):
        assert "data:image/png;base64," in shown[picture]
        assert len(shown[picture]) < 140_000
    assert "1 without a partner of the same seed: margin 7" in shown["left_out"]
    assert Path(shown["page"]).read_text().startswith("<!")
    table = heads.value("strategy_comparison").set_index("strategy")
    assert table["seeds"].tolist() == [2, 2]
    assert table.loc["margin", "verdict"] in {"better", "worse", "no difference shown"}


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ([("random", 0), ("margin", 0)], "takes at least 2 seeds"),
        ([("margin", 0), ("margin", 1)], "told against random"),
        ([("random", 2)], "told against random"),
    ],
    ids=str,
)
def test_where_savings_cannot_be_told_it_says_why_and_shows_the_curves(
    heads: World, there: list[tuple[str, int]], message: str
) -> None:
    for strategy, seed in there:
        assert run_cell(heads, strategy, seed).success
    shown, agree = compare(heads)
    assert agree
    assert message in shown["findings"]
    assert "data:image/png;base64," in shown["curves"]
    assert "left_out" not in shown
    assert heads.value("strategy_comparison")["strategy"].tolist() == sorted({strategy for strategy, _ in there})


def test_skips_are_counted_as_asked(heads: World) -> None:
    for strategy in ("random", "margin"):
        for seed in (0, 1):
            assert run_cell(heads, strategy, seed, skip_rate=0.3).success
    shown, _ = compare(heads)
    assert "samples asked about" in shown["findings"]


def test_cells_of_other_settings_are_never_mixed_in_and_are_named_with_the_remedy(heads: World) -> None:
    assert run_cell(heads, "random", 0, round_config={"batch_size": 3, "sample_size": None}).success
    assert run_cell(heads, "margin", 0, training={"confidence": 0.9}).success
    assert run_cell(heads, "entropy", 0).success
    shown, agree = compare(heads)
    assert not agree
    assert (shown["strategies"], shown["seeds"]) == (1, 1)
    assert "1 with other settings (plan.batch_size 3 instead of 4): random 0" in shown["left_out"]
    assert "plan.options.confidence 0.9 instead of 0.95" in shown["left_out"]
    assert "launch the backfill of simulation again for these partitions" in shown["left_out"]
    assert run_cell(heads, "random", 0).success
    assert run_cell(heads, "margin", 0).success
    shown, agree = compare(heads)
    assert agree
    assert (shown["strategies"], shown["seeds"]) == (3, 1)


def test_without_a_cell_there_is_nothing_to_compare_and_it_says_what_to_launch(heads: World) -> None:
    with pytest.raises(InputError, match="launch a backfill of simulation"):
        heads.materialize("strategy_comparison")


def test_a_damaged_cell_is_named(heads: World) -> None:
    assert run_cell(heads, "random", 0).success
    (heads.settings.artifact_folder / "simulation" / "0" / "random.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="materialize the partition random, seed 0 of simulation again"):
        heads.materialize("strategy_comparison")


def test_a_cell_that_fails_leaves_nothing_and_is_the_only_one_that_is_missing(heads: World) -> None:
    assert run_cell(heads, "random", 0).success
    before = (heads.settings.artifact_folder / "simulation" / "0" / "random.parquet").stat().st_mtime_ns
    failed = run_cell(heads, "k_center", 0, round_config={"strategy": "margin", "balanced": True})
    assert not failed.success
    assert "balanced = true does not go with the strategy 'k_center'" in errors_of(failed)
    assert heads.instance.get_materialized_partitions(dg.AssetKey("simulation")) == {"0|random"}
    assert run_cell(heads, "k_center", 0).success
    assert heads.instance.get_materialized_partitions(dg.AssetKey("simulation")) == {"0|random", "0|k_center"}
    assert (heads.settings.artifact_folder / "simulation" / "0" / "random.parquet").stat().st_mtime_ns == before


KILLED = """
import sys
from collections.abc import Callable
from pathlib import Path
import dagster as dg
from al_pipeline_tests.defs.worlds import open_world
from al_pipeline_tests.defs.test_simulation import run_cell

world = open_world(Path(sys.argv[1]), {"home": sys.argv[2], "images": sys.argv[3], "round": {"batch_size": 4},
    "training": {"image_size": 16, "epochs": 10_000}})
run_cell(world, "margin", 2)
"""


def test_a_killed_cell_leaves_nothing_and_is_done_again(make_world: Any, tmp_path: Path) -> None:
    world = make_world(round={"batch_size": 4}, training={"image_size": 16, "epochs": 1})
    world.materialize("image_pool", "embeddings")
    assert run_cell(world, "random", 2).success
    # Its first training would take hours.
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, world.instance.root_directory, world.settings.home, world.settings.images],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            assert any("margin, seed 2, round 0" in line for line in process.stderr)
        finally:
            process.send_signal(signal.SIGKILL)
    folder = world.settings.artifact_folder / "simulation" / "2"
    assert [path.name for path in folder.iterdir()] == ["random.parquet"]
    assert world.instance.get_materialized_partitions(dg.AssetKey("simulation")) == {"2|random"}
    assert run_cell(world, "margin", 2).success
    assert world.instance.get_materialized_partitions(dg.AssetKey("simulation")) == {"2|random", "2|margin"}
