"""Whether what was made of answers and plans still holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment

State = tuple[Any, ...]


def state(deployment: "Deployment") -> State:
    """Return what is another one once a task, an answer, a label, the classes or a file of a round is another one."""
    ledger, artifacts = deployment.ledger, deployment.artifacts
    classes, asked = ledger.class_set(), frozenset(ledger.asking().items())
    folders = artifacts.evaluations, artifacts.holdout_predictions, artifacts.uncertainty_scores
    files = tuple(map(_changed, (*folders, artifacts.image_pool, artifacts.labels_saved)))
    return asked, len(ledger.all_frozen_at()), ledger.newest_event(), classes and classes.version, files


def _changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None
