"""The samples of a deployment: decoded once, embedded once, kept where every round finds them."""

import json
import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.data.known_pool import Subset, known_pool
from al_pipeline.core.data.places import Place, place_of
from al_pipeline.core.errors import FileError, InputError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.compute import LARGE_FOR_RAY
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.framing import settle_framing
from al_pipeline.loop.how_read import how_of_home
from al_pipeline.loop.presence import Files, Presence
from al_pipeline.loop.refined import REFINED, Network, features_of_newest_round, start_of_round
from al_pipeline.loop.weights import settle_weights

if TYPE_CHECKING:
    from al_pipeline.core.data.embeddings import EmbeddingStore
    from al_pipeline.core.data.how_read import HowRead
    from al_pipeline.core.data.image_cache import CachedImages
    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.core.learning.train import TrainingResult
    from al_pipeline.core.strategies.on_demand import OnDemand
    from al_pipeline.core.turn import Model

Result = TypeVar("Result")
# Features do not depend on the classes.
ANY_CLASSES = ("0", "1")
# Images that a network computes at a time (`predict.BATCH`): about half a second's work.
STEP = 64


class StoredSamples:
    """What a turn may look at (`core.turn.Samples`), by sample id: cached images, stored features.

    Parameters
    ----------
    manifest : pd.DataFrame
        The image pool.
    deployment : Deployment
    training : TrainingOptions
        They name the weights that a round starts from, and the preprocessing; the attribute `training` has these with
        weights, size and framing settled.
    seed : int
        Of the initial weights, where none are given.
    log : logging.Logger
        Is told of features that are computed.
    key : str, optional
        The round whose features they are: those of a refined network, if it starts from one (`refined.start_of_round`).
    network : Network, optional
        The refined network whose features they are.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        deployment: Deployment,
        training: TrainingOptions,
        seed: int,
        log: logging.Logger,
        *,
        key: str | None = None,
        network: Network | None = None,
    ) -> None:
        from al_pipeline.core.data.embeddings import EmbeddingStore
        from al_pipeline.core.data.image_cache import PREPROCESSING, ImageCache, seen_as

        settings, self._log, self._pool = deployment.settings, log, known_pool(manifest)
        self._compute = settings.compute
        self._given = manifest, deployment, training, seed, log
        # Numbers of groups that samples have whose image is gone.
        self._gone: dict[str, int] = {}
        #: Where their files are, and whose is away.
        self.files = Files(manifest, deployment)
        self.uris = self.files.uris
        found = settle_weights(training, settings)
        #: Which weights rounds start from and why, and what is to be done if they are none.
        self.weights, self.without_weights = found.said, found.warning
        #: What is to be trained with; nothing is ``auto`` in it, and `framing` says why that is what it is.
        self.training, self.framing = settle_framing(found.training, manifest, deployment.artifacts)
        self._weights = self.training.weights
        self.network = network if key is None else start_of_round(deployment.artifacts, key, self.training)
        if self.network is not None:
            self.training = self.training.but(weights=str(self.network.path))
        #: How images are read, what checkpoints that are trained here keep.
        self.how = how_of_home(deployment.artifacts)
        # What is frozen can be hashed, which pyright does not know of pydantic.
        written = _written(self.training.weights)
        #: The network that training starts from, as it was made; `start` is the same, and ready to compute features.
        self.untrained: TrainingResult = _start(self.training, seed, written, self.how)  # pyright: ignore[reportArgumentType]
        self.start: Checkpoint = self.untrained.checkpoint
        info = self.start.info
        square = f"{seen_as(info.image_size, info.framing, info.how)}{'-flip' if info.test_time_flip else ''}"
        self._cache = ImageCache(settings.image_cache, int(settings.cache_gb * 1e9))
        folder = f"{info.backbone_hash[:16]}-{square}-v{PREPROCESSING}"
        self.start = self._calibrated(self.start, deployment.artifacts.int8 / f"{folder}.json", seed)
        folder += f"{self.start.info.way}{REFINED * (self.network is not None)}"
        self.store: EmbeddingStore = EmbeddingStore(_place(settings.embedding_store) / folder)

    @property
    def features_of(self) -> str:
        """A sentence that says which network's the features are."""
        if self.network is None:
            return f"Features are those of the weights {self._weights}"
        return (
            f"Features are those of the network refined on the labels of {self.network.round}: {self.network.sentence}"
        )

    @cached_property
    def unrefined(self) -> "StoredSamples":
        """The same samples with the features of the given weights, which no label of theirs has changed."""
        return self if self.network is None else StoredSamples(*self._given)

    def from_start(self, checkpoint: "Checkpoint") -> "Checkpoint":
        """Return what was trained here with what it started from, and with the ranges of features in int8, if so."""
        from al_pipeline.core.learning.checkpoint import Checkpoint
        from al_pipeline.core.learning.int8 import with_ranges

        ranged = with_ranges(checkpoint, self.start.info.int8_ranges)
        if self.network is None:
            return ranged
        told = replace(ranged.info, weights=self._weights, refined=self.network.round)
        return Checkpoint(told, ranged.state)

    def images(self, sample_ids: Sequence[str]) -> "CachedImages":
        """Return the images of samples, decoded once."""
        from al_pipeline.core.data.image_cache import CachedImages

        return CachedImages(self._cache, list(sample_ids), [self.uris[i] for i in sample_ids], self.how)

    def features(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Return the features of samples in the order given, shape (n, d), float32; what is missing is computed."""
        return self.store.get(sample_ids, self._embed, self._log.info)[0]

    def groups(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Return numbers of what samples belong to, int64, shape (n,); whose image is gone is alone."""
        numbers, gone = self._pool.group_numbers, self._gone
        known = zip(sample_ids, self._pool.places(sample_ids), strict=True)
        return np.array([numbers[at] if at >= 0 else gone.setdefault(i, -1 - len(gone)) for i, at in known], np.int64)

    def complete(self, sample_ids: Sequence[str], give_way: Callable[[], None] | None = None) -> int:
        """Compute the features that are missing; return how many were. `give_way` is called before each `STEP`."""

        def by_steps(ids: Sequence[str]) -> np.ndarray:
            parts: list[np.ndarray] = []
            for start in range(0, len(ids), STEP):
                assert give_way is not None
                give_way()
                parts.append(self._embed(ids[start : start + STEP]))
            return np.concatenate(parts)

        computed = 0
        if give_way is None and self._compute.engine == "ray":
            missing = list(dict.fromkeys(self.store.missing(sample_ids)))
            computed = self._on_ray(missing) if len(missing) >= LARGE_FOR_RAY else 0
        return computed + self.store.complete(sample_ids, self._embed if give_way is None else by_steps, self._log.info)

    def _on_ray(self, sample_ids: Sequence[str]) -> int:
        """Have a Ray cluster compute features."""
        from al_pipeline.core.learning.on_ray import FeatureWork, complete_on_ray

        # Other machines have another disk.
        cached = 0 if self._compute.address else self._cache.limit_bytes
        work = FeatureWork(self.store, self.start, self.how, self._cache.folder, cached)
        return complete_on_ray(work, sample_ids, [self.uris[i] for i in sample_ids], self._compute, self._log)

    def using(
        self, sample_ids: Sequence[str], work: Callable[[Sequence[str]], Result], *, by_features: bool = True
    ) -> tuple[Result, Presence]:
        """Do something with the features, or the images, of those samples whose image is there; see `Files.work`.

        Of whom they are stored the file is not looked at: what the last scan has found is there then.
        """

        if by_features and self._have_features(sample_ids):
            found = self.files.known(sample_ids)
            if not found.absent:
                return work(found.there), found

        def stored() -> set[str]:
            if not by_features:
                info = self.start.info
                return self._cache.stored(sample_ids, info.image_size, info.framing, info.how)
            return set(compress(sample_ids, self.store.stored(sample_ids)))

        return self.files.work(sample_ids, work, stored=stored)

    def _have_features(self, sample_ids: Sequence[str]) -> bool:
        """Say whether all of these samples are of the pool, and have features."""
        places = self._pool.places(sample_ids)
        # Of the whole pool, which the store answers once.
        return bool((places >= 0).all() and self.store.stored(self._pool.keys)[places].all())

    def predict(self, model: "Model", sample_ids: Sequence[str]) -> tuple[np.ndarray, Presence]:
        """Return the class probabilities of those samples whose image is there, and whose is."""
        by_features = model.by_features or model.head is not None

        def predicted(there: Sequence[str]) -> np.ndarray:
            if not by_features or not len(there):
                return model.predict(self, there)
            return self.store.each(there, model.of_features, self._embed, self._log.info)

        return self.using(sample_ids, predicted, by_features=by_features)

    def on_demand(self, sample_ids: Sequence[str]) -> "OnDemand":
        """Return the features of samples as `features` does, but read when they are asked for."""
        from al_pipeline.core.strategies.on_demand import OnDemand

        def read(rows: npt.NDArray[np.int64]) -> np.ndarray:
            some = sample_ids[rows] if isinstance(sample_ids, Subset) else [str(sample_ids[i]) for i in rows]
            return self.features(some)

        return OnDemand(len(sample_ids), read)

    def model(self, checkpoint: "Checkpoint") -> "Model":
        """Return what a stored checkpoint predicts with: these features, if they are those of its own backbone."""
        from al_pipeline.core.turn import Model

        own, start = checkpoint.info, self.start.info
        names = ("backbone_hash", "image_size", "framing", "how", "test_time_flip", "arithmetic", "int8_ranges")
        by_features = all(getattr(own, name) == getattr(start, name) for name in names)
        return Model(own.trained, checkpoint, by_features=by_features)

    def some(self, sample_ids: pd.Series) -> Sequence[str]:
        """Return samples by their places in the pool, see `KnownPool.some`."""
        return self._pool.some(sample_ids)

    @property
    def pool(self) -> Set[str]:
        """The sample ids of the pool, without those of the holdout."""
        return self._pool.members

    def _calibrated(self, start: "Checkpoint", path: Path, seed: int) -> "Checkpoint":
        """Return the network with the ranges that the home keeps, for features in int8; found once if there are none.

        Those of an empty pool are not found yet.
        """
        from al_pipeline.core.learning.int8 import drawn, largest_inputs, wants_images, with_ranges

        if not wants_images(start):
            return start
        if not path.exists():
            members = self._pool.ids[self._pool.in_pool]
            ids = members[drawn(len(members), seed)].tolist()
            ranges, found = self.using(
                ids, lambda there: largest_inputs(start, self.images(there)) if there else (), by_features=False
            )
            if not ranges:
                return start
            with whole_file(path, "The ranges of features in int8") as file:
                file.write_text(json.dumps({"ranges": ranges, "images": found.there}))
        try:
            return with_ranges(start, [float(one) for one in json.loads(path.read_text())["ranges"]])
        except (ValueError, TypeError, KeyError) as error:
            raise FileError(f"{path} cannot be read ({error}): delete it to have features computed anew") from None

    def _embed(self, sample_ids: Sequence[str]) -> np.ndarray:
        from al_pipeline.core.learning.predict import embed

        return embed(self.start, self.images(sample_ids))


@lru_cache(maxsize=2)
def _start(training: TrainingOptions, seed: int, written: int, how: "HowRead") -> "TrainingResult":
    """Return what a round starts from. Kept, because several assets of a round ask for it and each hashes 45 MB."""
    from al_pipeline.core.learning.train import untrained

    return untrained(ANY_CLASSES, training, seed=seed, round_number=0, how=how)


def _written(weights: str) -> int:
    """Return when a file of weights was written last, in nanoseconds; 0 if they are in no file."""
    path = Path(weights).expanduser()
    return path.stat().st_mtime_ns if path.is_file() else 0


def stored_features(deployment: Deployment, *, refined: bool = True) -> "EmbeddingStore | None":
    """Return the stored features that the newest round has started from.

    Parameters
    ----------
    deployment : Deployment
    refined : bool
        Also those of a refined network; else those of the given weights alone.
    """
    from al_pipeline.core.data.embeddings import EmbeddingStore

    place = _place(deployment.settings.embedding_store)
    written = _last_written(place)
    newest = features_of_newest_round(deployment.artifacts) if refined else None
    if newest is not None and newest in written:
        return EmbeddingStore(place / newest)
    folders = [name for name in written if not name.endswith(REFINED)]
    return EmbeddingStore(place / max(folders, key=lambda name: written[name])) if folders else None


def _last_written(place: Path | Place) -> dict[str, float]:
    """Return the folders of features, and when something was written into each last."""
    written = dict[str, float]()
    if isinstance(place, Place):
        for entry in place.entries():
            folder, inside, _ = entry.key.partition("/")
            if inside:
                written[folder] = max(written.get(folder, 0.0), entry.modified_ns)
        return written
    try:
        for folder in place.iterdir():
            if folder.is_dir():
                written[folder.name] = max((file.stat().st_mtime for file in folder.iterdir()), default=0.0)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return written


def _place(where: str) -> Path | Place:
    """Return a folder or a place in a bucket, or say what is wrong with its address."""
    try:
        return place_of(where)
    except InputError as error:
        raise InputError(f"embeddings cannot be kept in {where} ({error}): set AL_EMBEDDINGS to a folder") from None
