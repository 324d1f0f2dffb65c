"""What a manifest says of its samples, worked out once per process: each look at a million of them takes a second.

The manifest that is stored is read once, as long as its file stays the same, from a copy that is mapped into memory.
All who ask for it share one table, which nobody may change.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from al_pipeline.core.data.framing import Framing, by_shapes
from al_pipeline.core.data.pool_column import Column
from al_pipeline.core.data.row_file import Ids, as_keys, keys_of, texts_of
from al_pipeline.core.data.row_index import RowIndex
from al_pipeline.core.errors import FileError, InputError
from al_pipeline.core.files import whole_file

Places = npt.NDArray[np.int64]
# Looked at as Python's objects. The others stay Arrow's: as objects they take four times as long and as much memory.
OBJECTS = frozenset({"sample_id", "split", "reason", "label", "levels", "notes"})

THUMBNAIL, ASIDE = "thumbnail", ["sample_id", "uri", "reason"]
SIDES = ("width", "height")
# Ends the name of the manifest's mapped copy, which says in its metadata of which manifest it is.
MAPPED, STAMP = ".arrow", b"manifest"

# Share of a pool whose search, one by one, takes less than a dictionary of all.
SEARCHED = 1 / 64

#: Of columns of texts that stay Arrow's.
TEXT = pd.StringDtype("pyarrow", na_value=np.nan)


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


class ByText(Mapping[str, int]):
    """The place of each sample: searched for, until so many were asked for that a dictionary pays.

    Parameters
    ----------
    pool : KnownPool
    """

    def __init__(self, pool: "KnownPool") -> None:
        self._pool, self._searched = pool, 0

    def __getitem__(self, sample_id: str) -> int:
        """Return the sample's place."""
        if self._searched >= SEARCHED * len(self):
            return self._pool.by_text[sample_id]
        self._searched += 1
        place = int(self._pool.places([sample_id])[0])
        if place < 0:
            raise KeyError(sample_id)
        return place

    def __iter__(self) -> Iterator[str]:
        """Go through the samples, in the order of the manifest."""
        return iter(self._pool.ids.tolist())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._pool.rows)


class Subset(Sequence[str]):
    """Samples of a pool by their places: an id becomes a text when it is looked at, of a million it never need be.

    Parameters
    ----------
    pool : KnownPool
    places : int64 array, shape (n,)
    """

    def __init__(self, pool: "KnownPool", places: npt.NDArray[np.int64]) -> None:
        self.pool, self.places = pool, places

    def __len__(self) -> int:
        """Return n."""
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice | npt.NDArray[Any]) -> "Subset": ...
    def __getitem__(self, row: Any) -> "str | Subset":
        """Return the id of a row; of several rows, a mask or numbers, who they are."""
        places = self.places[row]
        return Subset(self.pool, places) if isinstance(places, np.ndarray) else str(self.pool.ids[places])

    def __iter__(self) -> Iterator[str]:
        """Go through the ids."""
        return iter(self.pool.ids[self.places].tolist())

    @cached_property
    def keys(self) -> Ids:
        """The ids as they stand in files."""
        return self.pool.keys[self.places]

    @property
    def texts(self) -> pa.Array:
        """The ids as Arrow's texts."""
        return texts_of(self.keys)


