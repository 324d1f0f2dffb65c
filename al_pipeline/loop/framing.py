"""Which framing a home trains with: what was set, else that of its last checkpoint, else what suits its pool."""

from contextlib import suppress
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.data.framing import Framing, by_shapes, read_name
from al_pipeline.core.data.known_pool import known_pool
from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.provenance import read_info
from al_pipeline.core.rounds import is_round

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Artifacts


def settle_framing(
    training: TrainingOptions, manifest: pd.DataFrame, artifacts: "Artifacts"
) -> tuple[TrainingOptions, str]:
    """Return the options with a framing other than ``auto``, and a sentence that says which and why.

    A home that has a checkpoint keeps to its framing, whatever becomes of its pool: features and rounds stay
    comparable, and one from before there was a choice goes on with crops. A network that was trained on other squares
    than crops begins with those.

    Parameters
    ----------
    training : TrainingOptions
    manifest : DataFrame
        Of the image pool; ``split``, ``width`` and ``height`` are looked at.
    artifacts : Artifacts
        Of the home.
    """
    if training.framing != "auto":
        return training, f"Framing is {training.framing}, as set"
    # Of pictures whose sizes are not known none is too long for a crop.
    suits, share = known_pool(manifest).shapes if "width" in manifest else by_shapes([], [])
    reason = f"a crop shows {share:.0%} of the median image of the pool"
    last = _last(artifacts)
    if last is None and (own := training.network.framing) is not None:
        suits, reason = own, f"so {training.architecture} was trained"
    framing = suits if last is None else last[0]
    if last is None:
        said = f"Framing is {framing}: {reason}"
    elif framing == suits:
        said = f"Framing is {framing}, as in {last[1]}"
    else:
        said = f"Framing is {framing}, as in {last[1]}; {reason}: {suits} suits it, if training.framing is set to that"
    return training.but(framing=framing), said


def framing_of_home(training: TrainingOptions, artifacts: "Artifacts") -> Framing:
    """Return the framing that a round would train with now, by the last scan.

    Parameters
    ----------
    training : TrainingOptions
    artifacts : Artifacts
        Of the home.
    """
    from pyarrow.parquet import read_schema

    manifest, path = pd.DataFrame({"split": []}), artifacts.image_pool
    if path.exists():
        # One of an older version has no sizes.
        there = [name for name in read_schema(path).names if name in ("split", "width", "height")]
        manifest = pd.read_parquet(path, columns=there)
    return settle_framing(training, manifest, artifacts)[0].settled_framing


def _last(artifacts: "Artifacts") -> tuple[Framing, str] | None:
    """Return the framing of the last round's checkpoint, and the round's key; None if there is no checkpoint."""
    paths = [path for path in artifacts.checkpoints.glob("*.safetensors") if is_round(path.stem)]
    for path in sorted(paths, reverse=True):
        # What is damaged is told where it is used; a round that replaces it must not fail here.
        with suppress(CheckpointError):
            return read_name(read_info(path).framing)[0], path.stem
    return None
