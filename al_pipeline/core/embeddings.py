"""Features of samples, computed once per sample and set of weights, and kept in shards."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from al_pipeline.core.model import Checkpoint

# Images per shard: what a process that dies loses at most.
SHARD = 1024


class EmbeddingStore:
    """A folder of Parquet shards that map sample ids to float32 vectors of one width.

    Parameters
    ----------
    folder : Path
        One folder per (weights, preprocessing): vectors of different networks never meet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _shards(self) -> Iterator[Path]:
        yield from sorted(self.folder.glob("*.parquet"))

    def ids(self) -> set[str]:
        """Return the sample ids that have a vector."""
        return {i for shard in self._shards() for i in pd.read_parquet(shard, columns=["sample_id"])["sample_id"]}

    def missing(self, sample_ids: Iterable[str]) -> list[str]:
        """Return the ids without a vector, in the order given."""
        known = self.ids()
        return [i for i in sample_ids if i not in known]

    def append(self, sample_ids: Sequence[str], vectors: np.ndarray) -> None:
        """Add a shard, whole: a killed process leaves the shards it finished and nothing else.

        Parameters
        ----------
        sample_ids : sequence of str, length n
        vectors : np.ndarray of shape (n, d)
            Stored as float32.
        """
        if not sample_ids:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # Named by its first id, so that the same work done twice replaces its shard instead of doubling it.
        shard = self.folder / f"{sample_ids[0]}-{len(sample_ids)}.parquet"
        temporary = shard.with_suffix(".tmp")
        rows = list(np.asarray(vectors, dtype=np.float32))
        pd.DataFrame({"sample_id": list(sample_ids), "vector": rows}).to_parquet(temporary, index=False)
        temporary.replace(shard)

    def load(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Return the vectors of the given samples, shape (n, d), float32, in the order given.

        Raises
        ------
        InputError
            A sample has no vector.
        """
        absent = self.missing(sample_ids)
        if absent:
            raise InputError(
                f"{len(absent)} of {len(sample_ids)} samples have no embedding in {self.folder} (the first is "
                f"{absent[0]}): materialize embeddings"
            )
        if not len(sample_ids):
            return np.empty((0, 0), dtype=np.float32)
        table = pd.concat([pd.read_parquet(shard) for shard in self._shards()])
        table = table.drop_duplicates("sample_id").set_index("sample_id")["vector"]
        return np.stack(list(table.loc[list(sample_ids)]))


def embed_missing(
    store: EmbeddingStore,
    checkpoint: "Checkpoint",
    uris: Mapping[str, str],
    progress: Callable[[str], None] | None = None,
) -> int:
    """Compute and keep the features of the samples that have none yet.

    Parameters
    ----------
    store : EmbeddingStore
        That of the checkpoint's weights and preprocessing.
    checkpoint : Checkpoint
    uris : mapping of str to str
        Sample id to the path of its image.
    progress : callable, optional
        Called with a line after each shard.

    Returns
    -------
    int
        How many were computed.
    """
    from al_pipeline.core.predict import embed

    missing = store.missing(uris)
    for begin in range(0, len(missing), SHARD):
        ids = missing[begin : begin + SHARD]
        store.append(ids, embed(checkpoint, [uris[i] for i in ids]))
        if progress is not None:
            progress(f"{begin + len(ids)} of {len(missing)} new samples embedded")
    return len(missing)
