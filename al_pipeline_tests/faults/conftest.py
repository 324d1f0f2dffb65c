"""The fixtures of Dagster's and Label Studio's tests, and a PostgreSQL of its own, for those of the faults."""

from collections.abc import Iterator

import pytest

from al_pipeline_tests.defs.conftest import empty_dagster, make_world
from al_pipeline_tests.labelstudio.conftest import make_project, project
from al_pipeline_tests.ledger.postgresql import PostgreSQL, run_postgresql

__all__ = ["empty_dagster", "make_project", "make_world", "project"]


@pytest.fixture(scope="package")
def own_postgresql() -> Iterator[PostgreSQL]:
    """A server that may crash: whoever ends it starts it again."""
    yield from run_postgresql()
