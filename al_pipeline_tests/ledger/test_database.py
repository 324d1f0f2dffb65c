"""The schema is what the code thinks it is, opening is quick and safe, and errors never show a password."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from al_pipeline.core.errors import InputError
from al_pipeline.ledger import Ledger, LedgerError, database, views
from al_pipeline.ledger.schema import REVISION, metadata
from al_pipeline_tests.ledger.builders import manifest, plan_rows
from al_pipeline_tests.ledger.postgresql import PASSWORD, PostgreSQL


@pytest.fixture(autouse=True)
def migrated_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ledger here is a copy of one that was migrated before."""
    monkeypatch.setattr(views, "migrate", database.migrate)


def python(code: str, url: str) -> str:
    """Run code in a process of its own, with the URL on its standard input, and return what it printed."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, input=url, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_the_revision_in_the_schema_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "al_pipeline.ledger:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_the_migrations_build_exactly_the_tables_of_the_schema(url: str) -> None:
    ledger = Ledger(url)
    with ledger._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    ledger.close()


def test_a_ledger_that_is_up_to_date_opens_without_alembic(url: str) -> None:
    Ledger(url).close()
    code = (
        "import sys; from al_pipeline.ledger import Ledger; Ledger(sys.stdin.read()).close();"
        "print([name for name in ('alembic', 'torch', 'dagster', 'label_studio_sdk') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=url, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_was_stored_is_there_when_the_ledger_is_opened_again(url: str) -> None:
    first = Ledger(url)
    first.register(manifest())
    stored = first.plan("r0000", plan_rows(1, 2))
    first.close()
    second = Ledger(url)
    assert second.plan("r0000", plan_rows(3)).equals(stored)
    second.close()


def test_several_processes_may_open_a_new_ledger_at_once(url: str) -> None:
    code = "import sys; from al_pipeline.ledger import Ledger; print(len(Ledger(sys.stdin.read()).planned()))"
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(python, [code] * 3, [url] * 3)) == ["0"] * 3


def test_a_new_file_that_another_process_writes_to_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with ThreadPoolExecutor(1) as pool, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opened = pool.submit(Ledger, f"sqlite:///{path}")
        with pytest.raises(TimeoutError):
            opened.result(timeout=1)
        other.execute("COMMIT")
        ledger = opened.result(timeout=60)
    assert len(ledger.planned()) == 0
    ledger.close()


def test_a_new_file_that_stays_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="could not be read: database is locked"):
            Ledger(f"sqlite:///{path}")


def test_a_ledger_of_a_newer_version_is_left_alone(url: str) -> None:
    ledger = Ledger(url)
    with ledger._engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="schema '9999', which this version does not know"):
        Ledger(url)
    ledger.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "cannot be read"),
        (f"postgresql://al:{PASSWORD}@127.0.0.1:port/x", "cannot be read"),
        ("mysql://al:hunter2@localhost/x", r"mysql://al:\*\*\*@localhost/x"),
        ("oracle://localhost/x?user=al&password=hunter2", "oracle://localhost/x "),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_input_error_without_the_password(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Ledger(url)
    assert not any(secret in str(caught.value) for secret in ("w:rd", "hunter2"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LedgerError, match=r"folder .*file/state of the ledger cannot be created"):
        Ledger(f"sqlite:///{tmp_path}/file/state/ledger.sqlite3")


def test_a_file_that_is_no_database_is_a_ledger_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(LedgerError, match="file is not a database"):
        Ledger(f"sqlite:///{path}")


def test_a_wrong_password_is_a_ledger_error_that_does_not_show_it(postgresql: PostgreSQL) -> None:
    wrong = sa.make_url(postgresql.url("postgres")).set(password="hunter2").render_as_string(hide_password=False)
    with pytest.raises(LedgerError, match="password authentication failed") as caught:
        Ledger(wrong)
    chain, error = "", caught.value
    while error is not None:
        chain, error = chain + str(error), error.__cause__
    assert "hunter2" not in chain


def test_the_password_is_not_in_the_repr(postgresql: PostgreSQL) -> None:
    ledger = Ledger(postgresql.new_database().replace("postgresql://", "postgres://"))
    assert "***" in repr(ledger)
    assert "w:rd" not in repr(ledger)
    assert "w%3Ard" not in repr(ledger)
    ledger.close()


def test_a_server_that_is_not_there_is_a_ledger_error() -> None:
    from al_pipeline.servers.processes import free_port

    pytest.importorskip("psycopg2", reason="the PostgreSQL driver is not installed (the extra `postgres`)")
    with pytest.raises(LedgerError, match="Connection refused"):
        Ledger(f"postgresql://al:hunter2@127.0.0.1:{free_port()}/ledger")


def test_the_ledger_goes_on_after_the_server_dropped_its_connections(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    ledger = Ledger(url)
    ledger.register(manifest())
    admin = sa.create_engine(url)
    with admin.connect() as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'al_pipeline'")
        )
    admin.dispose()
    assert ledger.count_samples("pool") == 20
    ledger.close()
