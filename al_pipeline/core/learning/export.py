"""Checkpoints for other programs: one ONNX or TorchScript file that takes pixels and gives probabilities."""

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from al_pipeline.core.data.framing import BORDER, read_name
from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.checkpoint import Checkpoint, averaged, normalize

# Formats, and what their files are usually called.
SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt"}
FORMATS = tuple(SUFFIXES)
# What float32 arithmetic in another order may change; a wrong normalisation changes a thousand times more.
TOLERANCE = 1e-4
# The file inside a TorchScript archive that holds what `describe` says.
EXTRA_FILE = "al_pipeline.json"
# What a consumer does to an image, by the framing that the checkpoint was trained with.
SQUARES = {
    "crop": "the shorter side resized to {side} ({by}, antialiased), then the centre cropped",
    "squeeze": "both sides resized to image_size ({by}, antialiased)",
    "pad": "the longer side resized to image_size ({by}, antialiased), then centred, an odd pixel of border right "
    f"or below, on the colour {BORDER}",
}
# What onnxruntime has read since 1.14 (2023).
OPSET = 18
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class ExportError(ALError):
    """A file for other programs that cannot be made, cannot be written, or does not give what the checkpoint gives."""


@dataclass(frozen=True)
class Exported:
    """What was written; `difference` is the largest between probabilities of the file and of the checkpoint."""

    path: Path
    bytes: int
    difference: float


class PixelsToProbabilities(nn.Module):
    """A checkpoint's network with everything before and after it, so that a consumer has nothing to get wrong."""

    scale: Tensor
    shift: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        info = checkpoint.info
        self.network = checkpoint.model()
        self.temperature, self.flip = info.temperature, info.test_time_flip
        # Buffers, because they follow the module to another device; what `normalize` makes stays where it was traced.
        self.register_buffer("scale", 255 * torch.tensor(info.std))
        self.register_buffer("shift", torch.tensor(info.mean) / torch.tensor(info.std))
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return probabilities, float32 (n, K), of RGB pixels, uint8 (n, size, size, 3)."""
        scaled = (pixels.to(torch.float32) / self.scale - self.shift).permute(0, 3, 1, 2)
        return torch.softmax(averaged(self.network, scaled, flip=self.flip) / self.temperature, dim=1)


def export_model(checkpoint: Checkpoint, path: Path, file_format: str) -> Exported:
    """Write a checkpoint as a file that runs without this project, and compare the two.

    The input ``pixels`` is uint8, (n, size, size, 3): RGB squares made as `images.decode` makes them. The output
    ``probabilities`` is float32, (n, K), as `predict` returns it. n is free. `describe` says what goes along: in ONNX
    as metadata, in TorchScript as JSON in the extra file `EXTRA_FILE`.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : Path
        Replaced only by a whole file that passed the comparison.
    file_format : str
        One of `FORMATS`.

    Raises
    ------
    InputError
        The format is unknown.
    ExportError
        A package is missing, the file cannot be written, or a probability differs by more than `TOLERANCE`.
    """
    if file_format not in FORMATS:
        raise InputError(f"unknown format {file_format!r}: choose {' or '.join(FORMATS)}")
    if file_format == "onnx":
        _require_onnx()
    with whole_file(path, "The model", error=ExportError) as temporary:
        # Two, because torch takes a dimension of one to be constant.
        pixels = torch.zeros(2, checkpoint.info.image_size, checkpoint.info.image_size, 3, dtype=torch.uint8)
        data = (_onnx if file_format == "onnx" else _torchscript)(checkpoint, pixels)
        temporary.write_bytes(data)
        difference = check_exported(temporary, file_format, checkpoint)
    return Exported(path, len(data), difference)


def check_exported(path: Path, file_format: str, checkpoint: Checkpoint) -> float:
    """Run an exported file and return the largest difference between its probabilities and the checkpoint's.

    Raises
    ------
    ExportError
        The difference is larger than `TOLERANCE`, or no number.
    """
    model, info = checkpoint.model(), checkpoint.info
    run = _run_onnx if file_format == "onnx" else _run_torchscript
    difference = 0.0
    for pixels in _examples(info.image_size):
        with torch.inference_mode():
            inputs = normalize(torch.from_numpy(pixels), info.mean, info.std)
            logits = averaged(model, inputs, flip=info.test_time_flip).double()
        ours = torch.softmax(logits / info.temperature, dim=1).numpy()
        # NumPy's maximum hands NaN on, Python's would drop it.
        difference = float(np.maximum(difference, np.abs(run(path, pixels) - ours).max()))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"The exported model differs from checkpoint {checkpoint.hash} by {difference:.2g} in a probability, more "
            f"than {TOLERANCE:g}: no file is left. Choose another format ({' or '.join(FORMATS)}), or report this with "
            "the versions of torch and onnxruntime"
        )
    return difference


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what a consumer must know about a checkpoint, as text: classes, input, and where it came from."""
    info = checkpoint.info
    framing, resized = read_name(info.framing)
    side = "image_size" if resized.share == 1000 else f"{round(1000 * info.image_size / resized.share)} pixels"
    return {
        "class_names": json.dumps(info.class_names, ensure_ascii=False),
        "image_size": str(info.image_size),
        "framing": framing,
        # Where files leave a choice, before they are squares.
        "how_read": json.dumps(asdict(info.how)),
        "input": "pixels: uint8 (n, image_size, image_size, 3), RGB; EXIF rotation applied, "
        f"{SQUARES[framing].format(side=side, by=resized.by)}; not normalised",
        "output": "probabilities: float32 (n, classes), in the order of class_names",
        "architecture": info.architecture,
        "temperature": str(info.temperature),
        # The class that is said has the largest probability over its threshold.
        "thresholds": json.dumps(info.thresholds),
        "test_time_flip": str(info.test_time_flip),
        "checkpoint": checkpoint.hash,
        "round": str(info.round),
    }


