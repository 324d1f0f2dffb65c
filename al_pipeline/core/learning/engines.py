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
from torchvision.models import ResNet

from al_pipeline.core.errors import InputError
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

    Raises
    ------
    InputError
        It wants int8, and was not calibrated (`int8.calibrated`).
    """
    info = checkpoint.info
    arithmetic = possible(Arithmetic.of(info.arithmetic), place, info.architecture)
    ranges = info.int8_ranges if arithmetic.precision == "int8" else ()
    if arithmetic.precision == "int8" and not ranges:
        raise InputError(
            "features in int8 (training.inference_precision) are calibrated on images of the pool, and there was none: "
            "add images, or set it to auto"
        )
    name = info.backbone_hash or info.weights_hash
    return _ready(_Wanted(name, info.architecture, arithmetic, ranges, place, torch.get_num_threads(), checkpoint))


@dataclass(frozen=True)
class _Wanted:
    """What tells networks that are ready apart; the checkpoint is where they come from."""

    backbone: str
    architecture: str
    arithmetic: Arithmetic
    ranges: tuple[float, ...]
    place: torch.device
    threads: int
    checkpoint: Checkpoint = field(compare=False)


@lru_cache(READY)
def _ready(wanted: _Wanted) -> Network:
    model = folded(wanted.checkpoint)
    if wanted.arithmetic.engine == "openvino":
        return _in_openvino(model, wanted)
    kind = getattr(torch, wanted.arithmetic.precision)
    model.to(device=wanted.place, dtype=kind, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda images: model(images.to(kind)).float()


def folded(checkpoint: Checkpoint) -> nn.Module:
    """Return a checkpoint's network without classifier and batch norms."""
    model = checkpoint.model()
    model.fc = nn.Identity()
    fold_batch_norms(model)
    return model


def fold_batch_norms(model: nn.Module) -> None:
    """Fold the batch norms of a torchvision ResNet in evaluation mode into the convolutions before them.

    The same function, to rounding (6e-7 on logits), in 8 to 14 % less time on a CPU. Other networks, whose layers of
    these names may come in another order, stay as they are.
    """
    if not isinstance(model, ResNet):
        return
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


def _in_openvino(model: nn.Module, wanted: _Wanted) -> Network:
    # What is not int8 in a network that is, is float32.
    openvino, kind = quiet_openvino(), "bf16" if wanted.arithmetic.precision == "bfloat16" else "f32"
    # Pinned to cores, as it would do by itself, it waits for others that compute on the same ones.
    settings = {
        "INFERENCE_PRECISION_HINT": kind,
        "INFERENCE_NUM_THREADS": wanted.threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = _core().compile_model(openvino_model(model, wanted.ranges), "CPU", settings)

    def run(images: Tensor) -> Tensor:
        # It wants channels last, as they are in memory; a request of its own lets several threads compute.
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        found = compiled.create_infer_request().infer({0: openvino.Tensor(pixels, shared_memory=True)})
        return torch.from_numpy(found[0])

    return run


@lru_cache(maxsize=1)
def _core() -> "openvino.Core":
    """Return the one core of this process, which stays until it ends.

    A core that is given up takes along what signals are handled on (`sigaltstack`) in the thread that made it, if
    another thread does so, or if one was made since (OpenVINO 2026.4): the next Ctrl-C would kill the process.
    """
    return quiet_openvino().Core()


def quiet_openvino() -> Any:
    """Import OpenVINO without what tells its makers, at each import and unasked, that it is used."""
    # What is None here cannot be imported, and OpenVINO does without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_module("openvino")


def openvino_model(model: nn.Module, ranges: tuple[float, ...] = ()) -> "openvino.Model":
    """Return a torchvision ResNet whose batch norms are folded as a model of OpenVINO.

    It takes images with the channels last, float32 (n, h, w, 3), and returns what the network does. OpenVINO's own
    conversion by tracing takes seconds, this a tenth of one.

    Parameters
    ----------
    model : nn.Module
    ranges : tuple of float
        The largest number that each convolution is given, in their order: they multiply int8 then.

    Raises
    ------
    TypeError
        The network has a layer of another kind.
    """
    openvino = quiet_openvino()
    ops = openvino.opset13
    traced, found = fx.symbolic_trace(model), dict[fx.Node, Any]()
    layers = dict(traced.named_modules())
    largest = dict(zip(convolutions(model), ranges, strict=True)) if ranges else {}
    images = ops.parameter([-1, -1, -1, 3], np.float32)
    for node in traced.graph.nodes:
        inputs = [found[argument] for argument in node.all_input_nodes]
        if node.op == "placeholder":
            found[node] = ops.transpose(images, np.array([0, 3, 1, 2]))
        elif node.op == "output":
            return openvino.Model([inputs[0]], [images])
        elif node.op == "call_module":
            name, given = str(node.target), inputs[0]
            if name in largest:
                before = node.all_input_nodes[0]
                # Pixels have a sign, what comes out of a ReLU has none. The shortcut takes the same whole numbers.
                given = found[before] = _in_int8(ops, given, largest[name], signed=before.op == "placeholder")
            found[node] = _layer(ops, layers[name], given, int8=bool(ranges))
        elif node.target in (operator.add, operator.iadd):
            found[node] = ops.add(*inputs)
        elif node.target is torch.flatten:
            found[node] = ops.reshape(inputs[0], np.array([0, -1]), special_zero=True)
        else:
            raise TypeError(f"no translation of {node.target}")
    raise AssertionError("a traced network ends with its output")


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions of a network by their names, in their order."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}


def _in_int8(ops: Any, values: Any, largest: float, *, signed: bool) -> Any:
    """Round values to 256 steps up to the largest number, one of them zero."""
    most = max(largest, 1e-6)
    low, high = (ops.constant(np.full((1, 1, 1, 1), side, np.float32)) for side in (-signed * most * 128 / 127, most))
    return ops.fake_quantize(values, low, high, low, high, 256)


def _layer(ops: Any, layer: nn.Module, inputs: Any, *, int8: bool = False) -> Any:
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
            values = layer.weight.detach().numpy()
            weight = ops.constant(values)
            if int8:
                # Each filter to 255 steps of its own.
                high = np.abs(values).max(axis=(1, 2, 3), keepdims=True).clip(1e-12)
                low, high = ops.constant(-high), ops.constant(high)
                weight = ops.fake_quantize(weight, low, high, low, high, 255)
            outputs = ops.convolution(inputs, weight, [*layer.stride], border, border, [*layer.dilation])
            if layer.bias is None:
                return outputs
            return ops.add(outputs, ops.constant(layer.bias.detach().reshape(1, -1, 1, 1).numpy()))
    raise TypeError(f"no translation of {layer}")
