"""Who looks into Dagster sees that rounds start from an untrained network because no weights could be had."""

from collections.abc import Callable
from pathlib import Path

import pytest

from al_pipeline_tests.defs.rounds import errors_of, freeze, metadata_of, run_round
from al_pipeline_tests.defs.worlds import World


def test_the_checkpoint_and_the_learning_curve_say_that_no_weights_could_be_had(
    make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    nowhere = (tmp_path / "nowhere").as_uri()
    world = make_world(weights_url=nowhere, training={"weights": "auto", "image_size": 32, "epochs": 1})
    world.materialize("image_pool")
    freeze(world, "r0001", per_class=3)
    result = run_round(world, "r0001")
    assert result.success, errors_of(result)
    told = metadata_of(result, "checkpoint")
    assert told["weights"] == "none"
    assert f"could not be downloaded from {nowhere}" in told["without_weights"]
    curve = metadata_of(world.run("draw_learning_curve"), "learning_curve")
    assert curve["without_weights"] == told["without_weights"]
    curve = metadata_of(world.run("draw_learning_curve", training={"weights": "none"}), "learning_curve")
    assert "without_weights" not in curve, "somebody has asked for it"
