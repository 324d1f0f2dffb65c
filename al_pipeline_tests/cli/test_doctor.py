"""The doctor looks for what others could read, guess or reach."""

import os
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest
from PIL import Image

from al_pipeline.cli import doctor
from al_pipeline.cli.doctor import Finding, examine
from al_pipeline.ledger import Ledger
from al_pipeline.loop import local
from al_pipeline.settings import Settings, load_settings
from al_pipeline_tests.ledger.conftest import postgresql
from al_pipeline_tests.ledger.postgresql import PostgreSQL
from al_pipeline_tests.web.dagster_double import dagster_double

__all__ = ["postgresql"]

Make = Callable[..., Settings]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Settings of an empty deployment, whatever the umask."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    yield lambda **values: load_settings(home=tmp_path / "home", **values)
    os.umask(before)


def found(settings: Settings, subject: str) -> list[Finding]:
    return [finding for finding in examine(lambda: settings) if finding.subject == subject]


def test_what_we_make_ourselves_nobody_else_may_read(make: Make) -> None:
    settings = make()
    Ledger(settings.ledger_url).close()
    assert settings.home.stat().st_mode & 0o077 == 0
    assert [finding.ok for finding in found(settings, "privacy")] == [True]


@pytest.mark.parametrize("name", ["", "labelstudio/credentials.json", "webhook_secret"])
def test_what_others_may_read_is_to_be_mended(make: Make, name: str) -> None:
    settings = make()
    Ledger(settings.ledger_url).close()
    path = settings.home / name
    if name:
        path.parent.mkdir(exist_ok=True)
        path.write_text("secret")
    path.chmod(0o755 if path.is_dir() else 0o644)
    [finding] = found(settings, "privacy")
    assert finding.ok is False
    assert f"chmod {'600' if name else '700'} {path}" in finding.text


@pytest.mark.parametrize("password", ["postgres", "al", "changeme"])
def test_a_password_that_everybody_tries_first_is_to_be_changed(make: Make, password: str) -> None:
    settings = make(database_url=f"postgresql://al:{password}@127.0.0.1:9/ledger")
    [finding] = found(settings, "privacy")
    assert finding.ok is False
    assert "AL_DATABASE_URL" in finding.text
    assert password not in finding.text or password == "al"


def test_a_password_of_ones_own_is_fine(make: Make) -> None:
    settings = make(database_url="postgresql://al:Zk3-xq9_vv@127.0.0.1:9/ledger")
    assert [finding.ok for finding in found(settings, "privacy")] == [True]


