"""Networks: build them, and keep what was learned in one file together with where it came from."""

import copy
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.architectures import ARCHITECTURES, TIMM
from al_pipeline.core.learning.given_weights import HEAD, load_backbone, read_safetensors, read_weights
from al_pipeline.core.learning.options import SIZE_WITH_WEIGHTS
from al_pipeline.core.learning.preparation import MEAN, STD, preparation_of  # noqa: F401 - where they were
from al_pipeline.core.learning.provenance import INFO_KEY, CheckpointInfo, read_info


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
