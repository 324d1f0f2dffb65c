"""The learning curve says what the labels saved, from the rows that rounds planned at random."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from al_pipeline.core.evaluation import figures
from al_pipeline.core.evaluation.figures import COLORS
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.train import untrained
from al_pipeline_tests.core.evaluation.test_figures import opened, share_of
from al_pipeline_tests.defs.rounds import errors_of, freeze, metadata_of, run_round
from al_pipeline_tests.defs.worlds import World, write_images
from al_pipeline_tests.templates import as_png

EXPLORING = {"strategy": "low_certainty", "batch_size": 28, "sample_size": None, "explore": 0.25}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    untrained(["0", "1"], TrainingOptions(image_size=32), seed=5, round_number=0).checkpoint.save(path)
    return path


def exploring(weights: Path) -> dict[str, Any]:
    return {"round": EXPLORING, "training": {"image_size": 32, "weights": str(weights)}}


@pytest.fixture(scope="module")
def once_scanned_large(scan_once: Callable[..., Path], weights: Path) -> Path:
    def write(images: Path) -> None:
        write_images(images, 50, seed=0)
        write_images(images, 30, seed=1, split="holdout")

    return scan_once(write, **exploring(weights))


@pytest.fixture
def explored(go_on: Callable[..., World], once_scanned_large: Path, weights: Path) -> World:
    """A world with a holdout that is large enough, heads on given features, and a random share in each batch."""
    return go_on(once_scanned_large, **exploring(weights))


def turn(world: World, key: str, *, beside: int = 0) -> None:
    """Run a round on the labels of all that was asked about before, as if people had given them truly.

    `beside` images more were shown beside the one that was asked about first.
    """
    ledger = world.deployment.ledger
    asked = ledger.planned()[["sample_id", "round"]].rename(columns={"round": "first_round"})
    rows = asked.merge(world.value("image_pool")[["sample_id", "label"]], on="sample_id")
    if beside:
        pool = world.value("image_pool").query("split == 'pool'")
        first = rows.iloc[0]
        shown = pool[(pool["label"] == first["label"]) & ~pool["sample_id"].isin(asked["sample_id"])].head(beside)
        members = shown[["sample_id", "label"]].assign(asked_with=first["sample_id"], first_round=first["first_round"])
        rows = pd.concat([rows.assign(asked_with=None), members], ignore_index=True)
    ledger.snapshot(key, rows.assign(votes=1, n_votes=1, weight=1.0, annotation_ids="1"))
    result = run_round(world, key)
    assert result.success, errors_of(result)


def shown(world: World) -> dict[str, Any]:
    return metadata_of(world.run("draw_learning_curve"), "learning_curve")


def picture_of(metadata: dict[str, Any]) -> bytes:
    return base64.b64decode(metadata["learning_curve"].split("base64,")[1].rstrip(")"))


def test_a_projection_by_the_loops_own_recipe_is_shown_once_the_strategy_chose_and_never_before(
    explored: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "as_png", as_png)
    turn(explored, "r0000")
    turn(explored, "r0001")
    before = shown(explored)
    assert "all labels were drawn at random" in before["labels_saved"]
    assert share_of(opened(picture_of(before)), COLORS[2]) == 0
    turn(explored, "r0002")
    after = shown(explored)
    planned = explored.deployment.ledger.planned()
    drawn = int((planned["round"].isin(["r0000", "r0001"]) & (planned["strategy"] == "random")).sum())
    assert drawn == 28 + 7
    [used] = pd.Series([after["labels_saved"]]).str.extract(r"projected from (\d+) labels drawn at random")[0]
    # What a random draw would have met among the strategy's labels counts as well.
    assert drawn <= int(used) < 56
    assert "reached with 56 labels" in after["labels_saved"]
    assert share_of(opened(picture_of(after)), COLORS[2]) > 0
    config = {"mode": "finetune", "epochs": 1, "image_size": 32, "weights": explored.settings.training.weights}
    by_networks = metadata_of(explored.run("draw_learning_curve", training=config), "learning_curve")["labels_saved"]
    assert f"from {used} labels drawn at random" in by_networks
    unasked = explored.run("draw_learning_curve", training=config, round_config={"explore": 0.0})
    assert "only with a random share" in metadata_of(unasked, "learning_curve")["labels_saved"]
    assert by_networks != after["labels_saved"]


def test_labels_of_images_that_were_shown_beside_are_not_labels_spent(explored: World) -> None:
    turn(explored, "r0000")
    turn(explored, "r0001")
    turn(explored, "r0002", beside=5)
    after = shown(explored)
    assert "reached with 56 answers, which gave 61 labels" in after["labels_saved"]
    curve = explored.value("learning_curve").set_index("round")
    assert curve.loc["r0002", ["n_labels", "n_answers"]].tolist() == [61, 56]


def test_without_a_random_share_the_setting_for_it_is_named(explored: World) -> None:
    freeze(explored, "r0001", per_class=20)
    assert run_round(explored, "r0001").success
    assert "set round.explore to 0.1 to 0.2" in shown(explored)["labels_saved"]
