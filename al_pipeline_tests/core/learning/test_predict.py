"""Predictions are in order, whole, and the same however they are cut into blocks."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn
from torchvision.transforms import Compose, Normalize, ToTensor

from al_pipeline.core.data import image_cache, images
from al_pipeline.core.data.framing import BORDER, FRAMINGS, Framing
from al_pipeline.core.errors import ImageError
from al_pipeline.core.learning.arithmetic import Arithmetic, possible
from al_pipeline.core.learning.checkpoint import MEAN, STD, Checkpoint, build
from al_pipeline.core.learning.engines import fold_batch_norms
from al_pipeline.core.learning.predict import BATCH, embed, predict, predict_features
from al_pipeline.core.learning.threads import computing_on
from al_pipeline.core.learning.train import TrainingOptions, untrained
from al_pipeline_tests.core.data.pictures import draw

NAMES = ("black", "gray", "white")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return untrained(NAMES, TrainingOptions(image_size=16), seed=0, round_number=0).checkpoint


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """More than two batches of pictures that need no resizing."""
    return draw(tmp_path_factory.mktemp("pool"), [*NAMES] * 44, side=16)


def test_rows_are_those_of_one_image_at_a_time(checkpoint: Checkpoint, paths: list[str]) -> None:
    found = predict(checkpoint, paths[:20])
    model, prepare = checkpoint.model(), Compose([ToTensor(), Normalize(MEAN, STD)])
    with torch.inference_mode():
        rows = [torch.softmax(model(prepare(Image.open(path))[None]), dim=1)[0] for path in paths[:20]]
    assert found.dtype == np.float64
    assert found.shape == (20, 3)
    assert np.ptp(found[:, 0]) > 1e-4
    np.testing.assert_allclose(found, torch.stack(rows).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_the_size_of_the_blocks_changes_no_bit(checkpoint: Checkpoint, paths: list[str]) -> None:
    expected = predict(checkpoint, paths)
    for block in (1, BATCH + 1):
        assert np.array_equal(predict(checkpoint, paths, block=block), expected)


@pytest.mark.parametrize(("batch", "workers"), [(1, 5), (7, 1)])
def test_neither_batch_size_nor_workers_nor_the_cache_change_a_prediction(
    checkpoint: Checkpoint, paths: list[str], tmp_path: Path, batch: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict(checkpoint, paths)
    monkeypatch.setattr(images, "default_workers", lambda: workers)
    monkeypatch.setattr("al_pipeline.core.learning.predict.BATCH", batch)
    np.testing.assert_allclose(predict(checkpoint, paths), expected, atol=1e-5)
    ids = [f"{i:032x}" for i in range(len(paths))]
    cached = image_cache.CachedImages(image_cache.ImageCache(tmp_path / "cache", 1 << 30), ids, paths)
    for _ in ("cold", "warm"):
        np.testing.assert_allclose(predict(checkpoint, cached), expected, atol=1e-5)


def test_the_temperature_softens_and_keeps_the_ranking(checkpoint: Checkpoint, paths: list[str]) -> None:
    plain = predict(checkpoint, paths[:10])
    warm = predict(replace(checkpoint, info=replace(checkpoint.info, temperature=4.0)), paths[:10])
    tempered = plain**0.25 / (plain**0.25).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(warm, tempered, atol=1e-9)


def test_with_test_time_flip_an_image_and_its_mirror_image_are_one(
    checkpoint: Checkpoint, paths: list[str], tmp_path: Path
) -> None:
    mirrored = [str(tmp_path / Path(path).name) for path in paths[:8]]
    for path, turned in zip(paths, mirrored, strict=False):
        ImageOps.mirror(Image.open(path)).save(turned)
    flipping = replace(checkpoint, info=replace(checkpoint.info, test_time_flip=True))
    own, other = embed(checkpoint, paths[:8]), embed(checkpoint, mirrored)
    assert np.abs(own - other).max() > 1e-3
    for same in (paths[:8], mirrored):
        np.testing.assert_allclose(embed(flipping, same), (own + other) / 2, atol=1e-6)
    np.testing.assert_allclose(predict(flipping, mirrored), predict(flipping, paths[:8]), atol=1e-9)
    np.testing.assert_allclose(
        predict_features(flipping, embed(flipping, mirrored)), predict(flipping, paths[:8]), atol=1e-6
    )


@pytest.mark.parametrize("framing", FRAMINGS)
def test_images_are_framed_as_the_checkpoint_says(checkpoint: Checkpoint, tmp_path: Path, framing: Framing) -> None:
    """As if somebody had made squares of them by hand."""
    rng = np.random.default_rng(0)
    wide, squares = [], []
    # What crops and borders need no resizing of.
    height = 16 if framing == "crop" else 8
    for i in range(3):
        pixels = rng.integers(0, 256, (height, 2 * height, 3), dtype=np.uint8)
        wide.append(str(tmp_path / f"wide-{i}.png"))
        Image.fromarray(pixels).save(wide[-1])
        if framing == "crop":
            square = pixels[:, 8:24]
        elif framing == "pad":
            square = np.full((16, 16, 3), BORDER, dtype=np.uint8)
            square[4:12] = pixels
        else:
            square = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
        squares.append(str(tmp_path / f"square-{i}.png"))
        Image.fromarray(square).save(squares[-1])
    framed = replace(checkpoint, info=replace(checkpoint.info, framing=framing))
    features = embed(framed, wide)
    assert np.array_equal(features, embed(checkpoint, squares))
    ids = [f"{i:032x}" for i in range(3)]
    cache = image_cache.ImageCache(tmp_path / "cache", 1 << 30)
    for _ in ("cold", "warm"):
        assert np.array_equal(embed(framed, image_cache.CachedImages(cache, ids, wide)), features)
    assert cache.stored(ids, 16, framing) == set(ids)


def test_features_are_what_the_classifier_sees(checkpoint: Checkpoint, paths: list[str]) -> None:
    features = embed(checkpoint, paths[:10])
    assert features.shape == (10, 512)
    assert features.dtype == np.float32
    logits = features @ checkpoint.state["fc.weight"].numpy().T + checkpoint.state["fc.bias"].numpy()
    odds = np.exp(logits)
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), predict(checkpoint, paths[:10]), atol=1e-5)


def test_no_images_give_an_empty_matrix_of_the_right_width(checkpoint: Checkpoint) -> None:
    assert predict(checkpoint, []).shape == (0, 3)
    assert embed(checkpoint, []).shape == (0, 512)


def test_a_broken_image_is_an_error_not_a_made_up_row(checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(ImageError):
        predict(checkpoint, [*draw(tmp_path, ["black"]), str(broken)])


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_folded_batch_norms_change_nothing_but_the_time(architecture: str) -> None:
    torch.manual_seed(0)
    model = build(architecture, 3, seed=0).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    pixels = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model(pixels)
        fold_batch_norms(model)
        torch.testing.assert_close(model(pixels), expected, rtol=1e-4, atol=1e-5)
    assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_gives_the_same_bits_whoever_else_is_in_the_batch_and_on_any_number_of_threads(
    checkpoint: Checkpoint, paths: list[str], precision: str
) -> None:
    """So that it plays no part which process computes which part of a pool, or with which machine's share of cores."""
    name = f"openvino-{precision}"
    arithmetic = possible(Arithmetic.of(name), torch.device("cpu"), "resnet18")
    if arithmetic.key != name:
        pytest.skip(f"this machine computes in {arithmetic.key}")
    mine, found = Checkpoint(replace(checkpoint.info, arithmetic=name), checkpoint.state), list[np.ndarray]()
    for threads in (1, 2):
        with computing_on(threads):
            whole = embed(mine, paths)
            for some in (slice(0, 1), slice(3, 17), slice(5, BATCH + 9), slice(1, None)):
                np.testing.assert_array_equal(embed(mine, paths[some]), whole[some])
            found.append(whole)
    np.testing.assert_array_equal(found[0], found[1])


