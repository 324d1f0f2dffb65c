"""Libraries and kinds of numbers give the same features to their own precision, and are never taken for each other."""

import logging
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.learning import arithmetic
from al_pipeline.core.learning.arithmetic import (
    PLAIN,
    Arithmetic,
    chosen_arithmetic,
    multiplies_bfloat16,
    multiplies_int8,
    possible,
)
from al_pipeline.core.learning.checkpoint import Checkpoint, CheckpointInfo, build
from al_pipeline.core.learning.engines import convolutions, fold_batch_norms, openvino_model, quiet_openvino
from al_pipeline.core.learning.int8 import calibrated
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import BATCH, embed, predict, predict_features
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.learning.train import untrained
from al_pipeline_tests.core.data.pictures import draw

CPU = torch.device("cpu")
BFLOAT16 = Arithmetic("openvino", "bfloat16")
OPENVINO = Arithmetic("openvino")
INT8 = Arithmetic("openvino", "int8")
HEADS = TrainingOptions(weights="imagenet", mode="head", inference_precision="int8")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return untrained(("a", "b", "c"), TrainingOptions(image_size=16), seed=0, round_number=0).checkpoint


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """More than a batch."""
    return draw(tmp_path_factory.mktemp("pool"), ["black", "gray", "white"] * 24, side=16)


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint, paths: list[str]) -> np.ndarray:
    return embed(checkpoint, paths)


def by(checkpoint: Checkpoint, wanted: Arithmetic) -> Checkpoint:
    return replace(checkpoint, info=replace(checkpoint.info, arithmetic=wanted.key))


@pytest.fixture
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    arithmetic._tell.cache_clear()


@pytest.mark.parametrize("wanted", [OPENVINO, BFLOAT16, Arithmetic("pytorch", "bfloat16")], ids=lambda one: one.key)
def test_every_arithmetic_gives_the_features_to_its_precision_on_any_number_of_threads(
    checkpoint: Checkpoint, paths: list[str], plain: np.ndarray, wanted: Arithmetic
) -> None:
    one = by(checkpoint, wanted)
    found = embed(one, paths)
    assert found.dtype == np.float32
    assert wanted.precision == "float32" or not multiplies_bfloat16(CPU) or not np.array_equal(found, plain)
    # Digits of the numbers: 24 and 8 bits, less what sums of many of them lose.
    close = 1e-5 if wanted.precision == "float32" or not multiplies_bfloat16(CPU) else 0.03
    np.testing.assert_allclose(found, plain, atol=close * np.abs(plain).max())
    with computing_on(2):
        assert np.array_equal(embed(one, paths, block=BATCH + 1), found)
    # The classifier after them has float32, whatever they are computed in.
    assert np.array_equal(predict(one, paths), predict_features(one, found))


def test_int8_comes_close_on_any_number_of_threads_and_goes_with_the_checkpoint(
    checkpoint: Checkpoint, paths: list[str], plain: np.ndarray, tmp_path: Path
) -> None:
    one = calibrated(by(checkpoint, INT8), paths)
    assert len(one.info.int8_ranges) == len(convolutions(checkpoint.model())) == 20
    # White is the largest number that the first one is given.
    assert one.info.int8_ranges[0] == pytest.approx((1 - 0.406) / 0.225, rel=0.01)
    found = embed(one, paths)
    assert not np.array_equal(found, plain)
    if multiplies_int8(CPU):
        cosines = (found * plain).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(plain, axis=1)
        assert cosines.min() > 0.99
        # A convolution that is told that its numbers are ten times larger has a tenth of the steps for them.
        coarse = replace(one, info=replace(one.info, int8_ranges=tuple(10 * r for r in one.info.int8_ranges)))
        assert np.abs(embed(coarse, paths) - plain).mean() > 2 * np.abs(found - plain).mean()
        assert coarse.info.way != one.info.way
    with computing_on(2):
        assert np.array_equal(embed(one, paths, block=BATCH + 1), found)
    one.save(tmp_path / "one.safetensors")
    assert np.array_equal(embed(Checkpoint.load(tmp_path / "one.safetensors"), paths), found)
    # Calibrated once; whose features are none of int8 have no use for it.
    assert calibrated(one, paths[:1]) is one
    assert calibrated(checkpoint, paths) is checkpoint


