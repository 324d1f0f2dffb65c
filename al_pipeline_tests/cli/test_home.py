"""`al home`: a home goes into a file and comes out of it elsewhere; its ledger is checked, what is amiss is told."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from al_pipeline.cli.doctor import examine
from al_pipeline.core.data.pool import scan
from al_pipeline.ledger import Ledger
from al_pipeline.settings import load_settings
from al_pipeline_tests.cli.test_cli import run
from al_pipeline_tests.core.data.test_changes import NAMES
from al_pipeline_tests.ledger.builders import moment, plan_rows, said


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a scan, a round and an answer; its images lie beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    for number, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + number, 8)).save(path)
    settings = load_settings(home="home", images="photos")
    settings.keep()
    images = scan(tmp_path / "photos")
    settings.artifact_folder.mkdir()
    images.to_parquet(settings.artifact_folder / "image_pool.parquet")
    ledger = Ledger(settings.ledger_url)
    ledger.register(images)
    ledger.plan("r0000", plan_rows(0).assign(sample_id=images["sample_id"][:1]))
    ledger.append([said(1, images["sample_id"][0], "cat")], moment(1))
    ledger.close()
    (settings.dagster_home / "history").mkdir(parents=True)
    with closing(sqlite3.connect(settings.dagster_home / "history" / "runs.db")) as database:
        database.execute("CREATE TABLE runs (id)")
    return settings.home


def test_a_home_is_packed_unpacked_and_moved(home: Path, tmp_path: Path) -> None:
    code, told = run("home", "show", "--home", "home")
    assert code == 0
    assert "│ ledger.sqlite3 │ 1 │" in told
    code, told = run("home", "pack", "home.tar.gz", "--home", "home", "--images")
    assert code == 0, told
    assert "packed into home.tar.gz" in told
    code, told = run("home", "unpack", "home.tar.gz", "--home", "new")
    assert code == 0, told
    for part in ("4 in images", "4 samples, 1 rounds, 1 tasks, 1 annotation events", "No problem was found"):
        assert part in told
    code, told = run("home", "move", "third", "--home", "new")
    assert code == 0, told
    assert "No problem was found" in told
    assert not (tmp_path / "new").exists()
    assert load_settings(home="third").images == tmp_path / "third" / "images"
    code, told = run("ledger", "verify", "--home", "third")
    assert code == 0, told


def test_a_ledger_that_is_damaged_is_told_where_it_is_unpacked(home: Path) -> None:
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as database:
        database.execute("DELETE FROM samples")
        database.commit()
    assert run("home", "pack", "home.tar", "--home", "home")[0] == 0
    code, told = run("home", "unpack", "home.tar", "--home", "new")
    assert code == 1
    assert "Nothing was changed; restore a backup" in told


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("pack home.zip --home home", "ends with .tar or .tar.gz"),
        ("pack photos --home home", "photos (FILE) is a folder"),
        ("pack a.tar --home typo", "There is no home"),
        ("show --home typo", "There is no home"),
        ("move new --home typo", "There is no home"),
        ("move photos --home home", "photos is not empty"),
        ("unpack a.tar --home new", "There is no archive a.tar"),
        ("unpack a.tar --home home", "home is not empty"),
        ("unpack a.tar --home new --images nowhere", "nowhere (--images) is no folder"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(home: Path, command: str, why: str) -> None:
    code, told = run("home", *command.split())
    assert code == 1
    assert why in told
    assert not (home.parent / "new").exists()


def test_the_doctor_says_what_came_since_the_last_scan(home: Path, tmp_path: Path) -> None:
    def last_scan() -> tuple[bool | None, str]:
        [finding] = [each for each in examine(lambda: load_settings(home=home)) if each.subject == "last scan"]
        return finding.ok, finding.text

    assert last_scan() == (True, "the folder is as it was scanned, 4 files")
    Image.new("L", (3, 3)).save(tmp_path / "photos" / "cat" / "new.png")
    ok, text = last_scan()
    assert ok is None
    assert "1 file came; `al up` scans" in text
    (tmp_path / "photos").rename(tmp_path / "pictures")
    assert last_scan()[0] is False
