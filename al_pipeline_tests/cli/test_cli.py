"""The command line: plain errors with a remedy, and what can be asked without servers."""

import sqlite3
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from al_pipeline.cli.app import app
from al_pipeline.ledger import Ledger
from al_pipeline.servers.processes import free_port
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # The commands hand settings to their child processes through the environment; the test takes them back.
    for name in ("AL_HOME", "AL_IMAGES", "AL_CLASSES", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


def test_up_without_images_says_how_to_name_them() -> None:
    code, told = run("up")
    assert code == 1
    assert "al up --images DIR" in told


def test_status_before_anything_ran_says_what_to_run() -> None:
    code, told = run("status")
    assert code == 1
    assert "run `al up`" in told


def test_status_while_a_round_runs_says_so_makes_no_counts_up_and_warns_of_other_keys(
    tmp_path: Path,
) -> None:
    home = tmp_path / ".al" / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("rounds", ["r0000"])
        instance.add_run(
            dg.DagsterRun(
                job_name="round",
                run_id=str(uuid4()),
                status=dg.DagsterRunStatus.STARTED,
                tags={"dagster/partition": "r0000"},
            )
        )
        instance.add_dynamic_partitions("rounds", ["foo"])
    code, told = run("status")
    assert code == 0
    assert "r0000: its run is in progress" in told
    assert "0 labels" not in told
    assert "Warning: Ignored, because they are no rounds (r and four digits): the partitions 'foo'" in told


def test_a_port_in_use_is_refused_with_the_remedy(tmp_path: Path) -> None:
    import socket

    (tmp_path / "images").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        code, told = run("up", "--images", str(tmp_path / "images"), "--dagster-port", str(port))
    assert code == 1
    assert f"Port {port}, asked for Dagster, is in use" in told
    assert "choose another port" in told


def test_a_bad_setting_is_named_with_what_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_ROUND__STRATEGY", "entropie")
    code, told = run("status")
    assert code == 1
    assert "AL_ROUND__STRATEGY" in told
    assert "low_certainty" in told
    assert "Traceback" not in told


def test_an_export_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    code, told = run("export", "labels.xlsx")
    assert code == 1
    assert "csv, parquet or json" in told
    assert not (tmp_path / "labels.xlsx").exists()


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "labels.json"])
def test_an_export_before_any_label_has_its_columns(name: str, tmp_path: Path) -> None:
    code, told = run("export", f"deep/{name}")
    assert code == 0
    assert "0 answers" in told
    assert (tmp_path / "deep" / name).exists()


def test_an_export_of_what_people_agree_on_has_one_row_per_image(tmp_path: Path) -> None:
    code, told = run("export", "agreed.csv", "--agreed")
    assert code == 0
    assert "0 labels" in told
    ledger = Ledger(f"sqlite:///{tmp_path / '.al' / 'ledger.sqlite3'}")
    ledger.register(manifest())
    ledger.plan("r0000", pd.concat([plan_rows(1, 2, 3), plan_rows(4, purpose="holdout")]))
    answers = [(1, "ann", "cat"), (1, "bob", "cat"), (1, "eve", "dog"), (2, "ann", "dog"), (2, "bob", "cat")]
    answers += [(3, "ann", "dog"), (4, "ann", "dog")]
    ledger.append(
        [said(n, sample(about), value, annotator=who) for n, (about, who, value) in enumerate(answers)], moment(1)
    )
    ledger.close()
    code, told = run("export", "agreed.csv", "--agreed")
    assert code == 0
    assert "2 labels written to agreed.csv" in told
    assert (tmp_path / "agreed.csv").read_text().splitlines() == [
        "sample_id,uri,label,votes,n_votes",
        f"{sample(1)},/images/1.png,cat,2,3",
        f"{sample(3)},/images/3.png,dog,1,1",
    ]


def test_migrate_makes_the_ledger(tmp_path: Path) -> None:
    assert run("migrate")[0] == 0
    assert Ledger(f"sqlite:///{tmp_path / '.al' / 'ledger.sqlite3'}").planned().empty


def test_the_doctor_looks_at_everything_and_says_what_to_fix(tmp_path: Path) -> None:
    code, told = run("doctor")
    assert code == 1
    assert "no folder is set: AL_IMAGES" in told
    for subject in ("versions", "disk", "ports", "ledger", "Label Studio"):
        assert f"{subject}:" in told


def test_the_doctor_reports_a_label_studio_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AL_LABEL_STUDIO_TOKEN", "s3cret")
    code, told = run("doctor")
    assert code == 1
    assert "http://127.0.0.1:9" in told
    assert "s3cret" not in told


def test_the_demo_does_not_delete_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    code, told = run("demo", "--fresh", "--home", str(tmp_path / "work"))
    assert code == 1
    assert "was not made by `al demo`" in told
    assert (tmp_path / "work" / "thesis.txt").exists()


def test_labels_are_brought_along_and_the_ledger_is_verified(tmp_path: Path) -> None:
    images = tmp_path / "photos"
    for name, shade in (("muffin", 40), ("chihuahua", 200)):
        (images / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(images / name / "1.png")
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nmuffin/1.png,muffin\nchihuahua/1.png,chihuahua\n")
    code, told = run("ledger", "import", str(table))
    assert code == 1
    assert "add --images DIR" in told
    code, told = run("ledger", "import", str(table), "--images", str(images))
    assert code == 0
    assert "2 labels are new, 0 changed, 0 were there already" in told
    code, told = run("ledger", "verify")
    assert code == 0
    assert "2 annotation events" in told
    assert "No problem was found" in told
    with sqlite3.connect(tmp_path / ".al" / "ledger.sqlite3") as connection:
        connection.execute("UPDATE annotation_events SET created_at = '2090-01-01 00:00:00'")
    code, told = run("ledger", "verify")
    assert code == 1
    assert "is missing from the current answers" in told
    assert "4 problems. Nothing was changed" in told


@pytest.mark.parametrize(
    ("name", "text", "reason"), [("x.txt", "", ".csv or .parquet"), ("x.csv", "", "cannot be read")]
)
def test_a_file_that_is_no_table_of_labels_is_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    code, told = run("ledger", "import", str(tmp_path / name), "--images", str(tmp_path))
    assert code == 1
    assert reason in told
