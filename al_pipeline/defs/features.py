"""Features of samples under the weights that a round starts from: cached, and computed where they are missing."""

from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pandas as pd

from al_pipeline.core.pool import class_names
from al_pipeline.defs.resources import Deployment
from al_pipeline.settings import Settings, TrainingSettings

if TYPE_CHECKING:
    from al_pipeline.core.model import Checkpoint


def classes_of(manifest: pd.DataFrame, settings: Settings) -> list[str]:
    """Return the class names, configured or taken from the folders."""
    return class_names(manifest, settings.classes, settings.images)


class Features:
    """What the network sees in each image before any training.

    Parameters
    ----------
    manifest : pd.DataFrame
        The image pool.
    deployment : Deployment
    training : TrainingSettings
        They name the weights and the preprocessing.
    seed : int
        Of the initial weights, where none are given.
    """

    def __init__(self, manifest: pd.DataFrame, deployment: Deployment, training: TrainingSettings, seed: int) -> None:
        from al_pipeline.core.embeddings import EmbeddingStore
        from al_pipeline.core.train import TrainingOptions, untrained

        names = classes_of(manifest, deployment.settings)
        options = TrainingOptions(**training.model_dump())
        self.start: Checkpoint = untrained(names, options, seed=seed, round_number=0).checkpoint
        folder = f"{self.start.hash}-{training.image_size}"
        self.store: EmbeddingStore = EmbeddingStore(deployment.settings.artifacts / "embedding_store" / folder)
        self.uris: pd.Series = manifest[manifest["split"] != "excluded"].set_index("sample_id")["uri"]

    def complete(self, sample_ids: list[str], log: dg.DagsterLogManager) -> int:
        """Compute the features that are missing; return how many were."""
        from al_pipeline.core.embeddings import embed_missing

        return embed_missing(self.store, self.start, self.uris.loc[sample_ids].to_dict(), log.info)

    def of(self, sample_ids: list[str], log: dg.DagsterLogManager) -> np.ndarray:
        """Return the features of samples in the order given, shape (n, d), float32."""
        self.complete(sample_ids, log)
        return self.store.load(sample_ids)
