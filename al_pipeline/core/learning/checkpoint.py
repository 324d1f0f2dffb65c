"""The ResNet family: build it, and keep what was learned in one file together with where it came from."""

import copy
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from al_pipeline.core.data.framing import FRAMINGS, Framing
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.arithmetic import PLAIN, Arithmetic
from al_pipeline.core.learning.given_weights import HEAD, load_backbone, read_safetensors, read_weights, unreadable
from al_pipeline.core.learning.options import ARCHITECTURES
from al_pipeline.core.learning.provenance import INFO_KEY

# Per channel, of ImageNet: what torchvision's weights were trained with, and as good a scale as any for untrained ones.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class CheckpointInfo:
    """Where a checkpoint came from and how its inputs are prepared.

    Attributes
    ----------
    architecture : str
        One of `options.ARCHITECTURES`.
    class_names : tuple of str
        Names of the network's outputs, in order.
    image_size : int
        Side in pixels of the square the network sees.
    framing : str
        How images become that square (`framing.frame`); checkpoints from before there was a choice have crops.
    mean, std : tuple of float
        Per-channel normalisation of pixels scaled to 0..1.
    weights : str
        What training started from: ``none``, ``imagenet`` or a path.
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
    framing: Framing = "crop"
    how: HowRead = AS_EVER
    arithmetic: str = PLAIN.key
    refined: str = ""
    versions: dict[str, str] = field(default_factory=dict)

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
            for name in known.keys() & {"class_names", "mean", "std", "thresholds"}:
                known[name] = tuple(known[name])
            if "how" in known:
                known["how"] = HowRead.from_dict(known["how"])
            if known.get("framing", "crop") not in FRAMINGS:
                raise ValueError(f"this version knows no framing {known['framing']!r}")
            Arithmetic.of(known.get("arithmetic", PLAIN.key))
            return cls(**known)
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"its description cannot be read ({error})") from None


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights with their provenance.

    Attributes
    ----------
    info : CheckpointInfo
    state : dict of str to Tensor
        State dict in torchvision's layout, on the CPU.
    """

    info: CheckpointInfo
    state: dict[str, Tensor]

    @property
    def hash(self) -> str:
        """The first 16 hex digits of the weights' SHA-256: the name that query batches remember it by."""
        return self.info.weights_hash[:16]

    def model(self) -> nn.Module:
        """Return the network in evaluation mode; changing it leaves the checkpoint as it is."""
        model = _network(self.info.architecture, len(self.info.class_names))
        model.load_state_dict(self.state)
        return model.eval()

    def save(self, path: Path) -> None:
        """Write the checkpoint as one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            It could not be written, for example because the disk is full; a file that was there before stays.
        """
        data = safetensors.torch.save(self.state, {"format": "pt", INFO_KEY: self.info.to_json()})
        with whole_file(path, f"The checkpoint ({len(data) / 1e6:.0f} MB)", error=CheckpointError) as file:
            file.write_bytes(data)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read what `save` wrote, and verify its weights against their hash.

        Raises
        ------
        CheckpointError
            The file is missing, damaged or no checkpoint of this project.
        """
        info = read_info(path)
        state = read_safetensors(path)
        found = state_hash(state)
        if found != info.weights_hash:
            raise CheckpointError(
                f"The checkpoint {path} is damaged: its weights hash to {found[:16]} instead of "
                f"{info.weights_hash[:16]}. Materialize it again"
            )
        return cls(info, state)


def read_info(path: Path) -> CheckpointInfo:
    """Return a checkpoint's provenance without reading its weights.

    Raises
    ------
    CheckpointError
        The file is missing, damaged or no checkpoint of this project.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
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


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and values, in the names' order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def backbone_hash(state: Mapping[str, Tensor]) -> str:
    """Return the `state_hash` of everything that features depend on: all but the classifier and the batch counters."""
    return state_hash({k: v for k, v in state.items() if k not in HEAD and not k.endswith("num_batches_tracked")})


def build(architecture: str, n_classes: int, *, weights: str = "none", seed: int) -> nn.Module:
    """Return a network with a new classifier of `n_classes` outputs, in training mode.

    Parameters
    ----------
    architecture : str
        One of `options.ARCHITECTURES`.
    n_classes : int
        At least 2.
    weights : str
        ``none`` (untrained), ``imagenet`` (torchvision's, downloaded once) or the path of a .safetensors, .pt or .pth
        state dict in torchvision's layout; its classifier may have any width, its numbers any precision.
    seed : int
        Everything that is not loaded is drawn from it; torch's global generator is left alone.

    Raises
    ------
    InputError
        An unknown architecture, fewer than two classes, or `weights` that are neither a word nor a path.
    CheckpointError
        The weights are missing, damaged, of another architecture, no finite floating point numbers, or could not be
        downloaded.
    """
    if n_classes < 2:
        raise InputError(f"a classifier needs at least 2 classes, not {n_classes}")
    if architecture not in ARCHITECTURES:
        raise InputError(f"unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}")
    # Read before anything is computed: a wrong path is reported at once.
    state = None if weights == "none" else read_weights(weights, architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(architecture, n_classes)
        _initialize(model, filters=state is None)
    if state is not None:
        load_backbone(model, architecture, state, weights)
    return model


def device() -> torch.device:
    """Return where networks run: the first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def normalize(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return what the network takes: (n, 3, h, w) float32, from pixels as (n, h, w, 3) uint8.

    The result keeps the pixels' order in memory (channels last), which the CPU's convolutions are fastest with.
    """
    scale = 255 * torch.tensor(std, device=pixels.device)
    shift = torch.tensor(mean, device=pixels.device) / torch.tensor(std, device=pixels.device)
    return (pixels / scale - shift).permute(0, 3, 1, 2)


def averaged(network: Callable[[Tensor], Tensor], images: Tensor, *, flip: bool, width: int = 3) -> Tensor:
    """Return a network's outputs; with `flip` their mean over the images and their mirror images.

    Test-time augmentation as in Krizhevsky, Sutskever & Hinton (2012), section 4.1, but of logits and without crops.
    The classifier is linear: the mean of its outputs is its output for the mean of the features.

    Parameters
    ----------
    network : callable
        Takes images, returns outputs, shape (n, d).
    images : Tensor, shape (n, channels, h, w), or with another axis `width` from left to right
    flip : bool
    width : int
    """
    outputs = network(images)
    return (outputs + network(images.flip(width))) / 2 if flip else outputs


def _network(architecture: str, n_classes: int) -> nn.Module:
    """Return the network with whatever was in memory as its values: nothing is drawn only to be overwritten."""
    return copy.deepcopy(_skeleton(architecture, n_classes)).to_empty(device="cpu")


@functools.lru_cache(maxsize=8)
def _skeleton(architecture: str, n_classes: int) -> nn.Module:
    """Return the network without values. Kept, because torchvision goes through its initialisation even so: 60 ms."""
    with torch.device("meta"):
        return torchvision.models.get_model(architecture, weights=None, num_classes=n_classes)


def _initialize(model: nn.Module, *, filters: bool) -> None:
    """Give a ResNet the values that training starts from: those of He et al. (2015), as torchvision does.

    torchvision itself draws every convolution twice, torch's default first, which is most of the time it takes. Without
    `filters` they are left to be loaded.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if filters:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
