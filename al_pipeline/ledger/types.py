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


@dataclass(frozen=True)
class RoundCounts:
    """How far a round is, as the ledger knows it; labeled, skipped and withdrawn are disjoint.

    Attributes
    ----------
    planned, labeled, skipped, withdrawn : int
        All tasks; those with enough votes (disputed ones too: people have answered); those skipped; those withdrawn.
    opened_at : datetime or None
        When its last task was pushed.
    """

    planned: int
    labeled: int
    skipped: int
    withdrawn: int
    opened_at: datetime | None
