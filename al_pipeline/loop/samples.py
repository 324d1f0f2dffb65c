"""What the network sees in each sample: decoded once, embedded once, kept where every round finds it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pandas as pd

from al_pipeline.core.data.pool import class_names, select_split
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.loop.deployment import Deployment
from al_pipeline.settings import Settings

if TYPE_CHECKING:
    from upath import UPath

    from al_pipeline.core.data.image_cache import CachedImages
    from al_pipeline.core.learning.checkpoint import Checkpoint

# Features do not depend on the classes.
ANY_CLASSES = ("0", "1")


def classes_of(manifest: pd.DataFrame, settings: Settings) -> list[str]:
    """Return the class names, configured or taken from the folders."""
    return class_names(manifest, settings.classes, settings.images)


class Samples:
    """Images and features of samples under the weights that a round starts from.

    Parameters
    ----------
    manifest : pd.DataFrame
        The image pool.
    deployment : Deployment
    training : TrainingOptions
        They name the weights and the preprocessing.
    seed : int
        Of the initial weights, where none are given.
    """

    def __init__(self, manifest: pd.DataFrame, deployment: Deployment, training: TrainingOptions, seed: int) -> None:
        from al_pipeline.core.data.embeddings import EmbeddingStore
        from al_pipeline.core.data.image_cache import PREPROCESSING, ImageCache
        from al_pipeline.core.learning.train import untrained

        settings = deployment.settings
        usable = manifest[manifest["split"] != "excluded"]
        #: Sample ids of the pool, not of the holdout.
        self.pool: list[str] = select_split(manifest, "pool")["sample_id"].tolist()
        self.uris: Mapping[str, str] = dict(zip(usable["sample_id"], usable["uri"], strict=True))
        options = training
        self.start: Checkpoint = untrained(ANY_CLASSES, options, seed=seed, round_number=0).checkpoint
        seen_as = f"{training.image_size}{'-flip' if training.test_time_flip else ''}"
        folder = f"{self.start.info.backbone_hash[:16]}-{seen_as}-v{PREPROCESSING}"
        self.store: EmbeddingStore = EmbeddingStore(_place(settings.embedding_store) / folder)
        self._cache = ImageCache(settings.image_cache, int(settings.cache_gb * 1e9))

    def images(self, sample_ids: Sequence[str]) -> "CachedImages":
        """Return the images of samples, decoded once."""
        from al_pipeline.core.data.image_cache import CachedImages

        return CachedImages(self._cache, list(sample_ids), [self.uris[i] for i in sample_ids])

    def complete(self, sample_ids: Sequence[str], log: dg.DagsterLogManager) -> int:
        """Compute the features that are missing; return how many were."""
        return self.store.complete(sample_ids, self._embed, log.info)

    def features(self, sample_ids: Sequence[str], log: dg.DagsterLogManager) -> np.ndarray:
        """Return the features of samples in the order given, shape (n, d), float32; what is missing is computed."""
        return self.store.get(sample_ids, self._embed, log.info)[0]

    def predict(self, checkpoint: "Checkpoint", sample_ids: Sequence[str], log: dg.DagsterLogManager) -> np.ndarray:
        """Return class probabilities, shape (n, K): from the features, if the checkpoint's backbone is the start's."""
        from al_pipeline.core.learning.predict import predict, predict_features

        if len(sample_ids) and self.has_backbone_of(checkpoint) and checkpoint.info.mode == "head":
            return predict_features(checkpoint, self.features(sample_ids, log))
        return predict(checkpoint, self.images(sample_ids))

    def features_under(
        self, checkpoint: "Checkpoint", sample_ids: Sequence[str], log: dg.DagsterLogManager
    ) -> np.ndarray:
        """Return the features of samples under a checkpoint's own backbone, shape (n, d), float32."""
        from al_pipeline.core.learning.predict import embed

        if self.has_backbone_of(checkpoint):
            return self.features(sample_ids, log)
        return embed(checkpoint, self.images(sample_ids))

    def has_backbone_of(self, checkpoint: "Checkpoint") -> bool:
        """Tell whether a checkpoint's features are those of the starting weights, of images seen alike."""
        own, start = checkpoint.info, self.start.info
        return (own.backbone_hash, own.image_size, own.test_time_flip) == (
            start.backbone_hash,
            start.image_size,
            start.test_time_flip,
        )

    def _embed(self, sample_ids: Sequence[str]) -> np.ndarray:
        from al_pipeline.core.learning.predict import embed

        return embed(self.start, self.images(sample_ids))


def _place(url: str) -> "UPath":
    """Return a folder of any kind, or say what is needed to use it."""
    from upath import UPath

    try:
        path = UPath(url)
        _ = path.fs
    except (ImportError, ValueError) as error:
        raise InputError(
            f"embeddings cannot be kept in {url} ({error}): install the package that fsspec needs for it (s3fs for "
            "s3, gcsfs for gcs), or set AL_EMBEDDINGS to a folder"
        ) from error
    return path
