"""What was planned, answered and trained on, in a SQL database: SQLite by default, PostgreSQL by URL."""

from al_pipeline.ledger.database import LedgerError
from al_pipeline.ledger.frames import PLAN_COLUMNS
from al_pipeline.ledger.store import Ledger
from al_pipeline.ledger.views import KnownProject, Watermark

__all__ = ["PLAN_COLUMNS", "KnownProject", "Ledger", "LedgerError", "Watermark"]
