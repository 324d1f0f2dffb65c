"""Networks that were refined while people labeled: which are whole, which a round starts from, which one serves."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_pipeline.core.errors import CheckpointError, FileError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.provenance import provenance
from al_pipeline.core.rounds import is_round, round_number
from al_pipeline.loop.deployment import Artifacts

if TYPE_CHECKING:
    from al_pipeline.core.learning.checkpoint import Checkpoint

# The folder of features of such a network ends so: no other network's does.
REFINED = "-refined"
# What a network must have in common with what a round is set to, to be started from.
ALIKE = ("architecture", "image_size", "framing", "test_time_flip", "weights")


@dataclass(frozen=True)
class Network:
    """A network refined on the labels of a round; all of it is there, its features too if it is better.

    Attributes
    ----------
    round : str
        The round's key.
    path : Path
        The network, a checkpoint with a classifier of its own.
    checkpoint : str
        The first 16 hex digits of the weights' SHA-256.
    better : bool
        Than a head on the features of the given weights, by validation labels.
    sentence : str
        What was compared, in words.
    features : str
        The folder in the store of features; empty if none were computed.
    """

    round: str
    path: Path
    checkpoint: str
    better: bool
    sentence: str
    features: str = ""

    def load(self) -> "Checkpoint":
        """Return the network itself."""
        from al_pipeline.core.learning.checkpoint import Checkpoint

        return Checkpoint.load(self.path)

    def write(self, more: dict[str, Any]) -> None:
        """Say that the network is whole, and more about it that only people read."""
        document = {name: value for name, value in asdict(self).items() if name != "path"} | more
        with whole_file(self.path.with_suffix(".json"), "What is known of the refined network") as file:
            file.write_text(json.dumps(document, indent=1, allow_nan=False))

    @property
    def kind(self) -> dict[str, Any] | None:
        """What rounds that start from it have in common with it, also of one that was deleted; None if it is gone."""
        left = self.path.with_suffix(Artifacts.DELETED)
        found = provenance(self.path) if self.path.exists() else _read(left)
        return None if found is None else {name: found.get(name) for name in ALIKE}

    def fits(self, training: TrainingOptions) -> bool:
        """Say whether rounds that are set so may start from it: all but its weights are as they would have them."""
        return self.kind == _wanted(training)


def refined_network(artifacts: Artifacts, key: str) -> Network | None:
    """Return the network that was refined on the labels of a round; None while it is not whole.

    Raises
    ------
    FileError
        What is known of it is damaged.
    """
    found = _read(artifacts.refined / f"{key}.json")
    if found is None:
        return None
    path = artifacts.refined / f"{key}.safetensors"
    told = (str(found["checkpoint"]), bool(found["better"]), str(found["sentence"]), str(found["features"]))
    return Network(key, path, *told)


def last_network(artifacts: Artifacts) -> Network | None:
    """Return the refined network of the newest round that has one, better or not."""
    keys = [path.stem for path in artifacts.refined.glob("*.json") if is_round(path.stem)]
    return refined_network(artifacts, max(keys)) if keys else None


def newest_network(artifacts: Artifacts, training: TrainingOptions, before: int = 10_000) -> Network | None:
    """Return the newest refined network that fits, of rounds before one's number, if it is better than a head.

    The newest evidence decides: where the newest network is not better, an earlier one that was is None, too.

    Parameters
    ----------
    artifacts : Artifacts
    training : TrainingOptions
        Settled, as for `start_of_round`.
    before : int
        The number.
    """
    keys = (path.stem for path in artifacts.refined.glob("*.json") if is_round(path.stem))
    for key in sorted((key for key in keys if round_number(key) < before), reverse=True):
        network = refined_network(artifacts, key)
        if network is None or (network.kind is not None and not network.fits(training)):
            continue
        return network if network.better and network.path.exists() else None
    return None


def start_of_round(artifacts: Artifacts, key: str, training: TrainingOptions) -> Network | None:
    """Return the refined network that a round starts from; None: it starts from the weights of `training`.

    Written down at the first call for a round, so that every run of it starts from the same one. A round that is to
    train otherwise (another mode, size, or other weights) starts from its weights.

    Parameters
    ----------
    artifacts : Artifacts
    key : str
        Of the round.
    training : TrainingOptions
        Settled: nothing that a network must fit is ``auto``.

    Raises
    ------
    CheckpointError
        The network that the round has started from is gone.
    FileError
        What was written down is damaged.
    """
    from al_pipeline.core.learning.checkpoint import device

    path, place = artifacts.round_starts / f"{key}.json", device().type
    # Whether networks are refined from now on plays no part for a round that has begun.
    by_heads = training.but(refine="auto").refines(place)
    known = _read(path)
    if known is None:
        if not by_heads:
            return None
        # A round of an earlier version has started from the weights.
        fresh = training.refines(place) and not (artifacts.checkpoints / f"{key}.safetensors").exists()
        found = newest_network(artifacts, training, round_number(key)) if fresh else None
        known = {"round": found and found.round, "checkpoint": found and found.checkpoint}
        with whole_file(path, "What the round starts from") as file:
            file.write_text(json.dumps(known))
    if known["round"] is None or not by_heads:
        return None
    network = refined_network(artifacts, known["round"])
    if network is None or not network.path.exists() or network.checkpoint != known["checkpoint"]:
        raise CheckpointError(
            f"Round {key} has started from the network {known['checkpoint']}, refined in {known['round']}, and "
            f"{artifacts.refined / known['round']}.safetensors is gone or another one: put it back, launch the job "
            f"`refine` for {known['round']} to have it made again (AL_KEEP_CHECKPOINTS says how many stay), or delete "
            f"{path} to train the round from the given weights"
        )
    return network if network.fits(training) else None


def begun(artifacts: Artifacts) -> list[str]:
    """Return the rounds of which it is written down what they have started from, oldest first."""
    return sorted(path.stem for path in artifacts.round_starts.glob("*.json") if is_round(path.stem))


def started_from(artifacts: Artifacts, key: str) -> Network | None:
    """Return the refined network that a round has started from, its file there or not; None: it has from none.

    Raises
    ------
    FileError
        What was written down is damaged.
    """
    known = _read(artifacts.round_starts / f"{key}.json")
    return refined_network(artifacts, known["round"]) if known is not None and known["round"] else None


def features_of_newest_round(artifacts: Artifacts) -> str | None:
    """Return the folder of the refined features that the newest round has started from; None: it has from none."""
    keys = begun(artifacts)
    network = started_from(artifacts, keys[-1]) if keys else None
    return network.features if network is not None and network.features else None


def needed(artifacts: Artifacts) -> set[Path]:
    """Return the files of networks that the newest round and the next one need, whatever they are set to."""
    found = [path for path in artifacts.checkpoints.glob("*.safetensors") if is_round(path.stem)]
    paths = {max(found)} if found else set[Path]()
    keys = begun(artifacts)
    started = started_from(artifacts, keys[-1]) if keys else None
    newest = last_network(artifacts)
    following = newest if newest is not None and newest.better else None
    return paths | {network.path for network in (started, following) if network is not None}


@dataclass(frozen=True)
class Served:
    """The network that answers outside of the loop: its file, and why it is this one, in a sentence."""

    path: Path
    sentence: str


def served(artifacts: Artifacts) -> Served | None:
    """Return the best network there is: of the newest round the refined one, if it is better, else the round's own."""
    rounds = sorted(path.stem for path in artifacts.checkpoints.glob("*.safetensors") if is_round(path.stem))
    if not rounds:
        return None
    key = rounds[-1]
    network, own = refined_network(artifacts, key), artifacts.checkpoints / f"{key}.safetensors"
    if network is None:
        start = provenance(own).get("refined")
        why = "" if last_network(artifacts) is None else ": no network is refined on its labels"
        told = f", a head on the network refined in {start}" if start else why
        return Served(own, f"The checkpoint of {key} serves{told}")
    if not (network.better and network.path.exists()):
        return Served(own, f"The checkpoint of {key} serves: {network.sentence}")
    return Served(network.path, f"The network refined on the labels of {key} serves: {network.sentence}")


def _wanted(training: TrainingOptions) -> dict[str, Any]:
    options = dict(training) | {"image_size": training.settled_image_size, "framing": training.settled_framing}
    return {name: options[name] for name in ALIKE}


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise TypeError("no object")
    except (ValueError, TypeError) as error:
        raise FileError(f"{path} cannot be read ({error}): delete it") from None
    return found
