"""What features are computed with: which library, and in which kind of number, by what this machine has."""

import logging
from functools import cache
from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.architectures import TIMM
from al_pipeline.core.learning.options import TrainingOptions

log = logging.getLogger(__name__)


class Arithmetic(NamedTuple):
    """A library and a kind of number; features of different ones are told apart by it wherever they are kept."""

    engine: Literal["pytorch", "openvino"] = "pytorch"
    precision: Literal["float32", "bfloat16"] = "float32"

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
        known = {
            one.key: one
            for one in (cls(engine, kind) for engine in ("pytorch", "openvino") for kind in ("float32", "bfloat16"))
        }
        if key not in known:
            raise ValueError(f"this version knows no arithmetic {key!r}")
        return known[key]


# In which features were computed before there was a choice.
PLAIN = Arithmetic()


def chosen_arithmetic(options: TrainingOptions, place: torch.device) -> Arithmetic:
    """Return what a checkpoint that is trained with these options has its features computed with.

    ``auto`` is the fastest for networks whose weights are given, as their heads were measured to be none the worse for
    it (`python -m benchmarks.precision`). It is float32 of PyTorch for those that are trained, as there a network is
    new in each round, and for timm's, with which it was not measured.

    Parameters
    ----------
    options : TrainingOptions
    place : torch.device
        Where networks run.

    Raises
    ------
    InputError
        bfloat16 is asked for, and this machine does not multiply it.
    """
    wanted, timm = options.inference_precision, options.architecture.startswith(TIMM)
    if wanted == "auto":
        if not options.may_be_head or place.type == "cuda" or timm:
            return PLAIN
        wanted = "bfloat16" if multiplies_bfloat16(place) else "float32"
    elif wanted == "bfloat16" and not multiplies_bfloat16(place):
        raise InputError(
            f"training.inference_precision is bfloat16, which this machine's {_name(place)} does not multiply: set it "
            "to auto or float32"
        )
    # What is translated for OpenVINO are ResNets.
    return Arithmetic("pytorch" if timm else _engine(place), wanted)


def possible(arithmetic: Arithmetic, place: torch.device) -> Arithmetic:
    """Return what comes nearest to it on this machine: a checkpoint may have been made on another one."""
    fast = multiplies_bfloat16(place)
    engine = arithmetic.engine if arithmetic.engine == "pytorch" else _engine(place)
    found = Arithmetic(engine, arithmetic.precision if fast else "float32")
    if found.precision != arithmetic.precision:
        _tell(
            f"This checkpoint's features were computed in bfloat16, which this machine's {_name(place)} does not "
            "multiply: they are computed in float32, and differ in their third digit"
        )
    return found


def multiplies_bfloat16(place: torch.device) -> bool:
    """Say whether the hardware multiplies bfloat16; where it is emulated it is several times slower than float32."""
    if place.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def _engine(place: torch.device) -> Literal["pytorch", "openvino"]:
    """Return the library: OpenVINO on a CPU, where it is installed."""
    if place.type != "cpu":
        return "pytorch"
    if find_spec("openvino") is None:
        _tell("OpenVINO is not installed: PyTorch computes features in its place, which takes longer")
        return "pytorch"
    return "openvino"


def _name(place: torch.device) -> str:
    return "GPU" if place.type == "cuda" else "processor"


@cache
def _tell(sentence: str) -> None:
    """Say something once."""
    log.warning(sentence)
