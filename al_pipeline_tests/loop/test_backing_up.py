"""A backup of a deployment, restored on an empty machine: the loop goes on, nobody is asked twice, or it is refused."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from pydantic import SecretStr

from al_pipeline.core.errors import InputError
from al_pipeline.ledger.copies import count_rows
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.backing_up import backup, restore
from al_pipeline.loop.databases import BackupError, Database, databases_of
from al_pipeline.settings import Settings, load_settings
from al_pipeline_tests.cli.test_cli import run
from al_pipeline_tests.faults.memory_studio import Clock, MemoryStudio
from al_pipeline_tests.ledger.builders import sample
from al_pipeline_tests.ledger.postgresql import PASSWORD, PostgreSQL
from al_pipeline_tests.loop.test_restore import Home

STATE = sa.Table("state", sa.MetaData(), sa.Column("data", sa.LargeBinary))
STORAGE = Path(__file__).parents[2] / "deploy" / "storage.yaml"


def save(url: str, studio: MemoryStudio) -> None:
    """Have a database hold all that a Label Studio in memory knows."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        STATE.metadata.create_all(connection)
        connection.execute(sa.delete(STATE))
        connection.execute(sa.insert(STATE).values(data=pickle.dumps(studio.state)))
    engine.dispose()


def load(url: str) -> MemoryStudio:
    """Return a Label Studio that knows what a database holds."""
    engine, studio = sa.create_engine(url), MemoryStudio(Clock())
    with engine.connect() as connection:
        studio.restore(pickle.loads(connection.execute(sa.select(STATE.c.data)).scalar_one()))
    engine.dispose()
    return studio


@dataclass(frozen=True)
class Visited(Database):
    """A database that something happens to just before it is dumped, and just after."""

    visit: Callable[[], object]
    leave: Callable[[], object] = lambda: None

    def dump(self, file: Path) -> None:
        self.visit()
        super().dump(file)
        self.leave()


class Deployments:
    """Deployments on SQLite or PostgreSQL, one after the other; Dagster has run in the first."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, server: PostgreSQL | None = None, dagster: str | None = None
    ) -> None:
        self.folder, self.patch, self.server, self.dagster, self.dagsters = folder, patch, server, dagster, 0

    def new(self, name: str) -> Settings:
        home, own = self.folder / name, {"label_studio_url": "http://127.0.0.1:1"}
        if self.server is None:
            own["label_studio_database_url"] = f"sqlite:///{self.folder / f'{name}-studio.sqlite3'}"
            return load_settings(home=home, **own)
        own["database_url"], own["label_studio_database_url"] = (self.server.new_database() for _ in range(2))
        self.dagsters += 1
        dagster = sa.make_url(self.server.new_database(self.dagster if self.dagsters == 1 else None))
        parts = {"HOST": dagster.host, "USER": dagster.username, "PASSWORD": PASSWORD, "DB": dagster.database}
        for part, value in parts.items():
            self.patch.setenv(f"DAGSTER_POSTGRES_{part}", str(value))
        folder = self.folder / f"{name}-dagster"
        folder.mkdir()
        (folder / "dagster.yaml").write_text(STORAGE.read_text().replace("5432", str(dagster.port)))
        self.patch.setenv("DAGSTER_HOME", str(folder))
        return load_settings(home=home, **own)


@pytest.fixture(scope="session")
def dagster_that_ran(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a Dagster's database that knows a round; to make its tables takes seconds."""
    url, folder = postgresql.new_database(), tmp_path_factory.mktemp("dagster")
    (folder / "dagster.yaml").write_text(json.dumps({"storage": {"postgres": {"postgres_url": url}}}))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        instance.add_dynamic_partitions("rounds", ["r0000"])
    return url


