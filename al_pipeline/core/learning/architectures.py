"""Networks by their names: torchvision's ResNets, and what timm says about its own."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from al_pipeline.core.errors import InputError

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# What the names of timm's networks begin with.
TIMM = "timm:"


def config(architecture: str) -> Any:
    """Return what timm says about a network and its weights (`timm.models.PretrainedCfg`).

    Raises
    ------
    InputError
        timm is missing, or has no network of this name.
    """
    timm, name = library(architecture), architecture.removeprefix(TIMM)
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError:
        found = None
    if found is None:
        # Its tags first, where the network is known and the tag is not.
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*") or [*timm.list_models(), *timm.list_pretrained()]
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        raise InputError(
            f"timm {timm.__version__} has no network {name!r} (training.architecture is {architecture!r}); "
            + (f"did you mean {' or '.join(TIMM + one for one in near)}?" if near else "timm.list_models() lists them")
        )
    return found


def library(architecture: str) -> Any:
    """Return timm, which a network needs.

    Raises
    ------
    InputError
        It cannot be imported.
    """
    try:
        return import_module("timm")
    except ImportError as error:
        raise InputError(
            f"training.architecture {architecture} needs the package timm, which cannot be imported here ({error}): "
            "pip install 'al_pipeline[timm]', in a checkout `make setup`; or set it to resnet18"
        ) from error
