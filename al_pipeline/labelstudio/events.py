"""What Label Studio tells us, typed at the edge."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from al_pipeline.core.labels.annotation import Annotation, choices_of, kind_of, origin_of


@dataclass(frozen=True)
class ServerInfo:
    """Which server answered, and whose token it was asked with."""

    version: str
    username: str


@dataclass(frozen=True)
class ProjectCounts:
    """A project's own counters, and its label config; `at` is the server's time."""

    tasks: int
    labeled: int
    annotations: int
    skipped: int
    at: datetime
    label_config: str


@dataclass(frozen=True)
class TaskStatus:
    """One task without its answers: how many there are, and how many of them are skips (`cancelled`)."""

    task_id: int
    sample_id: str
    round: str
    annotations: int
    cancelled: int
    updated_at: datetime

    @property
    def answers(self) -> int:
        """Answers and skips: what somebody has done."""
        return self.annotations + self.cancelled


@dataclass(frozen=True)
class TaskAnswers:
    """One task and all annotations that it has."""

    task_id: int
    sample_id: str | None
    created_at: datetime
    updated_at: datetime
    annotations: list[Annotation]


def parse_annotation(raw: dict[str, Any], *, task_id: int, data: dict[str, Any], annotator: str) -> Annotation:
    """Return what an annotation's JSON says."""
    kind, chosen = kind_of(raw), choices_of(raw)
    return Annotation(
        annotation_id=int(raw["id"]),
        task_id=task_id,
        sample_id=_text(data.get("sample_id")),
        round=_text(data.get("round")),
        annotator=annotator,
        value=chosen[0] if len(chosen) == 1 and kind != "skip_choice" else None,
        cancelled=bool(raw.get("was_cancelled")),
        lead_time=raw.get("lead_time"),
        created_at=datetime.fromisoformat(raw["created_at"]),
        updated_at=datetime.fromisoformat(raw["updated_at"]),
        raw=raw,
        kind=kind,
        origin=origin_of(raw),
        parent_prediction=raw.get("parent_prediction"),
        import_id=raw.get("import_id"),
    )


def parse_task(raw: dict[str, Any]) -> TaskStatus:
    """Return the status of a task's JSON."""
    return TaskStatus(
        task_id=int(raw["id"]),
        sample_id=str(raw["data"].get("sample_id")),
        round=str(raw["data"].get("round")),
        annotations=int(raw["total_annotations"]),
        cancelled=int(raw["cancelled_annotations"]),
        updated_at=datetime.fromisoformat(raw["updated_at"]),
    )


def parse_answers(raw: dict[str, Any], annotators: Iterable[str]) -> TaskAnswers:
    """Return what a task's JSON says, with its annotations by these people."""
    task_id, data, given = int(raw["id"]), raw["data"], zip(raw["annotations"], annotators, strict=True)
    return TaskAnswers(
        task_id=task_id,
        sample_id=_text(data.get("sample_id")),
        created_at=datetime.fromisoformat(raw["created_at"]),
        updated_at=datetime.fromisoformat(raw["updated_at"]),
        annotations=[parse_annotation(each, task_id=task_id, data=data, annotator=who) for each, who in given],
    )


def _text(value: Any) -> str | None:
    """Return a value of a task's data if it can be ours; a task that was made by hand may hold anything there."""
    return value if isinstance(value, str) else None