def test_int8_without_an_image_to_calibrate_on_is_an_error(checkpoint: Checkpoint, paths: list[str]) -> None:
    if multiplies_int8(CPU):
        with pytest.raises(InputError, match="calibrated on images of the pool"):
            embed(by(checkpoint, INT8), paths[:1])


@pytest.mark.parametrize(
    ("changes", "place", "why"),
    [
        ({}, "cuda", "networks run on a GPU here: set it to auto or float32"),
        ({"mode": "finetune"}, "cpu", "the network itself is trained"),
        ({"mode": "auto", "weights": "none"}, "cpu", "the network itself is trained"),
        ({"mode": "auto", "warm_start": True}, "cpu", "the network itself is trained"),
    ],
)
def test_int8_where_it_cannot_be_is_refused(changes: dict[str, str], place: str, why: str) -> None:
    with pytest.raises(InputError, match=f"inference_precision is int8, .*{why}"):
        chosen_arithmetic(HEADS.but(**changes), torch.device(place))


def test_int8_is_refused_where_the_processor_or_the_library_lacks_it(
    old_processor: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError, match=r"int8, which this machine's processor does not multiply"):
        chosen_arithmetic(HEADS, CPU)
    # A checkpoint that was made elsewhere is computed all the same.
    assert possible(INT8, CPU, "resnet18") == OPENVINO
    assert "differ in their second digit" in caplog.text
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
    assert chosen_arithmetic(HEADS, CPU) == possible(INT8, CPU, "resnet18") == INT8
    monkeypatch.setattr(arithmetic, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"int8, which OpenVINO computes, and it is not installed"):
        chosen_arithmetic(HEADS, CPU)


def test_networks_that_are_no_resnet_of_torchvision_are_computed_as_they_are() -> None:
    """By PyTorch: nobody has translated their layers, and their batch norms may stand elsewhere."""
    assert possible(BFLOAT16, CPU, "another").engine == "pytorch"
    assert possible(INT8, CPU, "another") == PLAIN
    before = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    fold_batch_norms(before)
    assert isinstance(before[1], nn.BatchNorm2d)


def test_a_mirror_image_has_the_same_features_with_test_time_flip(checkpoint: Checkpoint, paths: list[str]) -> None:
    one = by(checkpoint, OPENVINO)
    flipping = replace(one, info=replace(one.info, test_time_flip=True))
    expected = embed(replace(flipping, info=replace(flipping.info, arithmetic=PLAIN.key)), paths[:4])
    np.testing.assert_allclose(embed(flipping, paths[:4]), expected, atol=1e-5)


