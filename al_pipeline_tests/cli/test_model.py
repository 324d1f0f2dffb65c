"""`al predict` and `al export-model`: a table or a model from a stored checkpoint, or a plain error and no file."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args
from uuid import uuid4

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from al_pipeline.cli.app import app
from al_pipeline.cli.model import ModelFormat
from al_pipeline.core.data.images import decode
from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import InputError, PlaceError
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.export import FORMATS
from al_pipeline.core.learning.predict import predict
from al_pipeline.core.learning.train import TrainingOptions, untrained
from al_pipeline.loop import offline
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.offline import find_checkpoint, predict_folder
from al_pipeline.loop.refined import Network
from al_pipeline_tests.buckets import put_folder
from al_pipeline_tests.core.data.pictures import draw
from al_pipeline_tests.core.learning.test_checkpoint import file_size_limit

NAMES = ("grüner Wald", "dark, horse", "寿司")
COLUMNS = ["path", "predicted", "probability", *(f"p_{name}" for name in NAMES), "error"]


@pytest.fixture(scope="module")
def checkpoints() -> dict[str, Checkpoint]:
    """Rounds 0, 3 and 12, each with other weights; the last one counts as trained."""
    made = {n: untrained(NAMES, TrainingOptions(image_size=16), seed=n, round_number=n).checkpoint for n in (0, 3, 12)}
    made[12] = replace(made[12], info=replace(made[12].info, trained=True, temperature=1.5))
    return {f"r{n:04d}": checkpoint for n, checkpoint in made.items()}


@pytest.fixture(scope="module")
def stored(checkpoints: dict[str, Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each checkpoint."""
    folder = tmp_path_factory.mktemp("stored")
    for key, checkpoint in checkpoints.items():
        checkpoint.save(folder / f"{key}.safetensors")
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, stored: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a loop of three rounds; the working directory is another, empty one."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("AL_HOME", str(tmp_path / "home"))
    shutil.copytree(stored, tmp_path / "home" / "artifacts" / "checkpoint")
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images in two folders of different depth, and what is none of our business."""
    root = tmp_path / "photos"
    draw(root / "b" / "deep", ["black", "white", "gray"], seed=1)
    draw(root / "a", ["white", "black", "gray", "black"], seed=2)
    draw(root / ".hidden", ["black"])
    (root / "a" / ".DS_Store.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("no image")
    return root


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table[[f"p_{name}" for name in NAMES]].to_numpy()


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def break_two(folder: Path) -> list[str]:
    """Damage one image of each folder, in two ways; return their paths."""
    (folder / "a" / "2-0001.png").write_bytes(b"")
    damaged = folder / "b" / "deep" / "1-0002.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return ["a/2-0001.png", "b/deep/1-0002.png"]


@pytest.mark.parametrize("name", ["predictions.csv", "deep/table.parquet", "upper.CSV"])
def test_every_image_below_the_folder_gets_what_predict_gives(
    folder: Path, checkpoints: dict[str, Checkpoint], name: str
) -> None:
    code, told = run("predict", folder, "--checkpoint", "r0012", "--output", name)
    assert code == 0, told
    table = read(Path(name))
    assert list(table.columns) == COLUMNS
    expected = [f"a/2-000{i}.png" for i in range(4)] + [f"b/deep/1-000{i}.png" for i in range(3)]
    assert list(table["path"]) == expected
    ours = predict(checkpoints["r0012"], [folder / path for path in expected]).astype(np.float32)
    np.testing.assert_allclose(probabilities(table), ours, rtol=1e-6)
    assert list(table["predicted"]) == [NAMES[i] for i in ours.argmax(axis=1)]
    np.testing.assert_allclose(table["probability"], ours.max(axis=1), rtol=1e-6)
    assert table["error"].isna().all()
    for class_name, count in table["predicted"].value_counts().items():
        assert f"{count} {class_name}" in told
    assert "7 images in" in told
    assert f"7 rows written to {name}" in told
    assert "Warning" not in told
    assert files_below(Path.cwd()) == [name]


def test_images_of_a_bucket_are_predicted_as_those_of_the_folder(
    folder: Path, checkpoints: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, place = break_two(folder), Place(f"memory://{uuid4()}/photos")
    (folder / ".hidden" / "0-0000.png").rename(folder / "b" / "ü #1.png")
    put_folder(folder, place)
    for root, name in ((folder, "folder.parquet"), (place, "bucket.parquet")):
        code, told = run("predict", root, "--output", name)
        assert code == 0, told
        assert "2 of 8 files could not be read" in told
    ours, theirs = read(Path("folder.parquet")), read(Path("bucket.parquet"))
    pd.testing.assert_frame_equal(theirs.drop(columns="error"), ours.drop(columns="error"))
    assert theirs.loc[theirs["error"].notna(), "path"].tolist() == broken
    code, told = run("predict", f"{place}/b/ü #1.png", "--output", "one.csv")
    assert code == 0, told
    assert read(Path("one.csv"))["path"].tolist() == ["ü #1.png"]
    code, told = run("predict", f"{place}/elsewhere", "--output", "none.csv")
    assert code == 1
    assert f"There is no folder or image {place}/elsewhere: check the path" in told
    monkeypatch.setattr(Place, "entries", away)
    code, told = run("predict", place, "--output", "none.csv")
    assert code == 1
    assert "the bucket is away" in told
    assert not Path("none.csv").exists()


def away(place: Place) -> list[Entry]:
    raise PlaceError(f"{place} cannot be listed: the bucket is away")


def test_the_table_is_predictions_csv_and_the_checkpoint_the_latest(
    folder: Path, checkpoints: dict[str, Checkpoint]
) -> None:
    assert run("predict", folder)[0] == 0
    table = read(Path("predictions.csv"))
    ours = predict(checkpoints["r0012"], [folder / path for path in table["path"]])
    np.testing.assert_allclose(probabilities(table), ours, rtol=1e-5)


def test_a_checkpoint_elsewhere_is_named_by_its_path(
    folder: Path, home: Path, checkpoints: dict[str, Checkpoint], tmp_path: Path
) -> None:
    (home / "artifacts" / "checkpoint" / "r0003.safetensors").rename(tmp_path / "mine.safetensors")
    code, told = run("predict", folder, "--checkpoint", tmp_path / "mine.safetensors")
    assert code == 0, told
    assert "Warning: this checkpoint is untrained" in told
    table = read(Path("predictions.csv"))
    ours = predict(checkpoints["r0003"], [folder / path for path in table["path"]])
    np.testing.assert_allclose(probabilities(table), ours, rtol=1e-5)


def test_another_loop_is_named_by_its_home(folder: Path, home: Path, tmp_path: Path) -> None:
    home.rename(tmp_path / "elsewhere")
    code, told = run("predict", folder)
    assert code == 1
    assert f"no round is stored in {home}" in told
    assert "--home" in told
    assert run("predict", folder, "--home", tmp_path / "elsewhere")[0] == 0


def test_one_image_is_a_folder_of_one(folder: Path) -> None:
    code, told = run("predict", folder / "a" / "2-0003.png")
    assert code == 0, told
    assert list(read(Path("predictions.csv"))["path"]) == ["2-0003.png"]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_files_that_cannot_be_read_are_rows_with_the_reason(
    folder: Path, checkpoints: dict[str, Checkpoint], name: str
) -> None:
    broken = break_two(folder)
    os.mkfifo(folder / "pipe.png")
    (folder / "z.png").symlink_to("nowhere.png")
    code, told = run("predict", folder, "--output", name)
    assert code == 0, told
    table = read(Path(name)).set_index("path")
    failed = table[table["error"].notna()]
    assert dict(failed["error"]) == {
        broken[0]: "empty file",
        broken[1]: failed.loc[broken[1], "error"],
        "pipe.png": "not a regular file",
        "z.png": "unreadable: No such file or directory",
    }
    assert "cut off" in failed.loc[broken[1], "error"] or "damaged" in failed.loc[broken[1], "error"]
    assert failed.drop(columns="error").isna().all(axis=None)
    fine = table[table["error"].isna()]
    assert len(fine) == 5
    ours = predict(checkpoints["r0012"], [folder / path for path in fine.index])
    np.testing.assert_allclose(probabilities(fine), ours, rtol=1e-5)
    assert "5 images in" in told
    assert (
        f"Warning: 4 of 9 files could not be read; the column error says why. The first is {broken[0]}: empty" in told
    )


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_chunks_make_one_table(
    folder: Path, checkpoints: dict[str, Checkpoint], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first chunk is all damaged: its empty columns must not decide on the types of the others.
    draw(folder / "0", ["black", "white"], seed=3)
    for path in (folder / "0").iterdir():
        path.write_bytes(b"\x89PNG")
    predict_folder(checkpoints["r0003"], folder, Path(f"whole-{name}"))
    monkeypatch.setattr(offline, "CHUNK", 2)
    steps: list[tuple[int, int]] = []
    outcome = predict_folder(checkpoints["r0003"], folder, Path(name), progress=lambda *step: steps.append(step))
    assert steps == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]
    assert (outcome.files, outcome.predicted, sum(outcome.counts.values())) == (9, 7, 7)
    # Batches of other sizes sum in another order.
    pd.testing.assert_frame_equal(read(Path(name)), read(Path(f"whole-{name}")), rtol=1e-5)


def test_a_name_that_is_not_utf8_is_written_escaped(folder: Path) -> None:
    (folder / "a" / "2-0000.png").rename(folder / "a" / os.fsdecode(b"caf\xe9.png"))
    for name in ("out.csv", "out.parquet"):
        code, told = run("predict", folder / "a", "--output", name)
        assert code == 0, told
        table = read(Path(name))
        assert list(table["path"])[-1] == "caf\\xe9.png"
        assert table["error"].isna().all()


def test_a_folder_of_nothing_but_broken_images_is_an_error_without_a_table(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / f"{i}.jpg").write_bytes(b"no image")
    code, told = run("predict", tmp_path / "bad")
    assert code == 1
    assert "none of its 3 image files can be read" in told
    assert "0.jpg: text, not an image" in told
    assert files_below(Path.cwd()) == []


def test_a_folder_without_images_and_a_missing_one_are_errors_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    code, told = run("predict", tmp_path / "empty")
    assert code == 1
    assert f"{tmp_path / 'empty'} holds no images" in told
    code, told = run("predict", tmp_path / "nowhere")
    assert code == 1
    assert f"no folder or image {tmp_path / 'nowhere'}" in told
    assert files_below(Path.cwd()) == []


@pytest.mark.parametrize("command", [("predict", "{folder}"), ("export-model", "model.pt")])
def test_an_unknown_round_lists_the_stored(folder: Path, command: Sequence[str]) -> None:
    for name in ("r0007", "r7", "newest"):
        code, told = run(*(part.format(folder=folder) for part in command), "--checkpoint", name)
        assert code == 1
        assert f"no checkpoint '{name}'" in told
        assert "r0000, r0003, r0012" in told
    assert files_below(Path.cwd()) == []


def test_many_rounds_are_listed_shortly(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    for i in range(40):
        (tmp_path / "checkpoint" / f"r{i:04d}.safetensors").touch()
    # A file that is being written.
    (tmp_path / "checkpoint" / ".r0099.safetensors.x1").touch()
    assert find_checkpoint(Artifacts(tmp_path), "latest").name == "r0039.safetensors"
    with pytest.raises(InputError, match="r0000 to r0039, 40 in all"):
        find_checkpoint(Artifacts(tmp_path), "r0099")


@pytest.mark.parametrize("command", [("predict", "{folder}"), ("export-model", "model.pt")])
def test_a_damaged_and_a_missing_checkpoint_are_errors_with_the_path(
    folder: Path, home: Path, command: Sequence[str]
) -> None:
    path = home / "artifacts" / "checkpoint" / "r0012.safetensors"
    data = bytearray(path.read_bytes())
    data[-5000] ^= 1
    path.write_bytes(bytes(data))
    arguments = [part.format(folder=folder) for part in command]
    code, told = run(*arguments)
    assert code == 1
    assert f"{path} is damaged" in told
    code, told = run(*arguments, "--checkpoint", "nowhere.safetensors")
    assert code == 1
    assert "There is no file" in told
    assert files_below(Path.cwd()) == []


def test_a_table_that_cannot_be_written_is_known_before_anything_is_predicted(
    folder: Path, checkpoints: dict[str, Checkpoint]
) -> None:
    Path("file").write_text("in the way")
    steps: list[tuple[int, int]] = []
    for output, message in (("out.xlsx", ".csv or .parquet"), ("file/out.csv", "could not be written")):
        with pytest.raises(Exception, match=message):
            predict_folder(checkpoints["r0003"], folder, Path(output), progress=lambda *step: steps.append(step))
        code, told = run("predict", folder, "--output", output)
        assert code == 1
        assert message in told
        assert output in told
    assert not steps
    assert files_below(Path.cwd()) == ["file"]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_full_disk_keeps_the_older_table(folder: Path, name: str) -> None:
    Path(name).write_text("older")
    with file_size_limit(100):
        code, told = run("predict", folder, "--output", name)
    assert code == 1
    assert "could not be written: " in told
    assert "Make room" in told
    assert Path(name).read_text() == "older"
    assert files_below(Path.cwd()) == [name]


def test_the_command_offers_the_formats_that_there_are() -> None:
    assert get_args(ModelFormat) == FORMATS


def test_a_model_is_exported_as_onnx_under_its_rounds_name(folder: Path, checkpoints: dict[str, Checkpoint]) -> None:
    code, told = run("export-model")
    assert code == 0, told
    assert files_below(Path.cwd()) == ["r0012.onnx"]
    assert f"{checkpoints['r0012'].hash} of round r0012 written as onnx to r0012.onnx, 45 MB" in told
    path = folder / "a" / "2-0001.png"
    session = onnxruntime.InferenceSession("r0012.onnx", providers=["CPUExecutionProvider"])
    theirs = np.asarray(session.run(None, {"pixels": decode(path, 16)[None]})[0])
    np.testing.assert_allclose(theirs, predict(checkpoints["r0012"], [path]), atol=1e-4)


@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.load` is deprecated:FutureWarning")
@pytest.mark.parametrize("arguments", [("deep/model.pt",), ("model.bin", "--format", "torchscript")])
def test_a_model_is_exported_as_torchscript_by_name_or_on_demand(
    folder: Path, checkpoints: dict[str, Checkpoint], arguments: Sequence[str]
) -> None:
    code, told = run("export-model", *arguments, "--checkpoint", "r0003")
    assert code == 0, told
    assert files_below(Path.cwd()) == [arguments[0]]
    path = folder / "a" / "2-0001.png"
    theirs = torch.jit.load(arguments[0])(torch.tensor(decode(path, 16))[None]).numpy()
    np.testing.assert_allclose(theirs, predict(checkpoints["r0003"], [path]), atol=1e-4)


@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.load` is deprecated:FutureWarning")
def test_what_was_exported_is_kept_a_refined_network_too(home: Path, checkpoints: dict[str, Checkpoint]) -> None:
    network = home / "artifacts" / "refined_checkpoint" / "r0012.safetensors"
    checkpoints["r0003"].save(network)
    Network("r0012", network, checkpoints["r0003"].hash, better=True, sentence="it is").write({})
    code, told = run("export-model", "model.pt")
    assert code == 0, told
    assert f"{checkpoints['r0003'].hash} of round" in told
    why = f"exported to {Path.cwd() / 'model.pt'}\n"
    assert {path.name: path.read_text() for path in (home / "artifacts").rglob("*.pinned")} == {"r0012.pinned": why}
    assert network.with_suffix(".pinned").exists()


def test_a_model_of_an_unknown_kind_is_refused() -> None:
    code, told = run("export-model", "model.tflite")
    assert code == 1
    assert "add --format onnx or torchscript" in told
    code, told = run("export-model", "model.tflite", "--format", "tflite")
    assert code == 2
    assert "onnx" in told
    assert files_below(Path.cwd()) == []


def test_a_model_is_registered_where_there_is_an_mlflow_and_as_onnx_alone(checkpoints: dict[str, Checkpoint]) -> None:
    code, told = run("export-model", "model.pt", "--register")
    assert (code, "--register takes ONNX alone" in told) == (1, True), told
    code, told = run("export-model", "--register")
    assert (code, "--register needs an MLflow server: set AL_TRACKING__URI" in told) == (1, True), told
    assert files_below(Path.cwd()) == []
