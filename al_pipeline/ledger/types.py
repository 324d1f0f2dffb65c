"""What the ledger takes and tells, beside data frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


class AnnotationEvent(Protocol):
    """One state of one annotation, as Label Studio showed it."""

    @property
    def annotation_id(self) -> int: ...
    @property
    def task_id(self) -> int: ...
    @property
    def sample_id(self) -> str | None: ...
    @property
    def round(self) -> str | None: ...
    @property
    def annotator(self) -> str: ...
    @property
    def value(self) -> str | None: ...
    @property
    def cancelled(self) -> bool: ...
    @property
    def lead_time(self) -> float | None: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def updated_at(self) -> datetime: ...
    @property
    def raw(self) -> Mapping[str, Any]: ...
    @property
    def deleted(self) -> bool: ...


@dataclass(frozen=True)
class Watermark:
    """How far a source of annotations has been pulled.

    Attributes
    ----------
    until : datetime
        Whatever changed up to this moment, by the source's clock, is in the ledger.
    pulled_at : datetime or None
        When that was, by our clock.
    answers_over, skips_over : int
        By how many the ledger had more than the source counted, after everything was read: those of deleted tasks.
    """

    until: datetime
    pulled_at: datetime | None = None
    answers_over: int = 0
    skips_over: int = 0


@dataclass(frozen=True)
class KnownAnnotation:
    """The latest state of an annotation that the ledger knows."""

    annotation_id: int
    task_id: int
    sample_id: str | None
    round: str | None
    annotator: str
    value: str | None
    cancelled: bool
    lead_time: float | None
    created_at: datetime
    updated_at: datetime
    raw: Mapping[str, Any]
    deleted: bool
