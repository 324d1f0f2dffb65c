"""What was planned, answered and trained on, in a SQL database: SQLite by default, PostgreSQL by URL."""

from al_pipeline.core.consensus import labels_hash
from al_pipeline.ledger.database import LedgerError
from al_pipeline.ledger.store import Ledger
from al_pipeline.ledger.types import AnnotationEvent, RoundCounts

__all__ = ["AnnotationEvent", "Ledger", "LedgerError", "RoundCounts", "labels_hash"]
