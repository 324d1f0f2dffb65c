"""What was planned, answered and trained on, in a SQL database: SQLite by default, PostgreSQL by URL."""

from al_pipeline.core.labels.consensus import labels_hash
from al_pipeline.ledger.database import LedgerError
from al_pipeline.ledger.store import Ledger
from al_pipeline.ledger.types import AnnotationEvent, KnownAnnotation, Watermark

__all__ = [
    "AnnotationEvent",
    "KnownAnnotation",
    "Ledger",
    "LedgerError",
    "Watermark",
    "labels_hash",
]
