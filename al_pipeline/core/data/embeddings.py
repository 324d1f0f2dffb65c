"""Features of samples, computed once per sample, weights and preprocessing, and kept in shards that heal themselves."""

import contextlib
import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from al_pipeline.core.errors import InputError
from al_pipeline.core.files import whole_file

Vectors = npt.NDArray[np.float32]
# A shard is closed after so many images or seconds: what a process that dies loses at most. A slow machine writes
# small shards then, but not many: 100,000 images at 25 per second make 130.
SHARD_IMAGES = 4096
SHARD_SECONDS = 30.0
# Images per call of `compute`: short enough to look at the clock in between.
STEP = 256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingStore:
    """Parquet shards that map sample ids to float32 vectors of one width.

    Shards are written whole and never changed. Every page carries a checksum: a damaged shard is set aside with a
    warning, and its samples count as not computed.

    Parameters
    ----------
    folder : Path or UPath
        One folder per (weights, preprocessing): vectors of different networks never meet. Local, or any of fsspec's
        places (``UPath("s3://bucket/embeddings")``).
    """

    folder: Path | UPath

    def ids(self) -> set[str]:
        """Return the sample ids that have a vector."""
        return {i for table in self._tables(["sample_id"]) for i in table["sample_id"].to_pylist()}

    def missing(self, sample_ids: Iterable[str]) -> list[str]:
        """Return the ids without a vector, in the order given."""
        known = self.ids()
        return [i for i in sample_ids if i not in known]

    def append(self, sample_ids: Sequence[str], vectors: npt.ArrayLike) -> None:
        """Add a shard, whole: a killed process leaves the shards it finished and nothing else.

        Parameters
        ----------
        sample_ids : sequence of str, length n
        vectors : array_like, shape (n, d)
            Stored as float32.

        Raises
        ------
        InputError
            A vector has NaN or infinite values, or the lengths differ.
        """
        values = np.asarray(vectors, dtype=np.float32)
        if len(values) != len(sample_ids) or values.ndim != 2:
            raise InputError(f"{len(sample_ids)} samples need as many vectors, not an array of shape {values.shape}")
        if not len(values):
            return
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(broken):
            raise InputError(
                f"{len(broken)} of {len(values)} embeddings are not finite (the first is that of sample "
                f"{sample_ids[broken[0]]}): the weights are damaged, or run over in this precision; mend "
                "training.weights"
            )
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        table = pa.table({"sample_id": pa.array(sample_ids, pa.string()), "vector": column})
        # Named by its first id, so that the same work done twice replaces its shard instead of doubling it.
        shard = self.folder / f"{sample_ids[0]}-{len(sample_ids)}.parquet"
        # Damage is noticed by checksums, and not every place can be synced.
        with whole_file(shard, "The embeddings (AL_EMBEDDINGS)", error=InputError, sync=False) as temporary:
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="none", use_dictionary=False, write_page_checksum=True)
            temporary.write_bytes(buffer.getvalue())

    def read(self, sample_ids: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Return the vectors of the given samples, in the order given, and which of them there are.

        No more than one shard is in memory beside the result.

        Returns
        -------
        vectors : float32 array, shape (n, d)
            Rows of samples without a vector are undefined; d is 0 if there are none at all.
        found : bool array, shape (n,)
        """
        asked = pd.Index(sample_ids)
        unique = asked if asked.is_unique else asked.unique()
        vectors, found = np.empty((len(unique), 0), dtype=np.float32), np.zeros(len(unique), dtype=np.bool_)
        for table in self._tables(None):
            places = unique.get_indexer(table["sample_id"].to_numpy())
            rows = np.flatnonzero(places >= 0)
            if not len(rows):
                continue
            values = table["vector"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
            if not found.any():
                vectors = np.empty((len(unique), values.shape[1]), dtype=np.float32)
            vectors[places[rows]] = values[rows]
            found[places[rows]] = True
        if unique is asked:
            return vectors, found
        again = unique.get_indexer(asked)
        return vectors[again], found[again]

    def load(self, sample_ids: Sequence[str]) -> Vectors:
        """Return the vectors of the given samples, shape (n, d), float32, in the order given.

        Raises
        ------
        InputError
            A sample has no vector.
        """
        vectors, found = self.read(sample_ids)
        if not found.all():
            absent = int(np.argmin(found))
            raise InputError(
                f"{np.count_nonzero(~found)} of {len(sample_ids)} samples have no embedding in {self.folder} (the "
                f"first is {sample_ids[absent]}): materialize embeddings"
            )
        return vectors

    def get(
        self,
        sample_ids: Sequence[str],
        compute: Callable[[Sequence[str]], Vectors],
        progress: Callable[[str], None] | None = None,
    ) -> tuple[Vectors, int]:
        """Return the vectors of the given samples; those that are missing are computed and kept.

        Parameters
        ----------
        sample_ids : sequence of str, length n
        compute : callable
            Takes sample ids, returns their vectors as a float32 array of shape (m, d).
        progress : callable, optional
            Called with a line after each shard.

        Returns
        -------
        vectors : float32 array, shape (n, d)
        computed : int
            How many were not there yet.
        """
        vectors, found = self.read(sample_ids)
        if found.all():
            return vectors, 0
        computed = self.complete(sample_ids, compute, progress)
        absent: list[int] = np.flatnonzero(~found).tolist()
        added = self.load([sample_ids[i] for i in absent])
        if not found.any():
            return added, computed
        vectors[absent] = added
        return vectors, computed

    def complete(
        self,
        sample_ids: Sequence[str],
        compute: Callable[[Sequence[str]], Vectors],
        progress: Callable[[str], None] | None = None,
    ) -> int:
        """Compute and keep the vectors that are missing, shard by shard; return how many were. See `get`."""
        missing = list(dict.fromkeys(self.missing(sample_ids)))
        began, kept, pending = time.monotonic(), 0, 0
        blocks: list[Vectors] = []
        for begin in range(0, len(missing), STEP):
            ids = missing[begin : begin + STEP]
            blocks.append(compute(ids))
            pending += len(ids)
            last = begin + STEP >= len(missing)
            if last or pending >= SHARD_IMAGES or time.monotonic() - began >= SHARD_SECONDS:
                self.append(missing[kept : kept + pending], np.concatenate(blocks))
                kept, pending, began = kept + pending, 0, time.monotonic()
                blocks.clear()
                if progress is not None:
                    progress(f"{kept} of {len(missing)} new samples embedded")
        return len(missing)

    def _tables(self, columns: list[str] | None) -> Iterator[pa.Table]:
        # Where there is no folder yet, places differ: an error of one kind or another, or an empty list.
        try:
            shards = sorted(path for path in self.folder.iterdir() if path.name.endswith(".parquet"))
        except (FileNotFoundError, NotADirectoryError):
            return
        for shard in shards:
            try:
                with shard.open("rb") as file:
                    yield pq.read_table(file, columns=columns, page_checksum_verification=True)
            except FileNotFoundError:
                continue
            # pyarrow reports damage as an OSError or as one of its own, which are ValueErrors.
            except (OSError, ValueError) as error:
                reason = str(error).strip().split("\n")[0]
                told = "The embeddings in %s are damaged (%s): they are set aside and computed again"
                log.warning(told, shard, reason)
                with contextlib.suppress(OSError):
                    target: Any = shard.with_name(f"{shard.name}.damaged")
                    shard.rename(target)
