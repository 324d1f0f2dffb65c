"""The command line: plain errors with a remedy, and what can be asked without servers."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from al_pipeline.cli.app import app
from al_pipeline.ledger import Ledger
from al_pipeline.loop.local import Servers
from al_pipeline.servers.processes import free_port
from al_pipeline.settings import load_settings
from al_pipeline.settings.presets import preset_values
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


def name_images(folder: Path, *classes: str) -> None:
    """Make files that only their names make images of two classes."""
    for name in classes or ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").touch()


HEAVY = ("torch", "dagster", "label_studio_sdk", "sklearn", "scipy")
REFUSALS = {
    "up --images nowhere": "folder of images {cwd}/nowhere (--images) does not exist",
    "scan nowhere": "folder of images {cwd}/nowhere (DIR) does not exist",
    "scan flat/1.png": "flat/1.png (DIR) is a file",
    "up --images empty": "holds no images",
    "up --images flat": "AL_CLASSES=muffin,chihuahua",
    "up --images one": "give 1 class ('only')",
    "up --images places": "{cwd}/places (--images): The folders 'Site_001', 'Site_002' look like sites, cameras or "
    "patients, not like classes. What are",
    "demo --images places": "{cwd}/places (--images): The folders 'Site_001', 'Site_002' look like sites",
    "demo --images nowhere": "folder of images {cwd}/nowhere (--images) does not exist",
    "up --images flat --classes a": "--classes give 1 class ('a')",
    "scan flat --group regex:(": "--group (or `group` in al.toml)",
    "simulate --images places": "If these are the classes: AL_CLASSES=Site_001,Site_002",
    "demo --images flat": "knows the answers from class folders",
    "up --images one --preset papr": "There is no preset 'papr': choose one of laptop, paper, gpu",
    "status": "run `al up`",
    "annotate": "run `al up`",
    "webhook --port 0": "Dagster has never run",
    "webhook --host 192.0.2.1": "Nothing can listen on port 9191 of 192.0.2.1",
    "ml-backend --host 192.0.2.1": "Nothing can listen on port 9090 of 192.0.2.1",
    "predict nowhere": "There is no folder or image nowhere",
    "predict flat --checkpoint r0007": "There is no checkpoint 'r0007'",
    "predict flat --checkpoint mine.safetensors": "There is no file mine.safetensors",
    "predict flat --output flat": "flat (--output) is a folder",
    "export-model model.onnx --checkpoint r7": "There is no checkpoint 'r7'",
    "export-model flat/1.png/model.onnx": "flat/1.png is a file, not a folder",
    "export labels.xlsx": "csv, parquet, json, folders, huggingface, coco or fiftyone",
    "export flat --format csv": "flat (PATH) is a folder",
    "export flat --format folders": "flat holds files already: name a new folder",
    "ledger import nowhere.csv": "There is no file or folder nowhere.csv",
    "ledger import flat/1.png": "labels are read from folders and from .csv",
    "ledger import flat --folders --format coco": "--folders and --format coco contradict each other",
    "migrate --home flat/1.png": "1.png is a file: name a folder",
    "up --home flat/1.png --images one": "1.png is a file: name a folder",
    "status --home flat/1.png": "1.png is a file: name a folder",
    "export labels.csv --home typo": "There is no ledger in {cwd}/typo",
    "ledger verify --home typo": "There is no ledger in {cwd}/typo",
    "simulate --images one --strategies entropie": "unknown strategy 'entropie'; choose one of",
    "simulate --images one --weights gone.safetensors": "There is no file",
    "simulate --images one --epochs many": "epochs must be a whole number from 1 to 10000, not 'many'",
    "simulate --images nowhere": "does not exist",
}
ALL_REFUSED = """
import json, sys
from typer.testing import CliRunner
from al_pipeline.cli.app import app

told = {}
for line in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, line.split(), env={"COLUMNS": "400"})
    imported = [name for name in sys.argv[2:] if name in sys.modules]
    told[line] = [result.exit_code, " ".join(result.output.split()), imported]