def _onnx(checkpoint: Checkpoint, pixels: Tensor) -> bytes:
    try:
        program = torch.onnx.export(
            PixelsToProbabilities(checkpoint),
            (pixels,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["probabilities"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"torch {torch.__version__} could not write checkpoint {checkpoint.hash} as ONNX "
            f"({str(error).strip().splitlines()[0]}). Bring onnx and onnxscript to versions of the same time, or "
            "choose --format torchscript"
        ) from error
    assert program is not None
    for node in program.model.graph.all_nodes():
        # Stack traces with the paths of this machine.
        node.metadata_props.clear()
    program.model.metadata_props.update(describe(checkpoint))
    return program.model_proto.SerializeToString()


def _torchscript(checkpoint: Checkpoint, pixels: Tensor) -> bytes:
    buffer = io.BytesIO()
    with _torchscript_is_deprecated(), torch.inference_mode():
        # Our own comparison goes further than that of the tracer: other pixels, other batch sizes, a file.
        traced = torch.jit.trace(PixelsToProbabilities(checkpoint), pixels, check_trace=False)
        extra = {EXTRA_FILE: json.dumps(describe(checkpoint), ensure_ascii=False)}
        torch.jit.save(traced, buffer, _extra_files=extra)
    return buffer.getvalue()


def _run_onnx(path: Path, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"pixels": pixels})[0])


def _run_torchscript(path: Path, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with _torchscript_is_deprecated(), torch.inference_mode():
        return torch.jit.load(path, map_location="cpu")(torch.from_numpy(pixels)).numpy()


@contextmanager
def _torchscript_is_deprecated() -> Iterator[None]:
    """Keep quiet about it: who asks for TorchScript has a program that needs it.

    What the tracer says of values that it takes to be constant is seen by our own comparison.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
        yield


def _examples(size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield one image, then several: noise of falling contrast, black and white. Networks may be sure about noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, size, size, 3)).astype(np.float64)
    contrast = np.array([1.0, 0.5, 0.2, 0.1, 0.0, 0.0])[:, None, None, None]
    level = np.array([0, 64, 150, 30, 0, 255])[:, None, None, None]
    images = (noise * contrast + level).clip(0, 255).astype(np.uint8)
    yield images[:1]
    yield images[1:]


def _require_onnx() -> None:
    for package in ONNX_PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            raise ExportError(
                f"ONNX needs the package {package}, which cannot be imported here ({error}): "
                "pip install 'al_pipeline[export]', in a checkout `make setup`; or choose --format torchscript"
            ) from error
