"""Which weights a home starts its rounds from: what was set, else what it has trained with, else what can be had."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from al_pipeline.core.errors import CheckpointError, FileError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.architectures import TIMM
from al_pipeline.core.learning.hub import fetch
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.provenance import provenance
from al_pipeline.core.rounds import is_round
from al_pipeline.loop.deployment import Artifacts

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

WITHOUT = (
    "Rounds start from an untrained network, which learns little from few labels; `al up` and the job `setup` look "
    "again until one has trained"
)


@dataclass(frozen=True)
class Start:
    """What rounds start from.

    Attributes
    ----------
    training : TrainingOptions
        The options, with weights other than ``auto`` and a size.
    said : str
        A sentence that says which weights, and why.
    warning : str, optional
        What to do, where ``auto`` found none.
    """

    training: TrainingOptions
    said: str
    warning: str | None = None


def settle_weights(
    training: TrainingOptions,
    settings: "Settings",
    *,
    again: bool = False,
    keep: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Start:
    """Return the options with weights that are there, and the size of image that goes with them.

    What ``auto`` found is written down: all processes of a home start from the same. A home that has trained keeps its
    weights, and its size as long as its weights stay given ones or stay none. A network of timm that it has not trained
    begins with its own: without them it would be no more than a slow one.

    Parameters
    ----------
    training : TrainingOptions
    settings : Settings
        Of the home.
    again : bool
        Look once more for weights that could not be had the last time.
    keep : bool
        Write down what was found.
    progress : callable, optional
        Of a download, see `hub.fetch`.

    Raises
    ------
    CheckpointError
        The weights that were set, that the home has trained with or that mode head needs cannot be had.
    FileError
        What was written down is damaged, or cannot be written.
    """
    artifacts = Artifacts.of(settings)
    last = _last_trained(artifacts) if training.weights == "auto" or training.image_size is None else None
    if last is not None and training.architecture != last[1].get("architecture", "resnet18"):
        # One of torchvision's networks may follow another.
        either = training.architecture, last[1]["architecture"]
        last = None if any(name.startswith(TIMM) for name in either) else last

    def had(weights: str) -> str:
        if weights == training.hub:
            fetch(training.architecture, settings.weights_url, progress)
        return weights

    warning = None
    if training.weights != "auto":
        weights, why = had(training.weights), "as set"
    elif last is None and (training.mode == "head" or training.hub == "hub"):
        why = "those of its name" if training.hub == "hub" else "which mode head needs"
        weights = had(training.hub)
    else:
        before = _stored(artifacts)
        known = None if last is None else str(last[1]["weights"])
        found = _found(training.architecture, before, known, had, again=again)
        if keep and found != before:
            with whole_file(artifacts.start_weights, "Which weights rounds start from") as file:
                file.write_text(json.dumps(found))
        weights, warning = found["weights"], _warning(found)
        why = "which auto found" if last is None else f"as in {last[0]}: training.weights changes that"
    size = training.image_size
    if size is None and last is not None and (last[1]["weights"] == "none") == (weights == "none"):
        size = int(last[1]["image_size"])
    settled = training.but(weights=weights, image_size=size)
    settled = settled.but(image_size=settled.settled_image_size)
    said = f"The network sees {settled.image_size} px, and starts from the weights {weights}, {why}"
    return Start(settled, said, warning)


def missing_weights(settings: "Settings", training: TrainingOptions) -> str | None:
    """Return the warning that rounds start from an untrained network that nobody has asked for; None if they do not.

    Parameters
    ----------
    settings : Settings
        Of the home.
    training : TrainingOptions
        As they were set.
    """
    found = _stored(Artifacts.of(settings)) if training.weights == "auto" else None
    return None if found is None else _warning(found)


def _warning(found: dict[str, str]) -> str | None:
    return f"{WITHOUT}. {found['missing']}" if found["missing"] else None


def _found(
    architecture: str, before: dict[str, str] | None, trained: str | None, had: Callable[[str], str], *, again: bool
) -> dict[str, str]:
    """Return what `auto` comes to, and why it is not imagenet.

    Parameters
    ----------
    architecture : str
    before : dict, optional
        What it came to the last time.
    trained : str, optional
        The weights that the home has trained with.
    had : callable
        Makes sure of weights.
    again : bool
        Look once more.
    """
    if before is not None and (before["architecture"] != architecture or trained not in (None, before["weights"])):
        before = None
    known = trained or (None if before is None or (again and before["missing"]) else before["weights"])
    missing = "" if before is None else before["missing"]
    try:
        weights, missing = had(known or "imagenet"), missing if known else ""
    except CheckpointError as error:
        if known:
            raise
        weights, missing = "none", str(error)
    return {"architecture": architecture, "weights": weights, "missing": missing}


def _stored(artifacts: Artifacts) -> dict[str, str] | None:
    path = artifacts.start_weights
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return {name: str(found[name]) for name in ("architecture", "weights", "missing")}
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"{path} cannot be read ({error}): delete it") from None


def _last_trained(artifacts: Artifacts) -> tuple[str, dict[str, Any]] | None:
    """Return the key of the last round that has trained, and what its checkpoint says.

    What is damaged is told where it is used; a round that replaces it must not fail here.
    """
    paths = [path for path in artifacts.checkpoints.glob("*.safetensors") if is_round(path.stem)]
    said = ((path.stem, provenance(path)) for path in sorted(paths, reverse=True))
    return next(((key, found) for key, found in said if found.get("trained")), None)