print(json.dumps(told))
"""


def test_what_cannot_work_is_refused_before_torch_or_dagster_is_imported(tmp_path: Path) -> None:
    name_images(tmp_path / "one", "only")
    name_images(tmp_path / "places", "Site_001", "Site_002")
    for name in ("empty", "flat"):
        (tmp_path / name).mkdir()
    (tmp_path / "flat" / "1.png").touch()
    before = sorted(path for path in tmp_path.rglob("*"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    command = [sys.executable, "-c", ALL_REFUSED, json.dumps(list(REFUSALS)), *HEAVY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for line, (code, told, imported) in json.loads(done.stdout).items():
        assert code == 1, (line, told)
        assert REFUSALS[line].format(cwd=tmp_path) in told, line
        assert imported == [], line
    assert sorted(path for path in tmp_path.rglob("*")) == before, "nothing was left behind"


def test_presets_are_shown_as_lines_that_al_toml_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AL_TRAINING__WEIGHTS")
    shown = CliRunner().invoke(app, ["presets"]).output
    (tmp_path / "al.toml").write_text(shown.split("\npaper\n")[1].split("\ngpu\n")[0])
    assert load_settings() == load_settings(**preset_values("paper", None))
    assert load_settings().training.weights == "none"


def test_a_setting_that_cannot_be_used_is_refused_at_once_with_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AL_TRAINING__WEIGHTS")
    name_images(tmp_path / "photos")
    for content, reason in (
        ('[training]\nweights = "mine.pt"\n', "There is no file"),
        ('[training]\nweights = "resnet"\n', "unknown weights 'resnet'; choose auto, none, imagenet"),
        ('[round]\nstrategie = "margin"\n', f"round.strategie ({tmp_path / 'al.toml'}) is no setting: did you mean"),
    ):
        (tmp_path / "al.toml").write_text(content)
        code, told = run("up", "--images", str(tmp_path / "photos"))
        assert code == 1
        assert reason in told
    assert not (tmp_path / ".al").exists()


def test_what_up_was_told_is_known_to_the_others_from_the_home_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "1.png")
    load_settings(home=tmp_path / "home", images=folder, classes=["cat", "dog"]).keep()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("AL_HOME", str(tmp_path / "home"))
    (tmp_path / "elsewhere" / "labels.csv").write_text("path,label\n1.png,cat\n")
    code, told = run("ledger", "import", "labels.csv")
    assert code == 0, told
    assert "1 labels are new" in told
    code, told = run("doctor")
    assert "images: 1 in the pool, 0 holdout, classes: cat, dog" in told
    assert f"settings: home {tmp_path / 'home'}, which keeps classes, images" in told


def test_labels_are_brought_to_a_home_that_has_kept_no_settings(tmp_path: Path) -> None:
    stored = tmp_path / ".al" / "artifacts" / "image_pool.parquet"
    stored.parent.mkdir(parents=True)
    manifest().assign(label=None).to_parquet(stored)
    (tmp_path / "labels.csv").write_text("path,label\n1.png,cat\n")
    code, told = run("ledger", "import", "labels.csv")
    assert code == 1
    assert f"{stored} has no class folders, so the class names must be set: AL_CLASSES" in told


def test_a_home_of_the_version_before_is_read_and_its_moved_module_named_anew(tmp_path: Path) -> None:
    home = tmp_path / ".al" / "dagster"
    home.mkdir(parents=True)
    storage = "module: al_pipeline.event_log\n  class: OpenEventLog\n  config:\n    base_dir: " + str(home / "runs")
    (home / "dagster.yaml").write_text(f"event_log_storage:\n  {storage}\ntelemetry:\n  enabled: false\n")
    code, told = run("status")
    assert code == 0, told
    assert "no round has been run yet" in told
    assert "module: al_pipeline.servers.event_log\n" in (home / "dagster.yaml").read_text()


def test_up_without_images_says_how_to_name_them() -> None:
    code, told = run("up")
    assert code == 1
    assert "al up --images DIR" in told


def test_status_before_anything_ran_says_what_to_run() -> None:
    code, told = run("status")
    assert code == 1
    assert "run `al up`" in told


def test_status_while_a_round_runs_says_so_makes_no_counts_up_and_warns_of_other_keys(tmp_path: Path) -> None:
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
    evaluated = tmp_path / ".al" / "artifacts" / "evaluation" / "r0000.json"
    evaluated.parent.mkdir(parents=True)
    measured = {"n": 200, "class_names": ["cat", "dog"]}
    evaluated.write_text(json.dumps({"n_labels": 0, "evaluation": measured, "near_duplicates": 0.025}))
    code, told = run("status")
    assert code == 0
    assert "2.5% of the holdout images have a near-duplicate in training: what is measured on them flatters" in told
    assert "r0000: its run is in progress" in told
    assert "0 labels" not in told
    assert "Warning: Ignored, because they are no rounds (r and four digits): the partitions 'foo'" in told
    assert "The next batch comes soon" in told
    # Nobody waits for what does not come.
    urls = dict.fromkeys(("dagster_url", "label_studio_url"), "http://127.0.0.1:9")
    Servers(pid=os.getpid(), started=0, **urls).write(load_settings(home=tmp_path / ".al"))
    code, told = run("status")
    assert told.endswith(f"have ended; `al up --home {tmp_path / '.al'}` goes on where they were")


def test_status_without_servers_tells_what_is_known_and_then_what_is_not(tmp_path: Path) -> None:
    home = tmp_path / ".al"
    (home / "dagster").mkdir(parents=True)
    (home / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        instance.add_dynamic_partitions("rounds", ["r0000"])
        instance.report_runless_asset_event(dg.AssetMaterialization("labeling_tasks", partition="r0000"))
    ledger = Ledger(f"sqlite:///{home / 'ledger.sqlite3'}")
    ledger.register(manifest())
    ledger.plan("r0000", plan_rows(0, 1, 2))
    ledger.record_pushed("r0000", {sample(number): number for number in range(3)}, moment(0))
    ledger.append([said(number, sample(number), "cat") for number in range(2)], moment(1))
    (home / "artifacts" / "checkpoint").mkdir(parents=True)
    (home / "artifacts" / "checkpoint" / "r0000.safetensors").touch()
    code, told = run("status")
    assert code == 1
    left = "r0000 has 1 left of 3 to label: all to learn from; first model after 1"
    assert f"When Label Studio was last read: 2 labels; {left}. The checkpoint of r0000 serves. Error: No Label" in told


def test_a_port_in_use_is_refused_with_the_remedy(tmp_path: Path) -> None:
    import socket

    name_images(tmp_path / "images")
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
    assert "add --format csv, parquet, json, folders" in told
    assert not (tmp_path / "labels.xlsx").exists()


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "labels.json"])
def test_an_export_before_any_label_has_its_columns(name: str, tmp_path: Path) -> None:
    code, told = run("export", f"deep/{name}")
    assert code == 0
    assert f"0 answers written to deep/{name}: nobody has answered in {tmp_path}/.al (--home)" in told
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
    assert "Left out are 1 test labels (holdout)" in told
    assert "Images without a label: 1 disputed" in told
    assert (tmp_path / "agreed.csv").read_text().splitlines() == [
        "sample_id,uri,label,votes,n_votes,asked_with",
        f"{sample(1)},/images/1.png,cat,2,3,",
        f"{sample(3)},/images/3.png,dog,1,1,",
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


def test_a_setting_is_told_by_the_name_that_it_was_given_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_IMAGES", "elsewhere")
    assert "nowhere (--images) does not exist" in run("doctor", "--images", "nowhere")[1]
    assert "nowhere (DIR) does not exist" in run("scan", "nowhere")[1]
    for command in ("doctor", "scan", "up"):
        assert "elsewhere (AL_IMAGES) does not exist" in run(command)[1]


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
    assert "2 labels are new, 0 changed, 0 were there already; 0 corrections replace" in told
    assert "trained on from the next round on" in told
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
    ("name", "text", "reason"), [("x.txt", "", "labels are read from"), ("x.csv", "", "cannot be read")]
)
def test_a_file_that_is_no_table_of_labels_is_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    code, told = run("ledger", "import", str(tmp_path / name), "--images", str(tmp_path))
    assert code == 1
    assert reason in told


def test_labels_go_out_are_corrected_and_come_back_as_tables_and_as_folders(tmp_path: Path) -> None:
    images = tmp_path / "photos"
    for number, name in enumerate(("muffin", "muffin", "chihuahua", "chihuahua")):
        (images / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(images / name / f"{number}.png")
    Image.new("RGB", (8, 8), (0, 0, 0)).save(images / "muffin" / "copy of 0.png")
    rows = ["label;path", "muffin;muffin/copy of 0.png", "Muffin;1.png", "chihuahua;2.png", "chihuahua;gone.png"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    code, told = run("ledger", "import", "labels.csv", "--images", str(images))
    assert code == 1
    assert "2 of 4 rows cannot be used" in told
    assert "row 3: label 'Muffin' (did you mean 'muffin'?) is no class of chihuahua, muffin" in told
    assert "row 5: path 'gone.png' is no image of the pool" in told
    (tmp_path / "labels.csv").write_text("\n".join(rows).replace("Muffin", " muffin "), encoding="utf-16")
    code, told = run("ledger", "import", "labels.csv", "--images", str(images), "--skip-unknown")
    assert code == 0, told
    assert "3 labels are new" in told
    assert "1 rows about no usable image of the pool were left out" in told

    assert run("export", "agreed.csv", "--agreed")[0] == 0
    edited = (tmp_path / "agreed.csv").read_text().replace("1.png,muffin", "1.png,chihuahua")
    (tmp_path / "agreed.csv").write_text(edited)
    code, told = run("ledger", "import", "agreed.csv", "--images", str(images))
    assert "0 labels are new, 0 changed, 2 were there already; 1 corrections replace what people had said" in told

    code, told = run("export", "set", "--format", "folders")
    assert code == 0, told
    assert "3 labels written to set" in told
    assert "test labels" not in told
    assert len(list((tmp_path / "set" / "train" / "chihuahua").iterdir())) == 2
    muffin = next((tmp_path / "set" / "train" / "muffin").iterdir())
    muffin.rename(tmp_path / "set" / "train" / "chihuahua" / "mine.png")
    code, told = run("ledger", "import", "--folders", "set", "--images", str(images))
    assert "2 were there already; 1 corrections" in told
    code, told = run("export", "new.csv", "--agreed", "--since", "r0001")
    assert code == 1
    assert "There are no frozen labels of r0001 (--since): no round has any yet" in told
    code, told = run("ledger", "verify")
    assert code == 0, told


def test_an_export_in_another_encoding_is_read_with_a_hint(tmp_path: Path) -> None:
    for number, name in enumerate(("Käse", "Brot")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(tmp_path / "photos" / name / "1.png")
    (tmp_path / "labels.csv").write_text("path,label\nKäse/1.png,Käse\n", encoding="cp1252")
    code, told = run("ledger", "import", "labels.csv", "--images", str(tmp_path / "photos"))
    assert code == 0, told
    assert "Note: labels.csv is not UTF-8 and was read as cp1252" in told


@pytest.mark.parametrize("name", ["answers.csv", "answers.parquet", "answers.json"])
def test_an_older_export_of_all_answers_in_any_format_takes_nothing_back(name: str, tmp_path: Path) -> None:
    stored = tmp_path / ".al" / "artifacts" / "image_pool.parquet"
    stored.parent.mkdir(parents=True)
    manifest().assign(label=["cat", "dog"] * 11 + [None], reason=None).to_parquet(stored)
    ledger = Ledger(f"sqlite:///{tmp_path / '.al' / 'ledger.sqlite3'}")
    ledger.register(manifest())
    ledger.plan("r0000", plan_rows(1))
    at = moment(1).replace(microsecond=123456)
    ledger.append([said(1, sample(1), "cat", updated_at=at)], moment(1))
    assert run("export", name)[0] == 0
    ledger.append([said(1, sample(1), "dog", updated_at=moment(2))], moment(2))
    code, told = run("ledger", "import", name)
    assert code == 0, told
    assert "0 labels are new, 0 changed, 1 were there already; 0 corrections" in told
    assert ledger.current_labels()["label"].tolist() == ["dog"]
    ledger.close()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("presets",), 0, "paper"),
        (("presets", "--nonsense"), 2, "No such option"),
        (("status", "--home", "a-file"), 1, "a-file is a file: name a folder"),
    ],
)
def test_the_command_itself_ends_with_its_code_and_all_it_has_said(
    tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "a-file").touch()
    command = [sys.executable, "-m", "al_pipeline.cli", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, told in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
