"""What a manifest says of its samples, worked out once per process: each look at a million of them takes a second.

The manifest that is stored is read once, as long as its file stays the same, from a copy that is mapped into memory. All
who ask for it share one table, which nobody may change.
"""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from al_pipeline.core.data.pool_views import ByText, Column, Members, Subset
from al_pipeline.core.data.row_file import Ids, as_keys, keys_of
from al_pipeline.core.data.row_index import RowIndex
from al_pipeline.core.errors import FileError, InputError
from al_pipeline.core.files import whole_file

Places = npt.NDArray[np.int64]
# Looked at as Python's objects. The others stay Arrow's: as objects they take four times as long and as much memory.
OBJECTS = frozenset({"sample_id", "split", "reason", "label", "levels", "notes"})

# A quarter of a table that one step looks at, of few samples.
THUMBNAIL = "thumbnail"
# Ends the name of the manifest's mapped copy, which says in its metadata of which manifest it is.
MAPPED, STAMP = ".arrow", b"manifest"

#: Of columns of texts that stay Arrow's.
TEXT = pd.StringDtype("pyarrow", na_value=np.nan)


class KnownPool:
    """The samples of a manifest that are not excluded, by their places 0 to n − 1, in its order.

    Parameters
    ----------
    manifest : DataFrame
        Of `pool.scan`.
    path : Path, optional
        The file of which it was read, without the thumbnails.
    texts : pyarrow.ChunkedArray, optional
        The sample ids of all rows as Arrow has them.
    """

    def __init__(
        self, manifest: pd.DataFrame, path: Path | None = None, texts: pa.ChunkedArray | None = None
    ) -> None:
        self._path, self._texts = path, texts
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
    def place(self) -> Mapping[str, int]:
        """The place of each sample."""
        return ByText(self)

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
    path : Path, optional
        The file of which it was read, without the thumbnails.
    texts : pyarrow.ChunkedArray, optional
        The sample ids of all rows as Arrow has them.
    """

    def __init__(
        self, manifest: pd.DataFrame, path: Path | None = None, texts: pa.ChunkedArray | None = None
    ) -> None:
        self._path, self._texts = path, texts
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
        if self._texts is None:
            return as_keys(self.ids)
        return keys_of(self._texts if len(self._texts) == len(self.rows) else self._texts.take(pa.array(self.rows)))

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
    table = _mapped(path, f"{size} {mtime_ns} {inode}".encode()).replace_schema_metadata()
    ours = [name for name in table.column_names if name in OBJECTS]
    others = table.select([name for name in table.column_names if name not in OBJECTS])
    frames = [
        # No id is there twice, so that it need not be looked for.
        *(table.select([name]).to_pandas(deduplicate_objects=name != "sample_id") for name in ours),
        others.to_pandas(types_mapper={pa.large_string(): TEXT}.get, split_blocks=True),
    ]
    found = pd.concat(frames, axis=1, copy=False)[table.column_names]
    key = id(found)
    known = KnownPool(found, path, table["sample_id"] if "sample_id" in ours else None)
    _known[key] = weakref.ref(found, lambda _: _known.pop(key, None)), known
    return found


def _mapped(path: Path, stamp: bytes) -> pa.Table:
    """Return what `read_pool` returns as Arrow has it, each column in one piece.

    It is read once for all processes, which share a copy that is only mapped into memory: of most columns nobody looks
    at more than a few rows. Whoever finds none of this very manifest makes it; where that cannot be, nothing is lost.
    """
    copy = path.with_suffix(MAPPED)
    if (found := _copy_of(copy, stamp)) is not None:
        return found
    names = [name for name in pq.read_schema(path).names if name != THUMBNAIL]
    table = pq.read_table(path, columns=names, pre_buffer=False).combine_chunks()
    kinds = [pa.large_string() if pa.types.is_string(field.type) else field.type for field in table.schema]
    table = table.cast(pa.schema(zip(names, kinds, strict=True), {STAMP: stamp}))
    # What decoding has taken would stay with Arrow.
    pa.default_memory_pool().release_unused()
    with suppress(FileError), whole_file(copy, "The mapped copy of the image pool") as file:
        with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
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
