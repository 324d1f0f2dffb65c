"""Weights to start from that somebody else trained: read them, and refuse what no network can compute with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.files import content
from al_pipeline.core.learning.hub import fetch
from al_pipeline.core.learning.options import check_weights
from al_pipeline.core.learning.provenance import unreadable

# The classifier: the one layer whose width is the number of classes, always new.
HEAD = ("fc.weight", "fc.bias")


def read_weights(weights: str, architecture: str) -> Mapping[str, Any]:
    """Return the state dict of `imagenet` or `hub`, or of a file.

    Raises
    ------
    InputError, CheckpointError
        As of `checkpoint.build`.
    """
    check_weights(weights)
    path = fetch(architecture) if weights in {"imagenet", "hub"} else Path(weights).expanduser()
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # torch.load raises whatever its unpickler stumbles over: there is no narrower common class.
    except Exception as error:
        raise unreadable(path, error) from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds {type(state).__name__}, not a state dict: save model.state_dict()")
    return state


def load_backbone(model: nn.Module, architecture: str, state: Mapping[str, Any], source: str) -> None:
    """Load everything but the classifier, or say what does not fit."""
    own = model.state_dict()
    given = {name: value for name, value in state.items() if name not in HEAD}
    # Files of old torch versions lack the batch counters, which play no part in the result.
    needed = {name for name in own if name not in HEAD and not name.endswith("num_batches_tracked")}
    problems = [f"lacks {name}" for name in sorted(needed - set(given))]
    problems += [f"has the unknown {name}" for name in sorted(set(given) - set(own))]
    wrong: list[str] = []
    for name in sorted(set(given) & set(own)):
        value = given[name]
        if not isinstance(value, Tensor):
            problems.append(f"has no tensor but {type(value).__name__} as {name}")
        elif value.shape != own[name].shape:
            problems.append(f"has {name} of shape {tuple(value.shape)} instead of {tuple(own[name].shape)}")
        elif what := unusable(name, value, own[name].dtype):
            wrong.append(f"has {what}")
    if problems:
        raise CheckpointError(
            f"The weights {source} do not fit {architecture} in torchvision's layout: the file {first(problems)}. "
            "Set training.architecture to that of the file"
        )
    if wrong:
        raise CheckpointError(
            f"The weights {source} cannot be computed with: the file {first(wrong)}. Save them again from the "
            "network that was trained, as model.float().state_dict(), neither quantized nor diverged"
        )
    model.load_state_dict(own | given)


def unusable(name: str, value: Tensor, dtype: torch.dtype) -> str | None:
    """Return what is wrong with the values of a tensor that becomes one of type `dtype`, None if nothing is."""
    if dtype.is_floating_point and not value.is_floating_point():
        # Quantized without its scale, or complex: torch would take the numbers as they are and say nothing.
        return f"{str(value.dtype).removeprefix('torch.')} instead of floating point numbers in {name}"
    # Its square root is taken.
    if name.endswith("running_var") and bool((value < 0).any()):
        return f"negative variances in {name}"
    if finite(value.to(dtype)):
        return None
    # What is finite in float64 may be infinite in float32.
    kind = str(dtype).removeprefix("torch.")
    what = f"values beyond the range of {kind}" if finite(value) else "NaN or infinite values"
    return f"{what} in {name}"


def finite(value: Tensor) -> bool:
    """Say whether all numbers of a tensor are finite."""
    # A sum that is finite has finite terms, and is found in a tenth of the time.
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def first(problems: list[str]) -> str:
    """Return the first of what is wrong, and how much more there is."""
    return "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; CheckpointError if it is missing or damaged."""
    try:
        return safetensors.torch.load_file(content(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise unreadable(path, error) from error
