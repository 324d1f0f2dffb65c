"""An exported file gives what `predict` gives, says what it is, and is whole, checked or not there."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from PIL import Image

from al_pipeline.core.data.framing import FRAMINGS
from al_pipeline.core.data.images import decode
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.export import (
    EXTRA_FILE,
    FORMATS,
    SUFFIXES,
    Exported,
    ExportError,
    check_exported,
    describe,
    export_model,
)
from al_pipeline.core.learning.predict import predict
from al_pipeline.core.learning.train import TrainingOptions, untrained
from al_pipeline_tests.core.data.pictures import draw
from al_pipeline_tests.core.learning.test_checkpoint import file_size_limit

NAMES = ("grüner Wald", "dark horse", "寿司", "d", "e")
COUNTS = (1, 7)
# Runs exported files without this project: what it is given and what comes back are .npy files.
CONSUMER = """
import json, sys, numpy, torch
name, *jobs = sys.argv[1:]
for path, inputs, outputs in zip(jobs[::3], jobs[1::3], jobs[2::3]):
    extra = {name: ""}
    model = torch.jit.load(path, _extra_files=extra)
    assert not [name for name in sys.modules if name.startswith(("al_pipeline", "torchvision"))]
    with torch.inference_mode():
        numpy.save(outputs, model(torch.from_numpy(numpy.load(inputs))).numpy())
    print(json.dumps(json.loads(extra[name])))
