"""Features of samples, computed once per sample, weights and preprocessing, and kept in shards that heal themselves."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.known_pool import Subset
from al_pipeline.core.data.part_claims import PartClaims
from al_pipeline.core.data.parts import part_of, pieces
from al_pipeline.core.data.places import Place
from al_pipeline.core.data.row_file import Ids, as_keys
from al_pipeline.core.data.shards import Found, Vectors, shards_of
from al_pipeline.core.errors import InputError

# A shard is closed after so many images or seconds: what a process that dies loses at most. A slow machine writes
# small shards then, but not many: 100,000 images at 25 per second make 130.
SHARD_IMAGES = 4096
SHARD_SECONDS = 30.0
# Images per call of `compute`: short enough to look at the clock in between, and whole batches of predictions.
STEP = 256
# After how long it is looked whether what others compute is there, where nothing else is left to do.
WAIT_SECONDS = 1.0
# Blocks of vectors that are read and worked on at a time.
READERS = 2


@dataclass(frozen=True)
class EmbeddingStore:
    """Shards that map sample ids to float32 vectors of one width (`shards`).

    Shards are written whole and never changed. Every block of rows carries a checksum: a damaged shard is set aside
    with a warning, and its samples count as not computed. Shards of earlier versions are rewritten when they are met.

    Parameters
    ----------
    folder : Path or Place
        One folder per (weights, preprocessing): vectors of different networks never meet. Local, or in a bucket.
    """

    folder: Path | Place

    def stored(self, sample_ids: Sequence[str] | Ids) -> Found:
        """Return which of the samples have a vector, bool, shape (n,)."""
        return self._rows(sample_ids) >= 0

    def _rows(self, sample_ids: Sequence[str] | Ids) -> npt.NDArray[np.int64]:
        """Return in which row each sample is stored; of the whole pool that is found out once."""
        shards = shards_of(self.folder)
        if isinstance(sample_ids, Subset):
            return shards.rows(sample_ids.pool.keys)[sample_ids.places]
        return shards.rows(as_keys(sample_ids))

    def missing(self, sample_ids: Sequence[str]) -> list[str]:
        """Return the ids without a vector, in the order given."""
        return list(compress(sample_ids, ~self.stored(sample_ids)))

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
        shards_of(self.folder).add(as_keys(sample_ids), values)

    def read(self, sample_ids: Sequence[str]) -> tuple[Vectors, Found]:
        """Return the vectors of the given samples, in the order given, and which of them there are.

        Only the blocks that they are in are read.

        Returns
        -------
        vectors : float32 array, shape (n, d)
            Rows of samples without a vector are undefined; d is 0 if there are none at all.
        found : bool array, shape (n,)
        """
        return shards_of(self.folder).read(as_keys(sample_ids))

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

    def stream(self, sample_ids: Sequence[str], block: int = 2 * SHARD_IMAGES) -> Iterator[Vectors]:
        """Yield the vectors of the given samples, so many at a time, in the order given; errors are those of `load`."""
        for start in range(0, len(sample_ids), block):
            yield self.load(sample_ids[start : start + block])

    def each(
        self,
        sample_ids: Sequence[str],
        work: Callable[[Vectors], npt.NDArray[Any]],
        compute: Callable[[Sequence[str]], Vectors],
        progress: Callable[[str], None] | None = None,
        block: int = 2 * SHARD_IMAGES,
    ) -> npt.NDArray[Any]:
        """Return what is worked out of each vector, row by row, without holding more than a block of them.

        They are read in the order in which they are stored, whatever that of the samples is.

        Parameters
        ----------
        sample_ids : sequence of str, length n, at least 1
        work : callable
            Takes vectors, shape (m, d), and returns an array of m rows, none of which depends on the others; called by
            several threads.
        compute, progress
            As for `get`: vectors that are missing are computed and kept first.
        block : int

        Returns
        -------
        array, shape (n, …)
            In the order of `sample_ids`.
        """
        keys, shards = as_keys(sample_ids), shards_of(self.folder)
        if not self.stored(sample_ids).all():
            self.complete(sample_ids, compute, progress)
        order, result = np.argsort(self._rows(sample_ids), kind="stable"), None

        def worked_out(start: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
            some = order[start : start + block]
            vectors, found = shards.read(keys[some])
            return some, work(vectors if found.all() else self.load([str(sample_ids[i]) for i in some]))

        # Reading and checksums take longer than `work`: both cores do both.
        with ThreadPoolExecutor(READERS) as pool:
            for some, done in pool.map(worked_out, range(0, len(order), block)):
                result = np.empty((len(keys), *done.shape[1:]), dtype=done.dtype) if result is None else result
                result[some] = done
        assert result is not None
        return result

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
            How many of them were computed here.
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
        """Compute and keep the vectors that are missing, shard by shard; return how many this call has computed.

        Parameters are those of `get`. Several processes may do so at once: each claims the parts of the pool that it
        computes (`part_claims`), and waits in the end for what others have, or computes it where they die.
        """
        missing = list(dict.fromkeys(self.missing(sample_ids)))
        if not missing:
            return 0
        computed, left, total = 0, missing, len(missing)

        def tell(more: int) -> None:
            nonlocal computed
            computed += more
            if progress is not None:
                progress(f"{computed} of {total} new samples embedded")

        with PartClaims(self.folder) as claims:
            while left:
                others = list[str]()
                for piece in pieces(left, SHARD_IMAGES):
                    mine = claims.take(dict.fromkeys(map(part_of, piece)))
                    # Looked at again now that nobody else has them.
                    self._compute(self.missing([i for i in piece if part_of(i) in mine]), compute, tell)
                    claims.give_back(mine)
                    others += [i for i in piece if part_of(i) not in mine]
                before, left = left, self.missing(others)
                if len(left) == len(before):
                    time.sleep(WAIT_SECONDS)
        return computed

    def _compute(
        self, ids: Sequence[str], compute: Callable[[Sequence[str]], Vectors], tell: Callable[[int], None]
    ) -> None:
        """Compute and keep vectors, shard by shard, and tell how many there are in each."""
        began, blocks, kept = time.monotonic(), list[Vectors](), 0
        for begin in range(0, len(ids), STEP):
            blocks.append(compute(ids[begin : begin + STEP]))
            end = min(begin + STEP, len(ids))
            if end == len(ids) or end - kept >= SHARD_IMAGES or time.monotonic() - began >= SHARD_SECONDS:
                self.append(ids[kept:end], np.concatenate(blocks))
                tell(end - kept)
                kept, began = end, time.monotonic()
                blocks.clear()