class KnownPool:
    """The samples of a manifest that are not excluded, by their places 0 to n − 1, in its order.

    Parameters
    ----------
    manifest : DataFrame
        Of `pool.scan`.
    table : pyarrow.Table, optional
        The same as Arrow has it, with the thumbnails.
    """

    def __init__(self, manifest: pd.DataFrame, table: pa.Table | None = None) -> None:
        self._table = table
        split = manifest["split"].to_numpy()
        usable = split != "excluded"
        #: The row of each place in the manifest.
        self.rows: Places = np.flatnonzero(usable)
        #: The rows of the holdout that the images bring.
        self.holdout_rows: Places = np.flatnonzero(split == "holdout")
        #: Whether a place belongs to the pool, bool, shape (n,).
        self.in_pool: npt.NDArray[np.bool_] = split[self.rows] == "pool"
        #: Rows that are set aside: ``sample_id, uri, reason``.
        self.aside = manifest.iloc[np.flatnonzero(~usable)].reindex(columns=ASIDE).to_numpy(dtype=object).tolist()
        self._columns = {name: manifest[name].array for name in manifest.columns}
        self._values: dict[str, pa.Array] = {}

    @cached_property
    def ids(self) -> npt.NDArray[np.object_]:
        """The sample id of each place."""
        return np.asarray(self._columns["sample_id"], dtype=object)[self.rows]

    @cached_property
    def shapes(self) -> tuple[Framing, float]:
        """What `by_shapes` says of the pool."""
        return by_shapes(*(self.values(name).to_numpy(zero_copy_only=False)[self.in_pool] for name in SIDES))

    @cached_property
    def place(self) -> Mapping[str, int]:
        """The place of each sample."""
        return ByText(self)

    @cached_property
    def keys(self) -> Ids:
        """The sample ids as they stand in files."""
        if self._table is None:
            return as_keys(self.ids)
        texts = self._table["sample_id"]
        return keys_of(texts if len(texts) == len(self.rows) else texts.take(pa.array(self.rows)))

    def places(self, sample_ids: Sequence[str]) -> Places:
        """Return the places of samples, −1 for who has none, int64, shape (n,)."""
        if isinstance(sample_ids, Subset) and sample_ids.pool is self:
            return sample_ids.places
        try:
            return self._index.find(as_keys(sample_ids))
        except InputError:
            # No ids of the usual kind.
            found = map(self.by_text.get, sample_ids, repeat(-1))
            return np.fromiter(found, dtype=np.int64, count=len(sample_ids))

    @cached_property
    def by_text(self) -> dict[str, int]:
        """The place of each sample, in a dictionary, which takes a fifth of a second and 100 MB of a million."""
        return dict(zip(self.ids.tolist(), range(len(self.ids)), strict=True))

    def some(self, sample_ids: pd.Series) -> Sequence[str]:
        """Return samples by their places, if they all have one; else their ids."""
        texts = pa.array(sample_ids, from_pandas=True)
        places = self._index.find(keys_of(texts))
        return Subset(self, places) if (places >= 0).all() else texts.to_pylist()

    @cached_property
    def _index(self) -> RowIndex:
        return RowIndex([self.keys])

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
        """Return what samples look like, of those of which that is stored."""
        if self._table is None or THUMBNAIL not in self._table.column_names:
            return [None] * len(sample_ids)
        places = self.places(sample_ids)
        rows = pa.array(self.rows[np.maximum(places, 0)], mask=places < 0)
        return self._table[THUMBNAIL].take(rows).to_pylist()

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
    whole = _mapped(path, f"{size} {mtime_ns} {inode}".encode()).replace_schema_metadata()
    table = whole.select([name for name in whole.column_names if name != THUMBNAIL])
    others = table.select([name for name in table.column_names if name not in OBJECTS])
    columns = dict(others.to_pandas(types_mapper={pa.large_string(): TEXT}.get, split_blocks=True).items())
    for name in OBJECTS & set(table.column_names):
        # No id is there twice, so that it need not be looked for.
        columns |= table.select([name]).to_pandas(deduplicate_objects=name != "sample_id").items()
    # Joined otherwise, all that is mapped would be copied.
    found = pd.DataFrame({name: columns[name] for name in table.column_names}, copy=False)
    key = id(found)
    known = KnownPool(found, whole)
    _known[key] = weakref.ref(found, lambda _: _known.pop(key, None)), known
    return found


def _mapped(path: Path, stamp: bytes) -> pa.Table:
    """Return the manifest as Arrow has it, each column in one piece.

    It is read once for all processes, which share a copy that is only mapped into memory: of most columns nobody looks
    at more than a few rows. Whoever finds none of this very manifest makes it; where that cannot be, nothing is lost.
    """
    copy = path.with_suffix(MAPPED)
    if (found := _copy_of(copy, stamp)) is not None:
        return found
    table = pq.read_table(path, pre_buffer=False).combine_chunks()
    kinds = [pa.large_string() if pa.types.is_string(field.type) else field.type for field in table.schema]
    table = table.cast(pa.schema(zip(table.column_names, kinds, strict=True), {STAMP: stamp}))
    # What decoding has taken would stay with Arrow.
    pa.default_memory_pool().release_unused()
    with (
        suppress(FileError),
        whole_file(copy, "The mapped copy of the image pool") as file,
        pa.ipc.new_file(str(file), table.schema) as writer,
    ):
        writer.write_table(table)
    found = _copy_of(copy, stamp)
    return table if found is None else found


def _copy_of(copy: Path, stamp: bytes) -> pa.Table | None:
    """Return a mapped copy, if it is of the manifest with that size, time and inode."""
    try:
        found = pa.ipc.open_file(pa.memory_map(str(copy))).read_all()
    except (OSError, pa.ArrowInvalid):
        return None
    return found if (found.schema.metadata or {}).get(STAMP) == stamp else None
