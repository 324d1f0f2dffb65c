"""What a checkpoint's file says of itself, read without torch."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors

from al_pipeline.core.data.framing import is_name
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.files import content
from al_pipeline.core.learning.arithmetic import PLAIN, Arithmetic

# The key of the provenance in the file's metadata; its presence tells our files from other safetensors files.
INFO_KEY = "al_pipeline.checkpoint"


@dataclass(frozen=True)
class CheckpointInfo:
    """Where a checkpoint came from and how its inputs are prepared.

    Attributes
    ----------
    architecture : str
        One of `architectures.ARCHITECTURES`, or ``timm:`` and a name of timm's.
    class_names : tuple of str
        Names of the network's outputs, in order.
    image_size : int
        Side in pixels of the square the network sees.
    framing : str
        How images become that square (`framing.named`); checkpoints from before there was a choice have crops.
    mean, std : tuple of float
        Per-channel normalisation of pixels scaled to 0..1.
    weights : str
        What training started from: ``none``, ``imagenet``, ``hub`` or a path.
    weights_hash : str
        SHA-256 of the state (`state_hash`), 64 hex digits.
    labels_hash : str
        Identifies the labeled pool it was trained on; empty if untrained.
    seed, round : int
        The seed and the round that all randomness came from.
    trained : bool
    n_labels : int
        How many labels were seen.
    temperature : float
        Logits are divided by it before the softmax.
    thresholds : tuple of float
        One per class, where a rare class is said at other probabilities than the most probable one
        (`thresholds.decided`); else empty.
    mode : str
        ``finetune``: the whole network was trained; ``head``: the classifier alone; empty if untrained.
    backbone_hash : str
        `backbone_hash` of the state: with an embedding store of the same backbone no image need be looked at.
    test_time_flip : bool
        Whether outputs are the mean over an image and its mirror image (`averaged`).
    semi_supervised : str
        How unlabeled samples were used: ``none`` or the name of the method.
    how : HowRead
        How files are read, where they leave a choice.
    arithmetic : str
        What features are computed with (`arithmetic.Arithmetic`), ``openvino-bfloat16`` for example; that of
        checkpoints from before there was a choice is float32 of PyTorch.
    int8_ranges : tuple of float
        For features in int8, the largest number that each convolution was given (`int8.calibrated`); else empty.
    refined : str
        The round, ``r0007``, whose refined network a head stands on; empty if it is that of the weights.
    versions : dict
        Library versions that made it.
    """

    architecture: str
    class_names: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str
    weights_hash: str
    labels_hash: str
    seed: int
    round: int
    trained: bool
    n_labels: int
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    mode: str = ""
    backbone_hash: str = ""
    test_time_flip: bool = False
    semi_supervised: str = "none"
    framing: str = "crop"
    how: HowRead = AS_EVER
    arithmetic: str = PLAIN.key
    int8_ranges: tuple[float, ...] = ()
    refined: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def way(self) -> str:
        """What tells its features from those of another arithmetic in the names of folders; "" for float32 of PyTorch.

        Those of int8 depend on what they were calibrated on, too.
        """
        if not self.int8_ranges:
            return "" if self.arithmetic == PLAIN.key else f"-{self.arithmetic}"
        return f"-{self.arithmetic}-{hashlib.sha256(repr(self.int8_ranges).encode()).hexdigest()[:8]}"

    def to_json(self) -> str:
        """Return the fields as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "CheckpointInfo":
        """Read what `to_json` wrote; fields that a later version added are ignored.

        Raises
        ------
        CheckpointError
            The text is no such JSON or lacks a field.
        """
        try:
            found = json.loads(text)
            known = {f.name: found[f.name] for f in fields(cls) if f.name in found}
            for name in known.keys() & {"class_names", "mean", "std", "thresholds", "int8_ranges"}:
                known[name] = tuple(known[name])
            if "how" in known:
                known["how"] = HowRead.from_dict(known["how"])
            if not is_name(known.get("framing", "crop")):
                raise ValueError(f"this version knows no framing {known['framing']!r}")
            Arithmetic.of(known.get("arithmetic", PLAIN.key))
            return cls(**known)
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"its description cannot be read ({error})") from None


def read_info(path: Path) -> CheckpointInfo:
    """Return a checkpoint's provenance without reading its weights.

    Raises
    ------
    CheckpointError
        The file is missing, damaged or no checkpoint of this project.
    """
    try:
        with safetensors.safe_open(content(path), framework="np") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise unreadable(path, error) from error
    if INFO_KEY not in metadata:
        raise CheckpointError(
            f"{path} holds weights but no description of this project's: it can be where training starts "
            "(training.weights), not a checkpoint"
        )
    try:
        return CheckpointInfo.from_json(metadata[INFO_KEY])
    except CheckpointError as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {error}. Materialize it again") from None


def provenance(path: Path) -> dict[str, Any]:
    """Return the fields of a checkpoint's `CheckpointInfo` as they were written; none of a damaged file."""
    try:
        with safetensors.safe_open(content(path), framework="np") as file:
            found = json.loads((file.metadata() or {})[INFO_KEY])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Return what to say of a file of weights that could not be read."""
    if isinstance(error, FileNotFoundError) or not path.exists():
        return CheckpointError(f"There is no file {path.absolute()}: materialize the checkpoint, or mend the path")
    reason = str(error).strip().split("\n")[0]
    return CheckpointError(f"{path} is damaged or no such file of weights ({type(error).__name__}: {reason})")
