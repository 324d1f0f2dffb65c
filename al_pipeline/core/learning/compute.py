"""Where the features of large pools are computed: the options, and from how many images on it matters."""

from importlib.util import find_spec
from typing import Literal

from pydantic import Field

from al_pipeline.core.data.parts import PARTS
from al_pipeline.core.options import Options

# Images without features from which on others are asked. Ray takes most of a minute until its workers compute, of which
# two cores do 100 to 200 in a second.
LARGE_FOR_RAY = 16_384
# A run takes 20 s for a part that has next to none, on two busy cores: it is to compute a thousand.
LARGE_FOR_PARTS = len(PARTS) * 1024
INSTALL = "pip install 'al_pipeline[ray]', in a checkout `make setup`; or set AL_COMPUTE__ENGINE=local"


class ComputeOptions(Options):
    """Where features are computed if a pool lacks those of many images; of fewer it is always local.

    Raises
    ------
    InputError
        A value is out of its range.
    """

    engine: Literal["local", "parts", "ray"] = Field(
        default="local",
        description="local: by the run that needs them, on its machine. parts: also by runs of feature_parts, one for "
        "each of 256 parts of the pool, which Dagster queues and places, from 262,144 images on. ray: by the workers "
        "of a Ray cluster (al_pipeline[ray]), from 16,384 on.",
    )
    address: str | None = Field(
        default=None,
        examples=["10.0.0.5:6379", "auto"],
        description="Of the Ray cluster; without one Ray is started on this machine for as long as it takes.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="How many compute at a time, runs or Ray workers; none: one run, or as many workers as the cluster "
        "has processors, or GPUs, for.",
    )
    gpus: float = Field(default=0.0, ge=0, le=16, description="GPUs of each Ray worker; 0.5 has two of them share one.")


# Of which engines an option is.
USED_BY = {"address": ("ray",), "gpus": ("ray",), "workers": ("parts", "ray")}


def conflict(options: ComputeOptions) -> str | None:
    """Return why options do not go together or cannot be had here, and what to do; None if they can."""
    for name, engines in USED_BY.items():
        if getattr(options, name) and options.engine not in engines:
            return (
                f"compute.{name} is for engine {' and '.join(engines)} alone, and engine is {options.engine}: set "
                f"AL_COMPUTE__ENGINE={engines[-1]}, or leave it out"
            )
    if options.engine != "ray":
        return None
    return None if find_spec("ray") else f"compute.engine ray needs the package ray: {INSTALL}"