"""
Make = Callable[[int, str], tuple[Checkpoint, Exported]]


@cache
def small(classes: int, temperature: float = 2.5) -> Checkpoint:
    """Return a network whose answers differ from image to image, and not too much for a temperature to show.

    That of five classes sees mirror images, too.
    """
    options = TrainingOptions(image_size=16, test_time_flip=classes == 5)
    checkpoint = untrained(NAMES[:classes], options, seed=classes, round_number=7).checkpoint
    return replace(checkpoint, info=replace(checkpoint.info, temperature=temperature))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Seven real files, of other shapes than the network's and of three formats."""
    folder = tmp_path_factory.mktemp("images")
    paths = [Path(path) for path in draw(folder, ["black", "gray", "white", "black", "white"])]
    rng = np.random.default_rng(3)
    for name, mode in (("wide.jpg", "RGB"), ("gray.gif", "L")):
        pixels = np.linspace(0, 255, 60 * 40 * 3).reshape(40, 60, 3) * rng.uniform(0.3, 1, 3)
        Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(folder / name)
        paths.append(folder / name)
    return paths


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that exports once per number of classes and format: the ONNX exporter takes seconds."""
    done: dict[tuple[int, str], tuple[Checkpoint, Exported]] = {}

    def made(classes: int, file_format: str) -> tuple[Checkpoint, Exported]:
        if (classes, file_format) not in done:
            checkpoint = small(classes)
            path = tmp_path_factory.mktemp("models") / f"r0007{SUFFIXES[file_format]}"
            done[classes, file_format] = checkpoint, export_model(checkpoint, path, file_format)
        return done[classes, file_format]

    return made


def pixels_of(paths: list[Path]) -> npt.NDArray[np.uint8]:
    return np.stack([decode(path, 16) for path in paths])


def largest(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


@pytest.mark.parametrize("classes", [2, 5])
def test_the_checkpoints_of_these_tests_can_tell_right_from_wrong(classes: int, images: list[Path]) -> None:
    probabilities = predict(small(classes), images)
    assert np.ptp(probabilities, axis=0).max() > 0.01
    assert largest(probabilities, predict(small(classes, temperature=1), images)) > 0.01


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("classes", [2, 5])
def test_onnxruntime_gives_our_probabilities(make: Make, images: list[Path], classes: int, n: int) -> None:
    checkpoint, exported = make(classes, "onnx")
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    theirs = np.asarray(session.run(["probabilities"], {"pixels": pixels_of(images[:n])})[0])
    assert theirs.dtype == np.float32
    assert largest(theirs, predict(checkpoint, images[:n])) < 1e-4


def test_torchscript_gives_our_probabilities_without_our_code(make: Make, images: list[Path], tmp_path: Path) -> None:
    cases = [(classes, n) for classes in (2, 5) for n in COUNTS]
    arguments: list[object] = [EXTRA_FILE]
    for classes, n in cases:
        given, answer = tmp_path / f"in-{classes}-{n}.npy", tmp_path / f"out-{classes}-{n}.npy"
        np.save(given, pixels_of(images[:n]))
        arguments += [make(classes, "torchscript")[1].path, given, answer]
    # One process for all, as torch takes seconds to import; in another folder, where Python does not find this project.
    told = subprocess.run(
        [sys.executable, "-c", CONSUMER, *map(str, arguments)], cwd=tmp_path, capture_output=True, timeout=120
    )
    assert told.returncode == 0, told.stderr.decode()
    for (classes, n), line in zip(cases, told.stdout.splitlines(), strict=True):
        checkpoint, _ = make(classes, "torchscript")
        assert json.loads(line) == describe(checkpoint)
        answers = np.load(tmp_path / f"out-{classes}-{n}.npy")
        assert largest(answers, predict(checkpoint, images[:n])) < 1e-4, (classes, n)


def test_a_file_says_what_it_is(make: Make) -> None:
    checkpoint, exported = make(5, "onnx")
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata == describe(checkpoint)
    assert json.loads(metadata["class_names"]) == list(NAMES)
    assert (metadata["image_size"], metadata["round"], metadata["temperature"]) == ("16", "7", "2.5")
    assert metadata["checkpoint"] == checkpoint.hash
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type, pixels.shape[1:]) == ("pixels", "tensor(uint8)", [16, 16, 3])


def test_a_file_says_how_an_image_becomes_its_square() -> None:
    found = small(2)
    told = {name: describe(replace(found, info=replace(found.info, framing=name))) for name in FRAMINGS}
    assert [told[name]["framing"] for name in FRAMINGS] == ["crop", "squeeze", "pad"]
    assert "the shorter side resized to image_size (bilinear, antialiased), then the centre" in told["crop"]["input"]
    assert "both sides resized" in told["squeeze"]["input"]
    assert "the longer side resized" in told["pad"]["input"]
    assert "the colour (124, 116, 104)" in told["pad"]["input"]


def test_an_onnx_file_tells_no_paths_of_this_machine(make: Make) -> None:
    data = make(2, "onnx")[1].path.read_bytes()
    assert b"forward" not in data
    assert str(Path(__file__).parents[3]).encode() not in data


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_reported_is_true_of_the_file(make: Make, file_format: str) -> None:
    exported = make(2, file_format)[1]
    assert exported.bytes == exported.path.stat().st_size
    assert 0 < exported.difference < 1e-5
    assert [path.name for path in exported.path.parent.iterdir()] == [exported.path.name]


@pytest.mark.parametrize("file_format", FORMATS)
def test_another_checkpoint_is_told_from_the_exported_one(make: Make, file_format: str) -> None:
    checkpoint, exported = make(2, file_format)
    assert check_exported(exported.path, file_format, checkpoint) < 1e-5
    with pytest.raises(ExportError, match=r"differs from checkpoint .* more than 0\.0001"):
        check_exported(exported.path, file_format, small(2, temperature=2.6))
    mean = (0.5, 0.456, 0.406)
    with pytest.raises(ExportError, match="differs"):
        check_exported(exported.path, file_format, replace(checkpoint, info=replace(checkpoint.info, mean=mean)))


def test_a_model_that_gives_no_numbers_is_not_left_behind(tmp_path: Path) -> None:
    checkpoint = small(2)
    broken = replace(checkpoint, state=checkpoint.state | {"fc.bias": torch.tensor([0.0, torch.nan])})
    (tmp_path / "model.pt").write_text("older")
    with pytest.raises(ExportError, match="by nan"):
        export_model(broken, tmp_path / "model.pt", "torchscript")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


def test_an_unknown_format_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'tflite': choose onnx or torchscript"):
        export_model(small(2), tmp_path / "model.tflite", "tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=rf"package {package},.*al_pipeline\[export\].*--format torchscript"):
        export_model(small(2), tmp_path / "model.onnx", "onnx")
    assert not list(tmp_path.iterdir())
    assert export_model(small(2), tmp_path / "model.pt", "torchscript").path.exists()


def test_a_full_disk_keeps_the_older_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("older")
    with file_size_limit(1 << 20), pytest.raises(ExportError, match=rf"{path} could not be written.*Make room"):
        export_model(small(2), path, "torchscript")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


def test_a_folder_that_is_a_file_and_a_file_that_is_a_folder_are_errors_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExportError, match=r"file/model\.pt could not be written"):
        export_model(small(2), tmp_path / "file" / "model.pt", "torchscript")
    with pytest.raises(ExportError, match=r"folder could not be written: it is a folder"):
        export_model(small(2), tmp_path / "folder", "torchscript")
    assert not list((tmp_path / "folder").iterdir())
