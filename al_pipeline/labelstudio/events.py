"""What Label Studio tells us, typed at the edge."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from al_pipeline.core.labels.annotation import Annotation, choices_of, kind_of, moment, of_grid, origin_of

# What the data of a task names that asks about several images each, in their order.
SAMPLES = "samples"


@dataclass(frozen=True)
class ServerInfo:
    """Which server answered, and whose token it was asked with."""

    version: str
    username: str


@dataclass(frozen=True)
class ProjectCounts:
    """A project's own counters, and its label config; `at` is the server's time, where it tells it."""

    tasks: int
    annotations: int
    skipped: int
    at: datetime
    label_config: str


@dataclass(frozen=True)
class TaskStatus:
    """One task without its answers: how many there are, and how many of them are skips (`cancelled`).

    `sample_id` is the first of `samples`, all that it asks about: one, unless it is a grid.
    """

    task_id: int
    sample_id: str
    round: str
    annotations: int
    cancelled: int
    updated_at: datetime
    grid: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[str, ...]:
        """All that it asks about, each by itself."""
        return self.grid or (self.sample_id,)

    @property
    def answers(self) -> int:
        """Answers and skips: what somebody has done."""
        return self.annotations + self.cancelled


@dataclass(frozen=True)
class TaskAnswers:
    """One task and all annotations that it has, of a grid those of each image."""

    task_id: int
    samples: tuple[str | None, ...]
    created_at: datetime
    updated_at: datetime
    annotations: list[Annotation]


def parse_annotation(raw: dict[str, Any], *, task_id: int, data: dict[str, Any], annotator: str) -> list[Annotation]:
    """Return what an annotation's JSON says: of the one image that its task asks about, or of each in a grid."""
    grid, about = samples_of(data), {"task_id": task_id, "round": _text(data.get("round")), "annotator": annotator}
    if not grid:
        return [_parsed(raw, sample_id=_text(data.get("sample_id")), **about)]
    each = enumerate(grid, 1)
    return [_parsed(of_grid(raw, cell, len(grid)), sample_id=sample, **about) for cell, sample in each]


def _parsed(raw: dict[str, Any], **about: Any) -> Annotation:
    kind, chosen, cell, seconds = kind_of(raw), choices_of(raw), raw.get("cell"), raw.get("lead_time")
    return Annotation(
        annotation_id=int(raw["id"]),
        value=chosen[0] if len(chosen) == 1 and kind != "skip_choice" else None,
        cancelled=bool(raw.get("was_cancelled")),
        lead_time=seconds if cell is None or seconds is None else seconds / raw["cells"],
        created_at=moment(datetime.fromisoformat(raw["created_at"]), cell),
        updated_at=moment(datetime.fromisoformat(raw["updated_at"]), cell),
        raw=raw,
        kind=kind,
        origin=origin_of(raw),
        parent_prediction=raw.get("parent_prediction"),
        import_id=raw.get("import_id"),
        cell=cell,
        **about,
    )


def samples_of(data: dict[str, Any]) -> tuple[str, ...]:
    """Return what a task asks about by its data if that is a grid, else nothing."""
    found = data.get(SAMPLES)
    # A task that was made by hand may hold anything there.
    return tuple(found) if isinstance(found, list) and all(isinstance(each, str) for each in found) else ()


def parse_task(raw: dict[str, Any]) -> TaskStatus:
    """Return the status of a task's JSON."""
    grid = samples_of(raw["data"])
    return TaskStatus(
        task_id=int(raw["id"]),
        sample_id=grid[0] if grid else str(raw["data"].get("sample_id")),
        round=str(raw["data"].get("round")),
        annotations=int(raw["total_annotations"]),
        cancelled=int(raw["cancelled_annotations"]),
        updated_at=datetime.fromisoformat(raw["updated_at"]),
        grid=grid,
    )


def parse_answers(raw: dict[str, Any], annotators: Iterable[str]) -> TaskAnswers:
    """Return what a task's JSON says, with its annotations by these people."""
    task_id, data, given = int(raw["id"]), raw["data"], zip(raw["annotations"], annotators, strict=True)
    return TaskAnswers(
        task_id=task_id,
        samples=samples_of(data) or (_text(data.get("sample_id")),),
        created_at=datetime.fromisoformat(raw["created_at"]),
        updated_at=datetime.fromisoformat(raw["updated_at"]),
        annotations=[
            event for each, who in given for event in parse_annotation(each, task_id=task_id, data=data, annotator=who)
        ],
    )


def _text(value: Any) -> str | None:
    """Return a value of a task's data if it can be ours; a task that was made by hand may hold anything there."""
    return value if isinstance(value, str) else None
