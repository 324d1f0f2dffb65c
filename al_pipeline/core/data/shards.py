"""Shards of vectors in a folder: one index per process of which row of which shard a sample is in.

A shard is written whole and never changed; its name tells its ids. What the index says is a hint: who reads makes sure
that the shard is the one that was looked at, and checks what is read each time. A damaged shard is set aside with a
warning, and its samples count as not stored.

Shards are read, not mapped: reading from a bad disk ends with an error that can be handled, not with the process, takes
no longer, and is done alike wherever the folder is. What this process has read and found right is not checked again
while the file stays the same: of a million images, whose features have just gone by, the 20,000 rows that a choice
looks at lie in most blocks, and take a tenth of the time by themselves.
"""

import contextlib
import hashlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.parquet_shard import read_parquet_shard
from al_pipeline.core.data.places import Place
from al_pipeline.core.data.row_file import ChangedError, DamagedError, Ids, RowFile, Table
from al_pipeline.core.data.row_index import RowIndex, Rows
from al_pipeline.core.data.shard_files import InBucket, InFolder

Vectors = npt.NDArray[np.float32]
Found = npt.NDArray[np.bool_]

# Of shards, and of those that versions before wrote.
FILE, OLD = ".features", ".parquet"

# 64 rows of 512 numbers are 131 kB: little for one sample, and long enough for a call.
_SHARD = RowFile(b"al-emb\x00\x01", row_bytes=lambda width: 4 * width, block=64)
# Read at once: a shard of the usual size.
_MOST_BLOCKS = 64
# A block of which a smaller share is asked for is not read whole if it was found right before.
_FEW = 1 / 8

log = logging.getLogger(__name__)


