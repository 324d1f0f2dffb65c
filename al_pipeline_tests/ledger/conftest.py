"""Real databases: a SQLite file per test, and a database of its own per test in one PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from al_pipeline_tests.ledger.postgresql import PostgreSQL, run_postgresql


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    yield from run_postgresql()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'ledger.sqlite3'}"
    return request.getfixturevalue("postgresql").new_database()
