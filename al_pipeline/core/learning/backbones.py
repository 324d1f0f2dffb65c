"""Networks of timm: any of its classifiers and feature extractors, with one linear layer of ours on its features."""

from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.learning.architectures import TIMM, config, library
from al_pipeline.core.learning.given_weights import first, unusable
from al_pipeline.core.learning.preparation import preparation_of

# What the network's own tensors are called before: a file of ours can be told by it.
BODY = "body."
# Files of training scripts hold the state dict beside other things.
WRAPPED = ("state_dict", "model")
DRAWS = {torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default, torch.ops.aten.erfinv_.default}


class _Undrawn(TorchDispatchMode):
    """Leaves memory as it is where initial values would be drawn, most of the time that a network takes to build."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in DRAWS else func(*args, **(kwargs or {}))


class Backbone(nn.Module):
    """A network of timm without its classifier, and a classifier on what it returns.

    Parameters
    ----------
    body : nn.Module
        Returns features, (n, d), of normalized images.
    width : int
        d.
    n_classes : int
    """

    def __init__(self, body: nn.Module, width: int, n_classes: int) -> None:
        super().__init__()
        self.body, self.fc = body, nn.Linear(width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (n, K), of normalized images, (n, 3, h, w)."""
        return self.fc(self.body(images))


def new_backbone(
    architecture: str, n_classes: int, image_size: int, state: Mapping[str, Any] | None, source: str
) -> Backbone:
    """Return a network for training; what is not loaded is drawn from torch's generator.

    Parameters
    ----------
    architecture : str
        ``timm:NAME``.
    n_classes : int
    image_size : int
        Side in pixels of the square that it will see.
    state : mapping, optional
        Weights in timm's layout, in one that timm translates, or those of a checkpoint; any classifier is left out.
    source : str
        Where they come from, for errors.

    Raises
    ------
    InputError
        timm is missing, has no such network, or builds none for this size.
    CheckpointError
        The weights do not fit, or cannot be computed with.
    """
    given = None if state is None else _without_classifier(_unwrapped(state), config(architecture).classifier)
    if given is not None and not given:
        # timm would look for others.
        raise CheckpointError(f"The weights {source} do not fit {architecture}: the file holds no tensors of a network")
    body = _body(architecture, image_size, given, source)
    try:
        with torch.inference_mode():
            features = body.eval()(torch.zeros(1, 3, image_size, image_size))
    # Whatever a network asserts about its input: there is no common class.
    except Exception as error:
        raise _no_such_size(architecture, image_size, error) from error
    if features.ndim != 2:
        raise InputError(
            f"{architecture} returns features of shape {tuple(features.shape)} where one row per image is needed: "
            "choose another training.architecture"
        )
    return Backbone(body, features.shape[1], n_classes).train()


def stored_backbone(architecture: str, n_classes: int, image_size: int, state: Mapping[str, Tensor]) -> Backbone:
    """Return the network of a checkpoint with its state.

    Raises
    ------
    InputError
        timm is missing, or has no such network any more.
    CheckpointError
        This version of timm builds another network.
    """
    with _Undrawn():
        model = Backbone(_body(architecture, image_size), state["fc.weight"].shape[1], n_classes)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"timm {library(architecture).__version__} builds another {architecture} than the one of this checkpoint "
            f"({_reason(error)}): install the version that the checkpoint was made with"
        ) from error
    return model


def _body(architecture: str, image_size: int, state: Mapping[str, Any] | None = None, source: str = "") -> nn.Module:
    """Return a network without classifier, with its own initial values or a state dict's."""
    timm, settled = library(architecture), preparation_of(architecture)
    size = {"img_size": image_size} if settled.fixed else {}
    # timm itself translates and fits the weights. Without classes in both it is strict about all of them.
    overlay = {"num_classes": 0, "classifier": None} | ({} if state is None else {"state_dict": dict(state)})
    name = architecture.removeprefix(TIMM)
    try:
        with nullcontext() if state is None else _Undrawn():
            body = timm.create_model(
                name, pretrained=state is not None, num_classes=0, in_chans=3, pretrained_cfg_overlay=overlay, **size
            )
    # timm and the networks raise whatever they stumble over.
    except Exception as error:
        if state is not None and not isinstance(error, AssertionError):
            raise CheckpointError(
                f"The weights {source} do not fit {architecture} in timm's layout: {_reason(error)}. Set "
                "training.architecture to that of the file"
            ) from error
        raise _no_such_size(architecture, image_size, error) from error
    body.pretrained_cfg.pop("state_dict", None)
    if state is not None:
        _check_values(body, state, source)
    return body


def _check_values(body: nn.Module, given: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError if numbers were loaded that cannot be computed with."""
    problems = []
    for name, value in body.state_dict().items():
        # As it came: torch takes whole numbers for floating point ones and says nothing.
        came = given.get(name)
        tensor = came if isinstance(came, Tensor) and came.shape == value.shape else value
        if value.is_floating_point() and (what := unusable(name, tensor, value.dtype)):
            problems.append(f"has {what}")
    if problems:
        raise CheckpointError(
            f"The weights {source} cannot be computed with: the file {first(problems)}. Save them again from the "
            "network that was trained, as model.float().state_dict(), neither quantized nor diverged"
        )


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    inner = next((state[name] for name in WRAPPED if isinstance(state.get(name), Mapping)), state)
    clean: dict[str, Any] = import_module("timm.models").clean_state_dict(dict(inner))
    if any(name.startswith(BODY) for name in clean):
        return {name.removeprefix(BODY): value for name, value in clean.items() if name.startswith(BODY)}
    return clean


def _without_classifier(state: dict[str, Any], classifier: str | tuple[str, ...] | None) -> dict[str, Any]:
    names = (classifier,) if isinstance(classifier, str) else classifier or ()
    dropped = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    return {name: value for name, value in state.items() if name not in dropped}


def _no_such_size(architecture: str, image_size: int, error: Exception) -> InputError:
    return InputError(
        f"timm cannot compute {architecture} on squares of {image_size} px ({_reason(error)}): set training.image_size "
        f"to {preparation_of(architecture).size}, what it was trained on, or to another multiple of its patches"
    )


def _reason(error: Exception) -> str:
    """Return the first of what is wrong; torch's first line is a headline, and a missing key is all its error says."""
    if isinstance(error, KeyError):
        return f"the file lacks {error.args[0]}"
    lines = [line.strip().rstrip(".:") for line in str(error).strip().splitlines()] or [type(error).__name__]
    return first([line[:200] for line in (lines[1:] if len(lines) > 1 else lines)])