class Shards:
    """The shards of a folder, as far as this process knows; `shards_of` has them.

    Parameters
    ----------
    folder : Path or Place
    """

    def __init__(self, folder: Path | Place) -> None:
        self._folder = folder
        self._files = InBucket(folder) if isinstance(folder, Place) else InFolder(folder)
        self._known: dict[str, Table] = {}
        # Passed over: damaged, or rewritten, and maybe still there because they cannot be renamed or deleted.
        self._passed_over: set[str] = set()
        self._index: tuple[dict[str, Table], RowIndex] = {}, RowIndex([])
        # Which blocks of files, as these were, were found right.
        self._right: dict[str, tuple[tuple[object, ...], Found]] = {}
        self._lock = threading.RLock()
        self._asked: tuple[Ids | None, RowIndex | None, Rows] = None, None, np.empty(0, dtype=np.int64)

    def stored(self, ids: Ids) -> Found:
        """Return which samples have a vector, as far as a look at the shards' tables tells."""
        return self.rows(ids) >= 0

    def rows(self, ids: Ids) -> Rows:
        """Return in which row each sample is stored, numbered through, −1 for who is not; known of the last array."""
        index = self._look()[1]
        asked, known, rows = self._asked
        if asked is not ids or known is not index:
            rows = index.find(ids)
            self._asked = ids, index, rows
        return rows

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Write a shard, whole. The same samples once more replace it.

        Raises
        ------
        InputError, PlaceError
            It cannot be written.
        """
        name = f"{ids[0].decode()}-{hashlib.sha256(ids.tobytes()).hexdigest()[:16]}{FILE}"
        values = np.ascontiguousarray(vectors, dtype="<f4")
        blocks = [values[i : i + _SHARD.block] for i in range(0, len(values), _SHARD.block)]
        self._files.write(_SHARD, name, values.shape[1], ids, blocks)
        with self._lock:
            self._passed_over.discard(name)

    def read(self, ids: Ids) -> tuple[Vectors, Found]:
        """Return the vectors of samples, float32, shape (n, d), and which of them there are, bool, shape (n,)."""
        vectors, found = np.empty((len(ids), 0), dtype=np.float32), np.zeros(len(ids), dtype=np.bool_)
        left = np.arange(len(ids))
        while len(left):
            tables, index = self._look()
            rows = index.find(ids[left])
            left, rows = left[rows >= 0], rows[rows >= 0]
            if len(left) and not found.any():
                width = next(iter(tables.values())).width
                vectors = np.empty((len(ids), width), dtype=np.float32)
            done = self._fill(tables, index.starts, rows, vectors, left)
            found[left[done]] = True
            # What a shard was lost with may be in another, or in that which has replaced it.
            left = left[~done]
        return vectors, found

    def _fill(self, tables: dict[str, Table], starts: Rows, rows: Rows, vectors: Vectors, places: Rows) -> Found:
        """Read rows into their places of an array; return which could be."""
        done, order = np.zeros(len(rows), dtype=np.bool_), np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], starts)
        scratch = np.empty((_MOST_BLOCKS * _SHARD.block, vectors.shape[1]), dtype="<f4")
        for (name, table), first, begin, end in zip(tables.items(), starts, bounds, bounds[1:], strict=False):
            if (part := order[begin:end]).size:
                with self._lost_if_damaged(name), self._files.open(name) as file:
                    _SHARD.check_same(file, table)
                    wanted, theirs, right = rows[part] - first, places[part], self._known_right(name, file, table)
                    blocks, counts = np.unique(wanted // _SHARD.block, return_counts=True)
                    few = np.repeat(right[blocks] & (counts < _FEW * _SHARD.block), counts)
                    if few.any():
                        found = np.empty((np.count_nonzero(few), table.width), dtype="<f4")
                        _SHARD.read_rows(file, table, wanted[few], found)
                        vectors[theirs[few]] = found
                    if not few.all():
                        _copy(file, table, wanted[~few], scratch, vectors, theirs[~few])
                    right[blocks] = done[part] = True
        return done

    def _known_right(self, name: str, file: IO[bytes], table: Table) -> Found:
        """Return which blocks of a file were found right before, to be added to."""
        fresh = np.zeros(-(-len(table.ids) // _SHARD.block), dtype=np.bool_)
        if (version := self._files.version(file)) is None:
            return fresh
        with self._lock:
            if self._right.get(name, (None,))[0] != version:
                self._right[name] = version, fresh
            return self._right[name][1]

    def _look(self) -> tuple[dict[str, Table], RowIndex]:
        """Return the tables of the shards that are there now, and the index of their rows."""
        with self._lock:
            names = self._names()
            if old := sorted(name for name in names if name.endswith(OLD)):
                log.info("Features in %s are rewritten once: an earlier version has stored them", self._folder)
                for name in old:
                    self._rewrite(name)
                # Some of them may have been rewritten by another process.
                names = self._names()
            names = {name for name in names if name.endswith(FILE)}
            for name in self._known.keys() - names:
                del self._known[name]
            for name in sorted(names - self._known.keys()):
                with self._lost_if_damaged(name), self._files.open(name) as file:
                    self._known[name] = _SHARD.read_table(file)
            if self._known != self._index[0]:
                tables = dict(sorted(self._known.items()))
                index = RowIndex([table.ids for table in tables.values()])
                # The ids are in memory once.
                parts = zip(tables.items(), index.starts, index.starts[1:], strict=False)
                tables = {name: replace(table, ids=index.ids[begin:end]) for (name, table), begin, end in parts}
                self._index, self._known = (tables, index), dict(tables)
            return self._index

    def _names(self) -> set[str]:
        return {*self._files.names()} - self._passed_over

    def _rewrite(self, name: str) -> None:
        """Write a shard of an earlier version anew, and delete that.

        Several processes may do so at once, and whoever dies in between leaves both, which is no harm.
        """
        with self._lost_if_damaged(name):
            with self._files.open(name) as file:
                ids, vectors = read_parquet_shard(file)
            self.add(ids, vectors)
            self._passed_over.add(name)
            with contextlib.suppress(OSError):
                self._files.delete(name)

    @contextlib.contextmanager
    def _lost_if_damaged(self, name: str) -> Iterator[None]:
        """Do something with a shard; if it is gone, changed or damaged, forget it and go on after the block."""
        try:
            yield
            return
        except (FileNotFoundError, ChangedError):
            pass
        except (OSError, DamagedError) as error:
            told = "The embeddings in %s are damaged (%s): they are set aside and computed again"
            log.warning(told, self._folder / name, str(error).strip().split("\n")[0])
            self._passed_over.add(name)
            with contextlib.suppress(OSError):
                self._files.rename(name, f"{name}.damaged")
                self._passed_over.discard(name)
        with self._lock:
            self._known.pop(name, None)


def _copy(file: IO[bytes], table: Table, rows: Rows, scratch: Vectors, vectors: Vectors, places: Rows) -> None:
    """Read rows of a shard, in ascending order, into their places: whole blocks at once, others by way of `scratch`."""
    size = _SHARD.block
    blocks, begin, counts = np.unique(rows // size, return_index=True, return_counts=True)
    end = begin + counts
    # How often a row or a place does not follow the one before it, up to each row.
    breaks = np.concatenate([[0], np.cumsum((np.diff(rows) != 1) | (np.diff(places) != 1))])
    whole = (breaks[begin] == breaks[end - 1]) & (counts == np.minimum(size, len(table.ids) - blocks * size))
    cuts = (np.diff(blocks) > 1) | np.diff(whole) | (whole[1:] & (breaks[begin[1:]] > breaks[begin[1:] - 1]))
    for run in np.split(np.arange(len(blocks)), np.flatnonzero(cuts) + 1):
        for few in np.split(run, range(_MOST_BLOCKS, len(run), _MOST_BLOCKS)):
            first, part = int(blocks[few[0]]), slice(begin[few[0]], end[few[-1]])
            theirs, wanted = places[part], range(first, first + len(few))
            if whole[few[0]]:
                _SHARD.read(file, table, wanted, vectors[theirs[0] : theirs[-1] + 1])
                continue
            block = scratch[: min(wanted.stop * size, len(table.ids)) - first * size]
            _SHARD.read(file, table, wanted, block)
            taken = rows[part] - first * size
            if (np.diff(theirs) == 1).all():
                # Without a copy in between.
                np.take(block, taken, axis=0, out=vectors[theirs[0] : theirs[-1] + 1], mode="clip")
            else:
                vectors[theirs] = block[taken]


@lru_cache(maxsize=8)
def shards_of(folder: Path | Place) -> Shards:
    """Return the shards of a folder; all of a process share an index."""
    return Shards(folder)