# Makes more networks ready than stay so, gives the last up in another thread, and looks where signals are handled then.
GIVEN_UP = """
import ctypes, gc, threading
from dataclasses import replace
from pathlib import Path

import torch
from al_pipeline.core.learning import engines
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.train import TrainingOptions, untrained

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

for seed in range(engines.READY + 2):
    made = untrained(("a", "b"), TrainingOptions(image_size=32), seed=seed, round_number=0).checkpoint
    info = replace(made.info, arithmetic="openvino-float32", backbone_hash=f"{seed}")
    engines.backbone(Checkpoint(info, made.state), torch.device("cpu"))(torch.zeros(1, 3, 32, 32))

def give_up():
    engines._ready.cache_clear()
    gc.collect()

thread = threading.Thread(target=give_up)
thread.start()
thread.join()
found = Stack()
assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
lines = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
spans = [(*(int(end, 16) for end in span.split("-")), rights) for span, rights, *_ in lines]
there = [rights for begin, end, rights in spans if begin <= (found.start or 0) and found.start + found.size <= end]
print(there or "none", found.start is None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps is Linux's")
def test_what_signals_are_handled_on_stays_when_networks_are_given_up() -> None:
    """Else the next Ctrl-C, or a run's cancel, kills the process: OpenVINO's last core takes it along."""
    environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_UP], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout == "['rw-p'] False\n", done.stderr
