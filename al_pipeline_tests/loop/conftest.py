"""A PostgreSQL for those tests whose databases may be elsewhere."""

from al_pipeline_tests.ledger.conftest import postgresql

__all__ = ["postgresql"]
