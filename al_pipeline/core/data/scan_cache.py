"""What earlier scans have read of files that have not changed since, kept in parts on the disk."""

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.levels import Levels
from al_pipeline.core.data.reading import PIXELS_VERSION, Reading
from al_pipeline.core.files import whole_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Of a reading; what could not be used is read again each time.
COLUMNS = tuple(name for name in Reading._fields if name not in {"problem", "settled"})
# More parts than these become one at the end of a scan, and so does what has many rows of files that are gone.
MOST_PARTS = 12
PIECE = 10_000
VERSION = b"3, " + PIXELS_VERSION.encode()


class ScanCache:
    """Readings of files by their paths below the folder of images, valid while size, mtime and inode are the same.

    A folder of Parquet files. Each is written whole and never changed, newer ones count first, and a reader keeps those
    open that it has begun with: so any number of processes may share it, and it can be deleted at any time.

    Parameters
    ----------
    folder : Path
        Made when there is something to keep.
    how : HowRead
        Readings of files that were read otherwise do not count. Its levels play no part.
    """

    def __init__(self, folder: Path, how: HowRead = AS_EVER) -> None:
        self.folder = folder
        self._read_as = replace(how, levels=Levels()).key.encode()
        self._parts: list[tuple[Path, pq.ParquetFile]] = []

    def forget(self) -> None:
        """Delete all that is known."""
        for path in self._names():
            path.unlink(missing_ok=True)

    def find(
        self,
        paths: Sequence[str] | npt.NDArray[np.object_],
        stamps: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]],
    ) -> npt.NDArray[np.int64]:
        """Return the row of each file's reading, shape (n,), −1 where there is none that is valid.

        Parameters
        ----------
        paths : sequence or array of n str
        stamps : three int64 arrays, shape (n,)
            Sizes in bytes, times of change in ns, inodes.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        self._open()
        if not self._parts:
            return np.full(len(paths), -1)
        wanted = pa.array(paths, pa.string())
        rows = pc.index_in(wanted, value_set=self._column("path").combine_chunks())
        found = rows.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        for name, now in zip(("bytes", "mtime_ns", "inode"), stamps, strict=True):
            kept = self._column(name).to_numpy()
            if len(kept):
                found[kept[found] != now] = -1
        return found

    def column(self, name: str, rows: npt.NDArray[np.int64]) -> "Iterator[tuple[npt.NDArray[np.int64], pa.Array]]":
        """Yield what the readings in these rows have in one column, some at a time: of which of `rows`, and values."""
        import pyarrow as pa

        order = np.argsort(rows, kind="stable")
        ordered, first = rows[order], 0
        # Piece by piece: a whole column and its copy would be most of the memory of a scan.
        for _, part in self._parts:
            for batch in part.iter_batches(PIECE, columns=[name]):
                here = slice(*np.searchsorted(ordered, [first, first + len(batch)]))
                yield order[here], batch.column(0).take(pa.array(ordered[here] - first))
                first += len(batch)
        pa.default_memory_pool().release_unused()

    def add(self, paths: Sequence[str], readings: Sequence[Reading]) -> None:
        """Keep readings; those of files that could not be used, or had just been written, are not kept."""
        import pyarrow as pa

        kept = [(path, r) for path, r in zip(paths, readings, strict=True) if r.problem is None and r.settled]
        columns: dict[str, Any] = {name: [getattr(r, name) for _, r in kept] for name in COLUMNS}
        if kept:
            self._write([pa.record_batch({"path": [path for path, _ in kept]} | columns, schema=_schema())])

    def tidy(self, found: npt.NDArray[np.int64]) -> None:
        """Make one part of many, of the rows that a scan has found (as `find` has returned them) and of what is newer.

        Nothing is done while there are few parts and most of their rows were found.
        """
        import pyarrow as pa

        live = np.unique(found[found >= 0])
        total = sum(part.metadata.num_rows for _, part in self._parts)
        if len(self._parts) > MOST_PARTS or total > 2 * len(live) + 1000:
            if len(live):
                # Older than what was added since.
                self._write(self._pieces(live), self._parts[0][0].name)
            for path, _ in self._parts:
                path.unlink(missing_ok=True)
        pa.default_memory_pool().release_unused()

    def _open(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._parts = []
        for path in sorted(self._names(), reverse=True):
            try:
                part = pq.ParquetFile(path, pre_buffer=False)
            except FileNotFoundError:
                # Another process has tidied up: the files in it are read again.
                continue
            except (OSError, pa.ArrowException):
                path.unlink(missing_ok=True)
                continue
            if (part.schema_arrow.metadata or {}).get(b"al_pipeline") == VERSION + self._read_as:
                self._parts.append((path, part))
            else:
                path.unlink(missing_ok=True)

    def _names(self) -> Iterable[Path]:
        return [path for path in self.folder.glob("*.parquet") if not path.name.startswith(".")]

    def _column(self, name: str) -> "pa.ChunkedArray":
        import pyarrow as pa

        chunks = [part.read([name]).column(0) for _, part in self._parts]
        return pa.chunked_array([chunk for column in chunks for chunk in column.chunks], _schema().field(name).type)

    def _pieces(self, live: npt.NDArray[np.int64]) -> "Iterator[pa.RecordBatch]":
        """Yield the rows of these numbers, in ascending order."""
        first = 0
        for _, part in self._parts:
            for batch in part.iter_batches(PIECE, columns=_schema().names, use_threads=False):
                yield batch.take(live[slice(*np.searchsorted(live, [first, first + len(batch)]))] - first)
                first += len(batch)

    def _write(self, pieces: "Iterable[pa.RecordBatch]", after: str = "") -> None:
        import pyarrow.parquet as pq

        name = after.removesuffix(".parquet") or f"{time.time_ns():020d}"
        path = self.folder / f"{name}-{uuid.uuid4().hex[:8]}.parquet"
        with (
            whole_file(path, "What a scan has read") as file,
            pq.ParquetWriter(file, _schema(self._read_as), use_dictionary=["format", "notes"]) as part,
        ):
            for piece in pieces:
                part.write_batch(piece)


def _schema(read_as: bytes = b"") -> "pa.Schema":
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    types = {"width": number, "height": number, "bytes": number, "mtime_ns": number, "inode": number, "planes": number}
    fields = [("path", text), *((name, types.get(name, text)) for name in COLUMNS)]
    fields = [(name, pa.binary() if name in {"thumbnail", "levels"} else kind) for name, kind in fields]
    return pa.schema(fields, metadata={b"al_pipeline": VERSION + read_as})
