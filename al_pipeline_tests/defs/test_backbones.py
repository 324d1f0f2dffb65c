"""Rounds on a network of timm: a head on its features, and the whole of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch

from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.predict import predict
from al_pipeline.loop.choose import stored_probabilities
from al_pipeline_tests.defs.rounds import errors_of, freeze, metadata_of, run_round
from al_pipeline_tests.defs.worlds import World


def test_rounds_learn_a_head_on_timms_features_and_then_the_whole_network(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "given.safetensors")
    training = {"architecture": "timm:test_resnet", "image_size": 32, "epochs": 1, "framing": "crop"}
    world = make_world(training=training | {"weights": str(tmp_path / "given.safetensors")})
    assert world.materialize("image_pool", "embeddings").success
    for key, mode in (("r0001", "head"), ("r0002", "finetune")):
        freeze(world, key, per_class=3)
        result = run_round(world, key, training={"mode": mode})
        assert result.success, errors_of(result)
        shown = metadata_of(result, "checkpoint")
        assert (shown["mode"], shown["architecture"]) == (mode, "timm:test_resnet")
        checkpoint = Checkpoint.load(world.settings.artifact_folder / "checkpoint" / f"{key}.safetensors")
        scores, pool = world.value("uncertainty_scores", key), world.value("image_pool").set_index("sample_id")
        expected = predict(checkpoint, pool.loc[scores["sample_id"], "uri"].tolist())
        found = stored_probabilities(scores, checkpoint.info.class_names)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    kept = {path.parent.name.partition("-")[2] for path in tmp_path.rglob("*.features")}
    assert kept == {"32-crop-950-v3"}
