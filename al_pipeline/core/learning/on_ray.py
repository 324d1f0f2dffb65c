"""Features by Ray: an actor pool whose workers open the checkpoint once, write shards, and return counts alone.

What is computed is in the store when a worker says so, and each worker claims the parts that it is at
(`data.part_claims`): whatever dies, what is stored is not computed again.
"""

import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_pipeline.core import errors
from al_pipeline.core.data.embeddings import SHARD_IMAGES, STEP, EmbeddingStore
from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.data.parts import pieces
from al_pipeline.core.errors import ALError, ClusterError, InputError
from al_pipeline.core.learning.arithmetic import Arithmetic, possible
from al_pipeline.core.learning.checkpoint import Checkpoint, device
from al_pipeline.core.learning.compute import INSTALL, ComputeOptions
from al_pipeline.core.learning.predict import embed

# Pieces per worker, so that none waits long for the last one.
PIECES = 4
# Only lists of names go through it; by default Ray takes a third of the memory.
OBJECT_STORE_BYTES = 256 << 20
# Without them it tells its makers of each start, and copies the working directory where uv runs it.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@dataclass(frozen=True)
class FeatureWork:
    """What every worker needs to compute features.

    Attributes
    ----------
    store : EmbeddingStore
        A folder that all machines see, or a place in a bucket.
    checkpoint : Checkpoint
    how : HowRead
    cache_folder : Path
    cache_bytes : int
        Of decoded images on the worker's machine; 0: none.
    """

    store: EmbeddingStore
    checkpoint: Checkpoint
    how: HowRead
    cache_folder: Path
    cache_bytes: int

    def complete(self, sample_ids: Sequence[str], uris: Sequence[str], cache: ImageCache) -> int:
        """Compute and store features; return how many were missing."""
        info = self.checkpoint.info
        wanted = Arithmetic.of(info.arithmetic)
        if possible(wanted, device(), info.architecture) != wanted:
            raise InputError(
                f"{platform.node()} does not compute features in {info.arithmetic}, in which the others are: leave it "
                "out of the cluster, or set training.inference_precision to float32"
            )
        places = dict(zip(sample_ids, uris, strict=True))
        return self.store.complete(
            sample_ids, lambda ids: self.features(CachedImages(cache, ids, [places[i] for i in ids], self.how))
        )

    def features(self, images: CachedImages) -> np.ndarray:
        """Return the features of images."""
        return embed(self.checkpoint, images)


class Worker:
    """An actor: computes pieces with the one checkpoint that it was made with.

    Parameters
    ----------
    work : ray.ObjectRef
        Of a `FeatureWork`, in a list, so that it is fetched here and once.
    """

    def __init__(self, work: list[Any]) -> None:
        import ray

        self._work: FeatureWork = ray.get(work[0])
        self._cache = ImageCache(self._work.cache_folder, self._work.cache_bytes)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Complete the features of a piece; return the columns of what `answer` does."""
        [ids], [uris] = batch["ids"], batch["uris"]
        return {name: [value] for name, value in answer(self._work, list(ids), list(uris), self._cache).items()}


def answer(work: FeatureWork, sample_ids: Sequence[str], uris: Sequence[str], cache: ImageCache) -> dict[str, Any]:
    """Complete features; return how many were computed, and what was wrong as a sentence, for `counted`.

    Raised in a worker, an error would be tried again, and come out with a page of frames.
    """
    try:
        return {"computed": work.complete(sample_ids, uris, cache), "kind": "", "problem": ""}
    except ALError as error:
        return {"computed": 0, "kind": type(error).__name__, "problem": str(error)}


def counted(row: Mapping[str, Any]) -> int:
    """Return how many features an answer has computed, or raise what was wrong."""
    if row["problem"]:
        raise getattr(errors, row["kind"], ALError)(row["problem"])
    return row["computed"]


def complete_on_ray(
    work: FeatureWork,
    sample_ids: Sequence[str],
    uris: Sequence[str],
    options: ComputeOptions,
    log: logging.Logger,
    *,
    most: int = SHARD_IMAGES,
) -> int:
    """Have a Ray cluster compute and store features; return how many it computed.

    Parameters
    ----------
    work : FeatureWork
    sample_ids : sequence of str, length n
    uris : sequence of str, length n
        Where the images lie, for all machines alike.
    options : ComputeOptions
    log : logging.Logger
        Is told when Ray has started, and of progress.
    most : int
        Images in a piece, at most.

    Raises
    ------
    ALError
        What went wrong in a worker, as `EmbeddingStore.complete` raises it.
    ClusterError
        Ray is not there, does not start, or its workers die.
    """
    began, places = time.monotonic(), dict(zip(sample_ids, uris, strict=True))
    with connected(options) as ray:
        workers = options.workers or _workers(ray.cluster_resources(), options.gpus)
        log.info("Ray has started after %.0f s; %d workers compute features", time.monotonic() - began, workers)
        size = min(most, STEP * -(-len(sample_ids) // (STEP * PIECES * workers)))
        rows = [{"ids": ids, "uris": [places[i] for i in ids]} for ids in pieces(sample_ids, size)]
        computed = done = 0
        try:
            found = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                Worker,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
                fn_constructor_args=([ray.put(work)],),
                num_cpus=1,
                num_gpus=options.gpus or None,
            )
            for row, piece in zip(found.iter_rows(), rows, strict=True):
                computed, done = computed + counted(row), done + len(piece["ids"])
                log.info("%d of %d new samples embedded", done, len(sample_ids))
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"Ray's workers failed after {done} of {len(sample_ids)} images ({_last_line(error)}). What they have "
                "stored stays: run this again, with fewer workers ([compute] workers) if memory was short, or with "
                "engine = local"
            ) from error
    return computed


@contextmanager
def connected(options: ComputeOptions) -> Iterator[Any]:
    """Give `ray`, connected to a cluster, or to one that is started here and ends with the block.

    Raises
    ------
    ClusterError
        It is not there, or does not start.
    InputError
        Ray is not installed.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"compute.engine ray needs the package ray: {INSTALL}") from error
    given: dict[str, Any] = {"address": options.address}
    if options.address is None:
        given = {
            "address": "local",
            "num_cpus": options.workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    # Ray's own would end the process where an orchestrator wants to be told.
    before = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(**given, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = f"The Ray cluster at {options.address}" if options.address else "Ray on this machine"
            raise ClusterError(
                f"{where} cannot be used ({_last_line(error)}): start it with the same versions of Python and Ray, "
                "mend [compute] address, or set engine = local"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        yield ray
    finally:
        # Its workers end with the connection, however this ends.
        ray.shutdown()


def _workers(resources: Mapping[str, float], gpus: float) -> int:
    return max(1, int(resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1)))


def _last_line(error: Exception) -> str:
    """Return what an error says in the end: before it stand frames of all processes."""
    return next((line.strip() for line in reversed(str(error).split("\n")) if line.strip()), type(error).__name__)
