"""What one person said about one sample: the form of it from Label Studio's JSON to the label that is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

# A Choices tag of this name, and one choice of it: what an answer is read from.
CHOICES = "label"
# What is stored for somebody who cannot tell: an answer, and no class. People see a button of another name.
UNSURE = "__unsure__"
# What is stored for somebody who sees several classes in a task that shows several images: an answer, and no class.
MIXED = "__mixed__"
# What is stored for an image of a grid that somebody leaves open: it is asked about again, by another task.
OPEN = "__open__"
Kind = Literal[
    "answer", "skip", "skip_choice", "unsure", "mixed", "left_open", "empty", "hasty", "guess", "copy", "correction"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Only these are votes, if they name a class.
VOTES: tuple[Kind, ...] = ("answer", "correction")
# Whoever leaves one of these has dealt with the sample, and has given no label.
DEALT_WITH: tuple[Kind, ...] = ("skip", "skip_choice", "unsure", "mixed", "left_open", "hasty")
# What the buttons that name no class store.
BUTTONS: dict[str, Kind] = {UNSURE: "unsure", MIXED: "mixed", OPEN: "left_open"}
# Slips of the hand, and what says nothing: they take nothing back that the person has said of the sample elsewhere.
SLIPS: tuple[Kind, ...] = ("empty", "hasty", "left_open")


@dataclass(frozen=True)
class Annotation:
    """One state of one annotation. Whoever changes an answer, or takes it back, makes another state of the same.

    What answers a grid, a task that asks about several images each, is as many annotations of one number: their
    moments differ by a microsecond from one image to the next (`of_grid`).

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
        Whether Label Studio counts it as a skip.
    lead_time : float or None
        Seconds that the person took; of a grid each image has an equal part.
    created_at, updated_at : datetime
        Aware, by the server's clock.
    raw : dict
        All of it, as Label Studio showed it.
    deleted : bool
        Whether somebody has taken it back.
    kind : str
        What it is worth: ``answer``; ``skip``; ``skip_choice``, a skip that carries a choice; ``unsure``; ``mixed``,
        of images that are not all of one class; ``left_open``, an image of a grid without an answer; ``empty``, with
        no choice or several; ``hasty``, given sooner than a person can look; ``guess``, made from a prediction by a
        click for many tasks; ``copy``, an annotation that was exported and imported again; ``correction``, which
        replaces whatever was said of the sample before it.
    origin : str or None
        Label Studio's: ``manual``, ``prediction`` (a guess that the person has submitted), ``prediction-changed``.
    parent_prediction, import_id : int or None
        The prediction it was made from; the annotation it is a copy of.
    cell : int or None
        The place of the image in a grid, from 1; None where the task asks about one image.
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
    kind: Kind = "answer"
    origin: str | None = None
    parent_prediction: int | None = None
    import_id: int | None = None
    cell: int | None = None


def control(name: str, cell: int | None) -> str:
    """Return what a control is called, or an image's key in a task's data: the first of a grid as if it were alone."""
    return name if cell in (None, 1) else f"{name}{cell}"


def of_grid(raw: Mapping[str, Any], cell: int, cells: int) -> dict[str, Any]:
    """Return what the JSON of an annotation of a grid says of one image, with its place and how many are shown."""
    parts = [part for part in raw.get("result") or [] if part.get("from_name") == control(CHOICES, cell)]
    return dict(raw) | {"result": parts, "cell": cell, "cells": cells}


def moment(at: datetime, cell: int | None) -> datetime:
    """Return a moment of an annotation: a microsecond later for each image of a grid, which tells them apart."""
    return at if cell is None else at + timedelta(microseconds=cell - 1)


def unknown_author(annotation_id: int) -> str:
    """Return the name of an annotation's author where nobody knows who that is: of each annotation another one."""
    return f"unknown author of annotation {annotation_id}"


def is_unknown(annotator: str) -> bool:
    """Say whether the name stands for an author whom nobody knows."""
    return annotator.startswith(unknown_author(0)[:-1])


def choices_of(raw: Mapping[str, Any]) -> list[str]:
    """Return the classes that an annotation's JSON names."""
    return [choice for part in _answers(raw) for choice in part.get("value", {}).get("choices", [])]


def origin_of(raw: Mapping[str, Any]) -> str | None:
    """Return where the choice comes from, None if Label Studio does not say."""
    return next((str(part["origin"]) for part in _answers(raw) if part.get("origin")), None)


def _answers(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    name = control(CHOICES, raw.get("cell"))
    return [part for part in raw.get("result") or [] if part.get("from_name") == name]


def kind_of(raw: Mapping[str, Any]) -> Kind:
    """Return what an annotation's JSON is worth, by itself; whether it is a copy, only the ledger knows."""
    chosen = choices_of(raw)
    if raw.get("was_cancelled"):
        return "skip_choice" if chosen else "skip"
    made = raw.get("parent_prediction") is not None and raw.get("lead_time") is None
    # Whoever submits a guess in the editor takes time, and the result says that it was a prediction.
    if made and not any(part.get("origin") for part in raw.get("result") or []):
        return "guess"
    if not chosen and raw.get("cell"):
        return "left_open"
    if len(chosen) != 1:
        return "empty"
    return BUTTONS.get(chosen[0], "answer")
