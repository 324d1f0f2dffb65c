"""Networks: build them, and keep what was learned in one file together with where it came from."""

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

from al_pipeline.core.data.framing import is_name
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.files import content, whole_file
from al_pipeline.core.learning.architectures import ARCHITECTURES, TIMM
from al_pipeline.core.learning.arithmetic import PLAIN, Arithmetic
from al_pipeline.core.learning.given_weights import HEAD, load_backbone, read_safetensors, read_weights, unreadable
from al_pipeline.core.learning.options import SIZE_WITH_WEIGHTS
from al_pipeline.core.learning.preparation import MEAN, STD, preparation_of  # noqa: F401 - where they were
from al_pipeline.core.learning.provenance import INFO_KEY


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


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights with their provenance.

    Attributes
    ----------
    info : CheckpointInfo
    state : dict of str to Tensor
        State dict on the CPU, in torchvision's layout or that of `backbones.Backbone`.
    """

    info: CheckpointInfo
    state: dict[str, Tensor]

    @property
    def hash(self) -> str:
        """The first 16 hex digits of the weights' SHA-256: the name that query batches remember it by."""
        return self.info.weights_hash[:16]

    def model(self) -> nn.Module:
        """Return the network in evaluation mode; changing it leaves the checkpoint as it is."""
        info = self.info
        if info.architecture.startswith(TIMM):
            from al_pipeline.core.learning.backbones import stored_backbone

            return stored_backbone(info.architecture, len(info.class_names), info.image_size, self.state).eval()
        model = _network(info.architecture, len(info.class_names))
        model.load_state_dict(self.state)
        return model.eval()

    def save(self, path: Path) -> None:
        """Write the checkpoint as one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            It could not be written, for example because the disk is full; a file that was there before stays.
        """
        told, size = {"format": "pt", INFO_KEY: self.info.to_json()}, sum(each.nbytes for each in self.state.values())
        with whole_file(path, f"The checkpoint ({size / 1e6:.0f} MB)", error=CheckpointError) as file:
            try:
                safetensors.torch.save_file(self.state, file, told)
            except safetensors.SafetensorError as error:
                raise OSError(None, str(error)) from error

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
        with safetensors.safe_open(content(path), framework="pt") as file:
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


def backbone_hash(state: Mapping[str, Tensor], network: str = "") -> str:
    """Return the `state_hash` of everything that features depend on: all but the classifier and the batch counters.

    `network` is what else they depend on, where the tensors' names do not tell.
    """
    own = state_hash({k: v for k, v in state.items() if k not in HEAD and not k.endswith("num_batches_tracked")})
    return hashlib.sha256(f"{own} {network}".encode()).hexdigest() if network else own


def build(
    architecture: str, n_classes: int, *, weights: str = "none", seed: int, image_size: int | None = None
) -> nn.Module:
    """Return a network with a new classifier of `n_classes` outputs, in training mode.

    Parameters
    ----------
    architecture : str
        One of `architectures.ARCHITECTURES`, or ``timm:`` and a name of timm's.
    n_classes : int
        At least 2.
    weights : str
        ``none`` (untrained), ``imagenet`` (torchvision's, downloaded once), ``hub`` (timm's, likewise) or the path of a
        .safetensors, .pt or .pth state dict in torchvision's layout, for timm's networks in timm's; its classifier may
        have any width, its numbers any precision.
    seed : int
        Everything that is not loaded is drawn from it; torch's global generator is left alone.
    image_size : int, optional
        Side in pixels of the square that a network of timm is built for; what it was trained on by default.

    Raises
    ------
    InputError
        An unknown architecture, fewer than two classes, `weights` that are neither a word nor a path, or an image size
        that the network is not made for.
    CheckpointError
        The weights are missing, damaged, of another architecture, no finite floating point numbers, or could not be
        downloaded.
    """
    if n_classes < 2:
        raise InputError(f"a classifier needs at least 2 classes, not {n_classes}")
    timm = architecture.startswith(TIMM)
    if architecture not in ARCHITECTURES and not timm:
        raise InputError(f"unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}")
    # Read before anything is computed: a wrong path is reported at once.
    state = None if weights == "none" else read_weights(weights, architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if timm:
            from al_pipeline.core.learning.backbones import new_backbone

            size = image_size or preparation_of(architecture).size or SIZE_WITH_WEIGHTS
            return new_backbone(architecture, n_classes, size, state, weights)
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
    return copy.deepcopy(skeleton(architecture, n_classes)).to_empty(device="cpu")


@functools.lru_cache(maxsize=8)
def skeleton(architecture: str, n_classes: int) -> nn.Module:
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
