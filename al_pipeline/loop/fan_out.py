"""Features of the whole pool or of a part of it, and the parts that other runs are asked for."""

import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd

from al_pipeline.core.data.parts import part_of
from al_pipeline.core.files import delete_file, whole_file
from al_pipeline.core.learning.compute import LARGE_FOR_PARTS
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.loop.deployment import Artifacts, Deployment
from al_pipeline.loop.presence import Presence
from al_pipeline.loop.refined import newest_network
from al_pipeline.loop.samples import StoredSamples


@dataclass(frozen=True)
class Completed:
    """Samples whose features are there.

    Attributes
    ----------
    samples : StoredSamples
        With the features of the given weights.
    computed : int
        Features that were computed for it by this process, or by Ray for it.
    found : Presence
        Whose image is there, and whose features therefore.
    """

    samples: StoredSamples
    computed: int
    found: Presence


def complete_features(
    deployment: Deployment,
    manifest: pd.DataFrame,
    training: TrainingOptions,
    seed: int,
    log: logging.Logger,
    part: str | None = None,
) -> Completed:
    """Compute the features that samples lack, and those under a refined network from which rounds start.

    Parameters are those of `StoredSamples`, and the part of the pool: the whole of it, for which other runs are asked
    to help where `compute.engine` says so, if there is none.

    Raises
    ------
    ALError
        As of `StoredSamples.using`.
    """
    samples = StoredSamples(manifest, deployment, training, seed, log)
    ids = [i for i in samples.uris if part is None or part_of(i) == part]
    if part is None and deployment.settings.compute.engine == "parts":
        with asking(deployment.artifacts, samples.store.missing(ids)):
            computed, found = samples.using(ids, samples.complete)
    else:
        computed, found = samples.using(ids, samples.complete)
    # A round that starts from a refined network waits for no image that is new.
    if (network := newest_network(deployment.artifacts, samples.training)) is not None:
        refined = StoredSamples(manifest, deployment, training, seed, log, network=network)
        computed += refined.complete(found.there)
    if found.absent:
        log.warning(found.sentence("samples have no features,"))
    return Completed(samples, computed, found)


@contextmanager
def asking(artifacts: Artifacts, missing: Sequence[str]) -> Iterator[None]:
    """Ask for runs that help while the block computes features, if many are missing; see `asked`."""
    if len(missing) < LARGE_FOR_PARTS:
        yield
        return
    text = json.dumps({"id": uuid.uuid4().hex, "parts": sorted(set(map(part_of, missing)))})
    with whole_file(artifacts.parts_wanted, "Which parts of the features are wanted") as file:
        file.write_text(text)
    try:
        yield
    finally:
        delete_file(artifacts.parts_wanted)


def asked(artifacts: Artifacts) -> tuple[str, list[str]] | None:
    """Return what names the call of `asking` that is under way, and the parts of the pool that lack features.

    Of a process that was killed the question stays: what it wanted is wanted still.
    """
    try:
        found = json.loads(artifacts.parts_wanted.read_text())
    except FileNotFoundError:
        return None
    return found["id"], found["parts"]
