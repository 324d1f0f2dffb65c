"""Networks made ready for inference: without batch norms, in the memory's order and the numbers that are fastest."""

import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from al_pipeline.core.learning.architectures import TIMM
from al_pipeline.core.learning.arithmetic import Arithmetic, possible
from al_pipeline.core.learning.checkpoint import Checkpoint

if TYPE_CHECKING:
    import openvino

# Takes normalized images, float32 (n, 3, h, w), and returns features, float32 (n, d), in the same place.
Network = Callable[[Tensor], Tensor]
# The last ones stay ready: features are computed a few hundred at a time, and getting ready takes a tenth of a second.
READY = 2


def backbone(checkpoint: Checkpoint, place: torch.device) -> Network:
    """Return a checkpoint's network without its classifier, ready to compute features.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its `arithmetic` is used, or what this machine has in its place (`arithmetic.possible`).
    place : torch.device
        Where the images are.
    """
    info = checkpoint.info
    arithmetic = possible(Arithmetic.of(info.arithmetic), place)
    name = info.backbone_hash or info.weights_hash
    return _ready(_Wanted(name, info.architecture, arithmetic, place, torch.get_num_threads(), checkpoint))


@dataclass(frozen=True)
class _Wanted:
    """What tells networks that are ready apart; the checkpoint is where they come from."""

    backbone: str
    architecture: str
    arithmetic: Arithmetic
    place: torch.device
    threads: int
    checkpoint: Checkpoint = field(compare=False)


@lru_cache(READY)
def _ready(wanted: _Wanted) -> Network:
    model = wanted.checkpoint.model()
    model.fc = nn.Identity()
    if not wanted.architecture.startswith(TIMM):
        fold_batch_norms(model)
    if wanted.arithmetic.engine == "openvino":
        return _in_openvino(model, wanted.arithmetic, wanted.threads)
    kind = getattr(torch, wanted.arithmetic.precision)
    model.to(device=wanted.place, dtype=kind, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda images: model(images.to(kind)).float()


def fold_batch_norms(model: nn.Module) -> None:
    """Fold the batch norms of a torchvision ResNet in evaluation mode into the convolutions before them.

    The same function, to rounding (6e-7 on logits), in 8 to 14 % less time on a CPU.
    """
    for module in list(model.modules()):
        children = dict(module.named_children())
        # conv1, bn1, conv2, bn2 …; the shortcut is a sequence of both.
        pairs = [(name, name.replace("conv", "bn")) for name in children if name.startswith("conv")]
        if isinstance(module, nn.Sequential):
            pairs = [("0", "1")]
        for first, second in pairs:
            convolution, norm = children.get(first), children.get(second)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                setattr(module, second, nn.Identity())


def _in_openvino(model: nn.Module, arithmetic: Arithmetic, threads: int) -> Network:
    openvino, kind = quiet_openvino(), {"float32": "f32", "bfloat16": "bf16"}[arithmetic.precision]
    # Pinned to cores, as it would do by itself, it waits for others that compute on the same ones.
    settings = {
        "INFERENCE_PRECISION_HINT": kind,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(openvino_model(model), "CPU", settings)

    def run(images: Tensor) -> Tensor:
        # It wants channels last, as they are in memory; a request of its own lets several threads compute.
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        found = compiled.create_infer_request().infer({0: openvino.Tensor(pixels, shared_memory=True)})
        return torch.from_numpy(found[0])

    return run


def quiet_openvino() -> Any:
    """Import OpenVINO without what tells its makers, at each import and unasked, that it is used."""
    # What is None here cannot be imported, and OpenVINO does without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_module("openvino")


def openvino_model(model: nn.Module) -> "openvino.Model":
    """Return a torchvision ResNet whose batch norms are folded as a model of OpenVINO.

    It takes images with the channels last, float32 (n, h, w, 3), and returns what the network does. OpenVINO's own
    conversion by tracing takes seconds, this a tenth of one.

    Raises
    ------
    TypeError
        The network has a layer of another kind.
    """
    openvino = quiet_openvino()
    ops = openvino.opset13
    traced, found = fx.symbolic_trace(model), dict[fx.Node, Any]()
    layers = dict(traced.named_modules())
    images = ops.parameter([-1, -1, -1, 3], np.float32)
    for node in traced.graph.nodes:
        inputs = [found[argument] for argument in node.all_input_nodes]
        if node.op == "placeholder":
            found[node] = ops.transpose(images, np.array([0, 3, 1, 2]))
        elif node.op == "output":
            return openvino.Model([inputs[0]], [images])
        elif node.op == "call_module":
            found[node] = _layer(ops, layers[str(node.target)], inputs[0])
        elif node.target in (operator.add, operator.iadd):
            found[node] = ops.add(*inputs)
        elif node.target is torch.flatten:
            found[node] = ops.reshape(inputs[0], np.array([0, -1]), special_zero=True)
        else:
            raise TypeError(f"no translation of {node.target}")
    raise AssertionError("a traced network ends with its output")


def _layer(ops: Any, layer: nn.Module, inputs: Any) -> Any:
    match layer:
        case nn.Identity():
            return inputs
        case nn.ReLU():
            return ops.relu(inputs)
        case nn.AdaptiveAvgPool2d():
            return ops.reduce_mean(inputs, np.array([2, 3]), keep_dims=True)
        case nn.MaxPool2d():
            sides = ([int(side)] * 2 for side in (layer.stride, layer.dilation, layer.padding, layer.padding))  # type: ignore[arg-type]
            return ops.max_pool(inputs, *sides, [int(layer.kernel_size)] * 2).output(0)  # type: ignore[arg-type]
        case nn.Conv2d(groups=1):
            border = [int(side) for side in layer.padding]
            weight = ops.constant(layer.weight.detach().numpy())
            outputs = ops.convolution(inputs, weight, [*layer.stride], border, border, [*layer.dilation])
            if layer.bias is None:
                return outputs
            return ops.add(outputs, ops.constant(layer.bias.detach().reshape(1, -1, 1, 1).numpy()))
    raise TypeError(f"no translation of {layer}")
