"""Frames of one burst are counted together: in the intervals of a round, in its folds, and in what was saved."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from al_pipeline.core.evaluation.evaluate import evaluate
from al_pipeline.core.evaluation.metrics import Interval
from al_pipeline.loop.samples import StoredSamples
from al_pipeline_tests.defs.rounds import errors_of, freeze, metadata_of, run_round
from al_pipeline_tests.defs.worlds import World, write_usual_images

FRAMES = 3


@pytest.fixture
def bursts(make_world: Callable[..., World], tmp_path: Path) -> World:
    """The usual images, three of which belong together by a table."""
    images, table = tmp_path / "images", tmp_path / "bursts.csv"
    write_usual_images(images)
    paths = sorted(path.relative_to(images) for path in images.rglob("*.png"))
    bursts = [f"{path.parent} {int(path.stem.rpartition('-')[2]) // FRAMES}" for path in paths]
    pd.DataFrame({"path": paths, "burst": bursts}).to_csv(table, index=False)
    world = make_world(images, group=f"{table}:burst")
    assert world.materialize("image_pool", "embeddings").success
    return world


def test_the_intervals_of_a_round_and_of_its_comparison_are_by_groups(bursts: World) -> None:
    freeze(bursts, "r0000", per_class=6)
    assert run_round(bursts, "r0000").success
    freeze(bursts, "r0001", per_class=12)
    result = run_round(bursts, "r0001")
    assert result.success, errors_of(result)
    shown = metadata_of(result, "evaluation")
    assert shown["holdout_samples"] == 12
    assert shown["holdout_groups"].startswith("4 groups: tell the accuracy as well as ")
    artifacts = bursts.deployment.artifacts
    document = json.loads((artifacts.evaluations / "r0001.json").read_text())
    assert document["evaluation"]["groups"] == 4
    kept = pd.read_parquet(artifacts.holdout_predictions / "r0001.parquet")
    pool = bursts.value("image_pool").set_index("sample_id").loc[kept["sample_id"]]
    table = pd.read_csv(bursts.settings.group.rpartition(":")[0]).set_index("path")["burst"]
    folder = bursts.settings.images
    assert isinstance(folder, Path)
    own = [table[str(Path(uri).relative_to(folder.resolve()))] for uri in pool["uri"]]
    names = document["evaluation"]["class_names"]
    p = kept[[f"p_{name}" for name in names]].to_numpy()
    expected = evaluate(p, pool["label"].tolist(), names, groups=own)
    for name in ("accuracy", "roc_auc"):
        assert Interval(**document["evaluation"][name]) == getattr(expected, name)
    assert document["comparison"]["n"] == 12
    # A comparison of four groups is hardly ever sure of anything.
    assert document["comparison"]["accuracy"]["low"] < 0 or document["comparison"]["accuracy"]["high"] > 0


def test_samples_know_what_they_belong_to_and_those_that_are_gone_are_alone(make_world: Callable[..., World]) -> None:
    world = make_world()
    pool = pd.DataFrame({"sample_id": list("abcde"), "group": ["a", "b", "a", None, "b"]})
    pool = pool.assign(uri=[f"/nowhere/{name}.png" for name in pool["sample_id"]], split="pool", label=None)
    pool = pool.assign(width=32, height=32)
    samples = StoredSamples(pool, world.deployment, world.deployment.settings.training, 0, logging.getLogger())
    a, b, c, d, e = samples.groups(list("abcde"))
    assert a == c
    assert b == e
    assert len({a, b, d}) == 3
    gone, first, lost, again = samples.groups(["gone", "a", "lost", "gone"])
    assert gone == again
    assert first == a
    assert len({a, b, d, gone, lost}) == 5