def test_a_password_may_come_from_where_libpq_looks_too(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    settings = make(database_url="postgresql://al@127.0.0.1:9/ledger")

    def told() -> tuple[bool | None, bool]:
        [finding] = found(settings, "privacy")
        return finding.ok, "PGPASSWORD" in finding.text

    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert told() == (False, False)
    monkeypatch.setenv("PGPASSWORD", "al")
    assert told() == (False, True)
    monkeypatch.setenv("PGPASSWORD", "Zk3-xq9_vv")
    assert told() == (True, False)
    monkeypatch.delenv("PGPASSWORD")
    (tmp_path / "pgpass").touch()
    assert told() == (True, False)


def test_a_database_server_is_told_with_its_clock(make: Make, postgresql: PostgreSQL) -> None:
    settings = make(database_url=postgresql.new_database())
    [database], [clock] = found(settings, "database"), found(settings, "clock")
    assert re.fullmatch(r"PostgreSQL \d+\..*", database.text)
    assert database.ok is True
    assert clock == Finding("clock", True, "that of PostgreSQL and ours differ by 0 s")
    assert found(make(), "database") == []


@pytest.mark.parametrize(("ahead", "seconds"), [(0.2, None), (90, 90), (-90, 90)])
def test_a_clock_that_is_wrong_is_to_be_mended(ahead: float, seconds: int | None) -> None:
    before = datetime.now(UTC)
    finding = doctor._clock("Label Studio", before + timedelta(seconds=ahead), before)
    assert finding.ok is (seconds is None)
    assert ("NTP" in finding.text) is (seconds is not None)
    assert f"that of Label Studio and ours differ by {seconds or 0} s" in finding.text


def test_a_database_older_than_any_that_is_tested_is_noted(
    make: Make, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "OLDEST_POSTGRESQL", 99)
    [database] = found(make(database_url=postgresql.new_database()), "database")
    assert database.ok is None
    assert database.text.endswith("; 99 is the oldest that this is tested with")


def test_a_dagster_elsewhere_is_asked_and_no_port_is_wanted_for_it(make: Make) -> None:
    with dg.DagsterInstance.ephemeral() as instance, dagster_double(instance) as double:
        settings = make(dagster_url=double.url, label_studio_url="http://127.0.0.1:9")
        assert found(settings, "ports") == []
        assert [finding.ok for finding in found(settings, "Dagster")] == [True]
        double.healthy = False
        [finding] = found(settings, "Dagster")
    assert finding.ok is False
    assert "the daemon of Dagster at" in finding.text
    assert found(make(), "Dagster") == []


def test_a_folder_of_dagster_that_cannot_be_written_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dagster").touch()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    assert "set DAGSTER_HOME to another folder" in found(make(), "disk")[-1].text


@pytest.mark.parametrize(("host", "open_to_all"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_a_server_that_other_machines_can_reach_is_told(make: Make, host: str, open_to_all: bool) -> None:
    settings = make()
    Ledger(settings.ledger_url).close()
    with socket.create_server((host, 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        started = psutil.Process().create_time()
        local.Servers(pid=os.getpid(), started=started, dagster_url=url, label_studio_url=url).write(settings)
        told = [finding for finding in found(settings, "ports") if finding.ok is False]
    assert bool(told) is open_to_all
    assert all("can be reached from other machines" in finding.text for finding in told)


def test_a_port_of_this_home_that_is_busy_is_to_be_mended(make: Make) -> None:
    settings = make()
    Ledger(settings.ledger_url).close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        urls = {"dagster_url": "http://127.0.0.1:1", "label_studio_url": f"http://127.0.0.1:{port}"}
        local.Servers(pid=os.getpid(), started=0.0, **urls).write(settings)
        told = {finding.text: finding.ok for finding in found(settings, "ports")}
    assert told == {
        "1 is free for Dagster": True,
        f"{port}, where Label Studio of this home was the last time, is in use: end what listens there, or choose "
        "another port with `al up --label-studio-port`": False,
    }


def write(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(root / name)
    return root


def test_what_is_left_out_of_the_images_is_told_with_what_follows(make: Make, tmp_path: Path) -> None:
    root = write(tmp_path / "images", "train/cat/1.png", "train/dog/2.png", "test/3.png", "masks/4.png")
    (root / "@eaDir").mkdir()
    told = [(finding.ok, finding.text) for finding in found(make(images=root), "images")]
    assert told == [
        (None, "1 folder not looked into (folder of the system or of network storage): '@eaDir'"),
        (None, "1 image left out (masks or annotations, beside the images they are of), in 'masks'"),
        (None, "1 image left out (unlabeled test image: in no class folder of the test folder), in 'test'"),
        (None, "No image of the test folder has a class, so that a holdout is drawn from the others"),
        (True, "2 in the pool, 0 holdout, classes: cat, dog"),
    ]


def test_folders_that_only_sort_the_images_are_asked_about_and_are_fine_with_classes(
    make: Make, tmp_path: Path
) -> None:
    root = write(tmp_path / "images", "Site_001/CAM1/1.png", "Site_001/deer/2.png", "Site_002/3.png", "daer/4.png")
    [finding] = found(make(images=root), "images")
    assert finding.ok is False
    assert "'Site_001', 'Site_002', 'daer' look like sites, cameras or patients, not like classes" in finding.text
    told = found(make(images=root, classes=["deer", "fox"]), "images")
    assert [finding.ok for finding in told] == [None, None, True]
    assert told[-1].text == "4 in the pool, 0 holdout, classes: deer, fox"
    assert "in the folder 'daer' have no label" in told[0].text
    assert told[1].text.endswith("have no label: 'Site_001', 'Site_002'")