@pytest.fixture
def deployments(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployments:
    """On SQLite, unless the test asks for PostgreSQL."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    if getattr(request, "param", "sqlite") == "sqlite":
        return Deployments(tmp_path, monkeypatch)
    return Deployments(tmp_path, monkeypatch, *map(request.getfixturevalue, ("postgresql", "dagster_that_ran")))


both = pytest.mark.parametrize("deployments", ["sqlite", "postgresql"], indirect=True)
on_postgresql = pytest.mark.parametrize("deployments", ["postgresql"], indirect=True)


def studio_url(settings: Settings) -> str:
    assert settings.label_studio_database_url is not None
    return settings.label_studio_database_url.get_secret_value()


def lived_in(settings: Settings) -> Home:
    """Return a loop with a round of three tasks, one of which is answered, and Dagster's history of it."""
    settings.home.mkdir()
    home = Home(settings.home, settings.ledger_url)
    home.push("r0000", 0, 1, 2)
    home.answer("r0000", 0)
    home.pull(0)
    if settings.database_url is None:
        (settings.dagster_home / "history").mkdir(parents=True)
        (settings.dagster_home / "history" / "note").write_text("r0000")
    (settings.artifact_folder / "checkpoint").mkdir(parents=True)
    (settings.artifact_folder / "checkpoint" / "r0000.safetensors").write_bytes(b"weights")
    if settings.label_studio_url is None:
        (settings.home / "labelstudio").mkdir()
        return home
    save(studio_url(settings), home.studio)
    return home


@both
def test_an_answer_between_the_dumps_is_not_lost_and_nobody_is_asked_twice(
    deployments: Deployments, tmp_path: Path
) -> None:
    settings = deployments.new("old")
    old = lived_in(settings)

    def answer(number: int, value: str) -> None:
        old.answer("r0000", number, value)
        save(studio_url(settings), old.studio)
        old.pull(1)

    # The second one is lost with the old machine, and must not be half known.
    studio, *others = databases_of(settings)
    visited = Visited(studio.name, studio.url, "here", lambda: answer(1, "dog"), lambda: answer(2, "cat"))
    made = backup(settings, tmp_path / "backup", [visited, *others])
    assert made.ledger["annotation events"] == 1
    assert made.problems == []
    old.ledger.close()

    empty = deployments.new("new")
    restore(empty, tmp_path / "backup", databases_of(empty))
    assert (empty.artifact_folder / "checkpoint" / "r0000.safetensors").read_bytes() == b"weights"
    new = Home(empty.home, empty.ledger_url, load(studio_url(empty)))
    assert set(new.ledger.answers()["sample_id"]).isdisjoint(map(sample, new.asked()["r0000"]))
    assert new.set_up() == []
    assert new.pull(1) == []
    answers = new.ledger.answers()
    assert dict(zip(answers["sample_id"], answers["value"], strict=True)) == {sample(0): "cat", sample(1): "dog"}
    assert new.asked() == {"r0000": [2]}
    # The next round goes on, with numbers of events that are new.
    new.answer("r0000", 2)
    new.pull(1)
    new.push("r0001", 3, 4)
    assert new.asked() == {"r0001": [3, 4]}
    assert verify(empty.ledger_url).problems == []
    new.ledger.close()
    if deployments.server is None:
        assert (empty.dagster_home / "history" / "note").read_text() == "r0000"
    else:
        assert not (empty.home / "ledger.sqlite3").exists()
        with dg.DagsterInstance.from_config(os.environ["DAGSTER_HOME"]) as instance:
            assert instance.get_dynamic_partitions("rounds") == ["r0000"]


def test_a_round_that_is_pushed_between_the_dumps_is_in_all_of_them(deployments: Deployments, tmp_path: Path) -> None:
    settings = deployments.new("old")
    old, visits = lived_in(settings), list[int]()

    def push() -> None:
        visits.append(1)
        if len(visits) == 1:
            old.push("r0001", 3, 4)
            save(studio_url(settings), old.studio)

    studio, *others = databases_of(settings)
    backup(settings, tmp_path / "backup", [Visited(studio.name, studio.url, "here", push), *others])
    assert len(visits) == 2
    old.ledger.close()
    empty = deployments.new("new")
    restore(empty, tmp_path / "backup", databases_of(empty))
    new = Home(empty.home, empty.ledger_url, load(studio_url(empty)))
    assert new.ledger.rounds() == {"r0000", "r0001"}
    assert new.asked() == {"r0000": [1, 2], "r0001": [3, 4]}
    new.ledger.close()


@pytest.fixture
def saved(deployments: Deployments, tmp_path: Path) -> tuple[Settings, Path]:
    """A deployment, and its backup."""
    settings = deployments.new("old")
    lived_in(settings).ledger.close()
    backup(settings, tmp_path / "backup", databases_of(settings))
    return settings, tmp_path / "backup"


@both
def test_a_backup_is_for_its_owner_alone_and_has_no_password(saved: tuple[Settings, Path]) -> None:
    _, folder = saved
    assert folder.stat().st_mode & 0o077 == 0
    assert not [path for path in folder.iterdir() if path.stat().st_mode & 0o077 or path.name.startswith(".")]
    for path in folder.iterdir():
        assert PASSWORD.encode() not in path.read_bytes()
    manifest = json.loads((folder / "backup.json").read_text())
    assert manifest["ledger"]["tasks"] == 3
    assert {"home.tar", *manifest["databases"].values()} == manifest["files"].keys()


def test_what_is_damaged_is_not_restored(saved: tuple[Settings, Path], deployments: Deployments) -> None:
    empty, (_, folder) = deployments.new("new"), saved
    for path in [each for each in folder.iterdir() if each.name != "backup.json"]:
        data = path.read_bytes()
        for damaged in (data[:-1] + bytes([data[-1] ^ 1]), data[: len(data) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=f"is damaged: {path.name} has"):
                restore(empty, folder, databases_of(empty))
        path.unlink()
        with pytest.raises(InputError, match=f"it has no {path.name}"):
            restore(empty, folder, databases_of(empty))
        path.write_bytes(data)
    assert not empty.home.exists()
    assert [each.tables() for each in databases_of(empty)] == [0 for _ in databases_of(empty)]
    restore(empty, folder, databases_of(empty))


@both
def test_nothing_is_restored_into_what_holds_something(saved: tuple[Settings, Path], deployments: Deployments) -> None:
    (settings, folder), empty = saved, deployments.new("new")
    databases = databases_of(empty)
    empty.home.mkdir()
    (empty.home / "file").touch()
    with pytest.raises(InputError, match="new is not empty"):
        restore(empty, folder, databases)
    (empty.home / "file").unlink()
    before = count_rows(settings.ledger_url)
    lived = empty.model_copy(update={"database_url": SecretStr(settings.ledger_url)})
    with pytest.raises(InputError, match=r"ledger here .* holds .*3 planned_tasks"):
        restore(lived, folder, databases)
    save(studio_url(empty), MemoryStudio(Clock()))
    with pytest.raises(InputError, match=r"database of labelstudio \(AL_LABEL_STUDIO_DATABASE_URL\) holds 1 tables"):
        restore(empty, folder, databases)
    assert count_rows(settings.ledger_url) == before
    assert sum(count_rows(empty.ledger_url).values()) == 0
    assert list(empty.home.iterdir()) == []


def test_a_volume_is_restored_into_that_has_others_in_it(
    saved: tuple[Settings, Path], deployments: Deployments
) -> None:
    empty = deployments.new("new")
    empty.published_images.mkdir(parents=True)
    restore(empty, saved[1], databases_of(empty))
    assert (empty.artifact_folder / "checkpoint" / "r0000.safetensors").read_bytes() == b"weights"
    assert not [path for path in (*empty.home.iterdir(), *empty.home.parent.iterdir()) if path.name.endswith(".part")]
    assert verify(empty.ledger_url).problems == []


def test_what_a_restore_that_failed_has_filled_is_told(saved: tuple[Settings, Path], deployments: Deployments) -> None:
    empty = deployments.new("new")
    (empty.home.parent / "file").touch()
    nowhere = SecretStr(f"sqlite:///{empty.home.parent / 'file' / 'ledger.sqlite3'}")
    databases = databases_of(empty)
    with pytest.raises(
        BackupError, match=r"folder .* cannot be created.* Filled already: labelstudio: drop and create"
    ):
        restore(empty.model_copy(update={"database_url": nowhere}), saved[1], databases)
    assert not empty.home.exists()
    with pytest.raises(InputError, match=r"labelstudio .* holds 1 tables"):
        restore(empty, saved[1], databases)
    Path(str(databases[0].parsed.database)).unlink()
    restore(empty, saved[1], databases)


def test_a_home_with_its_own_label_studio_needs_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    settings, empty = load_settings(home=tmp_path / "old"), load_settings(home=tmp_path / "new")
    old = lived_in(settings)
    save(f"sqlite:///{settings.home / 'labelstudio' / 'own.sqlite3'}", old.studio)
    old.ledger.close()
    assert databases_of(settings) == []
    made = backup(settings, tmp_path / "backup", [])
    assert made.files.keys() == {"home.tar"}
    assert not [remark for remark in made.remarks if "by hand" in remark]
    restore(empty, tmp_path / "backup", [])
    new = Home(empty.home, None, load(f"sqlite:///{empty.home / 'labelstudio' / 'own.sqlite3'}"))
    assert new.asked() == {"r0000": [1, 2]}
    new.ledger.close()


def test_a_backup_is_whole_or_not_at_all(deployments: Deployments, tmp_path: Path) -> None:
    settings = deployments.new("old")
    lived_in(settings).ledger.close()
    studio, *others = databases_of(settings)

    def fail() -> None:
        raise BackupError("the power is gone")

    failing = [Visited(studio.name, studio.url, "here", fail), *others]
    (tmp_path / "there").mkdir()
    told = {"new": "There is no folder .*new .DIR.: name one", "there": "it is no backup, or one that was not finished"}
    for folder in (tmp_path / "new", tmp_path / "there"):
        with pytest.raises(BackupError, match="power"):
            backup(settings, folder, failing)
        with pytest.raises(InputError, match=told[folder.name]):
            restore(settings, folder, databases_of(settings))
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    backup(settings, tmp_path / "there", databases_of(settings))
    for folder, why in ((tmp_path / "there", "is not empty"), (settings.home / "backup", "lies in the home")):
        with pytest.raises(InputError, match=why):
            backup(settings, folder, databases_of(settings))


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    saved: tuple[Settings, Path], deployments: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = deployments.new("new")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(BackupError, match=r"not enough room for the home .* 0\.00 GB are free"):
        restore(empty, saved[1], databases_of(empty))
    with pytest.raises(BackupError, match="not enough room for the backup"):
        backup(saved[0], tmp_path / "second", databases_of(saved[0]))
    assert not (tmp_path / "second").exists()
    assert not empty.home.exists()


@on_postgresql
def test_the_commands_tell_what_they_did_and_what_is_left_to_do(
    deployments: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = deployments.new("old")
    lived_in(settings).ledger.close()
    database = settings.label_studio_database_url
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    code, told = run("backup", "backup")
    assert code == 0, told
    for part in ("labelstudio.", "22 samples, 1 rounds, 3 tasks, 1 annotation events", "keep it as you keep those"):
        assert part in told
    assert "docker compose cp label-studio" in told
    assert PASSWORD not in told
    # Where it cannot be reached it is told how.
    monkeypatch.delenv("AL_LABEL_STUDIO_DATABASE_URL")
    code, told = run("backup", "without")
    assert code == 0, told
    assert "is not in it" in told
    assert f"pg_dump --format=custom --no-owner --no-privileges --file={tmp_path / 'without'}/labelstudio.dump" in told
    empty = deployments.new("new")
    for variable, value in empty.environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AL_LABEL_STUDIO_DATABASE_URL")
    code, told = run("restore", "backup")
    assert (code, "name it in AL_LABEL_STUDIO_DATABASE_URL" in told) == (1, True)
    monkeypatch.setenv("AL_LABEL_STUDIO_DATABASE_URL", studio_url(empty))
    assert database != empty.label_studio_database_url
    code, told = run("restore", "without")
    assert (code, "no dump of labelstudio" in told) == (1, True)
    code, told = run("restore", "backup")
    assert code == 0, told
    for part in ("is restored: ledger, labelstudio", "No problem was found", "launch the job `setup`"):
        assert part in told


def put_on_path(folder: Path, tool: str, does: str, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / tool).write_text(f"#!/bin/sh\n{does}\n")
    (folder / tool).chmod(0o755)
    patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@on_postgresql
def test_tools_that_are_missing_or_too_old_are_told(
    saved: tuple[Settings, Path], deployments: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder = saved
    empty = deployments.new("new")
    put_on_path(tmp_path / "bin", "pg_dump", "echo 'pg_dump (PostgreSQL) 9.6.24'", monkeypatch)
    put_on_path(tmp_path / "bin", "pg_restore", "echo 'pg_restore (PostgreSQL) 9.6.24'", monkeypatch)
    needed = r"\(PostgreSQL\) 9\.6\.24 is older than what labelstudio needs, PostgreSQL \d+"
    with pytest.raises(BackupError, match=f"pg_dump {needed}"):
        backup(settings, tmp_path / "second", databases_of(settings))
    with pytest.raises(BackupError, match=f"pg_restore {needed}"):
        restore(empty, folder, databases_of(empty))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(BackupError, match=r"pg_dump is not on the PATH, .* postgresql-client-\d+"):
        backup(settings, tmp_path / "second", databases_of(settings))
    assert not empty.home.exists()
    assert not (tmp_path / "second").exists()


@on_postgresql
def test_no_password_is_told_where_a_database_does_not_answer(deployments: Deployments, tmp_path: Path) -> None:
    url = sa.make_url(studio_url(deployments.new("old")))
    wrong = [url.set(password="wrong"), url.set(database="nowhere"), url.set(port=1)]
    for each in wrong:
        database = Database("labelstudio", each.render_as_string(hide_password=False), "here")
        with pytest.raises(BackupError, match=r"database of labelstudio, postgresql://al:\*\*\*@") as told:
            database.check_tool("pg_dump")
        assert str(each.password) not in str(told.value).replace("wrong password", "")
        with pytest.raises(BackupError, match="pg_dump failed for labelstudio") as told:
            database.dump(tmp_path / "file")
        assert PASSWORD not in str(told.value)


@on_postgresql
def test_a_password_is_in_no_command_line_and_may_come_from_the_environment(
    deployments: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sa.make_url(studio_url(deployments.new("old")))
    save(url.render_as_string(hide_password=False), MemoryStudio(Clock()))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    bare = f"postgresql+psycopg2://al@127.0.0.1:{url.port}/{url.database}"
    database = Database("labelstudio", bare, "here")
    database.dump(tmp_path / "file")
    assert (database.tables(), (tmp_path / "file").stat().st_size > 0) == (1, True)
    # What every user of the machine can read.
    monkeypatch.delenv("PGPASSWORD")
    told = f'echo "$@" > {tmp_path}/said; echo "$PGPASSWORD" > {tmp_path}/kept'
    put_on_path(tmp_path / "bin", "pg_dump", told, monkeypatch)
    for given in (url, url.set(query={"password": PASSWORD, "sslmode": "prefer"})):
        Database("labelstudio", given.render_as_string(hide_password=False), "here").dump(tmp_path / "file")
        assert (tmp_path / "kept").read_text().strip() == PASSWORD
        said = (tmp_path / "said").read_text()
        assert f"postgresql://al@127.0.0.1:{url.port}/{url.database}" in said
        assert not [part for part in (PASSWORD, "p%40ss", "password=") if part in said]
    assert "sslmode=prefer" in said


def test_dagsters_database_is_the_one_that_its_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    settings, file = load_settings(home=tmp_path / "home"), tmp_path / "dagster.yaml"
    assert databases_of(settings) == []
    file.write_text("telemetry: {enabled: false}")
    assert databases_of(settings) == []
    file.write_text(STORAGE.read_text())
    for part in ("HOST", "USER", "PASSWORD", "DB"):
        monkeypatch.delenv(f"DAGSTER_POSTGRES_{part}", raising=False)
    with pytest.raises(InputError, match=r"DAGSTER_POSTGRES_HOST is not set, and .*dagster\.yaml takes Dagster's"):
        databases_of(settings)
    for part in ("HOST", "USER", "PASSWORD", "DB"):
        monkeypatch.setenv(f"DAGSTER_POSTGRES_{part}", f"a@{part.lower()}")
    [found] = databases_of(settings)
    assert (found.parsed.host, found.parsed.password, found.parsed.port) == ("a@host", "a@password", 5432)
    assert (found.name, found.file, found.parsed.database) == ("dagster", "dagster.dump", "a@db")
    assert "a@password" not in repr(found)
    # As it was in earlier versions, with any class, and with the storages each by itself.
    own = yaml.safe_load(STORAGE.read_text())["storage"]["custom"]
    for document in (
        {"storage": {"postgres": own["config"]}},
        {"storage": {"custom": own | {"module": "dagster_postgres", "class": "DagsterPostgresStorage"}}},
        {"run_storage": own | {"module": "dagster_postgres", "class": "PostgresRunStorage"}},
    ):
        file.write_text(json.dumps(document))
        assert databases_of(settings) == [found]
    file.write_text("storage: {postgres: {postgres_url: {env: DAGSTER_URL}}}")
    monkeypatch.setenv("DAGSTER_URL", "postgresql://al:secret@server/history")
    assert databases_of(settings)[0].parsed.database == "history"


@pytest.mark.parametrize("url", ["mysql://al@localhost/x", "nonsense"])
def test_a_url_that_is_of_no_database_is_told(url: str) -> None:
    with pytest.raises(InputError, match=r"database of labelstudio \(here\) cannot be used: write postgresql://"):
        Database("labelstudio", url, "here")
