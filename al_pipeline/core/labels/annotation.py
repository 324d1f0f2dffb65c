"""What one person said about one sample: the form of it from Label Studio's JSON to the label that is trained on."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Annotation:
    """One state of one annotation. Whoever changes an answer, or takes it back, makes another state of the same.

    Attributes
    ----------
    annotation_id, task_id : int
        As Label Studio numbers them: unique within a server, while it is not set back.
    sample_id, round : str or None
        What the task says it asks about; a task that was made by hand may say nothing.
    annotator : str
        Login of the person.
    value : str or None
        The chosen class; None for a skip, and for an answer with no choice or several.
    cancelled : bool
        Whether it is a skip.
    lead_time : float or None
        Seconds that the person took.
    created_at, updated_at : datetime
        Aware, by the server's clock.
    raw : dict
        All of it, as Label Studio showed it.
    deleted : bool
        Whether somebody has taken it back.
    """

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
    raw: dict[str, Any]
    deleted: bool = False
