"""What a manifest says of its samples, worked out once per process: each look at a million of them takes a second.

The manifest that is stored is read once, as long as its file stays the same. All who ask for it share one table, which
nobody may change.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from al_pipeline.core.data.row_file import Ids, as_keys
from al_pipeline.core.errors import InputError

Places = npt.NDArray[np.int64]
# Looked at as Python's objects. The others stay Arrow's: as objects they take four times as long and as much memory.
OBJECTS = frozenset({"sample_id", "split", "reason", "label", "levels", "notes"})

# A quarter of a table that one step looks at, of few samples.
THUMBNAIL = "thumbnail"

_TEXT = pd.StringDtype("pyarrow", na_value=np.nan)


class Column(Mapping[str, Any]):
    """What each sample has in a column, of those that have something there.

    Parameters
    ----------
    places : dict
        Sample id → place.
    values : pyarrow.Array
    """

    def __init__(self, places: Mapping[str, int], values: pa.Array) -> None:
        self._places, self._values = places, values

    def __getitem__(self, sample_id: str) -> Any:
        """Return the sample's value."""
        value = self._values[self._places[sample_id]].as_py()
        if value is None:
            raise KeyError(sample_id)
        return value

    def __contains__(self, sample_id: object) -> bool:
        """Say whether the sample has a value."""
        place = self._places.get(sample_id)  # type: ignore[call-overload]
        return place is not None and (not self._values.null_count or self._values[place].is_valid)

    def __iter__(self) -> Iterator[str]:
        """Go through the samples, in the order of the manifest."""
        if not self._values.null_count:
            return iter(self._places)
        there = self._values.is_valid().to_numpy(zero_copy_only=False)
        return (sample for sample, place in self._places.items() if there[place])

    def __len__(self) -> int:
        """Return how many samples have a value."""
        return len(self._values) - self._values.null_count

    def to_dict(self) -> dict[str, Any]:
        """Return the same as a dictionary, which takes a tenth of the time that going through all would."""
        values = zip(self._places, self._values.to_pylist(), strict=True)
        return {sample: value for sample, value in values if value is not None}


class Members(Set[str]):
    """The samples of the pool, without those of the holdout.

    Parameters
    ----------
    pool : KnownPool
    """

    def __init__(self, pool: "KnownPool") -> None:
        self._pool = pool

    def __contains__(self, sample_id: object) -> bool:
        """Say whether a sample is there and belongs to the pool."""
        place = self._pool.place.get(sample_id)  # type: ignore[call-overload]
        return place is not None and bool(self._pool.in_pool[place])

    def __iter__(self) -> Iterator[str]:
        """Go through them, in the order of the manifest."""
        return iter(self._pool.ids[self._pool.in_pool].tolist())

    def __len__(self) -> int:
        """Return how many there are."""
        return int(np.count_nonzero(self._pool.in_pool))

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:  # type: ignore[override]
        return set(it)


