"""Which checkpoints and refined networks stay: the newest, and those still needed; of others what they were."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from al_pipeline.core.errors import ALError, CheckpointError
from al_pipeline.core.evaluation.metrics import stored_scores
from al_pipeline.core.files import delete_file, whole_file
from al_pipeline.core.learning.provenance import provenance, read_info
from al_pipeline.core.rounds import is_round, round_number
from al_pipeline.loop.deployment import Artifacts, Deployment
from al_pipeline.loop.kept_predictions import stored_rounds
from al_pipeline.loop.refined import begun, refined_network, served, started_from

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
    """Keep a checkpoint or a refined network whatever the settings say: a file beside it says why."""
    # Where nothing can be written nothing is deleted either.
    with suppress(ALError), whole_file(path.with_suffix(Artifacts.PINNED), "What keeps a checkpoint") as file:
        file.write_text(f"{why}\n", encoding="utf-8")


def spare(deployment: Deployment, used: Collection[str] = ()) -> list[str]:
    """Return the rounds whose checkpoints need not be kept any more, oldest first.

    Kept are the newest `keep_checkpoints`, the best, those that are pinned or that training is set to start from, those
    of rounds with unanswered tasks, and those of the rounds in `used`.
    """
    folder = deployment.artifacts.checkpoints
    older = _older(deployment, folder)
    if not older:
        return []
    needed = {best(deployment.artifacts), *used, *_held(deployment, folder), *_open(deployment)}
    return [key for key in older if key not in needed]


def spare_networks(deployment: Deployment, used: Collection[str] = ()) -> list[str]:
    """Return the rounds whose refined networks need not be kept any more, oldest first.

    Kept are the newest `keep_checkpoints`, what serves, what the next round may start from however it is set, those
    that are pinned or that training is set to start from, those whose training is not through, those of the rounds in
    `used` and of rounds with unanswered tasks; and what these rounds, the newest one and each whose checkpoint stays
    have started from.

    Raises
    ------
    FileError
        What is known of a network, or of what a round has started from, is damaged.
    """
    artifacts = deployment.artifacts
    older = _older(deployment, artifacts.refined)
    if not older:
        return []
    working, going = {*used, *_open(deployment)}, set(spare(deployment, used))
    staying = [key for key in _stored(artifacts.checkpoints) if key not in going]
    needed = {*working, *_held(deployment, artifacts.refined), *_next_starts(artifacts)}
    needed |= {path.parent.name for path in artifacts.refining.glob("*/*")}
    needed |= {str(provenance(artifacts.checkpoints / f"{key}.safetensors").get("refined")) for key in staying}
    starts = (started_from(artifacts, key) for key in {*working, *staying, *begun(artifacts)[-1:]})
    needed |= {network.round for network in starts if network is not None}
    serves = served(artifacts)
    if serves is not None and serves.path.parent == artifacts.refined:
        needed.add(serves.path.stem)
    return [key for key in older if key not in needed]


def delete_spare(deployment: Deployment, used: Collection[str] = ()) -> list[str]:
    """Delete the checkpoints that `spare` names, and return their rounds. Of each its description stays.

    Raises
    ------
    FileError
        A description cannot be written; its checkpoint stays.
    """
    return list(_deleted(deployment.artifacts.checkpoints, spare(deployment, used)))


def delete_spare_networks(deployment: Deployment, used: Collection[str] = ()) -> list[str]:
    """Delete the refined networks that `spare_networks` names, and return their rounds. Of each its description stays.

    Raises
    ------
    FileError
        A description cannot be written, and its network stays; or as `spare_networks`.
    """
    return list(_deleted(deployment.artifacts.refined, spare_networks(deployment, used)))


def _deleted(folder: Path, keys: list[str]) -> Iterator[str]:
    """Delete the files of rounds, and yield those that are gone."""
    for key in keys:
        path = folder / f"{key}.safetensors"
        # What is damaged has no description and is told where it is used; it stays.
        with suppress(CheckpointError):
            described = read_info(path).to_json()
            with whole_file(path.with_suffix(Artifacts.DELETED), "What a deleted checkpoint was") as file:
                file.write_text(described, encoding="utf-8")
            delete_file(path)
            yield key


def _stored(folder: Path) -> list[str]:
    return sorted((path.stem for path in folder.glob("*.safetensors") if is_round(path.stem)), key=round_number)


def _older(deployment: Deployment, folder: Path) -> list[str]:
    """Return the rounds with a file in a folder, without the newest that the settings keep, oldest first."""
    keep = deployment.settings.keep_checkpoints
    return [] if keep == "all" else _stored(folder)[:-keep]


def _open(deployment: Deployment) -> set[str]:
    return {key for key, _ in deployment.ledger.open_tasks()}


def _held(deployment: Deployment, folder: Path) -> Iterator[str]:
    """Yield the rounds of a folder that a file beside them or a setting holds."""
    for path in folder.glob(f"*{Artifacts.PINNED}"):
        yield path.stem
    weights = Path(deployment.settings.training.weights).expanduser().absolute()
    if weights.parent == folder.absolute():
        yield weights.stem


def _next_starts(artifacts: Artifacts) -> Iterator[str]:
    """Yield the rounds whose networks the next round may start from: the newest of each kind, if it is better."""
    kinds = []
    for key in reversed(_stored(artifacts.refined)):
        network = refined_network(artifacts, key)
        if network is not None and network.kind not in kinds:
            kinds.append(network.kind)
            if network.better:
                yield key
