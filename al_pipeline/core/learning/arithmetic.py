"""What features are computed with: which library, and in which kind of number, by what this machine has."""

import logging
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.architectures import ARCHITECTURES
from al_pipeline.core.learning.options import TrainingOptions

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class Arithmetic(NamedTuple):
    """A library and a kind of number; features of different ones are told apart by it wherever they are kept."""

    engine: Literal["pytorch", "openvino"] = "pytorch"
    precision: Literal["float32", "bfloat16", "int8"] = "float32"

    @property
    def key(self) -> str:
        """What names it in checkpoints and in the names of folders."""
        return f"{self.engine}-{self.precision}"

    @classmethod
    def of(cls, key: str) -> "Arithmetic":
        """Return what `key` names.

        Raises
        ------
        ValueError
            It names nothing that this version knows.
        """
        ways = [cls(engine, kind) for engine in ("pytorch", "openvino") for kind in ("float32", "bfloat16")]
        known = {one.key: one for one in (*ways, cls("openvino", "int8"))}
        if key not in known:
            raise ValueError(f"this version knows no arithmetic {key!r}")
        return known[key]


# In which features were computed before there was a choice.
PLAIN = Arithmetic()


def chosen_arithmetic(options: TrainingOptions, place: "torch.device") -> Arithmetic:
    """Return what a checkpoint that is trained with these options has its features computed with.

    ``auto`` is the fastest for networks whose weights are given, as their heads were measured to be none the worse for
    it (`python -m benchmarks.precision`), and float32 of PyTorch for those that are trained, where a network is new in
    each round, and for other networks than torchvision's, with which none of it was measured.

    Parameters
    ----------
    options : TrainingOptions
    place : torch.device
        Where networks run.

    Raises
    ------
    InputError
        bfloat16 or int8 is asked for where it cannot be had.
    """
    wanted = options.inference_precision
    if wanted == "auto":
        if not options.may_be_head or place.type == "cuda" or options.architecture not in ARCHITECTURES:
            return PLAIN
        wanted = "bfloat16" if multiplies_bfloat16(place) else "float32"
    elif wanted == "bfloat16" and not multiplies_bfloat16(place):
        raise InputError(
            f"training.inference_precision is bfloat16, which this machine's {_name(place)} does not multiply: set it "
            "to auto or float32"
        )
    elif wanted == "int8" and (why := _why_not_int8(options, place)):
        raise InputError(f"training.inference_precision is int8, {why}: set it to auto or float32")
    return Arithmetic(_engine(place, options.architecture), wanted)


def possible(arithmetic: Arithmetic, place: "torch.device", architecture: str) -> Arithmetic:
    """Return what comes nearest to it on this machine: a checkpoint may have been made on another one."""
    engine = arithmetic.engine if arithmetic.engine == "pytorch" else _engine(place, architecture)
    has = {
        "float32": True,
        "bfloat16": multiplies_bfloat16(place),
        "int8": engine == "openvino" and multiplies_int8(place),
    }
    if has[arithmetic.precision]:
        return Arithmetic(engine, arithmetic.precision)
    _tell(
        f"This checkpoint's features were computed in {arithmetic.precision}, which this machine does not compute: "
        f"they are in float32 here, and differ in their {'second' if arithmetic.precision == 'int8' else 'third'} digit"
    )
    return Arithmetic(engine, "float32")


def _why_not_int8(options: TrainingOptions, place: "torch.device") -> str:
    """Say why features cannot be computed in int8 with these options; "" if they can."""
    if place.type == "cuda":
        return "which a CPU computes, and networks run on a GPU here"
    if options.resolve_mode([1], "cpu") != "head":
        return "which is for features that heads learn on, and here the network itself is trained"
    if options.architecture not in ARCHITECTURES:
        return f"which is for torchvision's networks, and this is {options.architecture}"
    if find_spec("openvino") is None:
        return "which OpenVINO computes, and it is not installed"
    return "" if multiplies_int8(place) else "which this machine's processor does not multiply"


def multiplies_bfloat16(place: "torch.device") -> bool:
    """Say whether the hardware multiplies bfloat16; where it is emulated it is several times slower than float32."""
    import torch

    if place.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def multiplies_int8(place: "torch.device") -> bool:
    """Say whether the processor multiplies int8 into sums of 32 bits; without that sums of 16 bits run over."""
    import torch

    has = torch.cpu.get_capabilities() if place.type == "cpu" else {}
    return any(has.get(name) for name in ("avx512_vnni", "avx_vnni", "avx10_1", "amx_int8"))


def _engine(place: "torch.device", architecture: str) -> Literal["pytorch", "openvino"]:
    """Return the library: OpenVINO on a CPU, where it is installed and the network's layers are translated for it."""
    if place.type != "cpu" or architecture not in ARCHITECTURES:
        return "pytorch"
    if find_spec("openvino") is None:
        _tell("OpenVINO is not installed: PyTorch computes features in its place, which takes longer")
        return "pytorch"
    return "openvino"


def _name(place: "torch.device") -> str:
    return "GPU" if place.type == "cuda" else "processor"


@cache
def _tell(sentence: str) -> None:
    """Say something once."""
    log.warning(sentence)
