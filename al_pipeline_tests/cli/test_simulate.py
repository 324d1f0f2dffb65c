"""`al simulate`: a table of strategies from a folder of images, without a server, an orchestrator or a question."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from al_pipeline.cli import simulate
from al_pipeline.cli.app import app
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.train import untrained
from al_pipeline_tests.core.data.pictures import draw

NAMES = ("black", "white")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights."""
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    untrained(NAMES, TrainingOptions(image_size=16), seed=5, round_number=0).checkpoint.save(path)
    return path


@pytest.fixture(autouse=True)
def images(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images and a file of weights; the working directory is where they lie."""
    monkeypatch.chdir(tmp_path)
    seed = 0
    for split, count in (("pool", 10), ("holdout", 4)):
        for name in NAMES:
            seed += 1
            draw(tmp_path / "images" / split / name, [name] * count, seed=seed)
    for name in NAMES:
        draw(tmp_path / "few" / name, [name], seed=9)
    (tmp_path / "start.safetensors").hardlink_to(weights)
    return tmp_path / "images"


OPTIONS = {
    "--images": "images",
    "--strategies": "random,margin",
    "--seeds": "2",
    "--budget": "8",
    "--batch-size": "4",
    "--sample-size": "all",
    "--weights": "start.safetensors",
    "--image-size": "16",
    "--mode": "head",
    "--jobs": "1",
    "--output": "studies",
}
ARGUMENTS = ["simulate", *(word for option in OPTIONS.items() for word in option)]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


def test_a_study_is_run_once_told_in_a_table_and_read_from_then_on(tmp_path: Path) -> None:
    code, told = run(*ARGUMENTS)
    assert code == 0, told
    for metric in ("accuracy", "ROC-AUC"):
        # Budgets that runs have had, and no other.
        assert re.search(rf"Mean {metric} on the holdout by labels, 2 seeds \W+ strategy \W+ 4 \W+ 8 \W+ random", told)
    # No terminal shows a bar here.
    for line in (
        r"1 of 2 seeds done, \d+ rounds computed in \d+ s",
        r"2 of 2 seeds done, \d+ rounds computed in \d+ s",
    ):
        assert re.search(line, told)
    assert "0 of 2 seeds done; in each 3 rounds of random, margin" in told
    assert "2 seeds computed, 0 found in" in told
    assert "random's ROC-AUC at 8 labels" in told
    results = pd.read_parquet(tmp_path / "studies" / "results.parquet")
    runs = results[["seed", "strategy"]].drop_duplicates()
    assert list(runs.itertuples(index=False, name=None)) == [
        (seed, name) for seed in (0, 1) for name in ("random", "margin")
    ]
    assert results["n_labels"].max() == 8
    assert "The report is studies/report.html, and as Markdown studies/report.md" in told
    names = ["results.parquet", "report.html", "report.md", "images/curves.png", "images/wins.png"]
    before = [(tmp_path / "studies" / name).read_bytes() for name in names]
    assert "random's ROC-AUC at 8 labels" in before[2].decode()
    assert "| strategies | random, margin |" in before[2].decode()
    code, told = run(*ARGUMENTS)
    assert (code, "0 seeds computed, 2 found in" in told) == (0, True), told
    assert [(tmp_path / "studies" / name).read_bytes() for name in names] == before


def test_what_is_not_said_is_as_in_the_loops_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AL_TRAINING__WEIGHTS")
    (tmp_path / "al.toml").write_text(
        'images = "images"\n[round]\nbatch_size = 3\nseed = 7\n'
        '[training]\nimage_size = 16\nweights = "start.safetensors"\n'
    )
    code, told = run("simulate", "--seeds", "1", "--budget", "6", "--jobs", "1", "--skip-rate", "0.3")
    assert code == 0, told
    results = pd.read_parquet(tmp_path / "simulation" / "results.parquet")
    assert results["strategy"].unique().tolist() == ["auto", "random"]
    assert results["seed"].unique().tolist() == [7]
    assert "takes at least 2 seeds" in told
    assert results["n_asked"].iloc[1] == 3
    assert results["n_labels"].max() == 6
    assert (results["n_asked"] > results["n_labels"]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--strategies", "margin"), "What was saved is told against random"),
        (("--strategies", "random"), "and another one"),
    ],
)
def test_where_nothing_can_be_said_of_savings_it_says_why(
    change: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    code, told = run(*ARGUMENTS, *change)
    assert code == 0, told
    assert message in told
    assert message in (tmp_path / "studies" / "report.md").read_text()
    assert (tmp_path / "studies" / "images" / "curves.png").exists()


def test_images_can_be_seen_mirrored_too(tmp_path: Path) -> None:
    # By the name that the option had before, which the help no longer has.
    assert run(*(argument.replace("--output", "--out") for argument in ARGUMENTS))[0] == 0
    told = run("simulate", "--help")[1]
    assert ("--output" in told, "--out " in told) == (True, False)
    plain = pd.read_parquet(tmp_path / "studies" / "results.parquet")
    code, told = run(*ARGUMENTS, "--test-time-flip")
    assert (code, "2 seeds computed" in told) == (0, True), told
    assert "| training.test_time_flip | True |" in (tmp_path / "studies" / "report.md").read_text()
    flipped = pd.read_parquet(tmp_path / "studies" / "results.parquet")
    assert (flipped["ece"] - plain["ece"]).abs().max() > 0


def test_wide_images_are_seen_whole_as_rounds_see_them(images: Path, tmp_path: Path) -> None:
    for path in images.rglob("*.png"):
        Image.open(path).resize((60, 20)).save(path)
    code, told = run(*ARGUMENTS, "--seeds", "1")
    assert code == 0, told
    assert "Framing is pad: a crop shows 33% of the median image of the pool" in told
    assert "| training.framing | pad |" in (tmp_path / "studies" / "report.md").read_text()


def test_with_skips_the_samples_asked_about_are_counted(tmp_path: Path) -> None:
    code, told = run(*ARGUMENTS, "--skip-rate", "0.2")
    assert code == 0, told
    assert re.search(r"on the holdout by samples asked about, 2 seeds \W+ strategy \W+ 4 ", told)
    assert re.search(r"random's ROC-AUC at \d+ samples asked about", told)
    assert "samples asked about needed" in (tmp_path / "studies" / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--strategies", "entropie"), "unknown strategy 'entropie'; choose one of"),
        (("--strategies", "k_center", "--balanced"), "balanced = true does not go with the strategy 'k_center'"),
        (("--sample-size", "some"), "sample_size must be a whole number of at least 1, or none, not 'some'"),
        (("--sample-size", "3"), "batch_size 4 is larger than sample_size 3"),
        (("--error-rate", "2"), "error_rate must be a number from 0 to 1, not '2'"),
        (("--weights", "none"), "mode head learns from the features of given weights, and weights are none"),
        (("--weights", "gone.safetensors"), "There is no file"),
        (("--images", "few"), "the label of every holdout sample, but it is empty"),
    ],
)
def test_what_cannot_be_simulated_is_told_in_a_sentence(change: tuple[str, ...], message: str) -> None:
    code, told = run(*ARGUMENTS, *change)
    assert code == 1
    assert message in told
    assert told.startswith("Error:")


def test_a_staged_study_tells_what_it_does_and_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "SOON", 0.0)
    staged = ("--staged", "--strategies", "margin", "--seeds", "1", "--mode", "auto", "--epochs", "1")
    code, told = run(*ARGUMENTS, *staged)
    assert code == 0, told
    assert "0 of 1 seeds done; in each 3 rounds of margin. 2 of them refine the network, on 4 labels at first" in told
    # After the first round that refines, and none before.
    assert re.search(
        r"0 of 1 seeds done, 2 rounds computed in \d+ s, about \d+ s left 1 of 1 seeds done, 3 rounds", told
    )


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (5000, "83 min"), (5400, "2 h")]
)
def test_what_is_left_is_said_as_exactly_as_it_is_known(seconds: float, said: str) -> None:
    assert simulate._about(seconds) == f"about {said} left"


def test_without_a_test_split_a_quarter_is_held_out() -> None:
    code, told = run(*ARGUMENTS, "--images", "images/pool")
    assert code == 0, told
    assert "The images bring no test split (holdout/…): 5 are held out, by whole groups (near_duplicates)" in told


def test_no_images_are_asked_for() -> None:
    code, told = run("simulate")
    assert code == 1
    assert "add --images DIR" in told


def test_no_orchestrator_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from al_pipeline.cli.app import app\n"
        f"try: app({ARGUMENTS!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('dagster' in sys.modules, 'label_studio_sdk' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["False", "False"]