class KnownPool:
    """The samples of a manifest that are not excluded, by their places 0 to n − 1, in its order.

    Parameters
    ----------
    manifest : DataFrame
        Of `pool.scan`.
    path : Path, optional
        The file of which it was read, without the thumbnails.
    """

    def __init__(self, manifest: pd.DataFrame, path: Path | None = None) -> None:
        self._path = path
        split = manifest["split"].to_numpy()
        usable = split != "excluded"
        #: The row of each place in the manifest.
        self.rows: Places = np.flatnonzero(usable)
        #: Whether a place belongs to the pool, bool, shape (n,).
        self.in_pool: npt.NDArray[np.bool_] = split[self.rows] == "pool"
        self.ids: npt.NDArray[np.object_] = manifest["sample_id"].to_numpy(dtype=object)[self.rows]
        #: Rows that are set aside: ``sample_id, uri, reason``.
        self.aside = manifest[~usable].reindex(columns=["sample_id", "uri", "reason"]).to_numpy(dtype=object).tolist()
        self._columns = {name: manifest[name].array for name in manifest.columns}
        self._values: dict[str, pa.Array] = {}

    @cached_property
    def place(self) -> dict[str, int]:
        """The place of each sample."""
        return dict(zip(self.ids.tolist(), range(len(self.ids)), strict=True))

    @cached_property
    def keys(self) -> Ids:
        """The sample ids as they stand in files."""
        return as_keys(self.ids)

    def places(self, sample_ids: Sequence[str]) -> Places:
        """Return the places of samples, −1 for who has none, int64, shape (n,)."""
        found = map(self.place.get, sample_ids, repeat(-1))
        return np.fromiter(found, dtype=np.int64, count=len(sample_ids))

    def column(self, name: str) -> Column:
        """Return a column by sample id; one that there is not, as in manifests of earlier versions, is empty."""
        return Column(self.place, self.values(name))

    def values(self, name: str) -> pa.Array:
        """Return a column by place; nulls for one that there is not."""
        if name not in self._values:
            self._values[name] = self._by_place(name)
        return self._values[name]

    def _by_place(self, name: str) -> pa.Array:
        if name not in self._columns:
            return pa.nulls(len(self.rows))
        found = pa.array(self._columns[name], from_pandas=True)
        if isinstance(found, pa.ChunkedArray):
            found = found.chunk(0) if found.num_chunks == 1 else found.combine_chunks()
        return found if len(found) == len(self.rows) else found.take(pa.array(self.rows))

    @cached_property
    def groups(self) -> "Column":
        """The group of each sample; one without is alone, as all are in older manifests."""
        return Column(self.place, self._groups)

    @cached_property
    def group_numbers(self) -> Places:
        """A number of the group of each place, from 0 on, in the order in which groups come."""
        return self._groups.dictionary_encode().indices.to_numpy().astype(np.int64)

    def thumbnails(self, sample_ids: Sequence[str]) -> list[bytes | None]:
        """Return what samples look like, of those of which that is stored; read now, part by part."""
        asked, found = pa.array(sample_ids, pa.string()), dict[str, bytes]()
        if self._path is not None and len(asked):
            with pq.ParquetFile(self._path) as file:
                names = ["sample_id", "split", THUMBNAIL] if THUMBNAIL in file.schema_arrow.names else []
                for part in range(file.num_row_groups if names else 0):
                    rows = file.read_row_group(part, columns=names)
                    wanted = pc.and_(pc.is_in(rows["sample_id"], asked), pc.not_equal(rows["split"], "excluded"))
                    some = rows.filter(wanted)
                    found |= dict(zip(some["sample_id"].to_pylist(), some[THUMBNAIL].to_pylist(), strict=True))
        return [found.get(sample) for sample in sample_ids]

    @cached_property
    def by_id(self) -> Places:
        """The places of the pool's samples in the order of their ids."""
        places = np.flatnonzero(self.in_pool)
        try:
            return places[_sorted(self.keys[places])]
        except InputError:
            # No ids of the usual kind.
            return places[np.argsort(self.ids[places], kind="stable")]

    def pool_without(self, sample_ids: Iterable[str]) -> Places:
        """Return the places of the pool's samples but these, in the order of their ids."""
        out = np.zeros(len(self.ids), dtype=bool)
        out[[place for sample in sample_ids if (place := self.place.get(sample)) is not None]] = True
        return self.by_id[~out[self.by_id]]

    @property
    def members(self) -> Members:
        """The samples that belong to the pool."""
        return Members(self)

    @cached_property
    def _groups(self) -> pa.Array:
        named = self.values("group")
        if not named.null_count:
            return named.cast(pa.large_string())
        own = pa.array(self.ids, pa.large_string())
        return own if named.null_count == len(named) else pc.coalesce(named.cast(own.type), own)


def _sorted(keys: Ids) -> Places:
    """Return the order of ids."""
    # Numbers are sorted ten times as fast as texts, and of ids that are hashes few have the same first eight letters.
    words = np.ascontiguousarray(keys).view(">u8").reshape(-1, keys.itemsize // 8).astype(np.uint64)
    order = np.argsort(words[:, 0])
    same = np.diff(words[order, 0]) == 0
    unsure = np.flatnonzero(np.append(same, False) | np.append(False, same))
    some = np.sort(order[unsure])
    order[unsure] = some[np.lexsort(words[some].T[::-1])]
    return order


def read_pool(path: Path) -> pd.DataFrame:
    """Return the manifest that is stored, without its thumbnails, which its `known_pool` reads.

    Who asks again gets the same table, until the file is another.
    """
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns, status.st_ino)


def known_pool(manifest: pd.DataFrame) -> KnownPool:
    """Return what a manifest says, which is worked out once if it is of `read_pool`."""
    kept = _known.get(id(manifest))
    return kept[1] if kept is not None and kept[0]() is manifest else KnownPool(manifest)


# By the number of the table, which another may have once it is gone.
_known: dict[int, tuple["weakref.ref[pd.DataFrame]", KnownPool]] = {}


@lru_cache(maxsize=1)
def _read(path: Path, size: int, mtime_ns: int, inode: int) -> pd.DataFrame:
    names = [name for name in pq.read_schema(path).names if name != THUMBNAIL]
    table = pq.read_table(path, columns=names, pre_buffer=False)
    kinds = {pa.string(): _TEXT, pa.large_string(): _TEXT}
    ours = [name for name in table.column_names if name in OBJECTS]
    others = [name for name in table.column_names if name not in OBJECTS]
    frames = [
        table.select(ours).replace_schema_metadata().to_pandas(),
        # In one piece, or whoever asks for a column by place would make another of it.
        table.select(others)
        .combine_chunks()
        .replace_schema_metadata()
        .to_pandas(types_mapper=kinds.get, split_blocks=True),
    ]
    found = pd.concat(frames, axis=1, copy=False)[table.column_names]
    # What decoding has taken would stay with Arrow.
    del table, frames
    pa.default_memory_pool().release_unused()
    key = id(found)
    _known[key] = weakref.ref(found, lambda _: _known.pop(key, None)), KnownPool(found, path)
    return found
