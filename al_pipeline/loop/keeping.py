"""Which rounds' checkpoints stay: the newest, the best, and those that are still needed; of others what they were."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from al_pipeline.core.errors import CheckpointError, FileError
from al_pipeline.core.evaluation.metrics import stored_scores
from al_pipeline.core.files import whole_file
from al_pipeline.core.rounds import is_round, round_number
from al_pipeline.loop.deployment import Artifacts, Deployment
from al_pipeline.loop.kept_predictions import stored_rounds

# What a round is best by: the first of these that is measured decides, the next where two are equal.
BEST_BY = ("roc_auc", "accuracy")


def best(artifacts: Artifacts) -> str | None:
    """Return the round that was measured best, among trained ones the one of the highest ROC-AUC, then accuracy.

    Of equals it is the newest. None where nothing is measured yet.
    """
    scores = dict[str, tuple[float, ...]]()
    for key, document in stored_rounds(artifacts.evaluations).items():
        measured = stored_scores(document["evaluation"])[1]
        if document["trained"] and any(measured[name] for name in BEST_BY):
            found = (measured[name] for name in BEST_BY)
            scores[key] = tuple(-1.0 if each is None else each.value for each in found)
    return max(scores, key=lambda key: (scores[key], round_number(key)), default=None)


def pin(path: Path, why: str) -> None:
    """Keep a round's checkpoint whatever the settings say: a file beside it says why."""
    # Where nothing can be written nothing is deleted either.
    with suppress(FileError), whole_file(path.with_suffix(Artifacts.PINNED), "What keeps a checkpoint") as file:
        file.write_text(f"{why}\n", encoding="utf-8")


def spare(deployment: Deployment, used: Collection[str] = ()) -> list[str]:
    """Return the rounds whose checkpoints need not be kept any more, oldest first.

    Kept are the newest `keep_checkpoints`, the best, those that are pinned, those of rounds with unanswered tasks, and
    those of the rounds in `used`.
    """
    keep, artifacts = deployment.settings.keep_checkpoints, deployment.artifacts
    if keep == "all":
        return []
    stored = (path.stem for path in artifacts.checkpoints.glob("*.safetensors") if is_round(path.stem))
    older = sorted(stored, key=round_number)[:-keep]
    if not older:
        return []
    pinned = (path.stem for path in artifacts.checkpoints.glob(f"*{Artifacts.PINNED}"))
    needed = {best(artifacts), *used, *pinned, *(key for key, _ in deployment.ledger.open_tasks())}
    return [key for key in older if key not in needed]


def delete_spare(deployment: Deployment, used: Collection[str] = ()) -> list[str]:
    """Delete the checkpoints that `spare` names, and return their rounds. Of each its description stays.

    Raises
    ------
    FileError
        A description cannot be written; its checkpoint stays.
    """
    from al_pipeline.core.learning.checkpoint import read_info

    deleted = []
    for key in spare(deployment, used):
        path = deployment.artifacts.checkpoints / f"{key}.safetensors"
        # What is damaged has no description and is told where it is used; it stays.
        with suppress(CheckpointError):
            described = read_info(path).to_json()
            with whole_file(path.with_suffix(Artifacts.DELETED), "What a deleted checkpoint was") as file:
                file.write_text(described, encoding="utf-8")
            path.unlink(missing_ok=True)
            deleted.append(key)
    return deleted