def test_bottlenecks_are_translated_too_and_what_is_unknown_is_said() -> None:
    model = build("resnet50", 3, seed=0).eval()
    model.fc = nn.Identity()
    fold_batch_norms(model)
    pixels = torch.rand(2, 3, 33, 33)
    with torch.inference_mode():
        expected = model(pixels)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found = (
        quiet_openvino()
        .Core()
        .compile_model(openvino_model(model), "CPU", settings)(pixels.permute(0, 2, 3, 1).numpy())[0]
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    with pytest.raises(TypeError, match="no translation of Sigmoid"):
        openvino_model(nn.Sequential(nn.Sigmoid()))


def test_nobody_is_told_that_openvino_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this package its import writes a number that identifies the user, and sends it."""
    (tmp_path / "openvino_telemetry.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    quiet_openvino()
    with pytest.raises(ImportError, match="openvino_telemetry"):
        import_module("openvino_telemetry")


def test_auto_is_plain_for_networks_that_are_trained_and_the_fastest_for_features_of_given_weights(
    old_processor: None,
) -> None:
    assert chosen_arithmetic(TrainingOptions(weights="none"), CPU) == PLAIN
    assert chosen_arithmetic(TrainingOptions(weights="imagenet", mode="finetune"), CPU) == PLAIN
    assert chosen_arithmetic(TrainingOptions(weights="imagenet"), torch.device("cuda")) == PLAIN
    heads = TrainingOptions(weights="imagenet", mode="head")
    assert chosen_arithmetic(heads, CPU) == OPENVINO
    asked = TrainingOptions(mode="finetune", inference_precision="float32")
    assert chosen_arithmetic(asked, CPU) == OPENVINO


def test_a_processor_with_bfloat16_computes_features_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert chosen_arithmetic(TrainingOptions(weights="imagenet"), CPU) == BFLOAT16
    kept = TrainingOptions(weights="imagenet", inference_precision="float32")
    assert chosen_arithmetic(kept, CPU) == OPENVINO


def test_bfloat16_that_the_hardware_lacks_is_refused(old_processor: None) -> None:
    wanted = TrainingOptions(inference_precision="bfloat16")
    with pytest.raises(InputError, match=r"bfloat16.*processor does not multiply: set it to auto or float32"):
        untrained(("a", "b"), wanted, seed=0, round_number=0)


def test_a_checkpoint_of_another_machine_is_computed_with_what_this_one_has_and_that_is_said_once(
    checkpoint: Checkpoint,
    paths: list[str],
    plain: np.ndarray,
    old_processor: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        found = [embed(by(checkpoint, BFLOAT16), paths) for _ in range(2)]
        assert np.array_equal(found[0], embed(by(checkpoint, OPENVINO), paths))
        assert len(caplog.messages) == 1
        assert "in float32" in caplog.text
        monkeypatch.setattr(arithmetic, "find_spec", lambda name: None)
        assert np.array_equal(embed(by(checkpoint, BFLOAT16), paths), plain)
        assert chosen_arithmetic(TrainingOptions(weights="imagenet"), CPU) == PLAIN
    assert len(caplog.messages) == 2
    assert "OpenVINO is not installed" in caplog.text


def test_checkpoints_keep_their_arithmetic_and_those_of_before_are_plain(checkpoint: Checkpoint) -> None:
    info = by(checkpoint, BFLOAT16).info
    assert CheckpointInfo.from_json(info.to_json()) == info
    before = info.to_json().replace('"arithmetic": "openvino-bfloat16", ', "")
    assert CheckpointInfo.from_json(before).arithmetic == PLAIN.key
    with pytest.raises(CheckpointError, match="'openvino-int4'"):
        CheckpointInfo.from_json(info.to_json().replace("openvino-bfloat16", "openvino-int4"))


def test_features_of_different_precision_are_kept_apart(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """By the names of their folders; those from before there was a choice are found again."""
    import pandas as pd
    import safetensors.torch

    from al_pipeline.loop.deployment import Deployment
    from al_pipeline.loop.samples import StoredSamples
    from al_pipeline.settings import Settings

    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(checkpoint.state, weights)
    deployment = Deployment(Settings(home=tmp_path / "home"))
    manifest = pd.DataFrame({name: [] for name in ("sample_id", "uri", "split", "label", "width", "height")})

    def name(**more: str) -> str:
        options = TrainingOptions(weights=str(weights), image_size=16, framing="crop").but(**more)
        return StoredSamples(manifest, deployment, options, 0, logging.getLogger()).store.folder.name

    before, in_float32 = name(mode="finetune"), name(inference_precision="float32")
    assert in_float32 == f"{before}-{OPENVINO.key}"
    if multiplies_bfloat16(CPU):
        assert name() == f"{before}-{BFLOAT16.key}"
